"""Time and memory of several steps, interleaved in one run.

Every round times every step once, so that drifts of the machine affect all steps alike and ratios can be
taken within rounds. On one CPU thread the clock is the process's CPU time; on a GPU it is device events.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WARM_UP = 3


def interleaved(
    steps: Sequence[Any], rounds: int, device: torch.device, warm_up: int = WARM_UP
) -> list[list[float]]:
    """Time every step once per round, in an order that rotates with the round.

    Args:
        steps: callables of the number of the call, None for a step that is left out.
        rounds: timed calls of each.
        device: where they run.
        warm_up: calls of each before timing.

    Returns:
        Seconds by step and round; an empty list for a step that is left out.

    Example:
        >>> seconds = interleaved([lambda k: k, None], rounds=3, device=torch.device("cpu"))
        >>> [len(s) for s in seconds]
        [3, 0]
    """
    for step in steps:
        for k in range(warm_up if step is not None else 0):
            step(k)
    seconds: list[list[float]] = [[] for _ in steps]
    collected = gc.isenabled()
    gc.disable()
    try:
        for k in range(rounds):
            for i in np.roll(np.arange(len(steps)), k).tolist():
                if steps[i] is not None:
                    seconds[i].append(timed(steps[i], warm_up + k, device))
    finally:
        if collected:
            gc.enable()
    return seconds


def timed(step: Any, k: int, device: torch.device) -> float:
    """Time one call of a step.

    Args:
        step: callable of the number of the call.
        k: number of the call.
        device: where it runs.

    Returns:
        Seconds.

    Example:
        >>> timed(lambda k: None, 0, torch.device("cpu")) >= 0
        True
    """
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        step(k)
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1e3
    clock = process_time if torch.get_num_threads() == 1 else perf_counter
    start = clock()
    step(k)
    return clock() - start


def peak(step: Any, device: torch.device) -> int:
    """Return the most memory that a step holds beyond what was held before it.

    Args:
        step: callable of the number of the call.
        device: where it runs.

    Returns:
        Bytes.

    Example:
        >>> peak(lambda k: torch.empty(1024, dtype=torch.uint8), torch.device("cpu"))
        1024
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(0)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with (
        _quiet_stderr(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler,
    ):
        held = step(0)
    del held
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return int(max(np.cumsum([0, *changes])))


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discard what the process writes to stderr: the profiler's C++ code logs there."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
