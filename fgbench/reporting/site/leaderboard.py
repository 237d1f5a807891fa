"""The leaderboard: what is known of each method on an architecture and its data, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import pandas as pd

from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import VERBS, number
from fgbench.reporting.frames.method_names import natural
from fgbench.reporting.frames.seed_means import WHOLE, mean_interval
from fgbench.reporting.frames.settings import apart, directions_of, form_of, named, read_form
from fgbench.reporting.site import paths
from fgbench.reporting.site.claims import UNREJECTED, UNTESTED, Verdict
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.paths import Panel, Places, panel_of
from fgbench.reporting.site.table import MEAN, NOTHING, Cell, Row, Table, interval, plain
from fgbench.stats.reporting import undefined

RATIOS = ("ratio_to_bp", "peak_ratio_to_bp")
UNTOLD = Verdict("", UNTESTED, "never measured")
HEAD = (
    *("method", "architecture", "data", "test error (%)", "claims", "relative variance"),
    *("efficiency", "bias", "cost (forwards)", "step time / BP", "peak memory / BP", "locality"),
)
KINDS = (  # a name for each column, in the same order
    *("method", "arch", "data", "error", "claims", "variance"),
    *("efficiency", "bias", "cost", "time", "memory", "locality"),
)
AGAIN = "same runs"
FACETS = ("arch", "data", "locality", "claims")
CAPTION = f"[95 % intervals]; {NOTHING}: not known. The name of a method leads to its page."
LEGEND = (
    f"Test error: {MEAN[0].lower()}{MEAN[1:]}. "
    "Relative variance, efficiency and bias: of the estimate against the gradient of the method's own "
    "objectives, whole body; intervals of the first two rest on draws at one point, on batches "
    "of one network, of which alone they speak, or on networks, and that of bias, like its test, on draws. "
    "Cost: of one estimate, in forward passes of its batch. Step time and peak memory: over those of "
    "PyTorch's backprop of the same model in the same run; BP is the same gradient by a step of fgbench. "
    "Claims: of bias, and what came of them; p-values are adjusted by Holm over all measurements here."
)


@dataclass
class Entry:
    """A method with its settings on an architecture and its data.

    Args:
        method: its name.
        label: its name with the settings that tell it from its others.
        panel: architecture and data.
        locality: of the method.
        runs: its trainings, one per seed.
        measure: its measurement.
        speed: its timing.
    """

    method: str
    label: str
    panel: Panel
    locality: str = ""
    runs: Sequence[dict[str, Any]] = field(default_factory=list)
    measure: dict[str, Any] | None = None
    speed: dict[str, Any] | None = None


def entries(found: Facts) -> list[Entry]:
    """Set side by side what is of one method in one form with as many directions, architecture and data.

    A verb with one setting of it there stands in each of its rows; one with several has a row for each,
    since numbers of several settings are never pooled. Trainings under several seeds are one setting.

    Args:
        found: of `fgbench.reporting.site.facts.facts`.

    Returns:
        Rows by architecture and data, then in the usual order of methods.
    """
    groups: dict[tuple[Panel, str, float, str], dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for verb in VERBS:
        for row in found.of[verb]:
            one = panel_of(row), str(row["method"]), directions_of(row), form_of(row)
            group = groups.setdefault(one, {})
            group.setdefault(verb, {}).setdefault(str(row["label"]), []).append(row)
    rank = {method: at for at, method in enumerate(ordering.order(g[1] for g in groups))}
    first = {panel: at for at, panel in enumerate(found.panels)}
    ones = sorted(groups, key=lambda g: (first[g[0]], rank[g[1]], *g[2:]))
    told = apart([one[:3] for one in ones], [read_form(one[3]) for one in ones])
    return [
        entry
        for one, parts in zip(ones, told, strict=True)
        for entry in _entries(one[1], one[0], groups[one], parts)
    ]


def _entries(
    method: str,
    panel: Panel,
    verbs: Mapping[str, Mapping[str, list[dict[str, Any]]]],
    told: Sequence[str],
) -> Iterable[Entry]:
    """Make the rows of one method in one panel, with what tells its form from others there."""
    parts = {
        verb: dict(labels) if verb == "train" else _apart(labels) for verb, labels in verbs.items()
    }
    several = sorted({n for part in parts.values() if len(part) > 1 for n in part}, key=natural)
    first = next(row for part in parts.values() for rows in part.values() for row in rows)
    for label in several or [", ".join([named(first), *told])]:
        mine = {
            verb: part.get(label, []) if len(part) > 1 else next(iter(part.values()))
            for verb, part in parts.items()
        }
        one = {verb: next(iter(mine.get(verb, [])), None) for verb in ("measure", "speed")}
        yield Entry(method, label, panel, str(first["locality"]), mine.get("train", []), **one)


def _apart(labels: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Name measurements of one setting by their seeds, where there are several."""
    return {
        f"{label}, seed {row['seed']}" if len(rows) > 1 else label: [row]
        for label, rows in labels.items()
        for row in rows
    }


