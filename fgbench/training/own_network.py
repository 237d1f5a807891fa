"""A user's own network under a method: its task, the noise, and the names that its parameters have there."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fgbench import registry
from fgbench.core.estimator import why_not
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import wrap
from fgbench.errors import UsageError
from fgbench.training.losses import loss_of

if TYPE_CHECKING:
    from fgbench.core.estimator import Estimator

CUT = ("local", "module", "interlocking", "overlap", "last")
"""Localities that read losses between the modules of a chain."""


@dataclass(frozen=True)
class OwnNetwork:
    """A module under a method; the module is used as it is, and shares its parameters.

    Args:
        module: the user's network.
        task: the network under the method's locality.
        estimator: of the method.
        noise: of the seed, on the module's device and in its dtype.
        names: name of a parameter in the task to its name in the module; heads of the locality have none.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        >>> x, y = torch.ones(5, 4), torch.tensor([0, 1, 0, 1, 0])
        >>> own = OwnNetwork.of(net, x, y, "cross_entropy", "FG-A")
        >>> sorted(own.names.values())
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """

    module: nn.Module
    task: Task
    estimator: Estimator
    noise: Noise
    names: dict[str, str]

    @classmethod
    def of(
        cls, module: nn.Module, x: Any, y: Any, loss: Any, method: Any, seed: int = 0, **how: Any
    ) -> OwnNetwork:
        """Put a module under a method.

        Args:
            module: the network; a chain of fgbench, or any other module, which is wrapped.
            x: inputs of at least two examples, as the module takes them.
            y: targets of the same examples.
            loss: a function or name, see :func:`fgbench.training.losses.loss_of`.
            method: see :func:`fgbench.registry.method_of`.
            seed: of heads, learned state and all noise.
            how: ``cut``, ``sites``, ``out_axes``, ``head`` and ``output`` of
                :func:`fgbench.core.wrapping.wrap`.

        Returns:
            The network under the method.

        Raises:
            UsageError: for anything that does not fit, in one line.
        """
        parsed = registry.method_of(method)
        criterion = loss_of(loss)
        require_module(module)
        require_device(module, x, y)
        require_cut(parsed, module, how.get("cut"))
        chain = _shared(module) if isinstance(module, Chain) else wrap(module, x, criterion, **how)
        if isinstance(module, Chain):
            chain.criterion = criterion
        some = next(chain.parameters())
        noise = Noise(seed, device=some.device, dtype=some.dtype)
        require_losses(chain, x, y)
        task = Task.build(chain, parsed.locality.thing, Noise(seed))
        task.chain.to(device=some.device, dtype=some.dtype)
        if why := why_not(parsed.estimator.thing, task.scheme):
            raise UsageError(f"{parsed.text} cannot be used on {type(module).__name__}: {why}")
        own = {id(p): name for name, p in module.named_parameters()}
        names = {n: own[id(p)] for n, p in task.chain.named_parameters() if id(p) in own}
        return cls(module, task, parsed.estimator.thing, noise, names)

    def heads(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the locality added, by their name in the task."""
        every = self.task.chain.named_parameters()
        return {name: p for name, p in every if name not in self.names}

    def mean_loss(self, x: Any, y: Any) -> float:
        """Return the mean loss of the final readout on a batch, of which no objective reads it.

        Args:
            x: inputs.
            y: targets.
        """
        chain = self.task.chain
        with torch.no_grad():
            return float(chain.readout("final").losses(chain(x), y).mean())


def _shared(chain: Chain) -> Chain:
    """Return a chain of the same modules and parameters, to which heads can be added."""
    copied = copy.copy(chain)
    copied._modules = dict(chain._modules)
    copied.readouts = nn.ModuleDict(dict(chain.readouts.items()))
    return copied


def require_module(module: Any) -> None:
    """Refuse what is no module with parameters to learn.

    Args:
        module: what was given.

    Raises:
        UsageError: where it is none.

    Example:
        >>> require_module(nn.Linear)
        Traceback (most recent call last):
        fgbench.errors.UsageError: model: expected a torch.nn.Module, got the class Linear: make one
    """
    if isinstance(module, type):
        raise UsageError(
            f"model: expected a torch.nn.Module, got the class {module.__name__}: make one"
        )
    if not isinstance(module, nn.Module):
        raise UsageError(f"model: expected a torch.nn.Module, got {type(module).__name__}")
    if not any(p.requires_grad for p in module.parameters()):
        raise UsageError(f"{type(module).__name__} has no parameter that requires a gradient")


def require_cut(method: registry.Method, module: nn.Module, cut: Any) -> None:
    """Refuse local losses on a module that is not cut: they would all be the loss at its end.

    Args:
        method: estimator and locality.
        module: the network.
        cut: where it is cut.

    Raises:
        UsageError: where there is no cut and the locality has losses on the way.

    Example:
        >>> require_cut(registry.method("LG-FG-A"), nn.Linear(2, 1), "")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fgbench.errors.UsageError: LG-FG-A has losses on the way, and Linear is not cut: ...
    """
    if cut or isinstance(module, Chain) or method.locality.name.partition("-")[0] not in CUT:
        return
    raise UsageError(
        f"{method.text} has losses on the way, and {type(module).__name__} is not cut: give cut='auto' or "
        "the names of modules"
    )


def require_device(module: nn.Module, *batch: Any) -> None:
    """Refuse inputs and targets that lie on another device than the module.

    Args:
        module: the network.
        batch: nested tensors.

    Raises:
        UsageError: where one does, or there is no tensor.

    Example:
        >>> require_device(nn.Linear(2, 1), torch.ones(3, 2, device="meta"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: Linear is on cpu and its batch on meta: move one, such as x.to('cpu')
    """
    where = next(module.parameters()).device
    found = [t for t in tree_leaves(batch) if isinstance(t, Tensor)]
    if not found:
        raise UsageError(f"a batch is tensors, got {type(batch[0]).__name__}")
    for t in found:
        if t.device != where:
            raise UsageError(
                f"{type(module).__name__} is on {where} and its batch on {t.device}: move one, such as "
                f"x.to({str(where)!r})"
            )


def require_losses(chain: Chain, x: Any, y: Any) -> None:
    """Refuse a loss that is not one number per example, before anything is estimated with it.

    Args:
        chain: the network with its loss.
        x: inputs.
        y: targets.

    Raises:
        UsageError: for a loss of another shape, such as a mean over the batch.

    Cost: one forward pass.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> require_losses(workload.chain(0), *workload.data.sample(3))
    """
    with torch.no_grad():
        prediction = chain(x)
        try:
            losses = chain.readout("final").losses(prediction, y)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shape = list(getattr(prediction, "shape", ()))
            raise UsageError(
                f"the loss cannot be computed of predictions {shape}: {error}"
            ) from error
    count, shape = len(prediction), tuple(getattr(losses, "shape", ()))
    if shape[:1] != (count,):
        what = "one number" if not shape else f"shape {list(shape)}"
        raise UsageError(
            f"the loss returned {what}, expected one loss per example, [{count}]: without a mean over the "
            "batch, such as reduction='none'"
        )
