"""Name what changed: data before weights before draws before estimates before trainings before intervals."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from math import log
from statistics import median
from typing import TYPE_CHECKING

from fgbench.runs.gate import finding as verdicts
from fgbench.runs.gate.changes import PRICES, ROUNDING
from fgbench.runs.gate.finding import Finding
from fgbench.runs.gate.suspects import blamed_by, suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from fgbench.runs.gate.changes import Change

NEAR = 1 / 20
"""Relative distance up to which step factors of several cells are one."""
LISTED = 3
"""Names that a row lists before it counts the others."""
UNDRAWN = ("digits", "mnist", "fashion_mnist", "cifar10", "synthetic")
"""Data sets without a random number of the package."""
MANY = 12
"""Localities from which a row gives their number alone."""
TOLD_APART = 4
"""Estimators up to which each has a row of its own."""


@dataclass(frozen=True)
class Row:
    """A finding of the first question, with the changes that it stands for.

    Args:
        finding: as it is shown.
        changes: of cells.

    Example:
        >>> Row(Finding("same", "draws", "all", "other numbers"), ()).finding.kind
        'draws'
    """

    finding: Finding
    changes: tuple[Change, ...]


def rows(
    changes: Sequence[Change], files: Sequence[str] = (), loaded: Collection[str] = ()
) -> list[Row]:
    """Name changes by their causes; what follows from a cause is counted and has no row of its own.

    Args:
        changes: of all cells.
        files: that differ between the trees.
        loaded: files that the probes imported.

    Returns:
        The rows, causes first.

    Example:
        >>> from fgbench.runs.gate.changes import changes as compared
        >>> cell = {"kind": "draws", "name": "d", "about": "sphere"}
        >>> one, other = ({**cell, "numbers": {"x": x}} for x in (1.0, 2.0))
        >>> [row.finding.where for row in rows(compared([one], [other]))]
        ['sphere']
    """
    left = list(changes)
    found: list[Row] = []
    for name in (
        _failed, _lost, _gone, _new, _rounding, _data, _weights, _draws, _statistics, _wrapped,
        _estimates, _prices, _trainings, _intervals,
    ):  # fmt: skip
        made, left = name(left)
        found += made
    found += [_row("estimate", change.cell.where, "other numbers", [change]) for change in left]
    moved = {name for change in changes for name in change.cell.method.split("/")} - {""}
    return [_with_suspects(row, files, loaded, moved) for row in found]


Step = tuple[list[Row], list["Change"]]


def _with_suspects(
    row: Row, files: Sequence[str], loaded: Collection[str], moved: Collection[str]
) -> Row:
    """Return a row with the files that may be its cause."""
    cells = [change.cell for change in row.changes]
    blamed = blamed_by([file for change in row.changes for file in change.files], files)
    named = blamed or suspects(row.finding.kind, cells, files, loaded, moved)
    return replace(row, finding=replace(row.finding, suspects=named))


def _row(
    kind: str,
    where: str,
    what: str,
    changes: Iterable[Change],
    *,
    verdict: str = verdicts.CHANGED,
    before: float | None = None,
    after: float | None = None,
    unit: str = "",
) -> Row:
    """Return a row of the first question."""
    finding = Finding("same", kind, where, what, before, after, unit, verdict=verdict)
    return Row(finding, tuple(changes))


def _split(
    changes: Iterable[Change], chosen: Callable[[Change], bool]
) -> tuple[list[Change], list[Change]]:
    """Return the changes that are chosen, and the others."""
    yes: list[Change] = []
    no: list[Change] = []
    for change in changes:
        (yes if chosen(change) else no).append(change)
    return yes, no


def _listed(names: Iterable[str], what: str = "") -> str:
    """Return a few names and the number of the others."""
    every = list(dict.fromkeys(names))
    if len(every) <= LISTED + 1:
        return ", ".join(every)
    return f"{', '.join(every[:LISTED])} and {len(every) - LISTED} more{' ' * bool(what)}{what}"


def _by_estimator(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Return changes by the estimator of their cells."""
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.cell.method.partition("/")[0] or change.cell.where].append(change)
    return dict(found)


