"""Question 3: is the second tree worse, or better, where it changed and is true?

Noise of estimates and test errors of trainings are compared over ten paired seeds; what ten show is confirmed
by ten fresh ones. Less noise counts only where bias and scale are true and no other than before: a biased
estimate is easily less noisy. A lower error counts only where the estimates changed: a schedule that comes
late may train better for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log
from typing import TYPE_CHECKING, Any

from fgbench.runs.gate.answers import Replies
from fgbench.runs.gate.finding import (
    BETTER,
    CHANGED,
    FAILED,
    NOT_JUDGED,
    SAME,
    WORSE,
    Cell,
    Finding,
)
from fgbench.runs.gate.true import place
from fgbench.stats import paired_seeds, replicates
from fgbench.stats.intervals import ROUNDING, t_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fgbench.runs.gate.answers import Store
    from fgbench.runs.gate.side import Side
    from fgbench.stats.intervals import Number

PROBE = "seeds"
SEEDS = 10
"""Paired seeds of a first look, and of its confirmation."""
FIRST, BOTH = 0.05, 5e-4
"""One-sided levels of the first ten, and of all twenty: a false alarm in 4.4e-4 of numbers."""
MATTERS = 0.01
"""Relative change of noise from which it is worse or better; below it has changed."""
EQUAL = 1e-9
"""Relative difference up to which two numbers are the same but for rounding."""
NAMES = {"noise": "noise", "training": "test errors"}
UNSURE = {
    "noise": "bias and scale are not known to be true",
    "training": "the same recipe trains otherwise",
}
"""Why a change for the better is none."""
SECONDS = {"measure": 40.0, "train": 30.0}
"""CPU seconds of both trees in which comparisons may begin."""


@dataclass(frozen=True)
class Pairs:
    """A number of both trees for the same seeds.

    Args:
        before: one per seed, None where it is not finite.
        after: the same seeds in the second tree.

    Example:
        >>> Pairs((1.0,), (1.1,)).and_(Pairs((2.0,), (2.1,))).after
        (1.1, 2.1)
    """

    before: tuple[float | None, ...]
    after: tuple[float | None, ...]

    def and_(self, more: Pairs) -> Pairs:
        """Return these pairs and others.

        Args:
            more: of other seeds.
        """
        return Pairs((*self.before, *more.before), (*self.after, *more.after))


@dataclass(frozen=True)
class Compared:
    """A change over paired seeds.

    Args:
        change: ratio of noise, or difference of errors, with its 95 % interval.
        worse: one-sided p-value of no change for the worse.
        better: one-sided p-value of no change for the better.
        equal: whether all pairs are the same but for rounding.
        matters: whether the change is large enough to count.

    Example:
        >>> compared("noise", Pairs((1.0, 2.0, 3.0), (2.0, 4.0, 6.0))).change.value
        2.0
    """

    change: Number
    worse: float
    better: float
    equal: bool
    matters: bool


@dataclass(frozen=True)
class Judged:
    """The judgement of one comparison.

    Args:
        verdict: one of the verdicts of a finding.
        what: one short sentence.
        before: mean of the first tree, the geometric one of noise.
        after: mean of the second.
        change: ratio or difference; None where there is none.
        size: of the change; of several alike the largest is shown.

    Example:
        >>> Judged(SAME, "equal to rounding").change is None
        True
    """

    verdict: str
    what: str
    before: float | None = None
    after: float | None = None
    change: Number | None = None
    size: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """A comparison to be made, and the exact cells that it stands for.

    Args:
        kind: ``noise`` of estimates or ``training``.
        request: the cell of the probe.
        cells: exact cells.
        true: whether bias and scale are known to be what they should be in the second tree; of a training,
            whether its estimates changed: where they did not, the same recipe trains otherwise, which is
            never better.

    Example:
        >>> Comparison("noise", {"method": "fg_w/end"}, (), True).estimator
        'fg_w'
    """

    kind: str
    request: Mapping[str, Any]
    cells: tuple[Cell, ...]
    true: bool

    @property
    def estimator(self) -> str:
        """The estimator's name."""
        return estimator_of(self.request["method"])


