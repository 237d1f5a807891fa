"""Networks, noise, batches and orthogonal designs that tests share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.noise.laws import PerExample
from fgbench.core.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def build(arch: str, method: str, shape: tuple[int, ...] = (3, 8, 8), classes: int = 5) -> Any:
    """Build (task, estimator, noise) in float64."""
    noise = Noise(0, dtype=torch.float64)
    with noise.child("arch").seeded():
        made = registry.make("architectures", arch, shape=shape, classes=classes)
    chain = made.thing.to(torch.float64)
    with torch.no_grad():  # no readout starts at zero, or every truth below it would be zero
        for name, p in chain.named_parameters():
            if float(p.abs().max()) == 0.0:
                p.copy_(0.1 * noise.child("fill").normal(name, tuple(p.shape)))
    parsed = registry.method(method)
    return Task.build(chain, parsed.locality.thing, noise), parsed.estimator.thing, noise


def batch(b: int = 3, shape: tuple[int, ...] = (3, 8, 8), classes: int = 5) -> Any:
    """Make a batch of float64 images with labels."""
    x = Noise(1, dtype=torch.float64).normal("x", (b, *shape))
    return x, (torch.arange(b) * 3 + 1) % classes


def orthonormal(places: dict[str, tuple[int, ...]], per_example: bool, seed: int = 0) -> Any:
    """Make √d times an orthonormal basis of the joint space of all places, as directions.

    Per example for activities: every score sees the units of its own example only, so one basis of
    the units of an example serves the whole batch.
    """
    cut = 1 if per_example else 0
    sizes = {name: int(torch.Size(s[cut:]).numel()) for name, s in places.items()}
    d = sum(sizes.values())
    basis = torch.linalg.qr(Noise(seed, dtype=torch.float64).normal("basis", (d, d)))[0] * d**0.5
    found = {}
    for (name, size), part in zip(sizes.items(), basis.split(list(sizes.values()), 1), strict=True):
        shape = places[name]
        rows = part.reshape(d, *([1] if per_example else []), *shape[cut:])
        found[name] = rows.expand(d, *shape).contiguous()
        assert size == part.shape[1]
    return DesignedNoise(0, dtype=torch.float64, given=found)


def worst(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Return the largest difference relative to the largest entry of the whole truth."""
    top = max(float(g.abs().max()) for g in truth.values())
    return max(float((found[name] - g).abs().max()) for name, g in truth.items()) / top


def sites_of(task: Task, b: int = 3) -> PerExample:
    """Return the shape of every site of a batch."""
    return PerExample({n: (b, *s) for n, s in task.chain.shapes().items()})


def weights_of(task: Task) -> dict[str, tuple[int, ...]]:
    """Return the shape of every body parameter."""
    return {n: tuple(p.shape) for n, p in task.chain.body_parameters().items()}


@cache
def _basis(shapes: tuple[tuple[str, tuple[int, ...]], ...], per_example: bool) -> DesignedNoise:
    """Make an orthonormal design once."""
    found: DesignedNoise = orthonormal(dict(shapes), per_example)
    return found


def design(task: Task, name: str) -> DesignedNoise:
    """Make the orthonormal design of an estimator: along weights for ``fg_w``, else along sites."""
    places = weights_of(task) if name == "fg_w" else sites_of(task)
    return _basis(tuple(places.items()), per_example=name != "fg_w")
