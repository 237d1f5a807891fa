"""A contrastive readout, literally: a projector and NT-Xent over two views of the same examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench.core.network import Readout, Tap, untouched


class Contrastive(Readout):
    """Project the mean over patches; rows 0..B-1 are one view, B..2B-1 the other.

    Every query sees the keys of both views but its own and should find its other view; keys stop tangents
    and gradients.
    """

    def __init__(self, features: int, width: int = 128, temperature: float = 0.5) -> None:
        super().__init__()
        self.projector = nn.Linear(features, width)
        self.temperature = temperature

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        return tap("op", "projector", self.projector(f.mean(1).flatten(1)))

    def losses(self, prediction: Tensor, labels: Tensor) -> Tensor:
        z = F.normalize(prediction, dim=1, eps=1e-6)
        logits = z @ z.detach().T / self.temperature
        logits = logits - 1e9 * torch.eye(len(z), dtype=z.dtype)
        target = torch.arange(len(z)).roll(len(z) // 2)
        return F.cross_entropy(logits, target, reduction="none")
