"""Steps of an optimiser along gradients by name: of all parameters at once, or of one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.along import Streamed, piece_of
from fgbench.training.learned_state import give

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def take(
    optimizer: torch.optim.Optimizer,
    params: Mapping[str, Tensor],
    body: Mapping[str, Tensor],
    readouts: Mapping[str, Tensor],
) -> None:
    """Take one step of an optimiser.

    A gradient that is a sum of directions is stepped along one parameter after the other, and by plain SGD
    one piece of a parameter after the other, so that it is never there as a whole. Optimisers here move each
    parameter by its own gradient and buffers alone, so the step is the same.

    Args:
        optimizer: of the parameters.
        params: parameters by name.
        body: gradients of the body.
        readouts: gradients of readouts.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> take(torch.optim.SGD([w], lr=0.5), {"w": w}, {"w": torch.ones(2)}, {})
        >>> w.tolist()
        [0.5, 0.5]
    """
    if isinstance(body, Streamed):
        _stream(optimizer, params, body, readouts)
        return
    with torch.no_grad():
        for name, grad in (*body.items(), *readouts.items()):
            give(params[name], grad)
    for name in params.keys() - {*body, *readouts}:
        params[name].grad = None  # frozen, as in an earlier stage: no optimiser moves it
    optimizer.step()


def _stream(
    optimizer: torch.optim.Optimizer,
    params: Mapping[str, Tensor],
    body: Streamed,
    readouts: Mapping[str, Tensor],
) -> None:
    """Take one step, one parameter after the other."""
    optimizer.zero_grad(set_to_none=True)
    plain = {
        id(p): group
        for group in optimizer.param_groups
        for p in group["params"]
        if isinstance(optimizer, torch.optim.SGD) and not group["momentum"]
    }
    with torch.no_grad():
        for name, grad in readouts.items():
            give(params[name], grad)
    optimizer.step()
    for p in params.values():
        p.grad = None
    for name in body:
        p = params[name]
        if id(p) in plain:
            _descend(p, body, name, plain[id(p)])
        else:
            with torch.no_grad():
                give(p, body[name])
            optimizer.step()
            p.grad = None


def _descend(p: Tensor, body: Streamed, name: str, group: Mapping[str, Any]) -> None:
    """Take a step of plain SGD along one parameter, piece by piece."""
    rate, decay = group["lr"], group["weight_decay"]
    with torch.no_grad():
        for at, grad in body.pieces(name, piece_of(p)):
            own = p[at]
            if decay:
                grad.add_(own, alpha=decay)
            own.sub_(grad.mul_(rate))


def saved(optimizer: torch.optim.Optimizer, params: Mapping[str, Tensor]) -> Callable[[], None]:
    """Copy parameters and the buffers of their optimiser.

    Args:
        optimizer: of the parameters.
        params: parameters by name.

    Returns:
        A function that puts them back; it may be called again.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> back = saved(torch.optim.SGD([w], lr=0.5), {"w": w})
        >>> _ = w.data.zero_()
        >>> back()
        >>> w.tolist()
        [1.0, 1.0]
    """
    values = {name: p.detach().clone() for name, p in params.items()}
    buffers = {
        p: {name: t.clone() if isinstance(t, torch.Tensor) else t for name, t in own.items()}
        for p, own in optimizer.state.items()
    }

    def back() -> None:
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(values[name])
            for p in list(optimizer.state):
                if p not in buffers:
                    del optimizer.state[p]
                    continue
                for name, t in buffers[p].items():
                    if isinstance(t, torch.Tensor):
                        optimizer.state[p][name].copy_(t)
                    else:
                        optimizer.state[p][name] = t

    return back
