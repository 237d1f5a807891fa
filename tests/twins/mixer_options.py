"""LocalMixer's options, written out patch by patch: depthwise mixing, pooling, ratios, hidden width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.twins.localmixer import norm, patches_of

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """Patches per side, groups and pooling before it, block by block; kernel 0 is full token mixing."""

    sides: tuple[int, ...]
    groups: tuple[int, ...]
    strides: tuple[int, ...]
    kernel: int
    kind: str
    norms: frozenset[str]


def linear(params: Tensors, name: str, u: Tensor) -> Tensor:
    return u @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def grouped(params: Tensors, name: str, u: Tensor) -> Tensor:
    """Multiply each group ``u[:, :, g]`` by its own matrix."""
    w, c = params[f"{name}.weight"], params[f"{name}.bias"]
    return torch.stack([u[:, :, g] @ w[g].T + c[g] for g in range(len(w))], 2)


def tokens(params: Tensors, name: str, u: Tensor, side: int, kernel: int) -> Tensor:
    """Mix patches of ``[b, p, c]``, row by row of the grid."""
    w, c = params[f"{name}.weight"], params[f"{name}.bias"]
    out = torch.zeros_like(u)
    for q in range(side * side):
        if not kernel:
            out[:, q] = sum(w[q, p] * u[:, p] for p in range(side * side)) + c[q]
            continue
        out[:, q] = c
        for i in range(kernel):
            for j in range(kernel):
                row, column = q // side + i - kernel // 2, q % side + j - kernel // 2
                if 0 <= row < side and 0 <= column < side:
                    out[:, q] += w[:, 0, i, j] * u[:, row * side + column]
    return out


def pooled(x: Tensor, side: int, stride: int, kind: str) -> Tensor:
    """Pool ``[b, p, c]`` over windows that start at every stride-th patch."""
    window, found = max(3, stride), []
    for top in range(0, side, stride):
        for left in range(0, side, stride):
            rows = range(top, min(top + window, side))
            columns = range(left, min(left + window, side))
            seen = torch.stack([x[:, i * side + j] for i in rows for j in columns])
            found.append(seen.amax(0) if kind == "max" else seen.sum(0) / window**2)
    return torch.stack(found, 1)


def outputs(params: Tensors, image: Tensor, plan: Plan) -> list[Tensor]:
    """Compute the output ``[b, p, g, c]`` of every block from images ``[b, H, W, ch]``."""

    def normed(which: str, x: Tensor) -> Tensor:
        return norm(x, x.dim() - 1) if which in plan.norms else x

    u = normed("begin", patches_of(image, plan.sides[0]))
    h = torch.relu(normed("post", linear(params, "body.0.l0", u)))
    u = normed("middle", h.unflatten(2, (plan.groups[0], -1)))
    found = [torch.relu(normed("post", grouped(params, "body.0.l1", u)))]
    for k in range(1, len(plan.sides)):
        name, x = f"body.{k}", found[-1].flatten(2)
        if plan.strides[k] > 1:
            x = pooled(x, plan.sides[k - 1], plan.strides[k], plan.kind)
        z = tokens(params, f"{name}.l0", normed("begin", x), plan.sides[k], plan.kernel)
        h = torch.relu(normed("post", z))
        h = torch.relu(normed("post", linear(params, f"{name}.l1", normed("middle", h))))
        u = normed("middle", h.unflatten(2, (plan.groups[k], -1)))
        z = normed("post", grouped(params, f"{name}.l2", u))
        wide = z.flatten(2).shape[2]
        copied = torch.stack([x[:, :, c % x.shape[2]] for c in range(wide)], 2)
        found.append(torch.relu(z + copied.unflatten(2, (plan.groups[k], -1))))
    return found


def logits(params: Tensors, found: list[Tensor], head: str, norms: frozenset[str]) -> Tensor:
    """Read a head: local ones normalise per group before the mean, the final one after it, over all."""
    if head == "final":
        f = found[-1].mean(1).flatten(1)
        f = norm(f, 1) if "final" in norms else f
    else:
        f = found[int(head[5:])]
        f = (norm(f, 3) if "local" in norms else f).mean(1).flatten(1)
    return linear(params, f"readouts.{head}.linear", f)
