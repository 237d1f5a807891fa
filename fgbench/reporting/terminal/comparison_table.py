"""Tables of methods beside a reference: differences of test results with their tests and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.records.metrics import Shown, shared_metric
from fgbench.reporting.terminal.notes import grouped
from fgbench.reporting.terminal.table import make, network_on_data
from fgbench.stats.paired_seeds import seed_mean
from fgbench.stats.reporting import number, points, undecided, verdict_cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fgbench.reporting.terminal.table import StackingTable

    Record = Mapping[str, Any]

EQUAL = {
    "forwards": "equal forward equivalents",
    "epochs": "equal epochs",
    "seconds": "equal seconds",
}
NO_GRADIENT = {
    "rule": "a training rule that estimates no gradient: it has no bias and no variance to measure",
    "step": "estimates a step and no gradient: it has no bias and no variance to measure",
}


def of_trainings(records: Sequence[Record]) -> StackingTable:
    """Return the table of trained methods beside a reference.

    Args:
        records: of ``train``, with the field ``against`` of
            :func:`fgbench.runs.against.trained_against`.

    Returns:
        The table, a row per method.

    Example:
        >>> run = {"method": "BP", "arch": "mlp-1x8", "data": "digits", "seed": 0, "status": "ok"}
        >>> own = {"method": "BP", "own": True, "diverged": 0}
        >>> of_trainings([{**run, "test_error": 0.1, "against": own}]).rows[0][-1]
        'reference'
    """
    methods: dict[str, list[Record]] = {}
    for record in records:
        methods.setdefault(str(record["method"]), []).append(record)
    metric = _metric(records)
    shown = [(name, runs[0]["against"], _mean(runs, metric)) for name, runs in methods.items()]
    table = make(
        f"Against {records[0]['against']['method']}, {network_on_data(records[0])}",
        ["method", metric.heading("test"), _difference(metric), "p (Holm)", "verdict"],
        "Each method by its own recipe or as given, which may differ in length: fgbench compare gives all "
        f"the same budget. {_caption([about for _, about, _ in shown], metric)}",
    )
    for name, about, mean in shown:
        table.add_row(name, number(_scaled(mean, metric.factor)), *_tested(about, metric))
    return table


def of_comparison(records: Sequence[Record]) -> list[StackingTable | str]:
    """Return the tables of a comparison, one for each thing that all methods spend equally, and notes.

    Args:
        records: of ``compare``, one per method.

    Returns:
        Tables and lines.

    Example:
        >>> record = {"method": "BP", "arch": "mlp-1x8", "data": "digits", "status": "skipped"}
        >>> of_comparison([{**record, "reason": "too large", "results": [], "tuned": {}}])
        ['BP skipped: too large']
    """
    parts: list[StackingTable | str] = [
        _at(records, kind) for kind in EQUAL if any(_result(r, kind) for r in records)
    ]
    return [*parts, *comparison_notes(records)]


def _at(records: Sequence[Record], kind: str) -> StackingTable:
    """Return the table of one kind of equal budget."""
    metric = _metric(records)
    shown = [(r, result) for r in records if (result := _result(r, kind))]
    ended = [result["against"] for _, result in shown]
    settings = shown[0][0]["settings"]
    table = make(
        f"Compared at {EQUAL[kind]}, {network_on_data(shown[0][0])}",
        [
            "method",
            metric.heading("test"),
            _difference(metric),
            "p (Holm)",
            "verdict",
            "lr",
            "forwards",
            "epochs",
            "seconds",
        ],
        f"Mean of {settings['seeds']} fresh seeds with its 95 % interval; learning rates chosen on "
        f"{settings['held_out']} held-out training examples. forwards: forward equivalents per training "
        "example; seconds: of the training of one run without evaluation, by the wall clock of its machine "
        f"and beside other runs, median of the seeds. {_caption(ended, metric)}{_paced(kind)}",
    )
    for record, result in shown:
        mark = "*" * bool(result["lowered"])
        table.add_row(
            str(record["method"]), number(_scaled(result["test"], metric.factor)),
            *_tested(result["against"], metric), f"{result['lr']:.3g}{mark}",
            f"{result['forwards']:.3g}", f"{result['epochs']:.3g}", f"{result['seconds']:.3g}",
        )  # fmt: skip
    return table


def _paced(kind: str) -> str:
    """Return how lengths of equal seconds come about, for the caption of their table."""
    if kind != "seconds":
        return ""
    return (
        " Lengths are steps, planned from the fastest tuning run of each method, so that a result depends on "
        "no clock: on a busy machine the seconds that runs took are not equal."
    )


def comparison_notes(records: Sequence[Record]) -> list[str]:
    """Return the lines below a comparison: what was widened or lowered, and what is undecided and why.

    Args:
        records: of ``compare``.

    Returns:
        Lines.

    Example:
        >>> record = {"method": "BP", "status": "ok", "reason": "", "results": []}
        >>> print(*comparison_notes([{**record, "tuned": {"edge": "upper", "lr": 0.5, "rates": [0.1, 0.5]}}]))
        BP: the best rate 0.5 is the highest of those tried; a better one may lie beyond
    """
    notes: list[tuple[str, str]] = []
    for record in records:
        name, tuned = str(record["method"]), record.get("tuned") or {}
        if record["status"] != "ok":
            notes.append((f"{name} {record['status']}", str(record["reason"])))
        if tuned.get("widened"):
            notes.append(
                (
                    name,
                    f"the best rate was at the {tuned['widened']} end of the range, which was widened",
                )
            )
        if tuned.get("edge"):
            which = "highest" if tuned["edge"] == "upper" else "lowest"
            notes.append(
                (
                    name,
                    f"the best rate {tuned['lr']:.3g} is the {which} of those tried; a better one may lie "
                    "beyond",
                )
            )
        if tuned.get("diverged"):
            runs = f"{tuned['diverged']} of {tuned['runs']} tuning runs diverged"
            notes.append((name, f"{runs}, and count against its budget"))
        remarks: dict[str, list[str]] = {}
        for result in record.get("results") or ():
            for line in _remarks(result, tuned):
                remarks.setdefault(line, []).append(EQUAL[result["at"]].removeprefix("equal "))
        notes += [(f"{name} at equal {_listed(kinds)}", line) for line, kinds in remarks.items()]
        if record.get("kind") in NO_GRADIENT:
            notes.append((name, NO_GRADIENT[record["kind"]]))
    return [f"{names}: {note}" for names, note in grouped(notes)]


def _listed(parts: Sequence[str]) -> str:
    """Join texts by commas and a last "and"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _remarks(result: Record, tuned: Record) -> list[str]:
    """Return what is to be said of a result: a lower rate, runs that diverged, and an open verdict."""
    lines = []
    about = result["against"]
    if result["lowered"]:
        lines.append(
            f"the rate {tuned.get('lr'):.3g} chosen in tuning diverged in the long run; trained at "
            f"{result['lr']:.3g} (*)"
        )
    if about.get("diverged"):
        lines.append(
            f"{about['diverged']} of {len(result['values'])} runs diverged, and count as chance"
        )
    if about.get("reason"):
        lines.append(str(about["reason"]))
    if open_ := undecided(about):
        lines.append(f"undecided: {open_}")
    return lines


