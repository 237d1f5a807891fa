"""A user's own network under a method: its task, the noise, and the names that its parameters have there."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fgbench import registry
from fgbench.core.estimator import why_not
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import Network, wrap
from fgbench.core.wrapping.required import (
    called_by,
    require_device,
    require_losses,
    require_module,
)
from fgbench.errors import UsageError
from fgbench.training.losses import loss_of

if TYPE_CHECKING:
    from fgbench.core.estimator import Estimator

CUT = (
    *("local", "module", "interlocking", "overlap", "last", "dgl", "predsim", "infopro"),
    *("mono_forward", "greedy_sequential"),
)
"""Localities that read losses between the modules of a chain."""

KNOWN = ("cut", "sites", "out_axes", "head", "output")
"""What a network's author knows of its structure."""


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
        cls,
        model: nn.Module | Network,
        x: Any,
        y: Any,
        loss: Any,
        method: Any,
        seed: int = 0,
        **how: Any,
    ) -> OwnNetwork:
        """Put a module under a method.

        Args:
            model: a chain of fgbench, or any other module, which is wrapped; or a module with what its
                author knows of its structure, which options given here override.
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
        module = model.module if isinstance(model, Network) else model
        if isinstance(model, Network):
            known = {name: getattr(model, name) for name in KNOWN}
            how = known | {name: value for name, value in how.items() if value}
        require_module(module)
        require_device(module, x, y)
        require_cut(parsed, module, how.get("cut"))
        with called_by(module):
            if isinstance(module, Chain):
                chain = _shared(module)
                chain.criterion = criterion
            else:
                chain = wrap(module, x, criterion, **{**how, "sites": how.get("sites") or "ops"})
        some = next(chain.parameters())
        noise = Noise(seed, device=some.device, dtype=some.dtype)
        require_losses(chain, criterion, x, y)
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
