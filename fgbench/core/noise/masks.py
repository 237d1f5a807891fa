"""Masks of weights: which of them directions run along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from fgbench.errors import UsageError, unknown
from fgbench.registry.grammar import split_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.noise.keyed import Noise

KINDS = ("small", "large", "random")


@dataclass(frozen=True)
class Mask:
    """A choice of weights within every matrix; vectors, such as biases and gains, are never masked.

    Args:
        kind: ``small`` or ``large``: the weights of smallest or largest size, read where the estimate is
            made; ``random``: any, drawn anew from time to time.
        keep: share of the weights of each matrix that is kept, at least one; equal sizes stay together.
        every: steps that a random choice lives.

    Example:
        >>> weights = {"w": torch.tensor([[1.0, -3.0], [2.0, 0.5]]), "b": torch.ones(2)}
        >>> mask("small[keep=0.5]").of(weights, None)
        {'w': tensor([[1., 0.],
                [0., 1.]])}
    """

    kind: str
    keep: float = 1.0
    every: int = 1

    def of(self, weights: Mapping[str, Tensor], noise: Noise | None) -> dict[str, Tensor]:
        """Return the masks of all matrices.

        Args:
            weights: by name, clean ones.
            noise: what a random choice is drawn from; others draw nothing.

        Returns:
            Name to 1 where a weight is kept and 0 elsewhere, of its shape and type.
        """
        found = {}
        for name, w in weights.items():
            if w.dim() < 2:
                continue
            size = self._size(name, w.detach(), noise)
            limit = size.flatten().kthvalue(self._count(w)).values
            found[name] = (size <= limit).to(w.dtype)
        return found

    def shares(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how often each weight is kept: its mask, or the share of a random choice.

        Args:
            weights: by name, clean ones; vectors are always kept.

        Returns:
            Name to numbers from 0 to 1 that broadcast over the weights.
        """
        always = {
            name: torch.ones((), dtype=w.dtype, device=w.device) for name, w in weights.items()
        }
        if self.kind != "random":
            return {**always, **self.of(weights, None)}
        return {
            name: one * self._count(w) / w.numel() if (w := weights[name]).dim() > 1 else one
            for name, one in always.items()
        }

    def _count(self, w: Tensor) -> int:
        """Return how many weights of a matrix are kept."""
        return max(1, round(self.keep * w.numel()))

    def _size(self, name: str, w: Tensor, noise: Noise | None) -> Tensor:
        """Return numbers of which the smallest are kept."""
        if self.kind != "random":
            return w.abs() if self.kind == "small" else -w.abs()
        assert noise is not None
        lasting = noise.child("mask").held(self.every)
        return lasting.draw("uniform", name, 0, tuple(w.shape))


@lru_cache(maxsize=64)
def mask(text: str) -> Mask | None:
    """Return the mask that a text describes.

    Args:
        text: ``small[keep=0.25]``, ``large[keep=0.25]`` or ``random[keep=0.25,every=1]``; "" for none.

    Returns:
        The mask, or None.

    Raises:
        UsageError: for another kind or option, or a share that is not above 0 and at most 1.

    Example:
        >>> mask("random[keep=0.25]")
        Mask(kind='random', keep=0.25, every=1)
    """
    if not text:
        return None
    kind, options = split_options(text)
    if kind not in KINDS:
        raise unknown("mask", kind, KINDS)
    allowed = ("keep", "every") if kind == "random" else ("keep",)
    for key in options:
        if key not in allowed:
            raise unknown(f"option of mask={kind}", key, allowed)
    keep, every = options.get("keep", "1"), options.get("every", "1")
    try:
        share = float(keep)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"mask={kind}: keep is a share above 0 and at most 1, got {keep}")
    if not every.isdecimal() or int(every) < 1:
        raise UsageError(f"mask={kind}: every is a whole number from 1 up, got {every}")
    return Mask(kind, share, int(every))
