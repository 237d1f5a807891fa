"""One estimate of the gradient of a user's network, by the names that its parameters have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fgbench.core.clock import Clock
from fgbench.core.wrapping import buffers_kept
from fgbench.errors import UsageError, unknown
from fgbench.training.learned_state import give
from fgbench.training.own_network import OwnNetwork

if TYPE_CHECKING:
    from torch import nn

    from fgbench.core.cost import CostCounter
    from fgbench.core.wrapping import Network


class Gradient(Mapping[str, Tensor]):
    """An estimate of a gradient: parameter name to tensor.

    Args:
        grads: by the names of the module's own parameters.
        loss: mean over the batch.
        cost: of the estimate.

    Attributes:
        loss: mean over the batch.
        cost: in forward passes of the batch.
        counts: what was called how often: forwards, slopes, pulls, backwards.

    Example:
        >>> import torch
        >>> from fgbench.core.cost import CostCounter
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> gradient = Gradient({"weight": torch.ones(1, 2)}, 0.5, CostCounter(forwards=1.0))
        >>> gradient.apply(net)
        >>> net.weight.grad
        tensor([[1., 1.]])
    """

    def __init__(self, grads: Mapping[str, Tensor], loss: float, cost: CostCounter) -> None:
        self._grads = dict(grads)
        self.loss = loss
        self.cost = cost.forward_equivalents
        self.counts = cost.as_dict()

    def __getitem__(self, name: str) -> Tensor:
        """Return the gradient of a parameter."""
        return self._grads[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._grads)

    def __len__(self) -> int:
        return len(self._grads)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in self._grads.items())
        return f"Gradient(loss {self.loss:.4g}, cost {self.cost:.3g} forward passes: {shapes})"

    def apply(self, model: nn.Module) -> None:
        """Write the gradient into ``.grad`` of a module's parameters, for any optimiser.

        Args:
            model: the network, or one with parameters of the same names. Parameters without an estimate,
                such as frozen ones, are left alone.

        Raises:
            UsageError: if it lacks one of the parameters.
        """
        parameters = dict(model.named_parameters())
        for name, grad in self._grads.items():
            if name not in parameters:
                raise unknown(f"parameter of {type(model).__name__}", name, parameters)
            give(parameters[name], grad)


def estimate(
    method: Any,
    *,
    model: nn.Module | Network,
    batch: tuple[Any, Any],
    loss: Any,
    cut: Any = "",
    sites: str = "",
    out_axes: str = "",
    head: str = "",
    output: Any = None,
    seed: int = 0,
    step: int = 0,
) -> Gradient:
    """Estimate the gradient of a network's loss once; the network is not changed.

    Args:
        method: a METHOD such as ``FG-A[directions=8]``, an estimator, or (estimator, locality).
        model: any PyTorch module, or :class:`fgbench.Network` with what its author knows of it.
        batch: inputs and targets, of at least two examples.
        loss: ``cross_entropy``, ``mse``, or a function from predictions and targets to one loss per
            example.
        cut: modules after which the network is cut for local losses, see :func:`fgbench.wrap`.
        sites: where noise enters, see :func:`fgbench.wrap`.
        out_axes: letters of the axes of the modules' outputs, see :func:`fgbench.wrap`.
        head: name of the last module, where it is the readout.
        output: picks the prediction from what the network returns.
        seed: of all noise.
        step: another step has other noise.

    Returns:
        The gradient by the module's own parameter names, with ``loss`` and ``cost``.

    Raises:
        UsageError: for anything that does not fit, in one line.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(4, 2)
        >>> x, y = torch.ones(3, 4), torch.tensor([0, 1, 1])
        >>> gradient = estimate("BP", model=net, batch=(x, y), loss="cross_entropy")
        >>> torch.nn.functional.cross_entropy(net(x), y).backward()
        >>> torch.allclose(gradient["weight"], net.weight.grad)
        True
    """
    x, y = pair(batch)
    how = {"cut": cut, "sites": sites, "out_axes": out_axes, "head": head, "output": output}
    own = OwnNetwork.of(model, x, y, loss, method, seed, **how)
    state = own.task.init_state(own.estimator, own.noise)
    noise = own.noise.child("directions").at(step)
    own.task.chain.redraw(own.noise.child("masks").at(step))
    with buffers_kept(own.module):
        task = own.task.at(Clock(step))
        found = task.estimate(x, y, own.estimator, noise, state)
        mean = own.mean_loss(x, y) if found.loss is None else float(found.loss)
    grads = {
        own.names[name]: grad
        for name, grad in {**found.body, **found.readouts}.items()
        if name in own.names
    }
    order = [name for name, _ in own.module.named_parameters() if name in grads]
    return Gradient({name: grads[name] for name in order}, mean, found.ledger)


def pair(batch: Any) -> tuple[Any, Any]:
    """Return inputs and targets of a batch, or refuse what is no pair.

    Args:
        batch: what was given.

    Returns:
        Inputs and targets.

    Raises:
        UsageError: for anything but two.

    Example:
        >>> pair([1, 2, 3])
        Traceback (most recent call last):
        fgbench.errors.UsageError: batch: expected (inputs, targets), got a list of 3
    """
    if not isinstance(batch, tuple | list):
        raise UsageError(f"batch: expected (inputs, targets), got {type(batch).__name__}")
    if len(batch) != 2:
        raise UsageError(
            f"batch: expected (inputs, targets), got a {type(batch).__name__} of {len(batch)}"
        )
    x, y = batch
    return x, y