def board(
    name: str, rows: Sequence[Entry], found: Facts, places: Places, panel: Panel | None = None
) -> Table:
    """Make the leaderboard, without columns of which nothing is known in any row.

    Args:
        name: of the table's element.
        rows: of `entries`.
        found: of `fgbench.reporting.site.facts.facts`.
        places: where pages lie.
        panel: shown on the page of one architecture and data, which need no columns then.

    Returns:
        A table that can be filtered.
    """
    seen: set[tuple[str, ...]] = set()
    made = [
        (_again(_cells(entry, found, places), entry, seen), _facets(entry, found)) for entry in rows
    ]
    aside = set(FACETS[:2]) if panel is not None else set()
    aside |= set() if any(entry.measure for entry in rows) else {"claims"}
    told = {"method"} | {
        kind
        for at, kind in enumerate(KINDS)
        if any(cells[at].text != NOTHING or cells[at].note for cells, _ in made)
    }
    left = [at for at, kind in enumerate(KINDS) if kind in told - aside]
    kept = [at for at, kind in enumerate(FACETS) if kind not in aside]
    return Table(
        name,
        CAPTION,
        tuple(HEAD[at] for at in left),
        tuple(
            Row(tuple(cells[at] for at in left), tuple(values[at] for at in kept))
            for cells, values in made
        ),
        search="method",
        facets=tuple({"arch": "architecture"}.get(FACETS[at], FACETS[at]) for at in kept),
        kinds=tuple(KINDS[at] for at in left),
        legend=LEGEND,
    )


def _again(cells: tuple[Cell, ...], entry: Entry, seen: set[tuple[str, ...]]) -> tuple[Cell, ...]:
    """Say of trainings and timings that an earlier row has them too, such as one of another measurement."""
    timed = (str(entry.speed["key"]),) if entry.speed else ()
    parts = {("error",): tuple(str(run["key"]) for run in entry.runs), ("time", "memory"): timed}
    told = {kind for kinds, keys in parts.items() if keys in seen for kind in kinds}
    seen.update(keys for keys in parts.values() if keys)
    each = zip(cells, KINDS, strict=True)
    return tuple(replace(cell, note=AGAIN) if kind in told else cell for cell, kind in each)


def _facets(entry: Entry, found: Facts) -> tuple[str, ...]:
    """Give what a row is filtered by."""
    arch, data = (name or paths.UNNAMED for name in entry.panel)
    return arch, data, entry.locality or paths.UNNAMED, _verdict(entry, found).state


def _verdict(entry: Entry, found: Facts) -> Verdict:
    """Look up what came of the claims."""
    return UNTOLD if entry.measure is None else found.verdicts[str(entry.measure["key"])]


def _cells(entry: Entry, found: Facts, places: Places) -> tuple[Cell, ...]:
    """Write one row."""
    body = found.body.get(str(entry.measure["key"]), {}) if entry.measure else {}
    variance = body.get("relative_variance")
    predicted = variance["predicted"] if variance else nan
    heavy = "heavy tail: no interval is right" if variance and variance["heavy_tail"] else ""
    theory = f"theory {plain(predicted).text}" if predicted == predicted else ""
    failed = [row for row in (entry.measure, entry.speed) if row and row["status"] != "ok"]
    lost = "; ".join(f"{row['verb']} {row['status']}" for row in failed)
    lost = lost or (undefined(entry.measure) if entry.measure else "")
    arch, data = (name or paths.UNNAMED for name in entry.panel)
    verdict = _verdict(entry, found)
    claimed = verdict.cell()
    if verdict.state == UNREJECTED:  # by a test that the bias tells of
        claimed = replace(claimed, note="")
    price = next((row["forwards"] for row in body.values()), nan)
    return (
        Cell(entry.label, link=places.methods.get(entry.method, ""), note=lost),
        Cell(arch, link=places.panels[entry.panel]),
        Cell(data),
        error(entry.runs),
        claimed,
        stacked(variance, theory, heavy),
        stacked(body.get("efficiency")),
        stacked(verdict.bias, verdict.tested()),
        plain(price if price == price else _price(entry.runs)),
        *(ratio(entry.speed, name) for name in RATIOS),
        Cell(entry.locality or NOTHING),
    )


def stacked(numbers: Mapping[str, Any] | None, *notes: str) -> Cell:
    """Make the cell of a number with its interval beneath it, which keeps columns narrow."""
    if numbers is None:
        return Cell(NOTHING, nan)
    value, _, ends = interval(numbers).partition(" [")
    told = (f"[{ends}" if ends else "", *notes)
    return Cell(value, float(numbers["value"]), note="\n".join(part for part in told if part))


def _price(runs: Sequence[Mapping[str, Any]]) -> float:
    """Read what a step of training costs, in forward equivalents."""
    costs = (run["cost"].get("forward_equivalents") for run in runs if _is_map(run.get("cost")))
    return next((number(cost)["value"] for cost in costs), nan)


def _is_map(value: object) -> bool:
    """Say whether something a record holds is a mapping."""
    return isinstance(value, Mapping)


def ratio(row: Mapping[str, Any] | None, name: str) -> Cell:
    """Make the cell of a cost of a timing."""
    return stacked(number(row[name]) if row is not None and name in row else None)


def error(runs: Sequence[Mapping[str, Any]], name: str = "test_error") -> Cell:
    """Make the cell of a mean error in percent over seeds, with what became of the other runs.

    Args:
        runs: trainings of one setting.
        name: of the error.

    Returns:
        The mean with its interval; n and the runs that did not finish are its note.
    """
    done = [number(run.get(name))["value"] * 100 for run in runs if run["status"] == "ok"]
    values = pd.Series(done, dtype=float).dropna()
    lost: dict[str, int] = {}
    for run in runs:
        if run["status"] != "ok":
            lost[str(run["status"])] = lost.get(str(run["status"]), 0) + 1
    said = [f"{len(values)} seed{'s' * (len(values) > 1)}"] if len(values) else []
    note = ", ".join([*said, *(f"{n} {status}" for status, n in lost.items())])
    if values.empty:
        return Cell(NOTHING, nan, note=note)
    mean = mean_interval(values, most=WHOLE)
    if mean["low"] == mean["high"]:  # one seed, or seeds that agree
        return Cell(plain(mean["mean"]).text, float(mean["mean"]), note=note)
    return stacked({**mean, "value": mean["mean"]}, note)
