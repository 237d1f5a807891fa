"""Comparison of the cells of the paper's tables with records, and verdicts on the differences."""

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

NEAR = 0.6  # points of test error: up to this difference a cell counts as reproduced


@dataclass(frozen=True)
class Mean:
    """A mean over seeds in percent or points; NaN where there is none.

    Args:
        value: the mean.
        low: lower end of its interval.
        high: upper end of its interval.
        n: number of seeds.
        band: kind of interval, see `fgbench.reporting.frames.seed_means.BANDS`.

    Example:
        >>> str(Mean(2.5, 2.0, 3.0, 2, "range"))
        '2.50 [2.00, 3.00]'
    """

    value: float = nan
    low: float = nan
    high: float = nan
    n: int = 0
    band: str = "none"

    @classmethod
    def of(cls, values: pd.Series, signed: bool = False, most: float = inf) -> Mean:
        """Return the mean over seeds with its interval.

        Args:
            values: a number per seed.
            signed: whether the numbers may be negative.
            most: largest possible number; the interval is cut there.

        Example:
            >>> Mean.of(pd.Series([2.0, 3.0])).value
            2.5
        """
        if values.empty:
            return cls()
        mean: dict[str, Any] = mean_interval(values, signed, most)
        return cls(mean["mean"], mean["low"], mean["high"], mean["n"], mean["band"])

    def __str__(self) -> str:
        """Format the mean with its interval."""
        if self.n == 0:
            return "–"
        if self.n == 1:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def minus(self, number: float) -> Mean:
        """Return the difference from a number without an interval.

        Example:
            >>> Mean(2.5, 2.0, 3.0, 2, "range").minus(2.0).low
            0.0
        """
        value, low, high = (end - number for end in (self.value, self.low, self.high))
        return Mean(value, low, high, self.n, self.band)


@dataclass(frozen=True)
class Comparison:
    """A published cell and the records of the same method, network and data.

    Args:
        column: column of the paper's table.
        method: row of the paper's table.
        cell: all records of it; None if there are none.

    Example:
        >>> from fgbench.reporting.paper.published import published
        >>> Comparison(published().columns[0], "BP", None).status
        'not run'
    """

    column: Column
    method: str
    cell: Cell | None

    @property
    def group(self) -> Group | None:
        """The runs that are reported; None if there are none."""
        return None if self.cell is None else self.cell.reported

    def ours(self, split: str = "test") -> Mean:
        """Return our error in percent, as the mean over seeds.

        Args:
            split: "test" or "train".
        """
        return (
            Mean()
            if self.group is None
            else Mean.of(self.group.percent(f"{split}_error"), most=WHOLE)
        )

    @property
    def difference(self) -> Mean:
        """Our test error minus the published one, in points."""
        return self.ours().minus(self.column.test[self.method])

    @property
    def verdict(self) -> str:
        """Size of the difference in words, with "?" where the interval does not settle it; "" without one."""
        difference = self.difference
        if isnan(difference.value):
            return ""
        spans = [_side(end) for end in (difference.value, difference.low, difference.high)]
        words = (f"better by more than {NEAR}", f"within {NEAR}", f"worse by more than {NEAR}")
        settled = difference.band in INTERVALS and len(set(spans)) == 1
        return words[spans[0] + 1] + ("" if settled else " ?")

    @property
    def worse(self) -> bool:
        """Whether our mean is above the published one by more than `NEAR`, or no run finished."""
        lost = self.cell is not None and not self.ours().n
        return lost or self.difference.value > NEAR  # false for NaN

    @property
    def status(self) -> str:
        """Status of the runs: "not run", how many did not finish, or "" if all did."""
        if self.group is None:
            return "not run" if self.cell is None else "not run: trials only"
        return status_of(self.group.runs)


