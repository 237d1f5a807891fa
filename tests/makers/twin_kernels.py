"""A kernel and its naive twin, timed in the same run."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

OURS, TWIN = "ours", "twin"
both = pytest.mark.parametrize("which", [OURS, TWIN])
"""Marks a benchmark that is run once for a kernel and once for its twin."""
SECONDS = 0.4
"""That the rounds of one take together."""
ROUNDS = 5, 400
CALL_S = 2e-4
"""Seconds of a round; shorter calls are timed several at once."""


def timed(
    benchmark: BenchmarkFixture,
    kernel: str,
    which: str,
    ours: Callable[[], Any],
    twin: Callable[[], Any],
    tolerance: float | None = 1e-4,
) -> None:
    """Check that a kernel and its twin agree, and time one of them.

    Args:
        benchmark: the fixture.
        kernel: what is computed; kernel and twin are one group.
        which: ``ours`` or ``twin``.
        ours: returns tensors, in tuples, lists or dictionaries.
        twin: returns the same, as one would write it at first.
        tolerance: relative to the largest entry of a tensor; None where both draw numbers of their own.
    """
    benchmark.group = kernel
    if which == OURS and tolerance is not None:
        agree(ours(), twin(), tolerance)
    call = ours if which == OURS else twin
    call()
    begin = perf_counter()
    call()
    seconds = max(perf_counter() - begin, 1e-7)
    iterations = max(1, round(CALL_S / seconds))
    rounds = min(max(ROUNDS[0], round(SECONDS / (iterations * seconds))), ROUNDS[1])
    benchmark.pedantic(call, rounds=rounds, iterations=iterations, warmup_rounds=1)


def agree(ours: Any, twin: Any, tolerance: float) -> None:
    """Assert that two results are the same up to a tolerance."""
    if isinstance(ours, torch.Tensor):
        top = max(float(twin.abs().max()), 1e-30)
        assert float((ours - twin).abs().max()) <= tolerance * top
        return
    if isinstance(twin, dict):
        assert ours.keys() == twin.keys()
        ours, twin = [ours[name] for name in twin], list(twin.values())
    assert len(ours) == len(twin) > 0
    for one, other in zip(ours, twin, strict=True):
        agree(one, other, tolerance)
