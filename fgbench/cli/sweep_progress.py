"""Progress and results of a sweep: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.cli.progress import print_line
from fgbench.records.labels import labels
from fgbench.records.metrics import main_of
from fgbench.reporting.frames.tuning import edges
from fgbench.reporting.terminal.table import console, make
from fgbench.runs.sweep.cells import count
from fgbench.runs.sweep.runner import Sweep
from fgbench.stats.reporting import number, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from fgbench.reporting.terminal.table import StackingTable
    from fgbench.runs.sweep.cells import Cell
    from fgbench.runs.sweep.runner import Settings, Stage


def run(cells: Sequence[Cell], settings: Settings, as_json: bool) -> int:
    """Run a sweep, with progress on stderr and results on stdout.

    Args:
        cells: the cells to run.
        settings: folder of records, device, number of workers and the like.
        as_json: print one JSON array instead of a table.

    Returns:
        The exit code: 1 if a run failed.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.sweep.runner import Settings
        >>> run([], Settings(Path("records"), jobs=1, device="cpu"), as_json=True)  # a sweep without cells
        []
        0
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
        print_line(f"warning: {line}")
    for case, why in failures:
        print_line(f"failed: {case}: {why}")
    return 1 if failures else 0


def at_edges(sweep: Sweep) -> list[str]:
    """Return warnings about cells whose tuning chose the first or last value of its grid.

    Args:
        sweep: a finished sweep.

    Returns:
        A line per cell.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.sweep.cells import Cell
        >>> from fgbench.runs.sweep.runner import Settings
        >>> from fgbench.runs.sweep.schema import Tuning
        >>> tune, tuning = {"lr": [0.1, 1]}, Tuning(validation=8)
        >>> cell = Cell("tuned", "BP", "mlp-1x8", "digits", "train", (0,), {}, {}, tune, tuning)
        >>> sweep = Sweep([cell], Settings(Path("records")), watch=lambda sweep: None)
        >>> sweep.stages[0].choice = {"grid": tune, "chosen": {"lr": 1}}
        >>> print(*at_edges(sweep))
        BP mlp-1x8 digits (tuned): chose lr 1 at the upper edge of 0.1, 1; what lies beyond was not tried
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
    """Print the plan of a sweep.

    Args:
        cells: the cells that would be run.

    Example:
        >>> from fgbench.runs.sweep.cells import Cell
        >>> cell = Cell("small", "BP", "mlp-1x8", "digits", "train", (0, 1), {}, {}, {}, None)
        >>> show_plan([cell])  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
        Plan ...
        BP  small  mlp-1x8  digits  -  -  2
        2 runs at most, including those of the tuning.
    """
    plan = make(
        "Plan", ["method", "grid", "architecture", "data", "options", "tried", "seeds"],
        f"{count(cells)} runs at most, including those of the tuning.",
    )  # fmt: skip
    named = _named(cells)
    for cell in cells:
        tried = ", ".join(f"{k} {'|'.join(map(str, v))}" for k, v in cell.tune.items())
        plan.add_row(
            named[cell.method], cell.grid, cell.arch, cell.data, _options(cell.options), tried or "-",
            str(len(cell.seeds)),
        )  # fmt: skip
    console().print(plan)


class Watch:
    """A context that shows how far a sweep is.

    Args:
        quiet: show nothing.
        verb: the command.

    Example:
        >>> with Watch(quiet=True) as watch:
        ...     pass
    """

    def __init__(self, quiet: bool, verb: str = "sweep") -> None:
        self._quiet, self._verb = quiet, verb
        self._live: Any = None
        self._printed: set[str] = set()
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
        """Close the live table."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, sweep: Sweep) -> None:
        """Update the live table, or print a line for every run that ended."""
        if self._quiet:
            return
        if self._live is not None:
            if monotonic() - self._drawn > 0.5:
                self._drawn = monotonic()
                self._live.update(_now(sweep))
            return
        tried = {
            case.id: values
            for stage in sweep.stages
            for values, runs in stage.trials
            for case in runs
        }
        for case, record in sweep.found.items():
            if case not in self._printed:
                self._printed.add(case)
                head = f"{self._verb} {len(self._printed & set(sweep.found))} of {sweep.known}: "
                before = " (finished before)" * (record.get("started", "") < self._begun)
                print_line(head + _line(record, tried.get(case, {})) + before)


