"""Remarks below the tables: differences from the paper, everything that was tried, and damaged records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from fgbench.registry import split_options
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.results import Cell, Group, spread
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.frames.settings import text
from fgbench.reporting.paper.comparison import Comparison, Mean, status_of
from fgbench.reporting.paper.markdown import facts, grids, listed, table
from fgbench.reporting.paper.published import Difference, Published

Record = Mapping[str, Any]


def differences(paper: Published, rows: Sequence[Comparison], cells: Sequence[Cell]) -> list[str]:
    """List how our runs differ from the paper and its released code, and why.

    Args:
        paper: its tables and the known differences. Only those that concern a run are listed.
        rows: published cells beside ours.
        cells: all cells of the records.

    Returns:
        A list in Markdown.

    Example:
        >>> from fgbench.reporting.paper.published import published
        >>> differences(published(), [], [])
        ["Nothing of the paper's tables was run."]
    """
    run = [row for row in rows if row.group is not None]
    if not run:
        return ["Nothing of the paper's tables was run."]
    points = [_settings(run), *_epochs(run), *_data(run)]
    points += [each.text for each in paper.differences if any(_concerns(each, r) for r in run)]
    points += _variants(run, cells)
    return ["\n".join(f"* {point}" for point in points)]


def worse(rows: Sequence[Comparison], cells: Sequence[Cell]) -> list[str]:
    """List everything that was tried for cells whose result is worse than published, or missing.

    Args:
        rows: published cells beside ours.
        cells: all cells of the records.

    Returns:
        A heading and a table per cell.

    Example:
        >>> worse([], [])
        ['None of those that were run.']
    """
    worse_rows = [row for row in rows if row.worse]
    if not worse_rows:
        return ["None of those that were run."]
    parts = []
    for row in worse_rows:
        name = f"{row.method}, {row.column.title} (table {row.column.table})"
        ours = str(row.ours()) if row.ours().n else "without a result"
        printed = f"published {row.column.test[row.method]:.2f}, ours {ours}"
        head = ["runs", "settings", "seeds", "error (%)", ""]
        parts += [f"### {name}: {printed}", table(head, _tried(row, cells))]
    return parts


def notes(records: Records, rows: Sequence[Comparison]) -> list[str]:
    """List records that are damaged, old, incomplete or doubtful.

    Args:
        records: of `fgbench.reporting.frames.load.load`.
        rows: published cells beside ours.

    Returns:
        A list in Markdown, or a sentence where there is nothing to list.

    Example:
        >>> from pathlib import Path
        >>> notes(Records(Path("records"), (), {"a.json": "not readable as JSON"}, ()), [])
        ['* a.json: not readable as JSON']
    """
    lines = [f"{name}: {reason}" for name, reason in sorted(records.damaged.items())]
    lines += records.notes
    for row in rows:
        name = f"{row.method}, {row.column.title} (table {row.column.table})"
        if row.cell is None:
            continue
        if len(row.cell.groups) > 1:
            lines.append(f"{name}: one of {len(row.cell.groups)} settings is reported.")
        tuning = row.cell.tuning
        trials = _trials(tuning) if tuning is not None else []
        used = {run["seed"] for run in row.group.runs} if row.group else set()
        if shared := sorted(map(text, used & {trial.get("seed") for trial in trials})):
            lines.append(f"{name}: seeds {', '.join(shared)} were also used for tuning.")
        for tune in row.cell.tunings:
            if not isinstance(tune.get("grid"), Mapping) or not tune.get("chosen"):
                lines.append(f"{name}: a tune record without grid or choice ({tune['status']}).")
    if not lines and not any(row.cell for row in rows):
        return ["None of the records is of a network and data set of the paper's tables."]
    return ["\n".join(f"* {line}" for line in lines) or "All records are complete and were used."]


def _settings(run: Sequence[Comparison]) -> str:
    """Describe how the settings that the paper does not state were chosen."""
    tuned = [row for row in run if row.cell and row.cell.tuning is not None]
    held = sorted({_held(row.cell.tuning) for row in tuned if row.cell and row.cell.tuning})
    words = (
        "For MNIST and CIFAR-10, neither the body of the paper nor the released configurations state "
        "learning rates, batch sizes, weight decay and schedules"
    )
    if not tuned:
        return f"{words}; ours are the default recipes of fgbench, and nothing was tuned here."
    rest = len(run) - len(tuned)
    words += f"; for {len(tuned)} of {len(run)} cells ours were tuned on held-out training images"
    words += f" ({', '.join(held)})"
    return words + (f", the other {rest} use the default recipes of fgbench." if rest else ".")


def _held(tuning: Record) -> str:
    """Return how many training examples a tuning held out, and for how many epochs it trained."""
    settings = tuning.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    size, epochs = (settings.get(name, "?") for name in ("validation", "epochs"))
    return f"{size} held out, {epochs} epochs"


def _epochs(run: Sequence[Comparison]) -> list[str]:
    """List the epochs of our runs beside the released default, column by column."""
    epochs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in run:
        if row.cell is not None:
            number = row.column.released_epochs
            default = f"the released default is {number}" if number else "the paper's are not known"
            column = f"{row.column.title}, {row.column.task}"
            epochs[column, default].add(facts(row.cell, "epochs"))
    return [
        f"Epochs of {column}: {', '.join(sorted(counts, key=lambda n: (len(n), n)))}; {default}."
        for (column, default), counts in epochs.items()
    ]


def _data(run: Sequence[Comparison]) -> list[str]:
    """List data sets whose pixels are not the original ones, with the remark in their records."""
    sets: dict[str, dict[str, None]] = defaultdict(dict)
    for row in run:
        source = facts(row.cell, "where", "data_source") if row.cell else ""
        if source:
            sets[source][row.column.data] = None
    return [f"Pixels of {listed(names)}: {source}." for source, names in sorted(sets.items())]


def _concerns(each: Difference, row: Comparison) -> bool:
    """Check whether a known difference concerns the runs of a cell."""
    if row.cell is None:
        return False
    wanted = ((each.tasks, row.column.task), (each.methods, row.method))
    if any(among and name not in among for among, name in wanted):
        return False
    if each.data and each.data != row.column.data:
        return False
    return all(facts(row.cell, "settings", n) == value for n, value in each.settings.items())


def _variants(run: Sequence[Comparison], cells: Sequence[Cell]) -> list[str]:
    """List results of the same methods with other options, on the same networks and data."""
    panels = {(r.column.task, r.column.arch, r.column.data) for r in run}
    used = {id(row.cell) for row in run}
    lines = []
    for cell in cells:
        place = cell.place
        compared = (place.way.task, place.arch, place.dataset) in panels and not place.train_size
        optioned = place.way.options or "[" in place.way.estimator
        if compared and optioned and id(cell) not in used and cell.reported is not None:
            error = Mean.of(cell.reported.percent("test_error"), most=WHOLE)
            lines.append(
                f"With other options, {place.way.task}, `{place.arch}` on {place.data}: "
                f"`{cell.method}` has a test error of {error} (n = {error.n})."
            )
    return lines


def _tried(row: Comparison, cells: Sequence[Cell]) -> list[list[str]]:
    """List tunings, their trials and all runs of a cell, and runs of its method with other options."""
    assert row.cell is not None
    lines = []
    for tuning in row.cell.tunings:
        size = _held(tuning)
        lines.append([f"tuning, {size}", "; ".join(grids(tuning)), "", "", str(tuning["status"])])
        lines += _of_tuning(tuning)
    listed_keys = {str(t.get("key")) for tuning in row.cell.tunings for t in _trials(tuning)}
    rest = [trial for trial in row.cell.trials if trial["key"] not in listed_keys]
    if rest:
        lines.append(["trials on held-out examples", "", str(len(rest)), "", status_of(rest)])
    lines += _of_groups("run", row.cell.groups, row.group)
    for cell in cells:
        if cell is not row.cell and _related(cell, row.cell):
            size = f", {cell.place.train_size} examples" if cell.place.train_size else ""
            lines += _of_groups(f"`{cell.method}`{size}", cell.groups, None)
    return lines


def _trials(tuning: Record) -> list[Record]:
    """Return the trials that a tune record lists."""
    trials = tuning.get("trials")
    return [t for t in trials if isinstance(t, Mapping)] if isinstance(trials, list) else []


def _of_tuning(tuning: Record) -> list[list[str]]:
    """Return a line per value that was tried, with its error on held-out examples."""
    by: dict[str, list[Record]] = {}
    for trial in _trials(tuning):
        values = trial.get("values")
        pairs = values.items() if isinstance(values, Mapping) else ()
        by.setdefault(", ".join(f"{n}={text(v)}" for n, v in sorted(pairs)), []).append(trial)
    lines = []
    for values, trials in by.items():
        errors = [t.get("validation_error") for t in trials if t.get("status") == "ok"]
        error = Mean.of(100 * pd.Series(errors, dtype=float).dropna(), most=WHOLE)
        runs = [{"status": "?", **trial} for trial in trials]
        lines.append(
            ["trial, held-out error", values, str(len(trials)), str(error), status_of(runs)]
        )
    return lines


def _of_groups(what: str, groups: Iterable[Group], reported: Group | None) -> list[list[str]]:
    """Return a line per setting that was run, with its test error."""
    groups = list(groups)
    lines = []
    for group, settings in zip(groups, spread(groups), strict=True):
        error = Mean.of(group.percent("test_error"), most=WHOLE)
        words = f"{what}, reported" if group is reported else what
        lines.append([words, settings, str(len(group.runs)), str(error), status_of(group.runs)])
    return lines


def _related(cell: Cell, to: Cell) -> bool:
    """Check whether two cells differ only in options: same estimator, locality, task, network and data."""
    one, two = cell.place, to.place
    names = [split_options(place.way.estimator)[0] for place in (one, two)]
    alike = names[0] == names[1] and one.way.base == two.way.base and one.way.task == two.way.task
    return alike and (one.arch, one.data) == (two.arch, two.data)
