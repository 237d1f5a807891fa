"""Measuring a draw beside a backprop step and the naive loop, all in one run: run by ``make bench``."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.func import jvp
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.measurement import draws as drawing
from fgbench.measurement.draws import Point
from fgbench.measurement.speed import interleaved_timing
from tests.makers.twin_kernels import both, timed

NET, SHAPE, BATCH, DRAWS = "mlp-3x256", (1, 28, 28), 64, 512
ROUNDS = 9
CPU = torch.device("cpu")


LIMITS = {"gaussian": 0.2, "rademacher": 0.12}
"""Of a backprop step that a draw may take, by the law of its directions."""
DRAWN = (
    ("mlp-3x256", SHAPE, "fg_a[law={}]/end", DRAWS),
    ("mlp-3x256", SHAPE, "fg_a[law={}]/local-pg", DRAWS),
    ("mlp-3x256", SHAPE, "fg_w[law={}]/end", 32),
    ("localmixer-xs/8/16", (3, 32, 32), "fg_a[law={}]/local-pg", 64),
)


def point(law: str) -> Point:
    """FG-A on one batch of random images."""
    return point_of(f"fg_a[law={law}]")


def point_of(method: str, net: str = NET, shape: tuple[int, ...] = SHAPE) -> Point:
    """A method on one batch of random images."""
    noise = Noise(0)
    with noise.seeded():
        chain = registry.make("architectures", net, shape=shape, classes=10).thing
        for p in chain.readout_parameters(
            "final"
        ).values():  # a head of zeros has no gradient below it
            p.data.add_(0.1 * torch.randn(p.shape))
    made = registry.method(method)
    task = Task.build(chain, made.locality.thing, noise)
    x, labels = noise.normal("x", (BATCH, *shape)), torch.arange(BATCH) % 10
    truth = task.scheme_truth(x, labels)
    return Point(task, made.estimator.thing, {}, x, labels, noise, truth, truth)


class Naive:
    """The obvious loop: noise, one jvp, the gradient formed, Welford's mean and variance of it."""

    def __init__(self, at: Point, law: str) -> None:
        self.at, self.law, self.count = at, law, 0
        params = at.task.chain.body_parameters()
        self.mean = {n: torch.zeros_like(p, requires_grad=False) for n, p in params.items()}
        self.spread = {n: torch.zeros_like(p, requires_grad=False) for n, p in params.items()}

    def __call__(self, k: int) -> None:
        """Make and take in one draw."""
        chain = self.at.task.chain
        sites = {n: (BATCH, *s) for n, s in chain.shapes().items()}
        u = {
            n: t[0]
            for n, t in self.at.noise.at(k).directions(sites, 1, self.law).chunk(0, 1).items()
        }
        inputs: dict[str, Any] = {}

        def losses(offsets: Any) -> Any:
            def tap(kind: str, name: str, z: Any, /) -> Any:
                inputs[name] = z if kind == "out" else inputs.get(name)
                return z + offsets[name] if kind == "site" else z

            f = chain.run(self.at.x, 0, len(chain), tap)
            return F.cross_entropy(chain.read("final", f), self.at.labels, reduction="none"), inputs

        zero = {n: torch.zeros_like(t) for n, t in u.items()}
        with torch.no_grad():
            _, slopes, outs = jvp(losses, (zero,), (u,), has_aux=True)
            below = self.at.x.flatten(1)
            self.count += 1
            for n, t in u.items():
                delta = (slopes[:, None] / BATCH) * t * (outs[n] != 0)
                self._welford(f"{n}.weight", delta.T @ below)
                self._welford(f"{n}.bias", delta.sum(0))
                below = outs[n]

    def _welford(self, name: str, e: torch.Tensor) -> None:
        """Update the mean and the squared deviations of one gradient."""
        off = e - self.mean[name]
        self.mean[name] += off / self.count
        self.spread[name] += off * (e - self.mean[name])


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_a_draw_beside_a_backprop_step_and_the_naive_loop(
    benchmark: BenchmarkFixture, law: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.group = f"{DRAWS} draws of FG-A, {NET}, batch {BATCH}"
    at = point(law)
    chain, naive, few = at.task.chain, Naive(at, law), 16

    def backprop(k: int) -> None:
        for _ in range(few):
            chain.zero_grad(set_to_none=True)
            F.cross_entropy(chain(at.x), at.labels).backward()

    def loop(k: int) -> None:
        for j in range(few):
            naive(k * few + j)

    def measuring(k: int) -> None:
        drawing.draw(at, DRAWS, "cotangent").places(at)

    seconds = interleaved_timing.interleaved([backprop, loop, measuring], ROUNDS, CPU, warm_up=1)
    steps, loops, draws = (
        [s / n for s in row] for row, n in zip(seconds, (few, few, DRAWS), strict=True)
    )
    ratio = median(d / s for d, s in zip(draws, steps, strict=True))
    faster = median(n / d for n, d in zip(loops, draws, strict=True))
    benchmark.extra_info |= {"of a backprop step": ratio, "naive loop over it": faster}
    with capsys.disabled():
        print(
            f"\n{law}: a draw takes {ratio:.3f} of a backprop step ({median(steps) * 1e3:.2f} ms), "
            f"the naive loop {faster:.1f} times as long"
        )
    benchmark.pedantic(measuring, args=(0,), rounds=1)


@pytest.mark.parametrize("law", LIMITS)
@pytest.mark.parametrize(("net", "shape", "method", "draws"), DRAWN)
def test_a_draw_beside_its_limit(
    benchmark: BenchmarkFixture,
    net: str,
    shape: tuple[int, ...],
    method: str,
    draws: int,
    law: str,
) -> None:
    """As ``measure`` draws: by the engine that pays, and with what is kept of every draw."""
    at, few, rounds = point_of(method.format(law), net, shape), 4, 5 if draws == DRAWS else 3
    chain = at.task.chain

    def backprop(k: int) -> None:
        for _ in range(few):
            chain.zero_grad(set_to_none=True)
            prediction = chain.read("final", chain.run(at.x, 0, len(chain)))
            F.cross_entropy(prediction, at.labels).backward()

    def measuring(k: int) -> None:
        drawing.draw(at, draws).places(at)

    seconds = interleaved_timing.interleaved([backprop, measuring], rounds, CPU, warm_up=1)
    steps, each = ([s / n for s in row] for row, n in zip(seconds, (few, draws), strict=True))
    benchmark.group = f"a draw of {method.format(law)} on {net}, batch {BATCH}"
    ratio = median(d / s for d, s in zip(each, steps, strict=True))
    benchmark.extra_info |= {"ratio": ratio, "limit": LIMITS[law], "over": "a backprop step"}
    benchmark.pedantic(measuring, args=(0,), rounds=1)


def test_memory_does_not_grow_with_the_draws(capsys: pytest.CaptureFixture[str]) -> None:
    at = point("gaussian")
    few, many = (
        interleaved_timing.peak(lambda k, n=n: drawing.draw(at, n, "cotangent").places(at), CPU)
        for n in (256, 4096)
    )
    with capsys.disabled():
        print(f"\npeak MiB: {few / 2**20:.1f} for 256 draws, {many / 2**20:.1f} for 4096")
    assert many <= 1.1 * few


@both
@pytest.mark.parametrize("method", ["FG-A", "FG-W", "LG-FG-A"])
def test_cotangents_beside_forward_mode(
    benchmark: BenchmarkFixture, method: str, which: str
) -> None:
    at, few = point_of(method), 32

    def ours() -> None:
        drawing.draw(at, few, "cotangent").places(at)

    def twin() -> None:
        drawing.draw(at, few, "dual").places(at)

    timed(benchmark, f"{few} draws of {method} by cotangents", which, ours, twin, None)
