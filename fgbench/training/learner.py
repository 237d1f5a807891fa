"""The learner: a network's parameters and an estimator's state, updated from one estimate after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench.errors import UsageError
from fgbench.training import optimizer_steps, update_rule
from fgbench.training.checkpoint import Damaged
from fgbench.training.learned_state import LearnedState
from fgbench.training.optimizers import optimizer, param_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.clock import Clock
    from fgbench.core.estimator import Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Step, Task
    from fgbench.core.update import Update
    from fgbench.training.recipe import Recipe


class Learner:
    """Parameters and learned state of a run, and the optimisers that move them.

    Args:
        task: the network under its locality.
        estimator: gives the initial state. State that learns by gradients is moved by the optimiser it
            names as ``state_optimizer = (name, lr)``, by plain gradient steps of rate 1 if it names none,
            and as the parameters of its names are if it names ``"like weights"``.
        recipe: optimiser and rates of the parameters, their update rule, and whether readouts but the final
            one start at zero. A rule that the estimator names counts where the recipe has none.
        noise: seeds the state.
        captured: whether steps may be captured. The rates of all steps are then read from one tensor on
            the device, because a kernel that reads a rate from memory may round it differently.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> task, estimator, noise = workload.task(registry.method("BP"), seed=0)
        >>> learner = Learner(task, estimator, Recipe(epochs=1, batch=8, lr=0.1), noise)
        >>> x, y = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> loss = task.estimate(x, y, estimator, noise).loss
        >>> learner.follow(task.estimate(x, y, estimator, noise))
        >>> bool(task.estimate(x, y, estimator, noise).loss < loss)
        True
    """

    def __init__(
        self,
        task: Task,
        estimator: Estimator,
        recipe: Recipe,
        noise: Noise,
        captured: bool = False,
    ) -> None:
        self.chain = task.chain
        if recipe.zero_heads:
            _zero_heads(self.chain)
        self._params = dict(self.chain.named_parameters())
        groups = param_groups(self.chain, recipe)
        self._rates = [group["lr"] for group in groups]
        self._optimizer = optimizer(recipe.optimizer, groups, recipe.momentum, recipe.nesterov)
        if task.scheme.staged and isinstance(self._optimizer, torch.optim.SGD) and recipe.momentum:
            for (
                p
            ) in self._params.values():  # fused kernels want buffers of all parameters or of none
                self._optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        self._paced: Tensor | None = None
        if captured:
            device = next(self.chain.parameters()).device
            self._peaks = torch.tensor(self._rates, dtype=torch.float64, device=device)
            self._paced = self._peaks.float()  # the type that fused kernels read
        start = task.init_state(estimator, noise)
        self._learned = LearnedState(estimator, start, self.chain, recipe)
        self._set_rates(self._rates if self._paced is None else self._paced.unbind())
        rule = update_rule.made(update_rule.named(recipe.update, estimator))
        if rule is not None and self._learned.like_weights:
            raise UsageError(
                f"{type(estimator).__name__} has state that takes the steps of the weights, and an update "
                "rule moves the weights alone: train it without one"
            )
        self._rule = (
            None if rule is None else update_rule.RuleSteps(rule, self.chain, self._optimizer)
        )

    @property
    def state(self) -> dict[str, State]:
        """State of the estimator by objective."""
        return self._learned.state

    def _set_rates(self, rates: Sequence[float | Tensor]) -> None:
        """Set the rate of every parameter group, and of the state that learns like it."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._learned.pace({g["name"]: g["lr"] for g in self._optimizer.param_groups})

    def pace(self, factor: float) -> None:
        """Set every learning rate to a fraction of its peak.

        Args:
            factor: that fraction, from the recipe's schedule.
        """
        if self._paced is None:
            self._set_rates([rate * factor for rate in self._rates])
        else:
            torch.mul(self._peaks, factor, out=self._paced)

    @property
    def rule(self) -> Update | None:
        """The update rule, None where the optimiser alone moves the parameters."""
        return None if self._rule is None else self._rule.rule

    def follow(
        self,
        estimate: Step,
        clock: Clock | None = None,
        noise: Noise | None = None,
        loss: Callable[[], Tensor] | None = None,
    ) -> None:
        """Take one optimiser step along an estimate, or one of the update rule, and update the state.

        Args:
            estimate: gradients of body and readouts, and gradients or new values of the state.
            clock: the moment of training, for a rule.
            noise: of this step, for a rule.
            loss: returns the scheme's loss on the batch at the present parameters, for a rule.

        Raises:
            ValueError: if a state tensor has a gradient although ``new_state`` replaced it before.
        """
        if self._rule is not None:
            self._rule.take(estimate, clock, noise, loss)
        else:
            optimizer_steps.take(self._optimizer, self._params, estimate.body, estimate.readouts)
        self._learned.follow(estimate)

    def unsound(self) -> str:
        """Return the name of a parameter that is not finite, or "" if all are."""
        sums = torch.stack([p.detach().float().sum() for p in self._params.values()])
        finite = sums.isfinite().tolist()
        return "" if all(finite) else list(self._params)[finite.index(False)]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors a checkpoint needs by name, not copied: parameters, optimiser buffers, state."""
        tensors = {f"chain\t{name}": tensor for name, tensor in _each_once(self.chain).items()}
        for what, one in (("optimizer", self._optimizer), ("teacher", self._learned.teacher)):
            states = one.state_dict()["state"] if one is not None else {}
            tensors |= {
                f"{what}\t{index}\t{name}": value
                for index, parts in states.items()
                for name, value in parts.items()
                if isinstance(value, torch.Tensor)
            }
        for objective, own in self.state.items():
            tensors |= {f"state\t{objective}\t{name}": tensor for name, tensor in own.items()}
        for name, tensor in ({} if self._rule is None else self._rule.state).items():
            tensors[f"update\t\t{name}"] = tensor
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the learner from the tensors of a checkpoint, bit for bit, or leave it as it is.

        Args:
            tensors: what :meth:`tensors` returned, on any device.

        Raises:
            Damaged: they do not fit this learner.
        """
        parts = _parts(tensors)
        chain, state = parts["chain"].get("", {}), parts["state"]
        device = next(self.chain.parameters()).device
        moved: dict[int, Tensor] = {}  # a tensor that objectives share stays one tensor
        held = {
            objective: {n: moved.setdefault(id(t), t.to(device)) for n, t in own.items()}
            for objective, own in state.items()
        }
        self._check(chain, held, parts)
        self.chain.load_state_dict(chain, strict=False)  # checked, but for second names
        if self._rule is not None:
            self._rule.restore(parts["update"].get("", {}))
        self._learned.hold({**{name: {} for name in self.state}, **held})
        self._set_rates([group["lr"] for group in self._optimizer.param_groups])
        for what, one in (("optimizer", self._optimizer), ("teacher", self._learned.teacher)):
            if one is not None:
                _reload(one, parts[what])
        if self._paced is not None:  # an optimiser keeps copies of what it loads
            self._set_rates(self._paced.unbind())

    def _check(
        self,
        chain: Mapping[str, Tensor],
        state: Mapping[str, Mapping[str, Tensor]],
        buffers: Mapping[str, Mapping[str, Mapping[str, Tensor]]],
    ) -> None:
        """Check the tensors of a checkpoint before any of them is used."""
        own = _each_once(self.chain)
        if set(chain) != set(own):
            raise Damaged("has other parameters than this network")
        for name, tensor in chain.items():
            if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
                raise Damaged(f"has another shape or type of {name}")
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise Damaged(f"has a value of {name} that is not finite")
        for objective, tensors in state.items():
            fresh = self.state.get(objective, {})
            if objective not in self.state or any(
                name in fresh and t.dtype != fresh[name].dtype for name, t in tensors.items()
            ):
                raise Damaged("has other state than this estimator")
        rule = {} if self._rule is None else self._rule.state
        _check_rule(rule, buffers["update"].get("", {}))
        moved = [p for group in self._optimizer.param_groups for p in group["params"]]
        for what, one, params in (
            ("optimizer", self._optimizer, moved),
            ("teacher", self._learned.teacher, self._learned.taught(state)),
        ):
            _check_buffers(one, params, buffers[what])


