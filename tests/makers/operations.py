"""Count the operations of a call, whatever it differentiates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


class _NoModules(nullcontext[None]):
    """Stands for the counter's record of modules, whose hooks break ``autograd.grad`` on leaves."""

    parents = frozenset({"Global"})


def _baddbmm(onto: Any, a: tuple[int, ...], b: tuple[int, ...], **_: Any) -> int:
    """Count 2 n i j k; the counter knows this call only out of place."""
    return 2 * a[0] * a[1] * a[2] * b[2]


def operations(action: Callable[[], object]) -> int:
    """Return the floating point operations of matrix products and convolutions in a call."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _baddbmm})
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        action()
    return int(counter.get_total_flops())
