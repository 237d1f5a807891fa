"""LocalMixer and its local forward gradients, transcribed from the paper with weights ``[in, out]``.

Names are the paper's: ``b1.l0.w`` is the weight of the first layer of the second block, ``head0`` a local
head. Token mixing keeps the paper's layout ``[b, d, p]``; grouped layers are loops over groups.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp

from tests.twins.replicated import replicated

Tensors = dict[str, Tensor]


class Place(NamedTuple):
    """A site: layer input u, linear output z, the axis its norm runs over, and the output h."""

    u: Tensor
    z: Tensor
    axis: int
    h: Tensor


def paper_name(ours: str) -> str:
    """Turn ``body.1.l0.weight`` into ``b1.l0.w`` and ``readouts.local0.linear.bias`` into ``head0.b``."""
    kind, which, layer, what = ours.split(".")
    if kind == "body":
        return f"b{which}.{layer}.{what[0]}"
    return f"{'final' if which == 'final' else which.replace('local', 'head')}.{what[0]}"


def paper_layout(ours: str, tensor: Tensor) -> Tensor:
    """Turn a weight ``[..., out, in]`` into ``[..., in, out]``; biases stay."""
    return tensor.mT if ours.endswith("weight") else tensor


def norm(x: Tensor, axis: int) -> Tensor:
    """Subtract the mean over one axis and divide by √(biased variance + 1e-5)."""
    centred = x - x.mean(axis, keepdim=True)
    return centred / ((centred**2).mean(axis, keepdim=True) + 1e-5).sqrt()


def patches_of(image: Tensor, side: int) -> Tensor:
    """Cut ``[b, H, W, ch]`` into ``[b, p, pixels]``: patches row by row, pixels row by row, channel last."""
    high, wide = image.shape[1] // side, image.shape[2] // side
    rows = []
    for i in range(side):
        for j in range(side):
            piece = image[:, i * high : (i + 1) * high, j * wide : (j + 1) * wide, :]
            rows.append(piece.reshape(len(image), -1))
    return torch.stack(rows, 1)


def grouped(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
    """Multiply each group ``u[:, :, g]`` by its own matrix."""
    return torch.stack([u[:, :, g] @ w[g] + c[g] for g in range(len(w))], 2)


def network(
    params: Tensors, image: Tensor, side: int, groups: int, noise: Tensors, cut: bool
) -> tuple[dict[str, Place], list[Tensor]]:
    """Run the trunk with noise added at the sites; give its places and the block outputs."""
    places: dict[str, Place] = {}
    outputs: list[Tensor] = []

    def site(name: str, u: Tensor, z: Tensor, axis: int, residual: Tensor | None = None) -> Tensor:
        n = norm(z, axis) + noise[name]
        h = torch.relu(n if residual is None else n + residual)
        places[name] = Place(u, z, axis, h)
        return h

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return params[f"{name}.w"], params[f"{name}.b"]

    u = norm(patches_of(image, side), 2)
    w, c = layer("b0.l0")
    h = site("b0.l0", u, u @ w + c, 2)
    u = norm(h.unflatten(2, (groups, -1)), 3)
    x = site("b0.l1", u, grouped(u, *layer("b0.l1")), 3)
    outputs.append(x)
    for k in range(1, sum(name.endswith("l2.w") for name in params) + 1):
        x = x.detach() if cut else x
        u = norm(x.flatten(2), 2).transpose(1, 2)
        w, c = layer(f"b{k}.l0")
        h = site(f"b{k}.l0", u, u @ w + c, 1)
        u = norm(h.transpose(1, 2), 2)
        w, c = layer(f"b{k}.l1")
        h = site(f"b{k}.l1", u, u @ w + c, 2)
        u = norm(h.unflatten(2, (groups, -1)), 3)
        x = site(f"b{k}.l2", u, grouped(u, *layer(f"b{k}.l2")), 3, residual=x)
        outputs.append(x)
    return places, outputs


def logits(params: Tensors, outputs: list[Tensor], head: str) -> Tensor:
    """Read a head: local ones normalise per group before the mean, the final one after it, over all."""
    w, c = params[f"{head}.w"], params[f"{head}.b"]
    if head == "final":
        return norm(outputs[-1].mean(1).flatten(1), 1) @ w + c
    return norm(outputs[int(head[4:])], 3).mean(1).flatten(1) @ w + c


def local_losses(params: Tensors, outputs: list[Tensor], labels: Tensor) -> list[Tensor]:
    """Compute the replicated loss ``[b, p, g]`` of every block."""
    return [
        replicated(norm(x, 3), params[f"head{k}.w"].T, params[f"head{k}.b"], labels)
        for k, x in enumerate(outputs)
    ]


def _zeros(like: Tensors) -> Tensors:
    return {name: torch.zeros_like(t) for name, t in like.items()}


def activity_tangents(
    params: Tensors, image: Tensor, labels: Tensor, side: int, groups: int, noise: Tensors
) -> list[Tensor]:
    """Push all activity noise at once and give each block's tangent of L/B, blocks cut apart."""

    def losses(at: Tensors) -> list[Tensor]:
        outputs = network(params, image, side, groups, at, cut=True)[1]
        return [loss / len(image) for loss in local_losses(params, outputs, labels)]

    return list(jvp(losses, (_zeros(noise),), (noise,))[1])


