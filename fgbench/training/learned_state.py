"""State of an estimator that changes from step to step: replaced by it, or learned by gradients."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from fgbench.errors import UsageError, unknown
from fgbench.training.optimizers import NAMES, optimizer, param_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.task import Step
    from fgbench.training.recipe import Recipe

LIKE_WEIGHTS = "like weights"
"""The optimiser of state that takes the steps of the parameters whose names it has."""


class LearnedState:
    """The state of an estimator under every objective, and the optimiser of what learns by gradients.

    Args:
        estimator: names that optimiser as ``state_optimizer = (name, lr)``; plain gradient steps of rate 1
            if it names none. With ``state_optimizer = "like weights"`` state that has the name of a parameter
            is moved as the parameter is: by the recipe's optimiser, with its rate, schedule, momentum and
            decay.
        start: objective name to state at the start of training; copied.
        chain: the network whose parameters such state is named after.
        recipe: what its parameters are trained with.

    Attributes:
        state: objective name to state.
        teacher: the optimiser, None where no tensor of the state is floating.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> task, estimator, noise = workload.task(registry.method("FA"), seed=0)
        >>> learned = LearnedState(estimator, task.init_state(estimator, noise))
        >>> list(learned.state)
        ['end']
    """

    def __init__(
        self,
        estimator: Estimator,
        start: Mapping[str, State],
        chain: Chain | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self._rule = _rule_of(estimator)
        self._like = None
        if self._rule == LIKE_WEIGHTS:
            who = f"state_optimizer {LIKE_WEIGHTS!r} of {type(estimator).__name__}"
            if chain is None or recipe is None:
                raise UsageError(
                    f"{who}: fgbench trains the weights itself then; use fgbench.train"
                )
            _require_names(who, chain, start)
            self._like = chain, recipe
        copies: dict[int, Tensor] = {}  # a tensor that objectives share stays one tensor
        self.hold(
            {
                objective: {
                    name: copies.setdefault(id(t), t.detach().clone()) for name, t in own.items()
                }
                for objective, own in start.items()
            }
        )

    def hold(self, state: dict[str, State]) -> None:
        """Set the state and build the optimiser of its floating tensors, which may learn by gradients.

        Args:
            state: objective name to state.
        """
        self.state = state
        unique = self.taught(state)
        self._learnable = {id(t) for t in unique}
        self.teacher: torch.optim.Optimizer | None = None
        if unique and self._like is not None:
            chain, recipe = self._like
            groups = _like_weights(state, chain, recipe)
            self.teacher = optimizer(recipe.optimizer, groups, recipe.momentum, recipe.nesterov)
            if isinstance(self.teacher, torch.optim.SGD) and recipe.momentum:
                for t in unique:  # fused kernels want buffers of all tensors or of none
                    self.teacher.state[t]["momentum_buffer"] = torch.zeros_like(t)
        elif unique:
            name, lr = self._rule
            group = {"params": unique, "lr": lr}
            self.teacher = optimizer(name, [group], 0.0 if name == "sgd" else 0.9)

    def taught(self, state: Mapping[str, Mapping[str, Tensor]]) -> list[Tensor]:
        """Return the tensors of a state that its optimiser moves, in the order in which it has them.

        Args:
            state: objective name to state, such as that of a checkpoint.
        """
        if self._like is not None:
            return [t for group in _like_weights(state, *self._like) for t in group["params"]]
        every = [t for own in state.values() for t in own.values() if t.is_floating_point()]
        return list({id(t): t for t in every}.values())

    @property
    def like_weights(self) -> bool:
        """Whether the state takes the steps of the parameters that it is named after."""
        return self._like is not None

    def pace(self, rates: Mapping[str, float | Tensor]) -> None:
        """Set the rates of state that learns like weights.

        Args:
            rates: name of a group of parameters to its rate now.
        """
        if self._like is not None and self.teacher is not None:
            for group in self.teacher.param_groups:
                group["lr"] = rates[group["name"]]

    def follow(self, estimate: Step) -> None:
        """Update the state by what an estimate returned of it.

        Args:
            estimate: gradients or new values of the state.

        Raises:
            ValueError: if a state tensor has a gradient although ``new_state`` replaced it before.
        """
        if estimate.new_state:
            self._renew(estimate.new_state)
        if estimate.state_grads:
            self._teach(estimate.state_grads)

    def _renew(self, new_state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace state by new values, written over the old tensor where no other objective shares it.

        A tensor that is returned unchanged stays the one that the state's optimiser moves.
        """
        uses = Counter(id(t) for own in self.state.values() for t in own.values())
        memory = {_memory(t) for own in self.state.values() for t in own.values()}
        values = {  # copied where it shares memory with another part of the state, which may change first
            (objective, name): t.clone() if t is not self.state[objective].get(name) else t
            for objective, new in new_state.items()
            for name, t in new.items()
            if _memory(t) in memory
        }
        for objective, new in new_state.items():
            old = self.state[objective]
            self.state[objective] = {
                name: self._placed(old.get(name), values.get((objective, name), t), uses)
                for name, t in new.items()
            }

    def _placed(self, old: Tensor | None, new: Tensor, uses: Mapping[int, int]) -> Tensor:
        """Write a new tensor over an old one that is used once; else return the new one."""
        if new is old:
            return old
        alike = old is not None and (old.shape, old.dtype) == (new.shape, new.dtype)
        if old is None or not alike or uses[id(old)] > 1:
            return new.detach()
        with torch.no_grad():
            old.copy_(new)
        self._learnable.discard(id(old))
        return old

    def _teach(self, grads: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take a gradient step of learned state; gradients of a shared tensor are summed."""
        moved: dict[int, Tensor] = {}
        for objective, own in grads.items():
            for name, grad in own.items():
                tensor = self.state[objective][name]
                if id(tensor) not in self._learnable:
                    if self._like is not None:
                        raise UsageError(
                            f"state {name!r} has a gradient, and only floating state that is named as a "
                            "parameter and never replaced learns like weights"
                        )
                    raise ValueError(
                        f"state {name!r} has a gradient, but was replaced by new_state"
                    )
                with torch.no_grad():
                    before = tensor.grad if id(tensor) in moved else None
                    give(tensor, grad if before is None else before + grad)
                moved[id(tensor)] = tensor
        assert self.teacher is not None
        self.teacher.step()
        for tensor in moved.values():
            tensor.grad = None


def _require_names(who: str, chain: Chain, start: Mapping[str, State]) -> None:
    """Refuse state of which no part has the name and the shape of a parameter."""
    shapes = {n: p.shape for n, p in chain.named_parameters(remove_duplicate=False)}
    for own in start.values():
        for name, t in own.items():
            if name in shapes and t.shape != shapes[name]:
                got, want = list(t.shape), list(shapes[name])
                raise UsageError(f"{who}: state {name!r} has shape {got}, its parameter {want}")
        if own and not shapes.keys() & own.keys():
            raise unknown(f"parameter in the state for {who}", str(next(iter(own))), shapes)


def _like_weights(
    state: Mapping[str, Mapping[str, Tensor]], chain: Chain, recipe: Recipe
) -> list[dict[str, Any]]:
    """Return the groups of the parameters with the state of the same names in their place."""
    named = dict(chain.named_parameters(remove_duplicate=False))
    groups = []
    for group in param_groups(chain, recipe):
        members = {id(p) for p in group["params"]}
        own = {
            id(t): t
            for one in state.values()
            for name, t in one.items()
            if name in named and id(named[name]) in members and t.is_floating_point()
        }
        if own:
            groups.append({**group, "params": list(own.values())})
    return groups


def _rule_of(estimator: Estimator) -> Any:
    """Return the optimiser of learned state and its rate, or "like weights"; refuse what is neither."""
    rule = getattr(estimator, "state_optimizer", ("sgd", 1.0))
    if rule == LIKE_WEIGHTS:
        return rule
    who = f"state_optimizer of {type(estimator).__name__}"
    pair = isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str)
    if not pair or not isinstance(rule[1], int | float) or not 0 < rule[1] < inf:
        raise UsageError(
            f"{who}: expected a name and a rate, such as ('adam', 1e-3), or {LIKE_WEIGHTS!r}, got {rule!r}"
        )
    if rule[0] not in NAMES:
        raise unknown(f"optimizer in the {who}", rule[0], NAMES)
    return rule[0], float(rule[1])


def _memory(tensor: Tensor) -> int:
    """Return the address of a tensor's storage."""
    return tensor.untyped_storage().data_ptr()


def give(tensor: Tensor, grad: Tensor) -> None:
    """Copy a gradient into ``tensor.grad``.

    It is copied, not assigned: fused optimisers ignore strides, so an assigned transposed gradient would
    silently move the wrong weights.

    Args:
        tensor: a parameter, or a tensor of learned state.
        grad: its gradient, in any layout.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> give(weight, torch.ones(2))
        >>> weight.grad
        tensor([1., 1.])
    """
    if tensor.grad is None:
        tensor.grad = torch.empty_like(tensor)
    tensor.grad.copy_(grad)
