"""Losses per patch and group, replicated and fused, 64 patches and 16 groups: run by ``make bench``."""

from __future__ import annotations

from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fgbench import clock, fusion
from fgbench.network import LinearReadout
from fgbench.noise import Noise

SHAPE = (128, 64, 16, 32)


@pytest.mark.parametrize("implementation", ["replicated", "fused"])
@pytest.mark.parametrize("what", fusion.PASSES)
def test_losses_per_patch_and_group(
    benchmark: BenchmarkFixture, what: str, implementation: str
) -> None:
    benchmark.group = f"{what} of losses per patch and group"
    case = fusion.Case(Noise(0), SHAPE, 10, LinearReadout)
    step = partial(getattr(case, implementation), what)
    benchmark.pedantic(step, rounds=3 if implementation == "replicated" else 50, warmup_rounds=1)
    benchmark.extra_info["peak MiB"] = clock.peak(step, case.f.device) / 2**20
