"""Requirements on a module, a batch and a loss, checked before anything is wrapped or estimated."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fgbench.core.wrapping.buffers import buffers_kept
from fgbench.errors import UsageError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fgbench.core.losses import Loss
    from fgbench.core.network import Chain


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
        named = f" {module!r:.40}: a name is given as arch=" if isinstance(module, str) else ""
        raise UsageError(f"model: expected a torch.nn.Module, got {type(module).__name__}{named}")
    if not any(p.requires_grad for p in module.parameters()):
        raise UsageError(f"{type(module).__name__} has no parameter that learns (requires_grad)")


@contextmanager
def called_by(module: nn.Module) -> Iterator[None]:
    """Convert what a module raises when it is called to one line.

    Args:
        module: what is called in the block.

    Raises:
        UsageError: in place of any other error.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1))
        >>> with called_by(net):  # doctest: +ELLIPSIS
        ...     net(torch.ones(3, 5))
        Traceback (most recent call last):
        fgbench.errors.UsageError: Sequential cannot be run on this batch: in 0 (Linear), Runtime...
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        where = _raised_in(module, error)
        name = type(module).__name__
        raise UsageError(f"{name} cannot be run on this batch: {where}{reason(error)}") from error


def _raised_in(module: nn.Module, error: Exception) -> str:
    """Return the innermost submodule whose call raised, for a message; "" where it is the module itself."""
    names = {id(m): (name, type(m).__name__) for name, m in module.named_modules()}
    found, at = "", error.__traceback__
    while at is not None:
        name, kind = names.get(id(at.tb_frame.f_locals.get("self")), ("", ""))
        found = f"in {name} ({kind}), " if name else found
        at = at.tb_next
    return found


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
    places = list(dict.fromkeys(p.device for p in module.parameters()))
    found = [t for t in tree_leaves(batch) if isinstance(t, Tensor)]
    if not found:
        raise UsageError(f"a batch is tensors, got {type(batch[0]).__name__}")
    for t in found:
        if t.device not in places:
            where = " and ".join(map(str, places))
            raise UsageError(
                f"{type(module).__name__} is on {where} and its batch on {t.device}: move one, such as "
                f"x.to({str(places[0])!r})"
            )


def require_losses(chain: Chain, loss: Loss, x: Any, y: Any) -> None:
    """Refuse a loss that is not one number per example, before anything is estimated with it.

    Args:
        chain: the network.
        loss: the loss per example.
        x: inputs.
        y: targets.

    Raises:
        UsageError: for a loss of another shape, such as a mean over the batch.

    Cost: one forward pass.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> require_losses(workload.chain(0), workload.data.loss, *workload.data.sample(3))
    """
    device = next(chain.parameters()).device
    drawn = [device] if device.type == "cuda" else []
    # a dropout draws, and a module may count its calls
    with torch.no_grad(), torch.random.fork_rng(devices=drawn), buffers_kept(chain):
        prediction = chain(x)
        try:
            losses = loss(prediction, y)
        except Exception as error:
            made = list(getattr(prediction, "shape", ()))
            raise UsageError(
                f"the loss cannot be computed of predictions {made}: {reason(error)}"
            ) from error
    count, shape = len(prediction), list(getattr(losses, "shape", ()))
    if shape != [count]:
        what = f"shape {shape}" if shape else "one number"
        raise UsageError(
            f"the loss returned {what}, expected one loss per example, [{count}]: a loss of torch needs "
            "reduction='none', and a mean over all axes but the first"
        )