def _failed(changes: list[Change]) -> Step:
    """Name cells whose code raises in the second tree alone."""
    mine, others = _split(changes, lambda change: change.how == "failed")
    by_reason: dict[str, list[Change]] = defaultdict(list)
    for change in mine:
        by_reason[change.reason].append(change)
    return [
        _row("failed", _where(group), reason, group, verdict=verdicts.FAILED)
        for reason, group in by_reason.items()
    ], others


def _lost(changes: list[Change]) -> Step:
    """Name cells with numbers that are none in the second tree."""
    mine, others = _split(changes, lambda change: change.how == "nan")
    what = "a number became NaN"
    return [
        _row(change.cell.kind, change.cell.where, what, [change], verdict=verdicts.WORSE)
        for change in mine[:LISTED]
    ], others


def _gone(changes: list[Change]) -> Step:
    """Name cells that the second tree does not have."""
    mine, others = _split(changes, lambda change: change.how == "gone")
    if not mine:
        return [], others
    return [_row("n/a", _where(mine), f"no longer computed: {mine[0].reason}", mine)], others


def _new(changes: list[Change]) -> Step:
    """Name cells that the first tree does not have, or where its code raised."""
    mine, others = _split(changes, lambda change: change.how in ("new", "mended"))
    if not mine:
        return [], others
    mended = any(change.how == "mended" for change in mine)
    what = "raised before" if mended else "new: the first tree does not have it"
    return [_row("n/a", _where(mine), what, mine, verdict=verdicts.NOT_JUDGED)], others


def _rounding(changes: list[Change]) -> Step:
    """Name cells whose numbers differ by rounding alone."""
    mine, others = _split(changes, lambda change: change.rounding)
    if not mine:
        return [], others
    most = max(change.size for change in mine)
    what = (
        f"rounding alone: {len(mine)} cells differ by {most:.0e} or less"
        if most
        else "rounding alone"
    )
    return [_row(mine[0].cell.kind, _where(mine), what, mine, verdict=verdicts.SAME)], others


def _data(changes: list[Change]) -> Step:
    """Name data sets whose examples changed, and all that is computed on them.

    Splits and orders follow from draws that changed; pixels that no draw decides do not.

    Args:
        changes: of all cells that are left.

    Returns:
        The row, and the other changes.
    """
    drawn = any(change.cell.kind == "draws" for change in changes)
    mine, others = _split(
        changes,
        lambda change: (
            change.cell.kind == "data"
            and not (drawn and (change.cell.data not in UNDRAWN or change.cell.about))
        ),
    )
    if not mine:
        return [], others
    names = {change.cell.data for change in mine if change.cell.about != "splits"}
    follow, others = _split(others, lambda change: change.cell.data.partition("[")[0] in names)
    labels = [change.cell.data or change.cell.about for change in mine]
    moved = {path.partition(".")[0] for change in mine for path in change.paths}
    pixels = {"train_x", "test_x", "images"} & moved
    labelled = {"train_y", "test_y"} & moved
    what = (
        "inputs differ"
        if pixels and not labelled
        else "targets differ"
        if labelled and not pixels
        else "differ"
    )
    return [
        _row("data", _listed(labels, "data sets"), what + _following(follow), [*mine, *follow])
    ], others


def _following(follow: Sequence[Change]) -> str:
    """Return how many cells changed because of a cause."""
    return f"; {len(follow)} cell{'s follow' if len(follow) > 1 else ' follows'}" if follow else ""


def _weights(changes: list[Change]) -> Step:
    """Name architectures whose initial weights changed; where draws changed too they are the cause."""
    mine, others = _split(changes, lambda change: change.cell.kind == "weights")
    if not mine or any(change.cell.kind == "draws" for change in others):
        return [], changes
    archs = {change.cell.arch for change in mine}
    follow, others = _split(others, lambda change: change.cell.arch in archs)
    what = "other initial weights" + _following(follow)
    return [_row("weights", _listed(sorted(archs)), what, [*mine, *follow])], others