def weight_tangents(
    params: Tensors,
    image: Tensor,
    labels: Tensor,
    side: int,
    groups: int,
    noise: Tensors,
    still: Tensors,
) -> list[Tensor]:
    """Push weight noise ``noise`` at zero activity noise ``still``; heads are not perturbed."""

    def losses(trunk: Tensors) -> list[Tensor]:
        outputs = network({**params, **trunk}, image, side, groups, still, cut=True)[1]
        return [loss / len(image) for loss in local_losses(params, outputs, labels)]

    return list(jvp(losses, ({name: params[name] for name in noise},), (noise,))[1])


def activity_gradient(
    params: Tensors, image: Tensor, labels: Tensor, side: int, groups: int, noise: Tensors
) -> Tensors:
    """LG-FG-A: each site's scalar from the paper's table, the norm's transpose, then uᵀ δz."""
    tangents = activity_tangents(params, image, labels, side, groups, noise)
    places = network(params, image, side, groups, _zeros(noise), cut=True)[0]
    grads: Tensors = {}
    for name, place in places.items():
        own = tangents[int(name[1 : name.index(".")])]
        if place.axis == 1:  # token mixing, [b, d, p]: the sum over groups
            scalar, product, summed = own.sum(2)[:, None, :], "bdi,bdo->io", (0, 1)
        elif place.z.dim() == 3:  # channel mixing, [b, p, (g d)]
            each = place.z.shape[2] // groups
            scalar, product, summed = own.repeat_interleave(each, 2), "bpi,bpo->io", (0, 1)
        else:  # grouped, [b, p, g, d]
            scalar, product, summed = own.unsqueeze(3), "bpgi,bpgo->gio", (0, 1)
        delta = scalar * noise[name] * (place.h > 0)
        z = place.z.detach().requires_grad_()
        (delta,) = torch.autograd.grad(norm(z, place.axis), z, delta)
        grads[f"{name}.w"] = torch.einsum(product, place.u, delta)
        grads[f"{name}.b"] = delta.sum(summed)
    return grads


def weight_gradient(tangents: list[Tensor], groups: int, noise: Tensors) -> Tensors:
    """LG-FG-W as released: the scalar of a group's own columns is that group's tangent alone."""
    grads: Tensors = {}
    for name, v in noise.items():
        k, layer = int(name[1 : name.index(".")]), name.split(".")[1]
        gamma = tangents[k].sum((0, 1))
        grads[name] = v.clone()
        for g in range(groups):
            if k > 0 and layer == "l0":
                grads[name] = gamma.sum() * v
            elif layer == ("l1" if k == 0 else "l2"):
                grads[name][g] *= gamma[g]
            else:
                each = v.shape[-1] // groups
                grads[name][..., g * each : (g + 1) * each] *= gamma[g]
    return grads
