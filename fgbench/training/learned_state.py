"""State of an estimator that changes from step to step: replaced by it, or learned by gradients."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING

import torch

from fgbench.errors import UsageError, unknown
from fgbench.training.optimizers import NAMES, optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.task import Step


class LearnedState:
    """The state of an estimator under every objective, and the optimiser of what learns by gradients.

    Args:
        estimator: names that optimiser as ``state_optimizer = (name, lr)``; plain gradient steps of rate 1
            if it names none.
        start: objective name to state at the start of training; copied.

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

    def __init__(self, estimator: Estimator, start: Mapping[str, State]) -> None:
        self._rule = _rule_of(estimator)
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
        unique = {id(t): t for own in state.values() for t in own.values() if t.is_floating_point()}
        self._learnable = set(unique)
        self.teacher: torch.optim.Optimizer | None = None
        if unique:
            name, lr = self._rule
            group = {"params": list(unique.values()), "lr": lr}
            self.teacher = optimizer(name, [group], 0.0 if name == "sgd" else 0.9)

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


def _rule_of(estimator: Estimator) -> tuple[str, float]:
    """Return the optimiser of learned state and its rate; refuse what is none."""
    rule = getattr(estimator, "state_optimizer", ("sgd", 1.0))
    who = f"state_optimizer of {type(estimator).__name__}"
    pair = isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str)
    if not pair or not isinstance(rule[1], int | float) or not 0 < rule[1] < inf:
        raise UsageError(f"{who}: expected a name and a rate, such as ('adam', 1e-3), got {rule!r}")
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