def status_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of runs that did not finish with their reasons, "" if all finished.

    Example:
        >>> status_of([{"status": "ok"}, {"status": "diverged", "reason": "loss not finite"}])
        'diverged 1 of 2; loss not finite'
    """
    counts = Counter(str(run["status"]) for run in runs if run["status"] != "ok")
    parts = [f"{status} {n} of {len(runs)}" for status, n in sorted(counts.items())]
    reasons = sorted(
        {str(r.get("reason")) for r in runs if r["status"] != "ok" and r.get("reason")}
    )
    return "; ".join([", ".join(parts), *reasons]) if parts else ""


def compare(column: Column, methods: Iterable[str], cells: Sequence[Cell]) -> list[Comparison]:
    """Compare one column of the paper with the records.

    Args:
        column: of the paper.
        methods: its rows.
        cells: all cells of the records.

    Returns:
        A comparison per method. Of several image folders the one with most finished seeds is used.

    Example:
        >>> from fgbench.reporting.paper.published import published
        >>> [row.verdict for row in compare(published().columns[0], ["BP", "FA"], [])]
        ['', '']
    """
    matching = [cell for cell in cells if _is_of(cell, column)]
    matching.sort(key=lambda cell: len(cell.reported.done) if cell.reported else 0)
    by_method = {cell.method: cell for cell in matching}  # the last one, with most seeds, counts
    return [Comparison(column, method, by_method.get(method)) for method in methods]


def between(claim: Claim, groups: Mapping[str, Group]) -> tuple[Mean, str]:
    """Return the difference of two methods over the seeds they share, and the verdict on a claim about it.

    Runs of two methods under one seed have the same initial weights and batch order, so differences are
    taken seed by seed.

    Args:
        claim: an expected difference.
        groups: method to its runs.

    Returns:
        The difference in points, and the verdict in words.

    Example:
        >>> between(Claim("FG-A better than FG-W", "FG-A", "FG-W", 0.0), {})[1]
        'FG-A and FG-W not run'
    """
    if missing := [name for name in (claim.method, claim.other) if name not in groups]:
        return Mean(), f"{' and '.join(missing)} not run"
    one, two = (groups[name].percent("test_error") for name in (claim.method, claim.other))
    return judged(one, two, claim.at_most)


def judged(one: pd.Series, two: pd.Series, at_most: float) -> tuple[Mean, str]:
    """Return the difference of two numbers over the seeds they share, and whether it is small enough.

    Args:
        one: first number, by seed.
        two: second number, by seed.
        at_most: largest difference, first minus second.

    Returns:
        The difference, and the verdict in words. It is settled where the whole interval is on one side
        of ``at_most``.

    Example:
        >>> judged(pd.Series([1.0, 1.1, 1.2]), pd.Series([2.0, 2.1, 2.2]), 0.0)[1]
        'holds'
    """
    difference = Mean.of((one - two).dropna(), signed=True)
    if not difference.n:
        return difference, "no finished seed in common"
    holds = [end <= at_most for end in (difference.value, difference.low, difference.high)]
    words = "holds" if holds[0] else "does not hold"
    if difference.band in INTERVALS and len(set(holds)) == 1:
        return difference, words
    reason = (
        "too few seeds for an interval"
        if difference.band not in INTERVALS
        else "the interval contains the limit"
    )
    return difference, f"{words} on the mean; not settled, {reason}"


def _side(points: float) -> int:
    """Return -1 for a better result, 0 for one within `NEAR` points and 1 for a worse one."""
    return int(points > NEAR) - int(points < -NEAR)


def _is_of(cell: Cell, column: Column) -> bool:
    """Check whether a cell has the task, network and data of a column, with all training examples."""
    place = cell.place
    wanted = (column.task, column.arch, column.data, "")
    if (place.way.task, place.arch, place.dataset, place.train_size) != wanted:
        return False
    runs = cell.reported.runs if cell.reported else ()
    sizes = {run["examples"].get("train") for run in runs if isinstance(run.get("examples"), dict)}
    return sizes <= {column.examples, None}
