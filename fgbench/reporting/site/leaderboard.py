"""The leaderboard: errors, variance, bias and costs of all methods on each architecture and data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import pandas as pd

from fgbench.records.metrics import ERROR, Shown, shared_metric
from fgbench.records.undefined import undefined
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import VERBS, number
from fgbench.reporting.frames.method_names import natural, undirected
from fgbench.reporting.frames.seed_means import mean_interval
from fgbench.reporting.frames.settings import (
    apart,
    directions_of,
    form_of,
    named,
    part_of,
    read_form,
    trained_with,
)
from fgbench.reporting.site import paths
from fgbench.reporting.site.claims import UNREJECTED, UNTESTED, Verdict
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.paths import PagePaths, Panel, panel_of
from fgbench.reporting.site.table import (
    MEAN,
    NOTHING,
    Table,
    TableCell,
    TableRow,
    interval,
    number_cell,
    sign_note,
)

RATIOS = ("ratio_to_bp", "peak_ratio_to_bp")
NOT_MEASURED = Verdict("", UNTESTED, "never measured")
HEAD = (
    *("method", "architecture", "data", "test error (%)", "claims", "relative variance"),
    *("efficiency", "bias", "cost (forwards)", "step time / BP", "peak memory / BP", "locality"),
)
KINDS = (  # CSS class of each column, in the same order
    *("method", "arch", "data", "error", "claims", "variance"),
    *("efficiency", "bias", "cost", "time", "memory", "locality"),
)
AGAIN = "same runs"
RANGE = "range of"
FACETS = ("arch", "data", "locality", "claims", "metric")
RESULT = "test error (%), or the metric named"
ORDER = (
    "On each network and data set the lowest test error comes first, then methods of which seeds diverged, "
    "then those without a test error, the most efficient first."
)
LEGEND = (
    f"{ORDER} Test error: {MEAN[0].lower()}{MEAN[1:]}. "
    "Relative variance, efficiency and bias: of the gradient estimate of the whole body, compared with the "
    "exact gradient of the method's own objectives. Not comparable: the scale of the estimate is not 1, "
    "which alone changes the relative variance; compare by efficiency. Intervals of relative variance and "
    "efficiency are over networks where several were initialised, else over batches (valid for this network "
    "only), else over draws of one batch; the interval and the test of bias are over draws. "
    "Cost: of one estimate, in forward passes of its batch. Step time and peak memory: relative to "
    "PyTorch's backprop of the same model in the same run; BP computes the same gradient with fgbench. "
    "Claims: the method's claim about its bias and the outcome of the test; p-values are corrected by Holm's "
    "method over all measurements of this report."
)

NAMED = (
    "the lowest test error comes first",
    "the best test result comes first (of the metric that a row names, where it is no error)",
)
"""What the legend says of the order, and what it says where some metric is no error."""


@dataclass
class Entry:
    """A row of the leaderboard: one setting of a method on an architecture and data set.

    Args:
        method: its name.
        label: its name with the settings in which it differs from its other rows.
        panel: architecture and data.
        locality: of the method.
        runs: trainings, one per seed.
        measure: measurement; None if there is none.
        speed: timing; None if there is none.

    Example:
        >>> Entry("BP", "BP", ("mlp-3x64", "digits")).runs
        []
    """

    method: str
    label: str
    panel: Panel
    locality: str = ""
    runs: Sequence[dict[str, Any]] = field(default_factory=list)
    measure: dict[str, Any] | None = None
    speed: dict[str, Any] | None = None


def entries(facts: Facts) -> list[Entry]:
    """Join measurements, trainings and timings of the same method, options, directions and panel.

    A verb with several settings makes a row for each of them, since numbers of several settings are
    never averaged. A verb with a single setting appears in all of these rows. Trainings with different
    seeds are one setting. The number of directions counts, and not whether an option or a fixed cost set it.
    Every setting in which the trainings of a panel differ is part of the label, whichever method it is of.

    Args:
        facts: of `fgbench.reporting.site.facts.facts`.

    Returns:
        Rows by architecture and data, there by test error, see `ORDER`.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> entries(facts(Records(Path("records"), (), {}, ())))
        []
    """
    groups: dict[tuple[Panel, str, float, str], dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for verb in VERBS:
        for row in facts.of[verb]:
            one = panel_of(row), undirected(str(row["method"])), directions_of(row), form_of(row)
            group = groups.setdefault(one, {})
            group.setdefault(verb, {}).setdefault(str(row["label"]), []).append(row)
    rank = {method: at for at, method in enumerate(ordering.order(g[1] for g in groups))}
    first = {panel: at for at, panel in enumerate(facts.panels)}
    ones = sorted(groups, key=lambda g: (first[g[0]], rank[g[1]], *g[2:]))
    differing = apart([one[:3] for one in ones], [read_form(one[3]) for one in ones])
    found = [
        entry
        for one, parts in zip(ones, differing, strict=True)
        for entry in _entries(one[0], groups[one], parts)
    ]
    return sorted(_told(found), key=lambda entry: (first[entry.panel], *_standing(entry, facts)))


def _told(found: Sequence[Entry]) -> list[Entry]:
    """Add to the labels the settings in which trainings of one panel differ, where records state them."""
    settings = [trained_with(entry.runs[0]) if entry.runs else {} for entry in found]
    values: dict[tuple[Panel, str], set[str]] = {}
    for entry, mine in zip(found, settings, strict=True):
        for name, value in mine.items():
            values.setdefault((entry.panel, name), set()).add(value)
    told = []
    for entry, mine in zip(found, settings, strict=True):
        differing = [
            f"{name}={value}"
            for name, value in sorted(mine.items())
            if value and len(values[entry.panel, name]) > 1
        ]
        more = [part for part in differing if part not in entry.label.split(", ")]
        told.append(replace(entry, label=", ".join([entry.label, *more])))
    return told


def _standing(entry: Entry, facts: Facts) -> tuple[int, float]:
    """Return the sort key of a row among those of its panel, as `ORDER` says."""
    mean = error(entry.runs).sort
    if mean is not None and mean == mean:
        better = metric(entry.runs).sign * mean
        return int(any(run["status"] == "diverged" for run in entry.runs)), better
    body = facts.body.get(str(entry.measure["key"]), {}) if entry.measure else {}
    efficiency = float(body["efficiency"]["value"]) if "efficiency" in body else nan
    return (2, -efficiency) if efficiency == efficiency else (3, 0.0)


def _entries(
    panel: Panel,
    verbs: Mapping[str, Mapping[str, list[dict[str, Any]]]],
    differing: Sequence[str],
) -> Iterable[Entry]:
    """Yield the rows of one method in one panel; ``differing`` are options unlike those of other rows."""
    parts = {
        verb: dict(labels) if verb == "train" else _apart(labels) for verb, labels in verbs.items()
    }
    several = sorted({n for part in parts.values() if len(part) > 1 for n in part}, key=natural)
    first = next(row for part in parts.values() for rows in part.values() for row in rows)
    for label in several or [", ".join([named(first), *differing])]:
        mine = {
            verb: part.get(label, []) if len(part) > 1 else next(iter(part.values()))
            for verb, part in parts.items()
        }
        one = {verb: next(iter(mine.get(verb, [])), None) for verb in ("measure", "speed")}
        method = str(next(row for rows in mine.values() for row in rows)["method"])
        yield Entry(method, label, panel, str(first["locality"]), mine.get("train", []), **one)


def _apart(labels: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Append the seed to the labels of measurements that have the same label, then the key."""
    found: dict[str, list[dict[str, Any]]] = {}
    for label, rows in labels.items():
        for row in rows:
            name = f"{label}, seed {row['seed']}" if len(rows) > 1 else label
            found[f"{name}, key {row['key'][:8]}" if name in found else name] = [row]
    return found


