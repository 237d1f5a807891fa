"""A cell of the paper's tables beside the records that are of it, and what may be said of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any

import pandas as pd

from fgbench.reporting.frames.results import Cell, Group
from fgbench.reporting.frames.seed_means import INTERVALS, WHOLE, mean_interval
from fgbench.reporting.paper.published import Claim, Column

NEAR = 0.6  # points: what counts as reproduced


@dataclass(frozen=True)
class Mean:
    """A mean over seeds in percent or points; NaN where there is none.

    Args:
        value: the mean.
        low: lower end of its interval.
        high: upper end.
        n: seeds.
        band: the kind of interval, see `fgbench.reporting.frames.seed_means.BANDS`.
    """

    value: float = nan
    low: float = nan
    high: float = nan
    n: int = 0
    band: str = "none"

    @classmethod
    def of(cls, values: pd.Series, signed: bool = False, most: float = inf) -> Mean:
        """Average over seeds, see `fgbench.reporting.frames.seed_means.mean_interval`."""
        if values.empty:
            return cls()
        found: dict[str, Any] = mean_interval(values, signed, most)
        return cls(found["mean"], found["low"], found["high"], found["n"], found["band"])

    def __str__(self) -> str:
        """Write it with its interval."""
        if self.n == 0:
            return "–"
        if self.n == 1:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def minus(self, known: float) -> Mean:
        """Subtract a number without an interval."""
        value, low, high = (end - known for end in (self.value, self.low, self.high))
        return Mean(value, low, high, self.n, self.band)


@dataclass(frozen=True)
class Comparison:
    """One published cell and ours.

    Args:
        column: of the paper.
        method: the row.
        cell: what was run, None if nothing was.
    """

    column: Column
    method: str
    cell: Cell | None

    @property
    def group(self) -> Group | None:
        """The runs that are the result."""
        return None if self.cell is None else self.cell.reported

    def ours(self, split: str = "test") -> Mean:
        """Return our error in percent."""
        return (
            Mean()
            if self.group is None
            else Mean.of(self.group.percent(f"{split}_error"), most=WHOLE)
        )

    @property
    def difference(self) -> Mean:
        """Ours minus published, test error in points."""
        return self.ours().minus(self.column.test[self.method])

    @property
    def verdict(self) -> str:
        """Say where the difference lies, "" without one; "?" where the interval leaves it open."""
        found = self.difference
        if isnan(found.value):
            return ""
        spans = [_side(end) for end in (found.value, found.low, found.high)]
        words = (f"better by more than {NEAR}", f"within {NEAR}", f"worse by more than {NEAR}")
        settled = found.band in INTERVALS and len(set(spans)) == 1
        return words[spans[0] + 1] + ("" if settled else " ?")

    @property
    def worse(self) -> bool:
        """Whether our mean is above the published by more than `NEAR`, or no run finished."""
        lost = self.cell is not None and not self.ours().n
        return lost or self.difference.value > NEAR  # false for NaN

    @property
    def status(self) -> str:
        """Say in words what became of the runs: "not run", or how many are not finished."""
        if self.group is None:
            return "not run" if self.cell is None else "not run: trials only"
        return status_of(self.group.runs)


def status_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """Count the runs that did not finish, with the reason where it is one; "" if all did."""
    counts = Counter(str(run["status"]) for run in runs if run["status"] != "ok")
    parts = [f"{status} {n} of {len(runs)}" for status, n in sorted(counts.items())]
    reasons = sorted(
        {str(r.get("reason")) for r in runs if r["status"] != "ok" and r.get("reason")}
    )
    return "; ".join([", ".join(parts), *reasons]) if parts else ""


def compare(column: Column, methods: Iterable[str], found: Sequence[Cell]) -> list[Comparison]:
    """Set what was run beside one column of the paper.

    Args:
        column: of the paper.
        methods: its rows.
        found: all cells of the records.

    Returns:
        One per row.
    """
    fitting = [cell for cell in found if _fits(cell, column)]
    fitting.sort(key=lambda cell: len(cell.reported.done) if cell.reported else 0)
    there = {cell.method: cell for cell in fitting}  # of several folders the one with most seeds
    return [Comparison(column, method, there.get(method)) for method in methods]


def between(claim: Claim, groups: Mapping[str, Group]) -> tuple[Mean, str]:
    """Judge a claim by the difference of two methods over the seeds they share.

    One seed gives two methods the same initial weights and batch order, so that differences are
    taken seed by seed.

    Args:
        claim: what is claimed.
        groups: method to its runs.

    Returns:
        The difference in points, and the verdict in words.
    """
    if missing := [name for name in (claim.method, claim.other) if name not in groups]:
        return Mean(), f"{' and '.join(missing)} not run"
    one, two = (groups[name].percent("test_error") for name in (claim.method, claim.other))
    return judged(one, two, claim.at_most)


def judged(one: pd.Series, two: pd.Series, at_most: float) -> tuple[Mean, str]:
    """Judge whether a number is at most so much above another, over the seeds they share.

    Args:
        one: by seed.
        two: by seed.
        at_most: largest difference, first minus second.

    Returns:
        The difference, and the verdict in words: settled where the whole interval is on one side.
    """
    found = Mean.of((one - two).dropna(), signed=True)
    if not found.n:
        return found, "no finished seed in common"
    holds = [end <= at_most for end in (found.value, found.low, found.high)]
    words = "holds" if holds[0] else "does not hold"
    if found.band in INTERVALS and len(set(holds)) == 1:
        return found, words
    few = (
        "too few seeds for an interval"
        if found.band not in INTERVALS
        else "the interval reaches across"
    )
    return found, f"{words} on the mean; not settled, {few}"


def _side(points: float) -> int:
    """Place a difference: -1 better, 0 near, 1 worse."""
    return int(points > NEAR) - int(points < -NEAR)


def _fits(cell: Cell, column: Column) -> bool:
    """Say whether a cell is of a column: task, network, data and all of its training examples."""
    place = cell.place
    wanted = (column.task, column.arch, column.data, "")
    if (place.way.task, place.arch, place.dataset, place.train_size) != wanted:
        return False
    runs = cell.reported.runs if cell.reported else ()
    sizes = {run["examples"].get("train") for run in runs if isinstance(run.get("examples"), dict)}
    return sizes <= {column.examples, None}
