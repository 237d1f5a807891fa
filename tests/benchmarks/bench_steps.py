"""Whole steps beside the same step written differently: run by ``make bench``."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.along import Along, Streamed
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import wrap
from fgbench.training import optimizer_steps
from tests.makers.twin_kernels import both, timed

SHAPE, BATCH = (1, 28, 28), 64
WIDTH, DEPTH = 256, 3


def plain() -> nn.Sequential:
    """The same network as ``mlp-3x256``, of torch alone."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 784
    for _ in range(DEPTH):
        layers += [nn.Linear(inputs, WIDTH), nn.ReLU()]
        inputs = WIDTH
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def batch() -> tuple[Tensor, Tensor]:
    return Noise(0).normal("x", (BATCH, *SHAPE)), torch.arange(BATCH) % 10


def step_of(method: str, chain: Any) -> Any:
    noise, made = Noise(0), registry.method(method)
    task = Task.build(chain, made.locality.thing, noise)
    estimator = made.estimator.thing
    state = task.init_state(estimator, noise)
    x, labels = batch()

    def step() -> list[Tensor]:
        found = task.estimate(x, labels, estimator, noise, state)
        return [found.body[name] for name in found.body]

    return step


@both
@pytest.mark.parametrize("method", ["FG-W", "FG-A", "LG-FG-A"])
def test_wrapped_beside_built_in(benchmark: BenchmarkFixture, method: str, which: str) -> None:
    with Noise(0).seeded():
        net = plain()
    with Noise(0).seeded():
        built_in = registry.make("architectures", "mlp-3x256", shape=SHAPE, classes=10).thing
    losses = partial(F.cross_entropy, reduction="none")
    wrapped = wrap(net, batch()[0][:3], losses, cut=("2", "4"), head="7")
    kernel = f"{method} of a wrapped mlp-3x256, beside the built-in one"
    ours, twin = step_of(method, wrapped), step_of(method, built_in)
    timed(benchmark, kernel, which, ours, twin, None)


@both
def test_activity_estimate_beside_jvp(benchmark: BenchmarkFixture, which: str) -> None:
    """The obvious FG-A: noise, one jvp, the gradient formed layer by layer."""
    with Noise(0).seeded():
        chain = registry.make("architectures", "mlp-3x256", shape=SHAPE, classes=10).thing
    x, labels = batch()
    layers = [
        (p.detach(), b.detach())
        for p, b in zip(*[iter(chain.body_parameters().values())] * 2, strict=True)
    ]
    head = [p.detach() for p in chain.readout_parameters("final").values()]
    generator = torch.Generator()

    def twin() -> list[Tensor]:
        generator.manual_seed(0)
        u = [torch.randn(BATCH, WIDTH, generator=generator) for _ in layers]

        def losses(*offsets: Tensor) -> tuple[Tensor, list[Tensor]]:
            h, seen = x.flatten(1), []
            for (w, c), offset in zip(layers, offsets, strict=True):
                h = F.relu(F.linear(h, w, c) + offset)
                seen.append(h)
            scores = F.linear(h, *head)
            return F.cross_entropy(scores, labels, reduction="none"), seen

        with torch.no_grad():
            zero = tuple(map(torch.zeros_like, u))
            _, slopes, outs = jvp(losses, zero, (*u,), has_aux=True)
            found, below = [], x.flatten(1)
            for own, out in zip(u, outs, strict=True):
                delta = (slopes[:, None] / BATCH) * own * (out > 0)
                found += [delta.T @ below, delta.sum(0)]
                below = out
        return found

    kernel = "FG-A of mlp-3x256, beside jvp written out"
    timed(benchmark, kernel, which, step_of("FG-A", chain), twin, None)


@both
@pytest.mark.parametrize("directions", [1, 4])
def test_a_step_along_a_stream(benchmark: BenchmarkFixture, directions: int, which: str) -> None:
    """A gradient along directions that is never there as a whole, beside one that is formed first."""
    shapes = {f"w{k}": (1024, 512) for k in range(4)}
    noise, coefficients = Noise(0), torch.ones(directions) * 1e-6
    params = {n: nn.Parameter(torch.zeros(s)) for n, s in shapes.items()}
    optimizer = torch.optim.SGD(params.values(), lr=1e-3)

    def ours() -> list[Tensor]:
        along = Along(noise.directions(shapes, directions), coefficients)
        optimizer_steps.take(optimizer, params, Streamed([along]), {})
        return []

    def twin() -> list[Tensor]:
        u = noise.directions(shapes, directions)
        formed = {
            n: (u.rows(n, 0, directions) * coefficients[:, None, None]).sum(0) for n in shapes
        }
        optimizer_steps.take(optimizer, params, formed, {})
        return []

    timed(benchmark, f"a step along {directions} streamed directions", which, ours, twin, None)