def _result(record: Record, kind: str) -> Record | None:
    """Return the result of a record at one kind of equal budget, None where it has none."""
    return next((r for r in record.get("results") or () if r["at"] == kind), None)


def _metric(records: Sequence[Record]) -> Shown:
    """Return the main metric of records, as one that finished states it."""
    return shared_metric(records)


def _mean(runs: Sequence[Record], metric: Shown) -> dict[str, Any] | None:
    """Return the mean of the finished runs with its interval."""
    values = [r[metric.field()] for r in runs if r["status"] == "ok"]
    return seed_mean(values).json() if values else None


def _scaled(found: Mapping[str, Any] | None, factor: float) -> dict[str, Any] | None:
    """Return a number in the unit in which it is shown."""
    if found is None:
        return None
    ends = {name: found.get(name) for name in ("value", "low", "high")}
    return {name: None if end is None else factor * end for name, end in ends.items()}


def _difference(metric: Shown) -> str:
    """Return the head of the column of differences."""
    return "difference, points" if metric.factor != 1.0 else "difference"


def _tested(about: Record, metric: Shown) -> list[str]:
    """Return the cells of a comparison: difference, adjusted p and verdict."""
    p = about.get("holm_p")
    signed = metric.sign * metric.factor
    cells = points(_upward(about, signed), abs(signed))
    return [cells, "-" if p is None else f"{p:.2g}", verdict_cell(about)]


def _upward(about: Record, signed: float) -> Record:
    """Return a difference of a metric as it is; tests count those in which more is better negatively."""
    if signed > 0 or about.get("value") is None:
        return about
    return {**about, "value": -about["value"], "low": -about["high"], "high": -about["low"]}


def _caption(ended: Sequence[Record], metric: Shown) -> str:
    """Return what the columns of a comparison mean, with the margin and the least that was established."""
    tested = [about for about in ended if about.get("verdict")]
    if not tested:
        return ""
    first = tested[0]
    unit = " points" if metric.factor != 1.0 else ""
    examples = (
        f", {first['examples']} test examples counted as sampled" if first["examples"] else ""
    )
    smallest = max(about["smallest_margin"] for about in tested) * metric.factor
    margin = f"{first['margin'] * metric.factor:.3g}{unit}"
    many = f"{first['comparisons']} comparison{'s' * (first['comparisons'] > 1)}"
    return (
        f"Difference from {first['method']} over {first['n']} paired seeds, with its 95 % interval"
        f"{examples}; p: the larger one of sign flips and t, adjusted for {many}; equivalent: two one-sided "
        f"tests against a margin of {margin} (all would be equivalent with {smallest:.3g})."
    )


def training_notes(records: Sequence[Record]) -> list[str]:
    """Return the lines below trainings beside a reference: which are undecided, and why.

    Args:
        records: as of :func:`of_trainings`.

    Returns:
        Lines.

    Example:
        >>> about = {"verdict": "", "reason": "paired tests need 2 shared seeds, and 1 and 1 runs ended"}
        >>> training_notes([{"method": "FG-A", "against": about}])
        ['FG-A: paired tests need 2 shared seeds, and 1 and 1 runs ended']
    """
    methods = {str(r["method"]): r["against"] for r in records}
    notes = []
    for name, about in methods.items():
        if about.get("reason"):
            notes.append((name, str(about["reason"])))
        if open_ := undecided(about):
            notes.append((name, f"undecided: {open_}"))
        if about.get("diverged"):
            notes.append((name, f"{about['diverged']} runs diverged, and count as chance"))
    return [f"{names}: {note}" for names, note in grouped(notes)]
