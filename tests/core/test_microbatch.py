"""Runs of examples: they cover the batch, fit the cache, and their parts come together again."""

from __future__ import annotations

import pytest
import torch

from fgbench.core import microbatch

CPU = torch.device("cpu")


@pytest.mark.parametrize("examples", [0, 1, 7, 128])
@pytest.mark.parametrize(
    "largest", [0, 1, microbatch.TILE // 3, microbatch.TILE, 5 * microbatch.TILE]
)
def test_runs_cover_the_batch_once_and_fit(examples: int, largest: int) -> None:
    runs = microbatch.cut(examples, largest, CPU)
    assert [i for run in runs for i in range(examples)[run]] == list(range(examples))
    for run in runs:
        size = run.stop - run.start
        assert size == 1 or size * largest <= microbatch.TILE * torch.get_num_threads()
    if runs:  # no run is shorter than it needs to be
        assert len(runs) == 1 or (runs[0].stop + 1) * largest > microbatch.TILE


def test_a_gpu_takes_the_batch_whole() -> None:
    assert microbatch.cut(128, 5 * microbatch.TILE, torch.device("cuda")) == (slice(0, 128),)


def test_parts_come_together() -> None:
    x = torch.arange(12.0).reshape(6, 2)
    whole: dict[str, torch.Tensor] = {}
    for run in (slice(0, 4), slice(4, 6)):
        microbatch.put(whole, "x", x[run], run, 6)
    assert torch.equal(whole["x"], x)
    microbatch.put(whole, "y", x, slice(0, 6), 6)
    assert whole["y"] is x  # nothing is copied
    assert torch.equal(microbatch.join([x[:, :1], x[:, 1:]], 1), x)
    assert microbatch.join([x]) is x