def ask(
    a: Side,
    b: Side,
    changed: Sequence[Cell],
    judged: Sequence[Finding],
    *,
    tell: Callable[[str], None],
    store: Store | None = None,
) -> list[Finding]:
    """Compare both trees over paired inits and seeds, and confirm with fresh ones.

    Args:
        a: the tree before.
        b: the tree after.
        changed: exact cells whose numbers are not the same in both.
        judged: what questions 1 and 2 found; what is untrue is never better.
        tell: called with a line of progress now and then.
        store: where answers are kept; kept ones are not computed again.

    Returns:
        The findings.

    Raises:
        ProbeError: the probe does not run in one of the trees.
    """
    planned = plan(changed, judged)
    if not planned:
        return []
    found: list[tuple[Comparison, Judged]] = []
    with Replies(a, PROBE, store) as one, Replies(b, PROBE, store) as two:
        for verb, seconds in SECONDS.items():
            mine = [each for each in planned if each.request["verb"] == verb]
            if mine:
                tell(f"worse: {len(mine)} {'trainings' if verb == 'train' else 'noise levels'}")
            spent = 0.0
            for each in mine:
                if spent > seconds:
                    break
                judgement, cpu = _compare(each, one, two)
                found.append((each, judgement))
                spent += cpu
    return findings(found, planned)


def plan(changed: Iterable[Cell], judged: Sequence[Finding]) -> list[Comparison]:
    """Return what is compared: estimates and trainings that changed and are not untrue.

    Every estimator has its first comparison before any has its second. The one that changed in most places
    begins: wrappers change with the estimator they wrap, and cost more.

    Args:
        changed: exact cells.
        judged: what questions 1 and 2 found.

    Returns:
        The comparisons.

    Example:
        >>> cells = [Cell("estimate", method, method, "mlp-2x6") for method in ("fg_w/end", "np/end")]
        >>> untrue = Finding("true", "scale", "fg_w", "scale .98", verdict=WORSE, cells=(cells[0],))
        >>> [comparison.request["method"] for comparison in plan(cells, [untrue])]
        ['np/end']
    """
    about = [finding for finding in judged if finding.question == "true"]
    untrue = {
        estimator_of(cell.method) for f in about if f.verdict in (WORSE, FAILED) for cell in f.cells
    }
    laws = any(f.verdict == WORSE and f.kind == "draws" for f in about)
    doubted = {cell for f in about if f.verdict in (CHANGED, NOT_JUDGED, SAME) for cell in f.cells}
    changed = list(changed)
    estimates = {estimator_of(cell.method) for cell in changed if cell.kind == "estimate"}
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in changed:
        if cell.kind not in ("estimate", "training") or not cell.method:
            continue
        if estimator_of(cell.method) in untrue or (laws and cell.kind == "estimate"):
            continue
        variant = cell.about if cell.kind == "training" else ""
        found.setdefault((cell.kind, cell.method, cell.arch, variant), []).append(cell)
    queues: dict[tuple[str, str], list[Comparison]] = {}
    for (kind, method, arch, variant), cells in found.items():
        request = {"method": method, "arch": arch}
        if kind == "training":
            request |= {"verb": "train", "number": "test_error", "variant": variant}
        else:
            request |= {"verb": "measure", "number": "noise"}
        sure = estimator_of(method) in estimates if kind == "training" else not doubted & {*cells}
        each = Comparison(
            "training" if kind == "training" else "noise", request, tuple(cells), sure
        )
        queues.setdefault((kind, estimator_of(method)), []).append(each)
    longest = sorted(queues.values(), key=len, reverse=True)
    turns = [(k, at, each) for at, queue in enumerate(longest) for k, each in enumerate(queue)]
    return [each for _, _, each in sorted(turns, key=lambda turn: turn[:2])]


def estimator_of(method: str) -> str:
    """Return the estimator of a METHOD.

    Args:
        method: estimator and locality.

    Example:
        >>> estimator_of("fg_w/local-pg")
        'fg_w'
    """
    return method.partition("/")[0]


def _compare(each: Comparison, one: Replies, two: Replies) -> tuple[Judged, float]:
    """Run one comparison in both trees; return the judgement and the CPU seconds."""
    spent: list[float] = []

    def answers(first: int) -> list[dict[str, Any]]:
        """Return what both trees answer for ten seeds."""
        request = {"cells": [dict(each.request)], "seeds": list(range(first, first + SEEDS))}
        found = [live.ask(request) for live in (one, two)]
        spent.extend(answer["cpu"] for answer in found)
        return [answer["cells"][0] for answer in found]

    def fresh() -> Pairs:
        """Return pairs of ten other seeds."""
        return Pairs(*(tuple(side.get("values") or [None] * SEEDS) for side in answers(SEEDS)))

    before, after = answers(0)
    judgement = unanswered(before, after)
    if judgement is None:
        first = Pairs(tuple(before["values"]), tuple(after["values"]))
        judgement = judge(each.kind, first, fresh, true=each.true)
    return judgement, sum(spent)