def _draws(changes: list[Change]) -> Step:
    """Name laws whose random numbers changed; every other number may follow from them."""
    mine, others = _split(changes, lambda change: change.cell.kind == "draws")
    if not mine:
        return [], others
    seeds = any(change.cell.about == "primitives" for change in mine)
    scales = [
        median(b / a for a, b in change.pairs("along") if a)
        for change in mine
        if change.paths and _one_ratio(change)
    ]
    what = (
        f"random numbers {scales[0]:.4g} times as large"
        if len(scales) == len(mine)
        else "other random numbers"
    )
    follow, others = _split(
        others,
        lambda change: (
            change.cell.kind != "intervals"
            and (seeds or bool(change.cell.method) or change.cell.wrapped)
        ),
    )
    where = "all laws" if seeds else _listed(change.cell.about for change in mine)
    return [_row("draws", where, what + _following(follow), [*mine, *follow])], others


def _one_ratio(change: Change) -> bool:
    """Return whether all numbers of a cell are multiplied by one factor."""
    ratios = [b / a for a, b in change.pairs("along") if a]
    return bool(ratios) and max(ratios) - min(ratios) <= 1e-9 * abs(max(ratios))


def _statistics(changes: list[Change]) -> Step:
    """Take measured numbers for intervals where statistics of fixed arrays changed and no estimate did.

    Quantiles decide more than the ends of intervals: whether a control variate is used, or a number resolved.

    Args:
        changes: of all cells that are left.

    Returns:
        No row, and the changes.
    """
    if not any(change.cell.kind == "intervals" and not change.cell.method for change in changes):
        return [], changes
    single = {_estimator(c) for c in changes if c.cell.kind == "estimate" and not _is_measured(c)}
    return [], [
        replace(change, cell=replace(change.cell, kind="intervals"))
        if change.cell.kind == "estimate"
        and _is_measured(change)
        and _estimator(change) not in single
        else change
        for change in changes
    ]


def _is_measured(change: Change) -> bool:
    """Return whether a cell has the statistics of draws, not a single estimate."""
    return change.cell.name.startswith("measure ")


def _estimator(change: Change) -> str:
    """Return the estimator of a cell."""
    return change.cell.method.partition("/")[0]


def _wrapped(changes: list[Change]) -> Step:
    """Name ordinary modules whose estimates changed; what an estimator changes elsewhere too goes with that.

    Args:
        changes: of all cells that are left.

    Returns:
        The row of the wrapping, and the other changes; those that go with an estimator have its METHOD.
    """
    mine, others = _split(changes, lambda change: change.cell.wrapped)
    elsewhere = {_estimator(c) for c in others if c.cell.kind in ("estimate", "ledger")}
    joined, own = _split(mine, lambda change: _on_wrapped(change) in elsewhere)
    others += [
        replace(change, cell=replace(change.cell, method=change.cell.about.partition(" ")[0]))
        for change in joined
    ]
    if not own:
        return [], others
    where = f"wrapped networks: {_listed(c.cell.arch.partition(' ')[2] for c in own)}"
    if all(change.cell.kind == "ledger" for change in own):
        before, after = _number(own[0], "ledger.forward_equivalents") or (None, None)
        price, unit = "another price in the ledger", "forward equivalents"
        return [_row("ledger", where, price, own, before=before, after=after, unit=unit)], others
    of = dict.fromkeys(name for change in own if (name := _on_wrapped(change)))
    scales = [change.ratio for change in own]
    known = [scale for scale in scales if scale is not None]
    if len(known) == len(scales) and max(known) - min(known) <= 1e-6:
        what = f"{_in_scale(known[0])} of {_listed(of)}"
        return [_row("scale", where, what, own, before=1.0, after=known[0], unit="scale")], others
    what = f"other estimates of {_listed(of)}" if of else "other sites or shapes"
    return [_row("estimate", where, what, own)], others


def of_true_mean(finding: Finding) -> str:
    """Return what a finding says where the mean is true: one factor on fixed noise is then no scale."""
    if finding.kind != "scale" or finding.after is None:
        return finding.what
    size = f"estimates {_digits(finding.after)} times as large on the same noise"
    return finding.what.replace(_in_scale(finding.after), size)


def _in_scale(factor: float) -> str:
    """Return the words for estimates that all moved by one factor."""
    return f"scale {_digits(factor)} of the gradient"


def _on_wrapped(change: Change) -> str:
    """Return the estimator of a cell of an ordinary module, "" where it has none."""
    estimator, slash, _ = change.cell.about.partition("/")
    return estimator if slash else ""


