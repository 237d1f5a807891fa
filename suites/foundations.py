"""What every number rests on: pixels and labels, random draws, initial weights, intervals."""

from __future__ import annotations

from .helpers import tracked
from .watched import DATA, INTERVALS

Cells = dict[str, dict[str, tracked.Cell]]
SHARED = ["draws", "weights", "intervals"]


def setup_cache() -> Cells:
    """Compute all that the classes of this file track."""
    cells = {name: tracked.group(name) for name in ("data", *SHARED)}
    if tracked.tier() == "full":
        cells["coverage"] = tracked.coverage()
    return cells


setup_cache.timeout = 600.0  # type: ignore[attr-defined]  # asv reads it from the function


@tracked.only_in("smoke")
class Data:
    """Any change of inputs and targets as a network gets them."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("data", "reading")
    params = (DATA, tracked.READINGS)

    def setup(self, cells: Cells, data: str, reading: str) -> None:
        tracked.require(cells["data"], data)

    def track_fingerprint(self, cells: Cells, data: str, reading: str) -> float:
        return tracked.fingerprint(cells["data"][data], reading)


@tracked.only_in("smoke")
class Shared:
    """Any change of random draws, of initial weights, and of intervals of fixed numbers."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("what", "reading")
    params = (SHARED, tracked.READINGS)

    def setup(self, cells: Cells, what: str, reading: str) -> None:
        tracked.require({what: tracked.joined(cells[what], cells[what])}, what)

    def track_fingerprint(self, cells: Cells, what: str, reading: str) -> float:
        return tracked.fingerprint(tracked.joined(cells[what], cells[what]), reading)


@tracked.only_in("full")
class Coverage:
    """How often intervals miss a known truth, on laws whose answers are known."""

    version = tracked.version("1", "truth")
    unit = tracked.MISSES
    timeout = 60.0
    param_names = ("interval",)
    params = (INTERVALS,)

    def setup(self, cells: Cells, interval: str) -> None:
        tracked.require(cells["coverage"], interval)

    def track_misses(self, cells: Cells, interval: str) -> float:
        return tracked.misses(cells["coverage"][interval])