def board(
    name: str,
    rows: Sequence[Entry],
    facts: Facts,
    page_paths: PagePaths,
    panel: Panel | None = None,
) -> Table:
    """Return the leaderboard, without columns that are empty in all rows.

    Args:
        name: id of the table's HTML element.
        rows: of `entries`.
        facts: of `fgbench.reporting.site.facts.facts`.
        page_paths: targets of the links.
        panel: set on the page of one architecture and data set, where these columns are left out.

    Returns:
        A table that can be filtered.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> report = facts(Records(Path("records"), (), {}, ()))
        >>> board("leaderboard", [], report, paths.page_paths([], [])).head
        ('method',)
    """
    seen: set[tuple[str, ...]] = set()
    rows_made = [
        (_again(_cells(entry, facts, page_paths), entry, seen), _facets(entry, facts))
        for entry in rows
    ]
    aside = set(FACETS[:2]) if panel is not None else set()
    aside |= set() if any(entry.measure for entry in rows) else {"claims"}
    metrics = {metric(entry.runs) for entry in rows if entry.runs}
    aside |= set() if len({one.name for one in metrics}) > 1 else {"metric"}
    head, kinds = [*HEAD], [*KINDS]
    if any(one.name != ERROR.name for one in metrics):
        kinds[KINDS.index("error")] = "error result"
        head[KINDS.index("error")] = (
            next(iter(metrics)).axis("test") if len(metrics) == 1 else RESULT
        )
    filled = {"method"} | {
        kind
        for at, kind in enumerate(KINDS)
        if any(cells[at].text != NOTHING or cells[at].note for cells, _ in rows_made)
    }
    columns = [at for at, kind in enumerate(KINDS) if kind in filled - aside]
    facets = [at for at, kind in enumerate(FACETS) if kind not in aside]
    return Table(
        name,
        f"{_first(rows)} first; [95 % intervals{_ranges(rows)}]; {NOTHING}: not known.",
        tuple(head[at] for at in columns),
        tuple(
            TableRow(tuple(cells[at] for at in columns), tuple(values[at] for at in facets))
            for cells, values in rows_made
        ),
        search="method",
        facets=tuple({"arch": "architecture"}.get(FACETS[at], FACETS[at]) for at in facets),
        kinds=tuple(kinds[at] for at in columns),
        legend=LEGEND if kinds == [*KINDS] else LEGEND.replace(*NAMED),
    )


