"""Slopes by our dual numbers, beside one ``torch.func.jvp`` per direction: run by ``make bench``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.func import functional_call, jvp

from fgbench import registry
from fgbench.core.autodiff.jet import Jet
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.view import View
from tests.makers.twin_kernels import both, timed

NETS = {"mlp-3x256": (1, 28, 28), "localmixer-m/1/16": (1, 28, 28), "cnn-small": (3, 32, 32)}
BATCH, DIRECTIONS = 64, 8


def view_of(net: str) -> View:
    noise = Noise(0)
    with noise.seeded():
        chain = registry.make("architectures", net, shape=NETS[net], classes=10).thing
    task = Task.build(chain, registry.make("localities", "end").thing, noise)
    x, labels = noise.normal("x", (BATCH, *NETS[net])), torch.arange(BATCH) % 10
    (view,) = task.views(x, labels, CostCounter())
    return view


@both
@pytest.mark.parametrize("net", NETS)
def test_slopes_along_weights(benchmark: BenchmarkFixture, net: str, which: str) -> None:
    view = view_of(net)
    v = Noise(1).directions(view.shapes, DIRECTIONS)
    rows = v.chunk(0, DIRECTIONS)
    params = {name: p.detach() for name, p in view.chain.body_parameters().items()}

    def losses(given: dict[str, Tensor]) -> Tensor:
        scores = functional_call(view.chain, given, (view.start,))
        return torch.nn.functional.cross_entropy(scores, view.labels, reduction="none")

    def twin() -> Tensor:
        with torch.no_grad():
            each = [
                jvp(losses, (params,), ({n: t[k] for n, t in rows.items()},))[1]
                for k in range(DIRECTIONS)
            ]
        return torch.stack(each) / BATCH

    kernel = f"{DIRECTIONS} weight slopes, {net}"
    timed(benchmark, kernel, which, lambda: view.slopes(v), twin, 1e-3)


@both
@pytest.mark.parametrize("net", NETS)
def test_slopes_along_sites(benchmark: BenchmarkFixture, net: str, which: str) -> None:
    view = view_of(net)
    u = Noise(1).directions(view.sites, DIRECTIONS)
    rows = u.chunk(0, DIRECTIONS)
    zero = {n: torch.zeros_like(t[0]) for n, t in rows.items()}
    chain = view.chain

    def losses(offsets: dict[str, Tensor]) -> Tensor:
        def tap(kind: str, name: str, z: Any, /) -> Any:
            return z + offsets[name] if kind == "site" else z

        f = chain.run(view.start, 0, len(chain), tap)
        return chain.readout("final").losses(chain.read("final", f), view.labels)

    def twin() -> Tensor:
        with torch.no_grad():
            each = [
                jvp(losses, (zero,), ({n: t[k] for n, t in rows.items()},))[1]
                for k in range(DIRECTIONS)
            ]
        return torch.stack(each) / BATCH

    kernel = f"{DIRECTIONS} activity slopes, {net}"
    timed(benchmark, kernel, which, lambda: view.slopes(u), twin, 1e-3)


@both
def test_second_derivatives_by_the_input(benchmark: BenchmarkFixture, which: str) -> None:
    noise = Noise(0)
    with noise.seeded():
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
            torch.nn.Linear(64, 1),
        ).requires_grad_(False)  # fmt: skip
    x = noise.normal("x", (256, 2))

    def ours() -> Tensor:
        found = net(Jet.seed(x))
        return found.second[0] + found.second[1]

    def twin() -> Tensor:
        total = torch.zeros(len(x), 1)
        for i in range(2):
            along = torch.zeros_like(x)
            along[:, i] = 1

            def first(z: Tensor, along: Tensor = along) -> Tensor:
                return jvp(net, (z,), (along,))[1]

            total = total + jvp(first, (x,), (along,))[1]
        return total

    timed(benchmark, "Laplacian of a network of 2 inputs", which, ours, twin)
