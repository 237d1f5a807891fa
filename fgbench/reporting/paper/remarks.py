"""What a page of comparison says beside its tables: what differs, what was tried, what was damaged."""

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


def differences(known: Published, rows: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """List what differs from the paper and why, each point only where runs are concerned by it.

    Args:
        known: what is known of the paper and of its released code.
        rows: its cells beside ours.
        found: all cells of the records.

    Returns:
        A list in Markdown.
    """
    run = [row for row in rows if row.group is not None]
    if not run:
        return ["Nothing of the paper's tables was run."]
    points = [_settings(run), *_epochs(run), *_data(run)]
    points += [each.text for each in known.differences if any(_concerns(each, r) for r in run)]
    points += _forms(run, found)
    return ["\n".join(f"* {point}" for point in points)]


def worse(rows: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """List everything that was tried for every cell that came out worse than published, or not at all.

    Args:
        rows: published cells beside ours.
        found: all cells of the records.

    Returns:
        A part per cell.
    """
    lost = [row for row in rows if row.worse]
    if not lost:
        return ["None of those that were run."]
    parts = []
    for row in lost:
        there = f"{row.method}, {row.column.title} (table {row.column.table})"
        ours = str(row.ours()) if row.ours().n else "without a result"
        printed = f"published {row.column.test[row.method]:.2f}, ours {ours}"
        head = ["what", "settings", "seeds", "error (%)", ""]
        parts += [f"### {there}: {printed}", table(head, _tried(row, found))]
    return parts


def notes(records: Records, rows: Sequence[Comparison]) -> list[str]:
    """Say what was damaged, old, incomplete or doubtful in the records.

    Args:
        records: of `fgbench.reporting.frames.load.load`.
        rows: published cells beside ours.

    Returns:
        A list in Markdown.
    """
    lines = [f"{name}: {reason}" for name, reason in sorted(records.damaged.items())]
    lines += records.notes
    for row in rows:
        there = f"{row.method}, {row.column.title} (table {row.column.table})"
        if row.cell is None:
            continue
        if len(row.cell.groups) > 1:
            lines.append(f"{there}: one of {len(row.cell.groups)} settings is reported.")
        tuning = row.cell.tuning
        trials = _trials(tuning) if tuning is not None else []
        used = {run["seed"] for run in row.group.runs} if row.group else set()
        if shared := sorted(map(text, used & {trial.get("seed") for trial in trials})):
            lines.append(f"{there}: seeds {', '.join(shared)} were also tuned on.")
        for tune in row.cell.tunings:
            if not isinstance(tune.get("grid"), Mapping) or not tune.get("chosen"):
                lines.append(f"{there}: a tune record without grid or choice ({tune['status']}).")
    if not lines and not any(row.cell for row in rows):
        return ["None of the records is of a network and data set of the paper's tables."]
    return ["\n".join(f"* {line}" for line in lines) or "All records are complete and were used."]


def _settings(run: Sequence[Comparison]) -> str:
    """Say how the settings that the paper leaves open were found."""
    tuned = [row for row in run if row.cell and row.cell.tuning is not None]
    held = sorted({_held(row.cell.tuning) for row in tuned if row.cell and row.cell.tuning})
    words = (
        "For MNIST and CIFAR-10 rates, batch sizes, decay and schedules are neither in the body of "
        "the paper nor in the released configurations"
    )
    if not tuned:
        return f"{words}; ours are this project's recipes, and nothing was tuned here."
    rest = len(run) - len(tuned)
    words += f"; for {len(tuned)} of {len(run)} cells ours were tuned on held-out training images"
    words += f" ({', '.join(held)})"
    return words + (f", the other {rest} use this project's recipes." if rest else ".")


def _held(tuning: Record) -> str:
    """Say how many training examples a tuning held out, and for how long it trained."""
    settings = tuning.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    size, epochs = (settings.get(name, "?") for name in ("validation", "epochs"))
    return f"{size} held out, {epochs} epochs"


def _epochs(run: Sequence[Comparison]) -> list[str]:
    """Set epochs beside the released default, column by column."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in run:
        if row.cell is not None:
            known = row.column.released_epochs
            default = (
                f"the released default is {known}" if known else "the paper's are not known here"
            )
            there = f"{row.column.title} {row.column.task}"
            found[f"{there}; {default}"].add(facts(row.cell, "epochs"))
    return [
        f"Epochs: {', '.join(sorted(mine, key=lambda n: (len(n), n)))} of {there}."
        for there, mine in found.items()
    ]


def _data(run: Sequence[Comparison]) -> list[str]:
    """Say where pixels are not the original ones, in the words of the data's own remark."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in run:
        source = facts(row.cell, "where", "data_source") if row.cell else ""
        if source:
            found[source][row.column.data] = None
    return [f"Pixels of {listed(where)}: {source}." for source, where in sorted(found.items())]


def _concerns(each: Difference, row: Comparison) -> bool:
    """Say whether a known difference is one of this cell's."""
    if row.cell is None:
        return False
    wanted = ((each.tasks, row.column.task), (each.methods, row.method))
    if any(among and name not in among for among, name in wanted):
        return False
    if each.data and each.data != row.column.data:
        return False
    return all(facts(row.cell, "settings", n) == value for n, value in each.settings.items())


def _forms(run: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """List other forms of the methods that were run on the same networks and data."""
    places = {(r.column.task, r.column.arch, r.column.data) for r in run}
    used = {id(row.cell) for row in run}
    lines = []
    for cell in found:
        place = cell.place
        there = (place.way.task, place.arch, place.dataset) in places and not place.train_size
        given = place.way.options or "[" in place.way.estimator
        if there and given and id(cell) not in used and cell.reported is not None:
            error = Mean.of(cell.reported.percent("test_error"), most=WHOLE)
            lines.append(
                f"Another form, {place.way.task}, `{place.arch}` on {place.data}: "
                f"`{cell.method}` has {error} (n = {error.n})."
            )
    return lines


def _tried(row: Comparison, found: Sequence[Cell]) -> list[list[str]]:
    """List tunings, their trials and all other runs of a cell and of its method's other forms."""
    assert row.cell is not None
    lines = []
    for tuning in row.cell.tunings:
        size = _held(tuning)
        lines.append([f"tuning, {size}", "; ".join(grids(tuning)), "", "", str(tuning["status"])])
        lines += _of_tuning(tuning)
    known = {str(t.get("key")) for tuning in row.cell.tunings for t in _trials(tuning)}
    rest = [trial for trial in row.cell.trials if trial["key"] not in known]
    if rest:
        lines.append(["trials on held-out examples", "", str(len(rest)), "", status_of(rest)])
    lines += _of_groups("run", row.cell.groups, row.group)
    for cell in found:
        if cell is not row.cell and _related(cell, row.cell):
            size = f", {cell.place.train_size} examples" if cell.place.train_size else ""
            lines += _of_groups(f"`{cell.method}`{size}", cell.groups, None)
    return lines


def _trials(tuning: Record) -> list[Record]:
    """Return the trials a tune record names."""
    trials = tuning.get("trials")
    return [t for t in trials if isinstance(t, Mapping)] if isinstance(trials, list) else []


def _of_tuning(tuning: Record) -> list[list[str]]:
    """Give one line per value tried: its error on held-out examples."""
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
    """Give one line per setting that was run: its test error."""
    groups = list(groups)
    lines = []
    for group, settings in zip(groups, spread(groups), strict=True):
        error = Mean.of(group.percent("test_error"), most=WHOLE)
        words = f"{what}, reported" if group is reported else what
        lines.append([words, settings, str(len(group.runs)), str(error), status_of(group.runs)])
    return lines


def _related(cell: Cell, to: Cell) -> bool:
    """Say whether a cell is another form of a method: its estimator and place of losses, elsewise set."""
    one, two = cell.place, to.place
    names = [split_options(place.way.estimator)[0] for place in (one, two)]
    alike = names[0] == names[1] and one.way.base == two.way.base and one.way.task == two.way.task
    return alike and (one.arch, one.data) == (two.arch, two.data)