def unanswered(before: Mapping[str, Any], after: Mapping[str, Any]) -> Judged | None:
    """Judge a comparison of which a tree has no numbers; None where both have.

    Args:
        before: answer of the probe in the first tree.
        after: in the second.

    Returns:
        The judgement.

    Example:
        >>> unanswered({"status": "ok"}, {"status": "failed", "reason": "ZeroDivisionError"}).verdict
        'failed'
    """
    if before["status"] == after["status"] == "ok":
        return None
    shown = after if after["status"] != "ok" else before
    told = "" if shown is after else "the first tree: "
    failed = shown["status"] == "failed" and before["status"] != after["status"]
    return Judged(FAILED if failed else NOT_JUDGED, told + str(shown["reason"]))


def judge(kind: str, first: Pairs, fresh: Callable[[], Pairs], *, true: bool = True) -> Judged:
    """Judge a number over paired seeds: first ten, then, where these show a change, ten fresh ones.

    Worse or better is what has a one-sided p below .05 in the first ten and below .0005 in all twenty.

    Args:
        kind: ``noise``, compared by its ratio, or ``training``, whose errors are compared by difference.
        first: ten pairs.
        fresh: returns pairs of ten other seeds.
        true: whether bias and scale are true, or whether a training follows from estimates that are;
            without that a change for the better has changed.

    Returns:
        The judgement: worse, better, same (equal to rounding), or changed.

    Example:
        >>> noise = tuple(1.0 + k / 10 for k in range(10))
        >>> halved = Pairs(noise, tuple(x / 2 for x in noise))
        >>> judge("noise", halved, lambda: halved).verdict
        'better'
        >>> judge("noise", halved, lambda: halved, true=False).verdict
        'changed'
    """
    if missing := _missing(kind, first):
        return missing
    seen = compared(kind, first)
    pairs = first
    if seen.equal:
        if true:
            return _judged(SAME, "equal to rounding", kind, pairs, seen)
        return Judged(CHANGED, f"{NAMES[kind]} equal over {len(pairs.after)} seeds; {UNSURE[kind]}")
    looks = {WORSE: seen.worse < FIRST, BETTER: seen.better < FIRST}
    if any(looks.values()) and seen.matters:
        pairs = first.and_(fresh())
        if missing := _missing(kind, pairs):
            return missing
        seen = compared(kind, pairs)
        if looks[WORSE] and seen.worse < BOTH and seen.matters:
            return _judged(WORSE, "", kind, pairs, seen)
        if looks[BETTER] and seen.better < BOTH and seen.matters:
            if true:
                return _judged(BETTER, "", kind, pairs, seen)
            return _judged(CHANGED, UNSURE[kind], kind, pairs, seen)
    return _judged(CHANGED, "neither worse nor better", kind, pairs, seen)


def compared(kind: str, pairs: Pairs) -> Compared:
    """Compare paired numbers that are all finite, by t over the pairs.

    Args:
        kind: ``noise`` or ``training``.
        pairs: at least two.

    Returns:
        The change with its interval and one-sided p-values.

    Example:
        >>> found = compared("training", Pairs((0.1, 0.2, 0.3), (0.2, 0.31, 0.39)))
        >>> found.worse < 0.01, found.better > 0.99
        (True, True)
    """
    before, after = (
        [float(x) for x in side if x is not None] for side in (pairs.before, pairs.after)
    )
    top = max(map(abs, (*before, *after)))
    equal = all(abs(y - x) <= EQUAL * top for x, y in zip(before, after, strict=True))
    if kind == "noise":
        # an estimate without noise has the noise of rounding
        one, two = ([max(x, ROUNDING) for x in side] for side in (before, after))
        found = replicates.paired_log_ratio(two, one, range(len(one)))
        assert found.ratio.value is not None
        assert found.t is not None
        assert found.p_value is not None
        matters = abs(log(found.ratio.value)) >= log(1 + MATTERS)
        return Compared(found.ratio, *_one_sided(found.t, found.p_value), equal, matters)
    apart = paired_seeds.difference(after, before)
    t, p = t_test(apart.value, apart.error, apart.df)
    return Compared(apart.number, *_one_sided(t, p), equal, not equal)


def _one_sided(t: float, p: float) -> tuple[float, float]:
    """Return the p-values against a change upwards and downwards, from a two-sided one."""
    return (p / 2, 1 - p / 2) if t > 0 else (1 - p / 2, p / 2)


