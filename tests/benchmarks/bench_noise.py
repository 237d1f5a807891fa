"""Drawing directions: many small draws and few large ones, by law. Run by ``make bench``."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fgbench.core.noise.keyed import Noise


@pytest.mark.parametrize("law", ["gaussian", "rademacher", "sphere"])
@pytest.mark.parametrize("size", [64, 4096, 262144])
def test_directions(benchmark: BenchmarkFixture, size: int, law: str) -> None:
    benchmark.group = f"64 directions of {size}"
    noise = Noise(0)
    drawn = benchmark(lambda: noise.directions({"a": (size,)}, 64, law).chunk(0, 64)["a"])
    assert drawn.shape == (64, size)
