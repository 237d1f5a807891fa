"""Dropout of dual numbers: one mask for the value and its tangents, drawn under a key.

A mask that differs between the passes of one estimate makes its slopes those of another network. Inside
:func:`keyed_dropout` all passes with one seed draw the same masks, with or without tangents; outside, dropout
of a `Dual` is refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, value
from fgbench.core.autodiff.overrides import without_overrides
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RANDOM", "keyed_dropout"]

_keyed: ContextVar[bool] = ContextVar("fgbench_keyed_dropout", default=False)


@contextmanager
def keyed_dropout(seed: int) -> Iterator[None]:
    """Seed torch's generators inside the block, and let dropout of a `Dual` draw its masks from them.

    They are those of the CPU and of the current CUDA device. They have their old states behind the block.

    Args:
        seed: any integer; passes under one seed draw the same masks in the same order.

    Example:
        >>> x = torch.ones(4)
        >>> with keyed_dropout(0):
        ...     plain = F.dropout(x)
        >>> with keyed_dropout(0):
        ...     dual = F.dropout(Dual(x, x[None]))
        >>> torch.equal(dual.value, plain) and torch.equal(dual.tangents[0], plain)
        True
    """
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    states = [generator.get_state() for generator in generators]
    token = _keyed.set(True)
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        _keyed.reset(token)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _admit(input: Any, name: str) -> None:
    """Raise where a mask for a `Dual` would be drawn without a key."""
    if type(input) is Dual and not _keyed.get():
        raise TangentLost(
            f"{name} would draw one mask for the value, another for its tangents; "
            "put the module in eval() mode, or draw under keyed_dropout"
        )


def _kept(input: Any, p: float, by_channel: bool = False) -> Tensor:
    """Draw 1 for what stays and 0 for what is dropped, as torch's own dropout does on a CPU."""
    point = value(input).detach()
    if by_channel:
        mask = point.new_empty((*point.shape[:2], *(1,) * (point.dim() - 2)))
    else:
        mask = torch.empty_like(point)
    return mask.bernoulli_(1 - p)


def _dropout(name: str, by_channel: bool) -> Callable[..., Any]:
    """Return dropout that draws one mask for a value and its tangents."""

    def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not training or p == 0:
            return input
        _admit(input, name)
        return input * 0.0 if p == 1 else input * _kept(input, p, by_channel).div_(1 - p)

    return dropout


SATURATION = 1.7580993408473766
"""Minus the value that a SELU tends to on the left: alpha dropout sets units to it."""


def _alpha_dropout(name: str, by_channel: bool) -> Callable[..., Any]:
    """Return alpha dropout: units fall to a constant, and an affine map restores mean and variance."""

    def alpha_dropout(
        input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
    ) -> Any:
        if not training or p == 0:
            return input
        _admit(input, name)
        if p == 1:
            return input * 0.0
        scale = ((SATURATION**2 * p + 1) * (1 - p)) ** -0.5
        kept = _kept(input, p, by_channel)
        return input * (kept * scale) + (kept - 1 + p) * (SATURATION * scale)

    return alpha_dropout


def _rrelu(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Any:
    """Compute a leaky ReLU of the middle slope; drawn slopes are refused, as torch draws by signs."""
    if training:
        raise TangentLost(
            "rrelu draws a slope wherever its input is negative, so its draws change with the input; "
            "put it in eval() mode, or use leaky_relu"
        )
    return F.leaky_relu(input, (lower + upper) / 2)


RANDOM: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, torch.dropout), _dropout("dropout", by_channel=False)),
    torch.feature_dropout: _dropout("feature_dropout", by_channel=True),
    **dict.fromkeys(
        (F.alpha_dropout, torch.alpha_dropout), _alpha_dropout("alpha_dropout", by_channel=False)
    ),
    **dict.fromkeys(
        (F.feature_alpha_dropout, torch.feature_alpha_dropout),
        _alpha_dropout("feature_alpha_dropout", by_channel=True),
    ),
    **{f: without_overrides(f) for f in (F.dropout1d, F.dropout2d, F.dropout3d)},
    **dict.fromkeys((F.rrelu, torch.rrelu), _rrelu),
}
"""Random calls of torch to functions that take the same arguments.

Example:
    >>> RANDOM[F.dropout](torch.ones(2), training=False)
    tensor([1., 1.])
"""
