"""The exact gradient from less memory, beside which every method is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BASELINES = ("BP-CKPT", "BP-ACC")
"""Backprop that computes activities again, and that takes the batch part by part."""


def beside(localities: Iterable[str]) -> tuple[str, ...]:
    """Return the METHODs to time beside others, as far as these lead to the gradient of the same loss.

    Args:
        localities: of the methods, as text.

    Returns:
        `BASELINES`, or none where every method has a contrastive loss.

    Example:
        >>> beside(["end", "local-pg"]), beside(["contrastive"])
        (('BP-CKPT', 'BP-ACC'), ())
    """
    return BASELINES if any(not text.startswith("contrastive") for text in localities) else ()
