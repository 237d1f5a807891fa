"""Records as tables for the terminal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench import multiple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

UNLIMITED = 10_000  # width of a console on which everything fits
LEAST = 20  # width below which a first column is not folded while stacking would help


def number(found: Any, digits: int = 3) -> str:
    """Write a measured number as ``value [low, high]``; a dash where there is none."""
    if found is None:
        return "-"
    if not isinstance(found, dict):
        return f"{found:.{digits}g}"
    value, low, high = (found.get(k) for k in ("value", "low", "high"))
    if value is None:
        return "-" if high is None else f"< {high:.{digits}g}"
    if low is None or high is None or low == high:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def bias(found: Mapping[str, Any], adjusted: float | None) -> str:
    """Write a bias with its verdict: the adjusted p, and the smallest bias the test would have seen.

    Args:
        found: the measured bias.
        adjusted: its p-value adjusted for the other rows, see :func:`holm`.

    Returns:
        One cell.
    """
    if adjusted is None:
        return number(dict(found))
    if found["value"] == 0.0 and found["detectable"] == 0.0:
        return "0 (exact)"
    if adjusted < 0.05 and found["value"] is not None:
        return f"{number(dict(found))} (p={adjusted:.2g})"
    return f"not rejected (p={adjusted:.2g}, detectable {number(found['detectable'])})"


def holm(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Adjust the p-values of the bias tests of several rows: one false alarm in twenty tables.

    Args:
        records: measure records; exact ones and those that were not tested count for nothing.

    Returns:
        The Holm-adjusted p-value of each.
    """
    tests = [r.get("bias") or {} for r in records]
    sampled = [None if t.get("detectable") == 0.0 else t.get("p_value") for t in tests]
    return [
        t.get("p_value") if adjusted is None else adjusted
        for t, adjusted in zip(tests, multiple.holm(sampled), strict=True)
    ]


def show(records: Sequence[Mapping[str, Any]], out: Console | None = None) -> None:
    """Print one table per verb, with what the columns mean, and the reason of what was not ok.

    Failures are left to the caller, which names them at the very end.

    Args:
        records: records of any verbs.
        out: where to; stdout if None.
    """
    out = out or console()
    kinds = {"measure": _measures, "train": _trainings, "speed": _speeds, "fusion": _fusions}
    for verb, tabulate in kinds.items():
        chosen = [r for r in records if r["verb"] == verb]
        if chosen:
            out.print(tabulate(chosen))
    for r in records:
        # an ok one may have had nothing to measure
        if r["status"] != "failed" and (r["status"] != "ok" or r["reason"]):
            out.print(f"{r['method']} seed {r['seed']}: {r['status']}: {r['reason']}")


def console() -> Console:
    """Return the console of stdout, wide enough for a table where it is no terminal.

    Brackets in a method are its options, never markup.
    """
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(width=width, markup=False, emoji=False)


@dataclass
class Sheet:
    """A table that keeps its numbers whole on a narrow terminal.

    Where its columns do not fit side by side they are set closer and the first one is folded; if that
    is not enough they are stacked: several tables, each beginning with the first column.

    Args:
        title: above it.
        columns: headers; the first column names the rows.
        caption: below it.
        rows: cells of every row.
    """

    title: str
    columns: Sequence[str]
    caption: str
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        """Add one row, a cell per column."""
        self.rows.append(cells)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Render as one table, or as several below each other."""
        from rich.cells import cell_len
        from rich.measure import Measurement
        from rich.text import Text

        width, every = options.max_width, range(1, len(self.columns))

        def wants(columns: Sequence[int], widest: int | None, *, tight: bool = True) -> int:
            table = self._table(columns, widest, tight=tight)
            return Measurement.get(console, options.update(width=UNLIMITED), table).maximum

        loose = wants(every, None, tight=False) <= width
        spare = width - wants(every, 1) + 1  # for the first column, with all others beside it
        names = max(map(cell_len, (self.columns[0], *(row[0] for row in self.rows))))
        if loose or spare >= min(names, LEAST):
            table = self._table(every, None if loose else spare, tight=not loose)
            table.title, table.caption = self.title, self.caption
            yield table
            return
        yield Text(self.title, style="table.title")
        widest = max(width // 3, LEAST)
        stacked: list[int] = []
        for column in every:
            if stacked and wants([*stacked, column], widest) > width:
                yield self._table(stacked, widest)
                stacked = []
            stacked.append(column)
        yield self._table(stacked, widest)
        yield Text(self.caption, style="table.caption")

    def _table(self, columns: Sequence[int], widest: int | None, *, tight: bool = True) -> Table:
        """Set the first column, at most ``widest`` wide, and some others."""
        from rich.box import SIMPLE
        from rich.table import Table

        table = Table(box=SIMPLE, title_justify="left", caption_justify="left")
        if tight:
            table.pad_edge, table.padding = False, (0, 1, 0, 0)
        table.add_column(self.columns[0], overflow="fold", max_width=widest)
        for column in columns:
            table.add_column(self.columns[column], justify="right", overflow="fold")
        for row in self.rows:
            table.add_row(row[0], *(row[column] for column in columns))
        return table


def make(title: str, columns: Sequence[str], caption: str) -> Sheet:
    """Make an empty table."""
    return Sheet(title, columns, caption)


def _of(record: Mapping[str, Any]) -> str:
    """Name a record's network and data."""
    return f"{record['arch']} on {record['data']}"