def _first(rows: Sequence[Entry]) -> str:
    """Name the rows that come first, see `ORDER`."""
    metrics = {metric(entry.runs).name for entry in rows if entry.runs}
    if metrics - {ERROR.name}:
        return "Best result of each network and data set"
    return "Lowest error" if metrics else "Most efficient"


def _ranges(rows: Iterable[Entry]) -> str:
    """Return what the caption says of intervals that are ranges; nothing without one."""
    return "; of two seeds, their range" * any(RANGE in error(entry.runs).note for entry in rows)


def _again(
    cells: tuple[TableCell, ...], entry: Entry, seen: set[tuple[str, ...]]
) -> tuple[TableCell, ...]:
    """Mark trainings and timings that an earlier row shows too, such as one of another measurement."""
    timed = (str(entry.speed["key"]),) if entry.speed else ()
    parts = {("error",): tuple(str(run["key"]) for run in entry.runs), ("time", "memory"): timed}
    repeated = {kind for kinds, keys in parts.items() if keys in seen for kind in kinds}
    seen.update(keys for keys in parts.values() if keys)
    each = zip(cells, KINDS, strict=True)
    return tuple(replace(cell, note=AGAIN) if kind in repeated else cell for cell, kind in each)


def _facets(entry: Entry, facts: Facts) -> tuple[str, ...]:
    """Return the values that a row is filtered by."""
    arch, data = (name or paths.UNNAMED for name in entry.panel)
    words = metric(entry.runs).words if entry.runs else NOTHING
    return arch, data, entry.locality or paths.UNNAMED, _verdict(entry, facts).state, words


def _verdict(entry: Entry, facts: Facts) -> Verdict:
    """Return the verdict on the claim about bias."""
    return NOT_MEASURED if entry.measure is None else facts.verdicts[str(entry.measure["key"])]


def _cells(entry: Entry, facts: Facts, page_paths: PagePaths) -> tuple[TableCell, ...]:
    """Return the cells of one row, a cell for each of `HEAD`."""
    body = facts.body.get(str(entry.measure["key"]), {}) if entry.measure else {}
    variance = body.get("relative_variance")
    predicted = variance["predicted"] if variance else nan
    heavy = "heavy tail: intervals are not valid" if variance and variance["heavy_tail"] else ""
    theory = f"theory {number_cell(predicted).text}" if predicted == predicted else ""
    scale = facts.unscaled.get(str(entry.measure["key"])) if entry.measure else None
    aside = f"not comparable: scale {number_cell(scale, 2).text}" if scale is not None else ""
    failed = [row for row in (entry.measure, entry.speed) if row and row["status"] != "ok"]
    lost = "; ".join(f"{row['verb']} {row['status']}" for row in failed)
    lost = lost or (undefined(entry.measure) if entry.measure else "")
    arch, data = (name or paths.UNNAMED for name in entry.panel)
    verdict = _verdict(entry, facts)
    claimed = verdict.cell()
    if verdict.state == UNREJECTED:  # the cell of the bias states its test
        claimed = replace(claimed, note="")
    return (
        TableCell(entry.label, link=page_paths.methods.get(entry.method, ""), note=lost),
        TableCell(arch, link=page_paths.panels[entry.panel]),
        TableCell(data),
        _result(entry.runs),
        claimed,
        replace(
            stacked_cell(variance, aside, theory, heavy),
            incomparable=bool(aside) and variance is not None,
        ),
        stacked_cell(body.get("efficiency"), sign_note(body.get("efficiency"))),
        stacked_cell(verdict.bias, verdict.tested()),
        number_cell(cost(entry, facts)),
        *(ratio(entry.speed, name) for name in RATIOS),
        TableCell(entry.locality or NOTHING),
    )


