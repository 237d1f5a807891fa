"""Run a row of the leaderboard again and compare its number with the row's interval."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, unknown
from fgbench.records.metrics import Shown, main_of
from fgbench.records.store import Store
from fgbench.runs.sweep.cells import Cell
from fgbench.runs.sweep.runner import Settings, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Record = Mapping[str, Any]

ID = 8  # digits of a row's id
OWN = ("budget", "reference", "seeds", "forwards", "margin", "held_out", "batch")
"""Settings of a comparison that are none of a training."""


@dataclass(frozen=True)
class Verification:
    """A row that was run again.

    Args:
        record: of the row.
        value: the mean of the new runs.
        low: lower end of the interval that it has to fall in.
        high: upper end.
        seeds: that were run again.
        same: how many of them ended with the recorded number, to the last digit.

    Example:
        >>> record = {"method": "BP", "arch": "mlp-2x8", "data": "digits", "results": [{"n": 10}]}
        >>> Verification(record, 0.1, 0.09, 0.11, 10, 10).inside
        True
    """

    record: Record
    value: float | None
    low: float
    high: float
    seeds: int
    same: int

    @property
    def inside(self) -> bool:
        """Whether the new number falls inside the interval."""
        return self.value is not None and self.low <= self.value <= self.high

    @property
    def line(self) -> str:
        """The outcome in a sentence."""
        row, metric = self.record, main_of(self.record)
        where = f"{row['method']}, {row['arch']} on {row['data']}"
        if self.value is None:
            return f"{where}: outside: a run did not finish"
        words = "inside" if self.inside else "OUTSIDE"
        recorded, n = (
            f"[{_text(metric, self.low)}, {_text(metric, self.high)}]",
            row["results"][0]["n"],
        )
        kind = f"of the row (n {n})"
        if self.seeds < n:
            kind = f"of a mean over {self.seeds} of the row's {n} seeds"
        return (
            f"{where}: {metric.words} {_text(metric, self.value)} is {words} {recorded} {kind}; "
            f"{self.same} of {self.seeds} seeds ended with the recorded number"
        )


def _text(metric: Shown, value: float) -> str:
    """Format a number in the unit of its metric."""
    return metric.text(value)


def row_of(records: Sequence[Record], text: str) -> Record:
    """Return the record of a row.

    Args:
        records: of ``compare``.
        text: the row's id, the beginning of its key.

    Returns:
        The record.

    Raises:
        UsageError: if no row, or more than one, has this id.

    Example:
        >>> row_of([{"key": "0123456789abcdef"}], "01234567")["key"]
        '0123456789abcdef'
    """
    found = [r for r in records if text and str(r["key"]).startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} rows begin with {text!r}; give more of the id")
    raise unknown("row", text, [str(r["key"])[:ID] for r in records])


def verify(
    folder: Path,
    row: str,
    seeds: int | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    data_dir: str | None = None,
    watch: Callable[[Sweep], None] = lambda sweep: None,
) -> Verification:
    """Run a row of the leaderboard again.

    The runs of its result at equal forward equivalents are repeated with the recorded rate, length and
    seeds. On the same machine and libraries they end with the same numbers; elsewhere rounding differs, and
    the mean has to fall inside the row's interval. For fewer seeds than the row has the interval is that of
    a mean over so few.

    Args:
        folder: with records of ``compare``.
        row: id of the row.
        seeds: how many of its seeds; all where None.
        out: folder of the new records; a temporary one where None.
        jobs: runs at the same time.
        data_dir: folder of data files.
        watch: called with the sweep after every change.

    Returns:
        The outcome.

    Raises:
        UsageError: for an unknown row, or one without a result.
    """
    records = [r for r in Store(folder).all() if r["verb"] == "compare"]
    if not records:
        raise UsageError(
            f"no record of compare in {str(folder)!r}; run fgbench compare -o {folder}"
        )
    record = row_of(records, row)
    if not record.get("results"):
        raise UsageError(f"row {row} has no result: {record['status']}: {record['reason']}")
    result = record["results"][0]
    count = len(result["values"]) if seeds is None else min(seeds, len(result["values"]))
    options = {k: v for k, v in record["settings"].items() if k not in OWN}
    options |= {"batch": record["settings"]["batch"], "lr_batch": 0}
    options |= {"lr": result["lr"], "steps": result["steps"]}
    cell = Cell(
        "verify", record["method"], record["arch"], record["data"], "train", tuple(range(count)),
        options, {}, {}, None,
    )  # fmt: skip
    where = record["where"]
    with tempfile.TemporaryDirectory() as temporary:
        place = out or Path(temporary)
        device = "cuda" if record["device"] == "cuda" else "cpu"
        settings = Settings(place, jobs, device, where.get("dtype") or "float32",
                            where.get("threads") or 1, data_dir)  # fmt: skip
        sweep = Sweep([cell], settings, watch)
        sweep.run()
    runs = [sweep.found[case.id] for case in cell.results({})]
    return judge(record, runs)


def judge(record: Record, runs: Sequence[Record]) -> Verification:
    """Compare new runs with the row that they repeat.

    Args:
        record: of the row.
        runs: of its first seeds, in order.

    Returns:
        The outcome.

    Example:
        >>> result = {"values": [0.1, 0.2], "n": 2, "test": {"value": 0.15, "low": 0.1, "high": 0.2}}
        >>> record = {"method": "BP", "arch": "mlp-2x8", "data": "digits", "results": [result]}
        >>> runs = [{"status": "ok", "test_error": value} for value in (0.1, 0.2)]
        >>> judge(record, runs).inside
        True
    """
    result, metric = record["results"][0], main_of(record)
    values = [r.get(metric.field()) if r["status"] == "ok" else metric.chance for r in runs]
    known = [v for v in values if v is not None]
    same = sum(a == b for a, b in zip(values, result["values"], strict=False))
    test, n = result["test"], len(runs)
    wider = sqrt(result["n"] / n)  # of a mean over fewer seeds
    low = test["value"] - (test["value"] - test["low"]) * wider
    high = test["value"] + (test["high"] - test["value"]) * wider
    mean = sum(known) / n if len(known) == n else None
    return Verification(record, mean, low - TOLERANCE, high + TOLERANCE, n, same)


TOLERANCE = 1e-12
"""Rounding of a mean, for rows whose seeds all end with one number."""
