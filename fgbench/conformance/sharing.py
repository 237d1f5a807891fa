"""Declared weight sharing against the derivative of the weight operation.

Along an axis that shares its weights every index of the raw output meets the same weights; along any
other axis each index has weights of its own. So cotangents at two indices of the raw output give gradients
that overlap along a shared axis, and along any other axis have no weight in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fgbench.conformance.mixing import Place
from fgbench.conformance.outcome import Fault, NotJudged, listed
from fgbench.core import axes
from fgbench.core.noise.keyed import Noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.network import Chain


def sharing(chain: Chain, k: int, x: Tensor) -> str:
    """Compare the axes that module ``k`` declares shared with the derivatives of its weight operations.

    Args:
        chain: the network, in float64.
        k: the module.
        x: a batch of the chain's inputs.

    Returns:
        The detail.

    Raises:
        Fault: for every axis that shares weights undeclared, or does not although declared.

    Example:
        >>> from fgbench.conformance.nets import CONVOLUTIONS
        >>> noise = Noise(0, dtype=torch.float64)
        >>> sharing(CONVOLUTIONS.build(noise), 0, noise.normal("x", (2, 1, 3, 4)))
        '3 axes as declared'
    """
    module = chain.module(k)
    ops: dict[str, Tensor] = {}
    shapes: dict[str, torch.Size] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        name = name.removeprefix(f"body.{k}.")
        if kind == "op":
            ops[name] = z
        elif kind == "site":
            shapes[name] = z.shape
        return z

    with torch.no_grad():
        start = chain.run(x, 0, k)
    out = Place.of("the output", module.out_axes, chain.run(start, k, k + 1, tap), {})
    compared, wrong = 0, list[str]()
    for site in module.sites:
        own = [p for n, p in module.named_parameters() if n.rpartition(".")[0] == site.name]
        z = ops[site.name]
        if z.shape != shapes[site.name] or not own:
            continue  # the site's axes do not describe the raw output
        place = Place.of(f"op {site.name}", site.axes, z, out.sizes, site.mixed_after)
        for i, (letters, size) in enumerate(place.fine().items()):
            if letters == "b" or size < 2:
                continue
            compared += 1
            declared = set(letters) <= set(axes.names(site.shared))
            if _overlap(place, i, own) != declared:
                how = "has weights of its own" if declared else "shares its weights"
                wrong.append(f"op {site.name} {how} along {letters}, declared {site.shared!r}")
    if wrong:
        raise Fault(listed(wrong))
    if not compared:
        raise NotJudged("no weight operation has an axis that could share its weights")
    return f"{compared} axes as declared"


def _overlap(place: Place, at: int, params: Sequence[Tensor]) -> bool:
    """Return whether the first and the last index of one axis have a weight in common."""
    fine = list(place.fine().values())
    dense = Noise(0, dtype=place.tensor.dtype).normal("cotangent", tuple(fine))
    reached = []
    for j in (0, fine[at] - 1):
        cotangent = torch.zeros_like(dense)
        cotangent.select(at, j).copy_(dense.select(at, j))
        grads = torch.autograd.grad(
            place.tensor, params, cotangent.reshape(place.tensor.shape), retain_graph=True
        )
        reached.append([g != 0 for g in grads])
    return any(bool((a & b).any()) for a, b in zip(*reached, strict=True))