def _missing(kind: str, pairs: Pairs) -> Judged | None:
    """Judge numbers of which some are not finite; None where all are."""
    lost = sum(y is None and x is not None for x, y in zip(pairs.before, pairs.after, strict=True))
    found = sum(x is None and y is not None for x, y in zip(pairs.before, pairs.after, strict=True))
    name = NAMES[kind]
    n, inf = len(pairs.after), float("inf")
    if lost:
        return Judged(WORSE, f"{name} not finite for {lost} of {n} seeds", size=inf)
    if found:
        return Judged(
            CHANGED, f"{name} not finite in the first tree for {found} of {n} seeds", size=inf
        )
    if None in pairs.after:
        return Judged(NOT_JUDGED, f"{name} not finite in either tree")
    return None


def _judged(verdict: str, told: str, kind: str, pairs: Pairs, seen: Compared) -> Judged:
    """Return a judgement with both means and the change."""
    before, after = (
        [float(x) for x in side if x is not None] for side in (pairs.before, pairs.after)
    )
    means = sum(before) / len(before), sum(after) / len(after)
    value = seen.change.value or 0.0
    n = len(before)
    if kind == "noise":
        what = f"relative variance {value:.3g} times{_ends(seen.change)}"
        size = abs(log(value)) if value > 0 else 0.0
    else:
        what = f"test error {100 * value:+.2g} points{_ends(seen.change, 100)}"
        size = abs(value)
    what = f"{what} over {n} seeds" + f"; {told}" * bool(told)
    return Judged(verdict, told if seen.equal else what, *means, seen.change, size)


def _ends(change: Number, factor: float = 1.0) -> str:
    """Return an interval for a table, "" where there is none."""
    if change.low is None or change.high is None or not isfinite(change.low + change.high):
        return ""
    return f" [{factor * change.low:.3g}, {factor * change.high:.3g}]"


def findings(
    found: Sequence[tuple[Comparison, Judged]], planned: Sequence[Comparison]
) -> list[Finding]:
    """Return one finding for all comparisons of an estimator with one verdict, the largest change shown.

    A training that is neither worse nor better, of an estimator whose estimates changed, is no finding of
    its own. Comparisons for which no time was left are not judged: the other findings do not speak for their
    cells.

    Args:
        found: comparisons that were made.
        planned: all.

    Returns:
        The findings.

    Example:
        >>> cell = Cell("estimate", "one", "fg_w/end", "mlp-2x6")
        >>> one = Comparison("noise", {"method": "fg_w/end"}, (cell,), True)
        >>> [(finding.verdict, finding.what) for finding in findings([], [one])]
        [('not judged', '1 of 1 noise levels not compared within 40 CPU seconds')]
    """
    estimates = {each.estimator for each in planned if each.kind == "noise"}
    groups: dict[tuple[str, str, str], list[tuple[Comparison, Judged]]] = {}
    for each, judged in found:
        follows = each.kind == "training" and each.estimator in estimates
        if follows and judged.verdict in (CHANGED, SAME, NOT_JUDGED):
            continue
        whose = each.cells[0].about if each.kind == "training" and not follows else each.estimator
        groups.setdefault((each.kind, whose, judged.verdict), []).append((each, judged))
    made = []
    for (kind, _, verdict), group in groups.items():
        most, shown = max(group, key=lambda pair: pair[1].size)
        cells = tuple(cell for each, _ in group for cell in each.cells)
        what = shown.what + f" (the largest of {len(group)})" * (
            len(group) > 1 and shown.change is not None
        )
        change = shown.change
        unit = "relative variance" if kind == "noise" else "test error"
        made.append(
            Finding(
                "worse", kind, place(cells) if kind == "noise" else most.cells[0].where, what,
                shown.before, shown.after, unit,
                None if change is None else change.low, None if change is None else change.high,
                verdict, cells=cells,
            )
        )  # fmt: skip
    done = [each for each, _ in found]
    for kind, many, verb in (
        ("noise", "noise levels", "measure"),
        ("training", "trainings", "train"),
    ):
        every = [each for each in planned if each.kind == kind]
        left = [each for each in every if each not in done]
        cells = tuple(cell for each in left for cell in each.cells)
        if left:
            what = f"{len(left)} of {len(every)} {many} not compared within {SECONDS[verb]:.0f} CPU seconds"
            made.append(Finding("worse", kind, place(cells), what, verdict=NOT_JUDGED, cells=cells))
    return sorted(made, key=lambda finding: finding.verdict != WORSE)
