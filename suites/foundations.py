"""The ground of all numbers: pixels, labels, draws, initial weights, intervals, what is found in modules."""

from __future__ import annotations

from . import all_cells
from .helpers import tracked
from .watched import ARCHITECTURES, DATA, DRAWS, INTERVALS, STATISTICS, base

WRAPPED = ["wrapped networks"]

setup_cache = all_cells.setup_cache
Cells = all_cells.Cells
Parts = dict[str, dict[str, tracked.Cell]]


def cells() -> Parts:
    """Compute all that the classes of this file track."""
    found = {
        name: tracked.group(name) for name in ("data", "weights", "draws", "intervals", *WRAPPED)
    }
    if tracked.tier() == "full":
        found["coverage"] = tracked.coverage()
    return found


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
class Weights:
    """Any change of initial weights."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("architecture", "reading")
    params = (ARCHITECTURES, tracked.READINGS)

    def setup(self, cells: Cells, architecture: str, reading: str) -> None:
        tracked.require({architecture: self.of(cells, architecture)}, architecture)

    def track_fingerprint(self, cells: Cells, architecture: str, reading: str) -> float:
        return tracked.fingerprint(self.of(cells, architecture), reading)

    def of(self, cells: Cells, architecture: str) -> tracked.Cell:
        """Return the weights of all forms of an architecture."""
        forms = [name for name in cells["weights"] if base(name, ARCHITECTURES) == architecture]
        return tracked.joined(cells["weights"], forms)


@tracked.only_in("smoke")
class Draws:
    """Any change of random draws, a row per law: a new law changes no other row."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("law", "reading")
    params = (DRAWS, tracked.READINGS)

    def setup(self, cells: Cells, law: str, reading: str) -> None:
        tracked.require(cells["draws"], law)

    def track_fingerprint(self, cells: Cells, law: str, reading: str) -> float:
        return tracked.fingerprint(cells["draws"][law], reading)


@tracked.only_in("smoke")
class Statistics:
    """Any change of intervals and other statistics of fixed numbers."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("statistic", "reading")
    params = (STATISTICS, tracked.READINGS)

    def setup(self, cells: Cells, statistic: str, reading: str) -> None:
        tracked.require(cells["intervals"], statistic)

    def track_fingerprint(self, cells: Cells, statistic: str, reading: str) -> float:
        return tracked.fingerprint(cells["intervals"][statistic], reading)


@tracked.only_in("smoke")
class Wrapped:
    """Any change of what is found in ordinary modules, and of estimates on them."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("networks", "reading")
    params = (WRAPPED, tracked.READINGS)

    def setup(self, cells: Cells, networks: str, reading: str) -> None:
        tracked.require({networks: self.of(cells, networks)}, networks)

    def track_fingerprint(self, cells: Cells, networks: str, reading: str) -> float:
        return tracked.fingerprint(self.of(cells, networks), reading)

    def of(self, cells: Cells, networks: str) -> tracked.Cell:
        """Return the cells of all these networks."""
        return tracked.joined(cells[networks], sorted(cells[networks]))


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
