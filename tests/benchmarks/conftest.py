"""Print how much faster kernels are than naive twins, and ratios beside their limits, after the tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.makers.twin_kernels import OURS, TWIN

UNITS = (1.0, "s"), (1e-3, "ms"), (1e-6, "us")
NAMES = {OURS: OURS, TWIN: TWIN, "fused": OURS, "replicated": TWIN}


@pytest.hookimpl(trylast=True)  # after the tables
def pytest_terminal_summary(terminalreporter: Any) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    rows = ratios(session.benchmarks if session else [])
    if rows:
        terminalreporter.section("naive twin over kernel, medians of the same run")
        for kernel, ours, twin in rows:
            times = f"{_time(ours)} against {_time(twin)}"
            terminalreporter.write_line(f"{twin / ours:8.2f} x  {kernel:<58} {times}")
    if limited := within(session.benchmarks if session else []):
        terminalreporter.section("ratios beside their limits, medians over interleaved rounds")
        for line in limited:
            terminalreporter.write_line(line)


def ratios(benchmarks: Any) -> list[tuple[str, float, float]]:
    """Return the medians of every group that has a kernel and a twin."""
    groups: dict[str, dict[str, float]] = {}
    for one in benchmarks:
        for value in (one.params or {}).values():
            if value in NAMES and one.stats:
                groups.setdefault(one.group or one.name, {})[NAMES[value]] = float(one["median"])
    return [(name, found[OURS], found[TWIN]) for name, found in groups.items() if len(found) == 2]


def within(benchmarks: Any) -> list[str]:
    """Return a line for every benchmark that states a ratio and its limit; those above it are marked."""
    lines = []
    for one in benchmarks:
        found = one.extra_info
        if "limit" in found:
            ratio, limit = found["ratio"], found["limit"]
            mark = "  above" if ratio > limit else ""
            name = one.group or one.name
            lines.append(f"{ratio:8.3f} of {found['over']}, limit {limit:g}{mark:<8} {name}")
    return lines


def _time(seconds: float) -> str:
    """Return seconds with a unit."""
    size, unit = next((s, u) for s, u in UNITS if seconds >= s or u == "us")
    return f"{seconds / size:.4g} {unit}"