def _estimates(changes: list[Change]) -> Step:
    """Name methods whose estimates changed, with what follows in their trainings."""
    mine, others = _split(changes, lambda change: change.cell.kind == "estimate")
    if not mine:
        return [], others
    by = _by_estimator(mine)
    follow, others = _split(
        others,
        lambda change: (
            change.cell.kind in ("training", "intervals")
            and change.cell.method.partition("/")[0] in by
            and not change.cell.method.startswith("bp/")
        ),
    )
    if len(by) <= TOLD_APART:
        made = [
            _estimate_row(group, [c for c in follow if c.cell.method.startswith(f"{name}/")])
            for name, group in by.items()
        ]
    else:
        made = [_estimate_row(mine, follow)]
    return made, others


def _estimate_row(group: Sequence[Change], follow: Sequence[Change]) -> Row:
    """Return the row of estimates that changed together."""
    where, everything = _where(group), [*group, *follow]
    step = _step_factor(group)
    if step is not None:
        what = f"finite-difference step {step:.3g} times as long"
        return _row(
            "estimate",
            where,
            what + _following(follow),
            everything,
            before=1.0,
            after=step,
            unit="step",
        )
    scales = [change.ratio for change in group if change.cell.name.startswith("estimate")]
    known = [scale for scale in scales if scale is not None]
    if known and len(known) == len(scales) and max(known) - min(known) <= 1e-6:
        what = _in_scale(known[0])
        return _row(
            "scale",
            where,
            what + _following(follow),
            everything,
            before=1.0,
            after=known[0],
            unit="scale",
        )
    noise = [_number(change, "relative_variance.value") for change in group]
    pairs = [pair for pair in noise if pair is not None and pair[0] != pair[1]]
    if pairs:
        ratios = [b / a for a, b in pairs if a]
        what = (
            f"other estimates; relative variance {median(ratios):.3g} times"
            if ratios
            else "other estimates"
        )
        return _row(
            "estimate", where, what + _following(follow), everything,
            before=pairs[0][0], after=pairs[0][1], unit="relative variance",
        )  # fmt: skip
    what = "other estimates" + _following(follow)
    return _row("estimate", where, what, everything)


def _digits(scale: float) -> str:
    """Return a scale as tables show it, such as .9800."""
    return f"{scale:.4f}".removeprefix("0")


def _number(change: Change, path: str) -> tuple[float, float] | None:
    """Return a number before and after, None where it is missing."""
    one, other = change.before.get(path), change.after.get(path)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one), float(other)
    return None


def _step_factor(group: Sequence[Change]) -> float | None:
    """Return the factor of the finite-difference step of one estimator; None where that is not what changed.

    With error c ε^p the estimates at ε, 4 ε and 16 ε give 4^p before, and their differences after over before
    the p-th power of the factor.
    """
    cells = {change.cell.name: change for change in group}
    names = [name for name in cells if name.startswith("step ")]
    estimators = {name.split()[1] for name in names}
    if len(estimators) != 1 or len(_by_estimator(group)) != 1:
        return None
    (estimator,) = estimators
    at_1 = [
        c for n, c in cells.items() if n.startswith(f"estimate {estimator}/end on ") and c.cell.arch
    ]
    at_4, at_16 = (cells.get(f"step {estimator} times {k}") for k in (4, 16))
    if not at_1 or at_4 is None or at_16 is None:
        return None
    first = next((c for c in at_1 if c.cell.arch == at_4.cell.arch), None)
    if first is None:
        return None
    found = []
    for path in first.paths:
        if not (path.startswith("body") and path.endswith("along")):
            continue
        pairs = [_number(change, path) for change in (first, at_4, at_16)]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            continue
        (a, d), (b, e), (c, _) = known
        if abs(d * b - e * a) <= ROUNDING * abs(d * b):
            continue  # one factor of all steps is a scale
        if b == a or c == b or (c - b) / (b - a) <= 1 or (e - d) / (b - a) <= 0:
            continue
        power = log((c - b) / (b - a)) / log(4.0)
        found.append(((e - d) / (b - a)) ** (1 / power))
    if not found:
        return None
    middle = median(found)
    near = sum(abs(each / middle - 1) < NEAR for each in found) >= 0.6 * len(found)
    return middle if near and abs(middle - 1) > 0.01 else None