def _each_once(chain: Chain) -> dict[str, Tensor]:
    """Return the state of a network with the first name of each tensor; a wrapped one has several."""
    found: dict[tuple[Any, ...], str] = {}
    state = chain.state_dict()
    for name, tensor in state.items():
        alone = name if tensor.numel() == 0 else ""  # tensors without memory have one address
        found.setdefault((tensor.data_ptr(), tensor.shape, alone), name)
    return {name: state[name] for name in found.values()}


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Sort the tensors of a checkpoint by what they belong to and the group therein."""
    parts: dict[str, dict[str, dict[str, Tensor]]] = {
        what: {} for what in ("chain", "optimizer", "teacher", "state", "update")
    }
    for key, tensor in tensors.items():
        what, _, name = key.partition("\t")
        if what not in parts:
            raise Damaged("has tensors that belong to nothing")
        group, _, name = name.partition("\t") if what != "chain" else ("", "", name)
        parts[what].setdefault(group, {})[name] = tensor
    return parts


def _check_rule(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Check the state of an update rule: the tensors that it starts with."""
    if set(own) != set(saved) or any(
        (t.shape, t.dtype) != (own[name].shape, own[name].dtype) for name, t in saved.items()
    ):
        raise Damaged("has other state than this update rule")


def _check_buffers(
    one: torch.optim.Optimizer | None,
    params: Sequence[Tensor],
    saved: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Check the buffers of an optimiser: each moved parameter has those that one step makes."""
    if not saved:
        return
    wrong = Damaged("has other buffers than this optimiser")
    if one is None or not all(i.isascii() and i.isdigit() for i in saved):
        raise wrong
    for index, buffers in saved.items():
        if int(index[:9]) >= len(params):
            raise wrong
        p = params[int(index[:9])]
        fresh = _buffers(one, p)
        if set(buffers) != set(fresh) or any(
            (t.shape, t.dtype) != (fresh[name].shape, fresh[name].dtype)
            for name, t in buffers.items()
        ):
            raise wrong


def _buffers(one: torch.optim.Optimizer, p: Tensor) -> dict[str, Tensor]:
    """Return the buffers that one step of an optimiser makes for a parameter."""
    twin = torch.zeros_like(p, requires_grad=True)
    twin.grad = torch.zeros_like(p)
    options = {n: v for n, v in one.param_groups[0].items() if n != "params"}
    trial = type(one)([{**options, "params": [twin]}], lr=options["lr"])  # type: ignore[call-arg]
    trial.step()
    return {n: t for n, t in trial.state[twin].items() if isinstance(t, torch.Tensor)}


def _zero_heads(chain: Chain) -> None:
    """Start the last layer of every readout but the final one at zero, where it learns from there."""
    with torch.no_grad():
        for name in chain.readouts:
            own = chain.readout_parameters(name)
            if name == "final" or not own or not chain.readout(name).may_start_at_zero:
                continue
            last = [*own][-1].rpartition(".")[0]  # zeros in an earlier layer would stay
            for parameter, p in own.items():
                if parameter.rpartition(".")[0] == last:
                    p.zero_()


def _reload(one: torch.optim.Optimizer, saved: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Load an optimiser's buffers, in the memory layout of its parameters."""
    fresh = one.state_dict()
    params = [p for group in one.param_groups for p in group["params"]]
    state = {}
    for index, parts in saved.items():
        p = params[int(index)]
        state[int(index)] = {
            name: torch.empty_like(p).copy_(value) if value.shape == p.shape else value
            for name, value in parts.items()
        }
    one.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})