def table(sweep: Sweep, title: str) -> StackingTable:
    """Return a sweep as a table, one row per cell.

    Args:
        sweep: the sweep, finished or not.
        title: title of the table.

    Returns:
        The table.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.sweep.cells import Cell
        >>> from fgbench.runs.sweep.runner import Settings
        >>> cell = Cell("small", "BP", "mlp-1x8", "digits", "train", (0, 1), {}, {}, {}, None)
        >>> sweep = Sweep([cell], Settings(Path("records")), watch=lambda sweep: None)
        >>> table(sweep, "Results").rows[0][-1]
        '0 of 2'
    """
    built = make(
        title, ["method", "architecture", "data", "options", "result", "runs"], _note(sweep)
    )
    named = _named([stage.cell for stage in sweep.stages])
    for stage in sweep.stages:
        cell, done = stage.cell, [sweep.found[c.id] for c in stage.results if c.id in sweep.found]
        good = [r for r in done if r["status"] == "ok"]
        if cell.verb == "train":
            shown = _result(good)
        else:
            shown = number(good[0]["relative_variance"]) if len(good) == 1 else _means(good)
        built.add_row(
            named[cell.method], cell.arch, cell.data, _chosen(stage), shown,
            _count(sweep, stage, len(done)),
        )  # fmt: skip
    return built


def _note(sweep: Sweep) -> str:
    """Return the note below the table: what a result is, by verb, and the options that all rows share."""
    cells = [stage.cell for stage in sweep.stages]
    notes = []
    if any(cell.verb == "train" for cell in cells):
        trained = [r for r in sweep.found.values() if r.get("verb") == "train"]
        names = dict.fromkeys(main_of(r).axis("test").replace("(%)", "in %") for r in trained)
        what = ", ".join(names) or "test error in %"
        notes.append(f"Train: {what}, mean over seeds, with the smallest and largest in brackets.")
    measured = [cell for cell in cells if cell.verb == "measure"]
    if any(len(cell.seeds) == 1 for cell in measured):
        inits = {cell.options.get("inits", 1) for cell in measured}
        over = "inits" if min(inits) > 1 else "inits, or batches or draws of one init"
        notes.append(f"Measure: relative variance, with 95 % intervals over {over}.")
    if any(len(cell.seeds) > 1 for cell in measured):
        notes.append(
            "Measure with several seeds: relative variance, mean over seeds, with the smallest and "
            "largest in brackets."
        )
    if any(stage.cell.tune and stage.chosen for stage in sweep.stages):
        notes.append("*: chosen on held-out training images.")
    shared = _shared(cells)
    return " ".join([*notes, *([f"All rows: {_options(shared)}."] if shared else [])])


def _result(good: Sequence[dict[str, Any]]) -> str:
    """Format the main test metric of finished trainings, as mean and range."""
    if not good:
        return spread([])
    main = main_of(good[0])
    return spread([main.factor * r[main.field()] for r in good])


def _shared(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the options that every cell has with the same value, and that the table does not show."""
    first = cells[0].options if cells else {}
    return {
        name: value
        for name, value in first.items()
        if all(name in c.options and c.options[name] == value for c in cells)
        and not any(name in c.varied for c in cells)
    }


def _named(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the label of each method of the cells."""
    return {text: label for (text, _), label in labels((c.method, "") for c in cells).items()}


def _means(good: list[dict[str, Any]]) -> str:
    """Format the relative variances of several seeds as mean and range."""
    values = [r["relative_variance"]["value"] for r in good]
    return spread([v for v in values if v is not None])


def _now(sweep: Sweep) -> RenderableType:
    """Return the live view: the table of cells, and the progress of every worker."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"  {case}: {line}") for case, line in sweep.at.values()]
    head = f"{len(sweep.found)} of {sweep.known} runs"
    return Group(table(sweep, head), *lines)


def _options(options: dict[str, Any], mark: str = "") -> str:
    """Format options in one line."""
    return ", ".join(f"{name} {value}{mark}" for name, value in options.items()) or "-"


def _chosen(stage: Stage) -> str:
    """Format the varied and the tuned options of a cell."""
    parts = [_options(stage.cell.varied)] if stage.cell.varied else []
    if stage.cell.tune:
        parts.append(_options(stage.chosen, "*") if stage.chosen else "tuning")
    return ", ".join(parts) or "-"


def _count(sweep: Sweep, stage: Stage, done: int) -> str:
    """Format how many runs of a cell have ended, and how."""
    if not stage.results:
        trials = [c for _, runs in stage.trials for c in runs]
        return f"tuning {sum(c.id in sweep.found for c in trials)} of {len(trials)}"
    ended = [sweep.found[c.id]["status"] for c in stage.results if c.id in sweep.found]
    bad = {s: ended.count(s) for s in ended if s != "ok"}
    return f"{done} of {len(stage.results)}" + "".join(f", {n} {s}" for s, n in bad.items())


def _line(record: dict[str, Any], tried: dict[str, Any]) -> str:
    """Format the result of one run, with the values that it tries where it is one of a tuning."""
    name = f"{record['method']} {record['arch']} {record['data']} seed {record['seed']}"
    name += f", {_options(tried)}" * bool(tried)
    if record["status"] != "ok":
        return f"{name}: {record['status']}: {record['reason']}"
    if record["verb"] == "train":
        split = "held-out" if record["settings"].get("validation") else "test"
        main = main_of(record)
        return f"{name}: {split} {main.words} {main.text(record[main.field()])}"
    return f"{name}: relative variance {number(record['relative_variance'])}"
