"""Tangents of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, rule, value
from fgbench.core.autodiff.rule_tools import alone, autocast, fit, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten


@rule(F.cross_entropy)
def _cross_entropy(
    y: Tensor, input: Any, target: Any, weight: Any = None, *args: Any, **kwargs: Any
) -> Any:
    how, ignored = kwargs.pop("reduction", "mean"), kwargs.pop("ignore_index", -100)
    if type(input) is not Dual or type(target) is Dual or any(map(bool, (*args, *kwargs.values()))):
        return NotImplemented  # smoothed labels, or arguments of old releases
    x, t = input.value, input.tangents
    if x.dim() < 2 or target.is_floating_point() or autocast(input):
        return NotImplemented
    if x.dim() > 2:  # [b, c, ...]
        flat = x.movedim(1, -1).reshape(-1, x.shape[1])
        rows = Dual(flat, t.movedim(2, -1).reshape(len(t), *flat.shape))
        kwargs = {"reduction": how, "ignore_index": ignored}
        t = _cross_entropy(y.flatten(), rows, target.flatten(), weight, **kwargs)
        return t.view(len(t), *y.shape)
    # d loss / dx by the kernels of the loss itself: a row of it is that example's own gradient
    logp, mode = torch.log_softmax(x, 1), ("none", "mean", "sum").index(how)
    total = aten.nll_loss_forward(logp, target, weight, mode, ignored)[1]
    g = aten.nll_loss_backward(torch.ones_like(y), logp, target, weight, mode, ignored, total)
    g = aten._log_softmax_backward_data(g, logp, 1, logp.dtype)
    return fit((t * g).sum(2) if how == "none" else t.flatten(1) @ g.flatten(), y)


@rule(F.nll_loss)
def _nll_loss(
    y: Tensor, input: Any, target: Any, weight: Any = None, *args: Any,
    ignore_index: int = -100, reduction: str = "mean", **kwargs: Any,
) -> Any:  # fmt: skip
    if not alone(input, target) or input.value.dim() != 2 or not plain(*args, *kwargs.values()):
        return NotImplemented
    x, mode = input.value, MODES.index(reduction)
    total = aten.nll_loss_forward(x, target, weight, mode, ignore_index)[1]
    one = torch.ones_like(y)
    g = aten.nll_loss_backward(one, x, target, weight, mode, ignore_index, total)
    return _of_rows(input.tangents, g, reduction, y)


MODES = ("none", "mean", "sum")
"""Names of the reductions, in the order of torch's numbers for them."""


def _of_rows(t: Tensor, g: Tensor, reduction: str, y: Tensor) -> Tensor | None:
    """Return the tangents of losses, one per row, from the gradients ``g`` of all rows."""
    if reduction == "none":
        return fit((t * g).sum(tuple(range(y.dim() + 1, t.dim()))), y)
    return fit(t.flatten(1) @ g.flatten(), y)


def _between(func: Call, backward: Call, *options: tuple[str, Any]) -> None:
    """Register a loss of two tensors, number by number, by its kernel of reverse mode.

    Args:
        func: the call.
        backward: ``(g, input, target, mode, *options) -> g dy/dinput``, for a mode of no reduction.
        options: names and defaults of the loss's own arguments.
    """
    symmetric = func is not F.binary_cross_entropy_with_logits

    @rule(func)
    def slope(y: Tensor, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        reduction = kwargs.pop("reduction", "mean")
        own = [kwargs.pop(name, default) for name, default in options]
        x, z = value(input), value(target)
        if not plain(*args, *kwargs.values()) or x.shape != z.shape or not x.dim():
            return NotImplemented
        if type(target) is Dual and not symmetric:
            return NotImplemented
        s, t = part(input), part(target)
        t = s if t is None else -t if s is None else s - t  # the loss reads input - target alone
        t = backward(t, x, z, 0, *own)
        if reduction == "none":
            return t
        t = t.flatten(1).sum(1)
        return t if reduction == "sum" else t / x.numel()


_between(F.mse_loss, aten.mse_loss_backward)
_between(F.l1_loss, lambda t, x, z, mode: t * (x - z).sign())
_between(F.smooth_l1_loss, aten.smooth_l1_loss_backward, ("beta", 1.0))
_between(F.huber_loss, aten.huber_loss_backward, ("delta", 1.0))
_between(F.binary_cross_entropy_with_logits, lambda t, x, z, mode: t * (x.sigmoid() - z))


@rule(F.multi_margin_loss)
def _multi_margin_loss(
    y: Tensor, input: Any, target: Tensor, p: int = 1, margin: float = 1.0, weight: Any = None,
    *args: Any, reduction: str = "mean", **kwargs: Any,
) -> Any:  # fmt: skip
    if not alone(input, weight) or not plain(*args, *kwargs.values()):
        return NotImplemented
    one, mode = torch.ones_like(y), MODES.index(reduction)
    g = aten.multi_margin_loss_backward(one, input.value, target, p, margin, weight, mode)
    return _of_rows(input.tangents, g, reduction, y)


@rule(F.multilabel_margin_loss)
def _multilabel_margin_loss(
    y: Tensor, input: Any, target: Tensor, *args: Any, reduction: str = "mean", **kwargs: Any
) -> Any:
    if not alone(input) or not plain(*args, *kwargs.values()):
        return NotImplemented
    x, mode = input.value, MODES.index(reduction)
    _, chosen = aten.multilabel_margin_loss_forward(x, target, mode)
    g = aten.multilabel_margin_loss_backward(torch.ones_like(y), x, target, mode, chosen)
    return _of_rows(input.tangents, g, reduction, y)
