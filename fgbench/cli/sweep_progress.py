"""What a sweep shows: a live table on a terminal, plain lines elsewhere, results and failures at the end."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.cli.table import console, make
from fgbench.records.labels import labels
from fgbench.reporting.frames.tuning import edges
from fgbench.runs.sweep.runner import Sweep
from fgbench.stats.reporting import number, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from fgbench.cli.table import StackingTable
    from fgbench.runs.sweep.cells import Cell
    from fgbench.runs.sweep.runner import Settings, Stage


def run(cells: Sequence[Cell], settings: Settings, as_json: bool) -> int:
    """Run a sweep, showing how it stands on stderr and what it found on stdout.

    Args:
        cells: what is to be run.
        settings: where and how.
        as_json: print one JSON array instead of a table.

    Returns:
        The exit code: 1 where a run failed.
    """
    with Watch(quiet=as_json) as watch:
        sweep = Sweep(cells, settings, watch)
        records = sweep.run()
    failures = sweep.failures()
    if as_json:
        print(json.dumps(records, indent=1))
    else:
        console().print(table(sweep, "Results"))
    for line in at_edges(sweep):
        print(f"warning: {line}", file=sys.stderr)
    for case, why in failures:
        print(f"failed: {case}: {why}", file=sys.stderr)
    return 1 if failures else 0


def at_edges(sweep: Sweep) -> list[str]:
    """Name the cells whose tuning chose a value that ends its grid.

    Args:
        sweep: at its end.

    Returns:
        A line per cell.
    """
    lines = []
    for stage in sweep.stages:
        cell, choice = stage.cell, stage.choice or {}
        parts = [
            f"{name} {choice['chosen'][name]} at the {side} edge of "
            f"{', '.join(map(str, choice['grid'][name]))}"
            for name, side in edges(choice).items()
        ]
        if parts:
            where = f"{cell.method} {cell.arch} {cell.data} ({cell.grid})"
            lines.append(f"{where}: chose {'; '.join(parts)}; what lies beyond was not tried")
    return lines


def show_plan(cells: Sequence[Cell]) -> None:
    """Print what a sweep would run.

    Args:
        cells: what would be run.
    """
    found = make(
        "Plan", ["method", "grid", "architecture", "data", "options", "tried", "seeds"],
        f"{cells.count(cells)} runs at most, those of the tuning included.",
    )  # fmt: skip
    named = _named(cells)
    for cell in cells:
        tried = ", ".join(f"{k} {'|'.join(map(str, v))}" for k, v in cell.tune.items())
        found.add_row(
            named[cell.method], cell.grid, cell.arch, cell.data, _options(cell.options), tried or "-",
            str(len(cell.seeds)),
        )  # fmt: skip
    console().print(found)


class Watch:
    """Shows how a sweep stands.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._told: set[str] = set()
        self._drawn = 0.0
        self._begun = datetime.now(UTC).isoformat(timespec="seconds")

    def __enter__(self) -> Watch:
        """Open the live table on a terminal."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True, markup=False), refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, sweep: Sweep) -> None:
        """Show the state: the live table, or a line for every run that ended."""
        if self._quiet:
            return
        if self._live is not None:
            if monotonic() - self._drawn > 0.5:
                self._drawn = monotonic()
                self._live.update(_now(sweep))
            return
        for case, found in sweep.found.items():
            if case not in self._told:
                self._told.add(case)
                head = f"sweep {len(self._told)} of {sweep.known}: "
                before = " (was there before)" * (found.get("started", "") < self._begun)
                print(head + _line(found) + before, file=sys.stderr, flush=True)


def table(sweep: Sweep, title: str) -> StackingTable:
    """Tabulate a sweep, one row per cell.

    Args:
        sweep: at any time.
        title: of the table.

    Returns:
        The table.
    """
    found = make(
        title, ["method", "architecture", "data", "options", "result", "runs"],
        "Test error in % (train) or relative variance (measure): mean over seeds with the smallest and "
        "largest in brackets; options with values chosen on held-out training images marked *.",
    )  # fmt: skip
    named = _named([stage.cell for stage in sweep.stages])
    for stage in sweep.stages:
        cell, done = stage.cell, [sweep.found[c.id] for c in stage.results if c.id in sweep.found]
        good = [r for r in done if r["status"] == "ok"]
        if cell.verb == "train":
            shown = spread([100 * r["test_error"] for r in good])
        else:
            shown = number(good[0]["relative_variance"]) if len(good) == 1 else _means(good)
        found.add_row(
            named[cell.method], cell.arch, cell.data, _chosen(stage), shown,
            _count(sweep, stage, len(done)),
        )  # fmt: skip
    return found


def _named(cells: Sequence[Cell]) -> dict[str, str]:
    """Name the methods of cells as people read them."""
    return {text: label for (text, _), label in labels((c.method, "") for c in cells).items()}


def _means(good: list[dict[str, Any]]) -> str:
    """Spread the relative variances of several seeds."""
    values = [r["relative_variance"]["value"] for r in good]
    return spread([v for v in values if v is not None])


def _now(sweep: Sweep) -> RenderableType:
    """Draw the state: the cells, and what every worker is at."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"  {case}: {line}") for case, line in sweep.at.values()]
    head = f"{len(sweep.found)} of {sweep.known} runs"
    return Group(table(sweep, head), *lines)


def _options(options: dict[str, Any], mark: str = "") -> str:
    """Write options in one line."""
    return ", ".join(f"{name} {value}{mark}" for name, value in options.items()) or "-"


def _chosen(stage: Stage) -> str:
    """Write a cell's varied and chosen options."""
    parts = [_options(stage.cell.varied)] if stage.cell.varied else []
    if stage.cell.tune:
        parts.append(_options(stage.chosen, "*") if stage.chosen else "tuning")
    return ", ".join(parts) or "-"


def _count(sweep: Sweep, stage: Stage, done: int) -> str:
    """Write how far a cell is."""
    if not stage.results:
        trials = [c for _, runs in stage.trials for c in runs]
        return f"tuning {sum(c.id in sweep.found for c in trials)} of {len(trials)}"
    ended = [sweep.found[c.id]["status"] for c in stage.results if c.id in sweep.found]
    bad = {s: ended.count(s) for s in ended if s != "ok"}
    return f"{done} of {len(stage.results)}" + "".join(f", {n} {s}" for s, n in bad.items())


def _line(found: dict[str, Any]) -> str:
    """Say what one run found."""
    name = f"{found['method']} {found['arch']} {found['data']} seed {found['seed']}"
    if found["status"] != "ok":
        return f"{name}: {found['status']}: {found['reason']}"
    if found["verb"] == "train":
        split = "held-out" if found["settings"].get("validation") else "test"
        return f"{name}: {split} error {100 * found['test_error']:.2f} %"
    return f"{name}: relative variance {number(found['relative_variance'])}"
