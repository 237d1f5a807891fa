"""The replicated local loss, literally: one copy of the features per patch and group."""

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
