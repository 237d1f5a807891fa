"""Drawing directions by law, beside plain torch: run by ``make bench``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from fgbench.core.noise.keyed import Noise
from tests.makers.twin_kernels import both, timed

DRAWS = 64
GENERATOR = torch.Generator()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


LAWS: dict[str, Callable[[int], Tensor]] = {
    "gaussian": lambda size: normal(DRAWS, size),
    "rademacher": lambda size: 2.0 * torch.randint(2, (DRAWS, size), generator=GENERATOR) - 1,
    "uniform": lambda size: (torch.rand(DRAWS, size, generator=GENERATOR) * 2 - 1) * 3**0.5,
    "sphere": lambda size: torch.nn.functional.normalize(normal(DRAWS, size)) * size**0.5,
}


@both
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", [64, 4096, 262144])
def test_directions(benchmark: BenchmarkFixture, size: int, law: str, which: str) -> None:
    noise = Noise(0)

    def ours() -> Tensor:
        return noise.directions({"a": (size,)}, DRAWS, law).chunk(0, DRAWS)["a"]

    assert ours().shape == LAWS[law](size).shape
    kernel = f"{DRAWS} {law} directions of {size}"
    timed(benchmark, kernel, which, ours, lambda: LAWS[law](size), None)


@both
@pytest.mark.parametrize("law", ["lowrank[rank=4]", "subspace[rank=4]"])
def test_directions_of_low_rank(benchmark: BenchmarkFixture, law: str, which: str) -> None:
    """Beside gaussian matrices, which take m n numbers where these take some (m + n)."""
    shape, noise = (256, 256), Noise(0)

    def drawn(law: str) -> Tensor:
        return noise.directions({"a": shape}, 16, law).chunk(0, 16)["a"]

    kernel = f"16 {law} matrices of 256x256, beside gaussian ones"
    timed(benchmark, kernel, which, lambda: drawn(law), lambda: drawn("gaussian"), None)


@both
def test_many_small_draws(benchmark: BenchmarkFixture, which: str) -> None:
    """A key per step and place, beside one generator that goes on."""
    noise, shapes = Noise(0), {f"s{k}": (32, 16) for k in range(8)}

    def ours() -> list[Tensor]:
        u = noise.directions(shapes)
        return [u.rows(name, 0, 1) for name in shapes]

    def twin() -> list[Tensor]:
        return [normal(1, *shape) for shape in shapes.values()]

    timed(benchmark, "8 small draws of one step", which, ours, twin, None)