def stacked_cell(numbers: Mapping[str, Any] | None, *notes: str) -> TableCell:
    r"""Return the cell of a number with its interval below it, which keeps columns narrow.

    Args:
        numbers: ``value low high``; None for an unknown number.
        notes: further lines below; empty ones are left out.

    Example:
        >>> stacked_cell({"value": 2.0, "low": 1.0, "high": 3.0}, "theory 2.1").note
        '[1, 3]\ntheory 2.1'
    """
    if numbers is None:
        return TableCell(NOTHING, nan)
    value, _, ends = interval(numbers).partition(" [")
    lines = (f"[{ends}" if ends else "", *notes)
    return TableCell(value, float(numbers["value"]), note="\n".join(filter(None, lines)))


def cost(entry: Entry, facts: Facts) -> float:
    """Return the cost of an estimate, else that of a training step, in forward passes of its batch.

    Args:
        entry: a row of the leaderboard.
        facts: records with their tables.

    Returns:
        The cost; NaN where no record states it.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> run = {"cost": {"forward_equivalents": 3.0}}
        >>> cost(Entry("BP", "BP", ("", ""), runs=[run]), facts(Records(Path("records"), (), {}, ())))
        3.0
    """
    body = facts.body.get(str(entry.measure["key"]), {}) if entry.measure else {}
    costs = [row["forwards"] for row in body.values()]
    costs += [part_of(run, "cost").get("forward_equivalents") for run in entry.runs]
    return next((value for one in costs if (value := number(one)["value"]) == value), nan)


def ratio(row: Mapping[str, Any] | None, name: str) -> TableCell:
    """Return the cell of a ratio to backprop.

    Args:
        row: a timing; None if there is none.
        name: one of `RATIOS`, or another number of the timing.

    Example:
        >>> ratio(None, "ratio_to_bp").text
        '–'
    """
    return stacked_cell(number(row[name]) if row is not None and name in row else None)


def metric(runs: Sequence[Mapping[str, Any]]) -> Shown:
    """Return the main metric of trainings; the error where there is none.

    Args:
        runs: trainings of one setting.

    Example:
        >>> metric([{"status": "ok", "test_error": 0.015}]).name
        'error'
    """
    return shared_metric(runs)


def _result(runs: Sequence[Mapping[str, Any]]) -> TableCell:
    """Return the cell of the main test metric, which is named where it is no error."""
    cell, shown = error(runs), metric(runs)
    if shown.name == ERROR.name or cell.text == NOTHING:
        return cell
    parts = [shown.words + ", more is better" * (shown.best == "high"), cell.note]
    return replace(cell, note="\n".join(filter(None, parts)))


def error(runs: Sequence[Mapping[str, Any]], split: str = "test") -> TableCell:
    """Return the cell of a mean over seeds: of the error in percent, or of the main metric.

    Args:
        runs: trainings of one setting.
        split: ``test`` or ``train``.

    Returns:
        The mean with its interval; the note has n and the number of runs that did not finish.

    Example:
        >>> error([{"status": "ok", "test_error": 0.015}]).text
        '1.5'
    """
    shown = metric(runs)
    name, factor = shown.field(split), shown.factor
    done = [number(run.get(name))["value"] * factor for run in runs if run["status"] == "ok"]
    values = pd.Series(done, dtype=float).dropna()
    lost: dict[str, int] = {}
    for run in runs:
        if run["status"] != "ok":
            lost[str(run["status"])] = lost.get(str(run["status"]), 0) + 1
    finished = [f"{len(values)} seed{'s' * (len(values) > 1)}"] if len(values) else []
    ended = [f"{n} {status}" for status, n in lost.items()]
    note = ", ".join([*finished, *ended])
    if values.empty:
        return TableCell(NOTHING, nan, note=note)
    signed = shown.best == "high" or bool(values.le(0).any() and factor == 1)
    mean = mean_interval(values, signed, shown.most)
    if mean["band"] == "range" and mean["low"] != mean["high"]:
        note = ", ".join([f"{RANGE} {finished[0]}", *ended])
    if mean["low"] == mean["high"]:  # one seed, or seeds that agree
        return TableCell(number_cell(mean["mean"]).text, float(mean["mean"]), note=note)
    return stacked_cell({**mean, "value": mean["mean"]}, note)
