"""What learns: parameters, the optimisers that move them, and the state of an estimator."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench.training.lars import LARS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Step, Task
    from fgbench.training.recipe import Recipe


def param_groups(chain: Chain, recipe: Recipe) -> list[dict[str, Any]]:
    """Split parameters by learning rate and weight decay.

    Args:
        chain: the network, auxiliary heads attached.
        recipe: gives the rates, ``head_lr`` and ``final_lr`` being factors, and the decay, which
            biases and one-dimensional gains are spared, ``head_decay`` being a factor.

    Returns:
        PyTorch's parameter groups with a ``name`` each, and with ``adapt`` whether a rate may be adapted
        to their scale: weights', not biases'. Empty ones are left out.
    """
    peak = recipe.peak_lr
    parts = {"body": (chain.body_parameters(), peak)}
    for name in chain.readouts:
        part, factor = ("final", recipe.final_lr) if name == "final" else ("local", recipe.head_lr)
        known = parts.get(part, ({}, 0.0))[0]
        parts[part] = ({**known, **chain.readout_parameters(name)}, peak * factor)
    groups = []
    for part, (params, lr) in parts.items():
        weights = {n for n, p in params.items() if p.ndim > 1 and n.rpartition(".")[2] != "bias"}
        whole = recipe.weight_decay * (recipe.head_decay if part == "local" else 1.0)
        for kind, decay in (("weights", whole), ("biases", 0.0)):
            chosen = [p for n, p in params.items() if (n in weights) == (kind == "weights")]
            if chosen:
                group = {"params": chosen, "lr": lr, "weight_decay": decay}
                adapt = {"adapt": kind == "weights"}
                groups.append({"name": f"{part} {kind}", **group, **adapt})
    return groups


def optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    """Make an optimiser, PyTorch's own fused where its kernels exist.

    Args:
        name: ``sgd``, ``adam``, ``adamw``, ``rmsprop`` or ``lars``.
        groups: parameter groups with their rates.
        momentum: momentum, or the first beta of ``adam`` and ``adamw``.
        nesterov: Nesterov momentum of ``sgd``.

    Returns:
        The optimiser. On a GPU its steps can be captured, and captured or not they are the same.
    """
    kinds = {p.device.type for group in groups for p in group["params"]}
    fused, gpu = kinds <= {"cpu", "cuda"}, kinds == {"cuda"}
    if name == "lars":
        return LARS(groups, groups[0]["lr"], momentum)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)
    made: torch.optim.Optimizer
    if name == "rmsprop":
        made = torch.optim.RMSprop(groups, momentum=momentum, capturable=gpu)
    else:
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        made = kind(groups, betas=(momentum, 0.999), fused=fused, capturable=gpu)
    made._warned_capturable_if_run_uncaptured = True  # torch's switch of a warning
    return made


class Learner:
    """A task's parameters and an estimator's state, moved by one estimate after the other.

    Args:
        task: the chain under its locality.
        estimator: gives the state, and may name the optimiser of state that learns by gradients as
            ``state_optimizer = (name, lr)``; plain steps of rate 1 without.
        recipe: optimiser, rates, and whether local readouts start at zero.
        noise: seeds the state.
        captured: whether steps may be captured: rates then lie in one tensor beside the parameters, for
            every step alike, because a kernel that reads a rate from memory may round it differently.
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
            with torch.no_grad():
                for name, p in self.chain.named_parameters():
                    if name.startswith("readouts.local"):
                        p.zero_()
        self._params = dict(self.chain.named_parameters())
        groups = param_groups(self.chain, recipe)
        self._rates = [group["lr"] for group in groups]
        self._optimizer = optimizer(recipe.optimizer, groups, recipe.momentum, recipe.nesterov)
        self._paced: Tensor | None = None
        if captured:
            device = next(self.chain.parameters()).device
            self._peaks = torch.tensor(self._rates, dtype=torch.float64, device=device)
            self._paced = self._peaks.float()  # the type that fused kernels read
        self._set_rates(self._rates if self._paced is None else self._paced.unbind())
        self._rule: tuple[str, float] = getattr(estimator, "state_optimizer", ("sgd", 1.0))
        copies: dict[int, Tensor] = {}  # what objectives share they go on sharing
        self._hold(
            {
                objective: {
                    name: copies.setdefault(id(t), t.detach().clone()) for name, t in own.items()
                }
                for objective, own in estimator.init_state(task.scheme, noise).items()
            }
        )

    def _hold(self, state: dict[str, State]) -> None:
        """Take state, whose floating tensors may learn by gradients."""
        self.state = state
        unique = {id(t): t for own in state.values() for t in own.values() if t.is_floating_point()}
        self._learnable = set(unique)
        self._teacher: torch.optim.Optimizer | None = None
        if unique:
            name, lr = self._rule
            group = {"params": list(unique.values()), "lr": lr}
            self._teacher = optimizer(name, [group], 0.0 if name == "sgd" else 0.9)

    def _set_rates(self, rates: Sequence[float | Tensor]) -> None:
        """Give every group of parameters its rate."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def pace(self, factor: float) -> None:
        """Set the rates of the steps to come.

        Args:
            factor: of every learning rate.
        """
        if self._paced is None:
            self._set_rates([rate * factor for rate in self._rates])
        else:
            torch.mul(self._peaks, factor, out=self._paced)

    def follow(self, found: Step) -> None:
        """Take one step along an estimate.

        Args:
            found: gradients of body and readouts, and what the state becomes.

        Raises:
            ValueError: if state learns by a gradient after ``new_state`` put another tensor in its place.
        """
        with torch.no_grad():
            for name, grad in (*found.body.items(), *found.readouts.items()):
                _give(self._params[name], grad)
        self._optimizer.step()
        if found.new_state:
            self._renew(found.new_state)
        if found.state_grads:
            self._teach(found.state_grads)

    def _renew(self, new_state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take what the state becomes, in the memory of what it was where that is its own.

        What is handed back unchanged stays the tensor that the state's optimiser moves.
        """
        held = Counter(id(t) for own in self.state.values() for t in own.values())
        lent = {_memory(t) for own in self.state.values() for t in own.values()}
        taken = {  # a copy of what lies in another part of the state, which may be renewed first
            (objective, name): t.clone() if t is not self.state[objective].get(name) else t
            for objective, new in new_state.items()
            for name, t in new.items()
            if _memory(t) in lent
        }
        for objective, new in new_state.items():
            old = self.state[objective]
            self.state[objective] = {
                name: self._placed(old.get(name), taken.get((objective, name), t), held)
                for name, t in new.items()
            }

    def _placed(self, old: Tensor | None, new: Tensor, held: Mapping[int, int]) -> Tensor:
        """Write a new tensor over an old one that nobody shares, or return it where there is none."""
        if new is old:
            return old
        alike = old is not None and (old.shape, old.dtype) == (new.shape, new.dtype)
        if old is None or not alike or held[id(old)] > 1:
            return new.detach()
        with torch.no_grad():
            old.copy_(new)
        self._learnable.discard(id(old))
        return old

    def _teach(self, grads: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Move learned state; a tensor that objectives share gets the sum of their gradients."""
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
                    _give(tensor, grad if before is None else before + grad)
                moved[id(tensor)] = tensor
        assert self._teacher is not None
        self._teacher.step()
        for tensor in moved.values():
            tensor.grad = None

    def unsound(self) -> str:
        """Return the name of a parameter that is not finite, or ""."""
        sums = torch.stack([p.detach().float().sum() for p in self._params.values()])
        finite = sums.isfinite().tolist()
        return "" if all(finite) else list(self._params)[finite.index(False)]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint needs, by name; not copied."""
        found = {f"chain\t{name}": tensor for name, tensor in self.chain.state_dict().items()}
        for what, one in (("optimizer", self._optimizer), ("teacher", self._teacher)):
            states = one.state_dict()["state"] if one is not None else {}
            found |= {
                f"{what}\t{index}\t{name}": value
                for index, parts in states.items()
                for name, value in parts.items()
                if isinstance(value, torch.Tensor)
            }
        for objective, own in self.state.items():
            found |= {f"state\t{objective}\t{name}": tensor for name, tensor in own.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what :meth:`tensors` was taken from, to the bit.

        Args:
            tensors: by name, on any device.
        """
        parts: dict[str, dict[str, dict[str, Tensor]]] = {}
        chain = {}
        device = next(self.chain.parameters()).device
        moved: dict[int, Tensor] = {}  # what objectives share they go on sharing
        for key, tensor in tensors.items():
            what, _, name = key.partition("\t")
            if what == "chain":
                chain[name] = tensor
                continue
            group, _, name = name.partition("\t")
            there = moved.setdefault(id(tensor), tensor.to(device)) if what == "state" else tensor
            parts.setdefault(what, {}).setdefault(group, {})[name] = there
        self.chain.load_state_dict(chain)
        self._hold({**{name: {} for name in self.state}, **parts.get("state", {})})
        for what, one in (("optimizer", self._optimizer), ("teacher", self._teacher)):
            if one is not None:
                _reload(one, parts.get(what, {}))
        if self._paced is not None:  # an optimiser keeps copies of what it loads
            self._set_rates(self._paced.unbind())


def _memory(tensor: Tensor) -> int:
    """Return where a tensor's memory lies."""
    return tensor.untyped_storage().data_ptr()


def _give(tensor: Tensor, grad: Tensor) -> None:
    """Write a gradient in place.

    Copied and not assigned: fused optimisers ignore strides, so that a transposed gradient would move
    the wrong weights without a word.
    """
    if tensor.grad is None:
        tensor.grad = torch.empty_like(tensor)
    tensor.grad.copy_(grad)


def _reload(one: torch.optim.Optimizer, saved: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put an optimiser's tensors back, in the memory layout of its parameters."""
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