def _measures(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate measures."""
    first = next((r for r in records if r["status"] == "ok"), records[0])
    scope = "this init only" if first["inits"] == 1 else f"{first['inits']} inits"
    table = make(
        f"Gradient estimates, {_of(first)}",
        [
            "method",
            "relative variance",
            "predicted",
            "efficiency",
            "scale",
            "bias",
            "cosine",
            "fwd",
        ],
        f"{max(r['draws'] for r in records)} draws x {first['batches']} batches of {first['batch']} x "
        f"{scope}; 95 % intervals. Relative variance, efficiency, scale and bias are against the "
        "gradient of the method's own objectives, cosine against the end-to-end gradient (chance "
        f"{number(first.get('expected_cosine'))}); p of the bias test adjusted for the rows (Holm); fwd: "
        "forward equivalents per estimate. *: interval sharpened by the known law of the directions.",
    )
    for r, p in zip(records, holm(records), strict=True):
        if r["status"] != "ok":
            table.add_row(r["method"], *["-"] * 7)
            continue
        table.add_row(
            r["method"], number(r["relative_variance"]) + "*" * bool(r.get("control")),
            number(r["predicted_variance"]),
            number(r["efficiency"]), number(r["scale"]), bias(r["bias"], p), number(r["cosine"]),
            number(r["cost"]["forward_equivalents"]),
        )  # fmt: skip
    return table


def _trainings(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate trainings, one row per method over its seeds."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for r in records:
        groups[r["method"]].append(r)
    table = make(
        f"Training, {_of(records[0])}",
        ["method", "test error %", "train error %", "test loss", "epochs", "seconds", "seeds"],
        "Last epoch; mean over seeds with the smallest and largest in brackets.",
    )
    for name, runs in groups.items():
        good = [r for r in runs if r["status"] == "ok"]
        cells = [
            spread([r[k] * f for r in good])
            for k, f in (("test_error", 100), ("train_error", 100), ("test_loss", 1))
        ]
        epochs = str(good[0]["epochs"]) if good else "-"
        seconds = spread([r["seconds"] for r in good]).partition(" ")[0]
        table.add_row(name, *cells, epochs, seconds, f"{len(good)} of {len(runs)}")
    return table


def spread(values: Sequence[float]) -> str:
    """Write mean [min, max]."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def _speeds(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate speeds."""
    first = next((r for r in records if r["status"] == "ok"), records[0])
    table = make(
        f"Cost of a step, {_of(first)}, {first['device']}",
        [
            "method",
            "step ms",
            "step / backprop",
            "/ backprop per direction",
            "noise ms",
            "peak MiB",
            "peak / backprop",
        ],
        f"Batch {first['batch']}, medians of {first.get('rounds', '?')} interleaved rounds with 95 % "
        "intervals; backprop is the plain PyTorch step of the same model in the same run. A step is "
        "the whole estimate, noise included, without the optimiser.",
    )
    for r in records:
        if r["status"] != "ok":
            table.add_row(r["method"], *["-"] * 6)
            continue
        each = r["ratio_to_bp"]["value"] / r["directions"]
        table.add_row(
            r["method"], number(r["step_ms"]), number(r["ratio_to_bp"]), f"{each:.3g}",
            number(r["noise_ms"]), number(r["peak_mb"]), number(r["peak_ratio_to_bp"]),
        )  # fmt: skip
    return table


def _fusions(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate replicated and fused losses, one row per pass and number of groups."""
    s = records[0]["settings"]
    table = make(
        f"Losses per patch and group, {s['patches']} patches, {s['channels']} channels per group, "
        f"{s['classes']} classes, batch {s['batch']}",
        [
            "pass",
            "groups",
            "replicated ms",
            "fused ms",
            "ratio",
            "MiB",
            "fused MiB",
            "ratio",
            "off by",
        ],
        f"Medians of {s['rounds']} interleaved rounds with intervals; peaks newly allocated. tangent: slopes "
        "of all losses along one direction; gradient: of their sum. off by: largest difference of the two.",
    )
    names = ("ms", "peak_mb", "time_ratio", "memory_ratio", "difference")
    for slow, fast in zip(*(_by(records, name) for name in ("replicated", "fused")), strict=True):
        a, b = ({name: number(row.get(name)) for name in names} for row in (slow, fast))
        table.add_row(
            fast["pass"], str(fast["groups"]), a["ms"], b["ms"], b["time_ratio"], a["peak_mb"],
            b["peak_mb"], b["memory_ratio"], b["difference"],
        )  # fmt: skip
    return table


def _by(records: Sequence[Mapping[str, Any]], implementation: str) -> list[Mapping[str, Any]]:
    """Pick the rows of one implementation, pass by pass."""
    rows = [row for r in records for row in r["rows"] if row["implementation"] == implementation]
    return sorted(rows, key=lambda row: str(row["pass"]), reverse=True)
