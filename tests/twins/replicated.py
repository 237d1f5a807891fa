"""The replicated local losses, literally: one copy of the features per patch and group."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def replicated(f: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Compute L[n, p, g]: the whole loss each time, its derivative through f[n, p, g] alone.

    Args:
        f: features ``[b, p, g, d]``.
        weight: ``[k, (g d)]``.
        bias: ``[k]``.
        labels: ``[b]``.

    Returns:
        ``[b, p, g]``, equal numbers along p and g; ``detach`` stops tangents as it stops gradients.
    """
    patches, groups = f.shape[1:3]
    losses = []
    for p in range(patches):
        for g in range(groups):
            own = torch.zeros(patches, groups, 1, dtype=torch.bool)
            own[p, g] = True
            copy = torch.where(own, f, f.detach())
            pooled = torch.stack([copy[:, q] for q in range(patches)]).mean(0)
            whole = torch.cat([pooled[:, h] for h in range(groups)], dim=1)
            losses.append(F.cross_entropy(whole @ weight.T + bias, labels, reduction="none"))
    return torch.stack(losses, 1).reshape(-1, patches, groups)


def contrastive(
    f: Tensor, weight: Tensor, bias: Tensor, temperature: float, stop: bool = True
) -> Tensor:
    """Compute the contrastive L[r, p, g], r over both views: row by row, key by key.

    Args:
        f: features ``[(v b), p, g, d]``.
        weight: ``[k, (g d)]``.
        bias: ``[k]``.
        temperature: of the logits.
        stop: whether keys are stopped; if not they move with their own patch and group.

    Returns:
        ``[(v b), p, g]``.
    """
    rows, patches, groups = f.shape[:3]
    losses = []
    for p in range(patches):
        for g in range(groups):
            own = torch.zeros(patches, groups, 1, dtype=torch.bool)
            own[p, g] = True
            copy = torch.where(own, f, f.detach())
            hats = []
            for r in range(rows):
                h = sum(copy[r, q] for q in range(patches)) / patches
                z = weight @ torch.cat(list(h)) + bias
                hats.append(z / z.norm())
            for r in range(rows):
                scores = {}
                for m in range(rows):
                    key = hats[m].detach() if stop else hats[m]
                    if m != r:
                        scores[m] = (hats[r] * key).sum() / temperature
                total = torch.stack(list(scores.values())).logsumexp(0)
                losses.append(total - scores[(r + rows // 2) % rows])
    return torch.stack(losses).reshape(patches, groups, rows).permute(2, 0, 1)
