"""Losses per patch and group, replicated and fused, 64 patches and 16 groups: run by ``make bench``."""

from __future__ import annotations

from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fgbench.core.network import LinearReadout
from fgbench.core.noise.keyed import Noise
from fgbench.measurement.speed import interleaved_timing
from fgbench.measurement.studies import fused_losses

SHAPE = (128, 64, 16, 32)


@pytest.mark.parametrize("implementation", ["replicated", "fused"])
@pytest.mark.parametrize("what", fused_losses.PASSES)
def test_losses_per_patch_and_group(
    benchmark: BenchmarkFixture, what: str, implementation: str
) -> None:
    benchmark.group = f"{what} of losses per patch and group"
    case = fused_losses.Case(Noise(0), SHAPE, 10, LinearReadout)
    step = partial(getattr(case, implementation), what)
    benchmark.pedantic(step, rounds=3 if implementation == "replicated" else 50, warmup_rounds=1)
    benchmark.extra_info["peak MiB"] = interleaved_timing.peak(step, case.f.device) / 2**20
