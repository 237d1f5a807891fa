"""Forward gradients of a small MLP, example by example and layer by layer, with ``torch.func.jvp``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn import functional as F


class Layer(NamedTuple):
    """Weights ``[out, in]`` and bias of one layer."""

    w: Tensor
    c: Tensor


def _loss(h: Tensor, head: Layer, label: Tensor) -> Tensor:
    return F.cross_entropy((head.w @ h + head.c).unsqueeze(0), label.unsqueeze(0))


def _clean(body: list[Layer], x: Tensor) -> list[Tensor]:
    """Give the input of every layer and the last output, for one example."""
    inputs = [x]
    for layer in body:
        inputs.append(torch.relu(layer.w @ inputs[-1] + layer.c))
    return inputs


def _outer(
    inputs: list[Tensor], scalars: list[Tensor], noise: list[Tensor], share: float
) -> list[Layer]:
    """Turn one scalar per layer into gradients: δ = scalar · v · mask, then δ uᵀ."""
    found = []
    for k, scalar in enumerate(scalars):
        delta = share * scalar * noise[k] * (inputs[k + 1] > 0)
        found.append(Layer(torch.outer(delta, inputs[k]), delta))
    return found


def _added(total: list[Layer], more: list[Layer]) -> list[Layer]:
    return [Layer(a.w + b.w, a.c + b.c) for a, b in zip(total, more, strict=True)]


def _zero(body: list[Layer]) -> list[Layer]:
    return [Layer(torch.zeros_like(w), torch.zeros_like(c)) for w, c in body]


def activity(
    body: list[Layer], head: Layer, x: Tensor, labels: Tensor, noise: list[Tensor]
) -> list[Layer]:
    """FG-A: per example, the slope of the final loss along the noise of all layers at once.

    Args:
        body: hidden layers.
        head: the final readout.
        x: ``[b, i]``.
        labels: ``[b]``.
        noise: one ``[b, width]`` per layer.
    """
    total = _zero(body)
    for n in range(len(x)):

        def loss(*offsets: Tensor, n: int = n) -> Tensor:
            h = x[n]
            for layer, offset in zip(body, offsets, strict=True):
                h = torch.relu(layer.w @ h + layer.c + offset)
            return _loss(h, head, labels[n])

        v = [layer_noise[n] for layer_noise in noise]
        slope = jvp(loss, tuple(map(torch.zeros_like, v)), tuple(v))[1]
        total = _added(total, _outer(_clean(body, x[n]), [slope] * len(body), v, 1 / len(x)))
    return total


def local_activity(
    body: list[Layer], heads: list[Layer], x: Tensor, labels: Tensor, noise: list[Tensor]
) -> list[Layer]:
    """LG-FG-A: per example and layer, the slope of the layer's own loss along its own noise."""
    total = _zero(body)
    for n in range(len(x)):
        inputs = _clean(body, x[n])
        v = [layer_noise[n] for layer_noise in noise]
        slopes = []
        for layer, head, u, along in zip(body, heads, inputs, v, strict=False):

            def loss(offset: Tensor, at: tuple[Any, ...] = (layer, head, u, labels[n])) -> Tensor:
                own, readout, entering, label = at
                return _loss(torch.relu(own.w @ entering + own.c + offset), readout, label)

            slopes.append(jvp(loss, (torch.zeros_like(along),), (along,))[1])
        total = _added(total, _outer(inputs, slopes, v, 1 / len(x)))
    return total


def weight(
    body: list[Layer], head: Layer, x: Tensor, labels: Tensor, noise: list[Layer]
) -> list[Layer]:
    """FG-W: the slope of the mean loss along the noise of all weights and biases, times the noise."""

    def loss(layers: list[Layer]) -> Tensor:
        each = [_loss(_clean(layers, x[n])[-1], head, labels[n]) for n in range(len(x))]
        return sum(each, torch.zeros(())) / len(x)

    slope = jvp(loss, (body,), (noise,))[1]
    return [Layer(slope * v.w, slope * v.c) for v in noise]
