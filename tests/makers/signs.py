"""Every sign vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def signs(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every vector of signs over all places: place to ``[2^d, *place]``."""
    sizes = [torch.Size(s).numel() for s in shapes.values()]
    d = sum(sizes)
    assert d <= 12
    bits = (torch.arange(2**d).unsqueeze(1) >> torch.arange(d)) & 1
    parts = (2.0 * bits.double() - 1).split(sizes, 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