def _prices(changes: list[Change]) -> Step:
    """Name methods whose price in the ledger changed, or rose together with their numbers."""
    mine, others = _split(changes, lambda change: change.cell.kind == "ledger")
    made = []
    for group in _grouped(mine):
        pair = next(
            (p for c in group for n in PRICES if (p := _number(c, n))),
            (None, None),
        )
        made.append(
            _row(
                "ledger",
                _where(group),
                "another price in the ledger",
                group,
                before=pair[0],
                after=pair[1],
                unit="forward equivalents",
            )
        )
    return made, others


def _grouped(changes: Sequence[Change]) -> list[list[Change]]:
    """Return changes by estimator, all together where they are many."""
    by = _by_estimator(changes)
    if not by:
        return []
    return list(by.values()) if len(by) <= TOLD_APART else [list(changes)]


UNSPECIFIC = ("plain", "method", "recipe", "update")


def _trainings(changes: list[Change]) -> Step:
    """Name what of a training changed, by which of its variants moved."""
    mine, others = _split(changes, lambda change: change.cell.kind == "training")
    if not mine:
        return [], others
    abouts = [change.cell.about for change in mine]
    kinds = list(dict.fromkeys(about.split()[0] for about in abouts))
    special = [kind for kind in kinds if kind not in UNSPECIFIC]
    if "plain" in abouts:
        still = [name for name in ("optimizer adam", "optimizer rmsprop") if name not in abouts]
        where = "optimizer sgd" if still else "every training"
    elif special and len(special) <= LISTED:
        where = ", ".join(_variant(kind, abouts) for kind in special)
    elif special:
        where = f"{len(special)} settings of a recipe"
    else:
        where = _where(mine)
    of_these = [
        c for c in mine if not special or "plain" in abouts or c.cell.about.split()[0] in special
    ]
    steps = [step for change in of_these if (step := change.first_step) is not None]
    when = f"losses differ from step {min(steps)} on" if steps else "other losses"
    return [_row("training", where, f"{when}, {len(mine)} trainings", mine)], others


def _variant(kind: str, abouts: Sequence[str]) -> str:
    """Return a setting of a recipe with the values that moved."""
    values = [about.partition(" ")[2] for about in abouts if about.split()[0] == kind]
    shown = {"decay": "weight decay", "rate": "learning rate", "order": "order of batches"}.get(
        kind, kind
    )
    values = [value for value in values if value and kind != "order"]
    return f"{shown} ({_listed(values)})" if values else shown


def _intervals(changes: list[Change]) -> Step:
    """Name intervals that changed where the numbers inside did not."""
    mine, others = _split(changes, lambda change: change.cell.kind == "intervals")
    if not mine:
        return [], others
    fixed, measured = _split(mine, lambda change: not change.cell.method)
    widths = [width for change in mine if (width := change.width) is not None]
    width = median(widths) if widths else None
    narrow = width is not None and abs(width - 1) > 1e-6
    what = f"intervals {width:.2g} times as wide" if narrow else "other intervals or p-values"
    where = _listed((change.cell.about for change in fixed), "statistics") or _where(measured)
    return [
        _row(
            "intervals",
            where,
            what + _following(measured if fixed else []),
            mine,
            before=1.0 if narrow else None,
            after=width if narrow else None,
            unit="width" * narrow,
        )
    ], others


def _where(changes: Sequence[Change]) -> str:
    """Return what a group of cells has in common: estimators, localities, networks."""
    cells = [change.cell for change in changes]
    if not any(cell.method for cell in cells):
        return _listed(cell.where for cell in cells)
    estimators = [cell.method.partition("/")[0] for cell in cells if cell.method]
    localities = dict.fromkeys(cell.method.partition("/")[2] for cell in cells if cell.method)
    archs = dict.fromkeys(re.sub(r"\[.*", "", cell.arch) for cell in cells if cell.arch)
    parts = [_listed(estimators, "estimators")]
    many = len(localities) > MANY
    parts.append(f"{len(localities)} localities" if many else _listed(localities, "localities"))
    parts += [_listed(archs)] if len(archs) == 1 else []
    return ", ".join(part for part in parts if part)
