"""Question 2: are the estimates, directions and intervals of the second tree what they claim to be?

The answer is absolute: a mean over designed directions has no sampling error, and coverage is read at fixed
seeds. The first tree is asked only where the second fails or claims little, so that an old fault is called
old and a weaker claim is seen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fgbench.runs.gate.answers import Store
    from fgbench.runs.gate.side import Side

PROBE = "truth"
SECONDS = 30.0
"""CPU seconds for the means of one tree."""
AT_ONCE = 4
"""Cells of one request, whose answers are kept together."""
LATE = {"status": "n/a", "reason": "left out for want of time", "late": True}
"""What is said of cells that the seconds do not reach."""
TELLING = ("module-pg", "local-pg", "end", "overlap-p", "interlocking-pg", "local", "module")
"""Localities in the order in which they are asked: first those that keep many axes apart."""
NETS = {"localmixer": "mixer", "mlp": "mlp", "cnn": "convolutions", "noprop": "noprop"}
"""Network on which a method is judged, by the architecture of its cell; the most telling first."""
CLAIMS = ("none", "vanishing", "scale", "some")
"""Claims of a bias, the strongest first."""
TOLD_APART = 3
"""Estimators with one kind of fault that have a row each; more share one."""
EQUAL = 1e-6
"""Relative difference up to which two biases are the same."""
SIGMAS = 6.0
"""Standard errors from which a moment of a law is off, as the probe has it."""
STEP = 0.01
"""Relative change of the bias at an estimator's own step that counts."""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """The judgement of one method on one network.

    Args:
        kind: of the finding.
        what: one short sentence.
        verdict: one of the verdicts of a finding.
        before: number of the first tree.
        after: number of the second.
        unit: of both.
        size: how far off it is; of several alike the largest is shown.

    Example:
        >>> Judged("scale", "scale .9800 of the gradient", WORSE, 1.0, 0.98, "scale", 0.02).verdict
        'worse'
    """

    kind: str
    what: str
    verdict: str
    before: float | None = None
    after: float | None = None
    unit: str = ""
    size: float = 0.0


def ask(
    a: Side,
    b: Side,
    changed: Sequence[Cell],
    *,
    tell: Callable[[str], None],
    store: Store | None = None,
) -> list[Finding]:
    """Judge what changed by exact designs and by the coverage of intervals.

    Args:
        a: the tree before; asked only where the second one fails, so that an old fault is called old.
        b: the tree that is judged.
        changed: exact cells whose numbers are not the same in both.
        tell: called with a line of progress now and then.
        store: where answers are kept; kept ones are not computed again.

    Returns:
        The findings; none for what is true.

    Raises:
        ProbeError: the probe does not run in one of the trees.
    """
    groups = planned(changed)
    kinds = {cell.kind for cell in changed}
    rest = {"laws": "draws" in kinds, "intervals": "intervals" in kinds}
    if not groups and not any(rest.values()):
        return []
    requests = list(groups)
    tell(
        f"true: {len(requests)} means by design"
        + ", laws" * rest["laws"]
        + ", intervals" * rest["intervals"]
    )
    after, others = _answers(b, requests, rest, store)
    doubtful = [k for k, answer in enumerate(after) if asks_before(answer)]
    again = {what: any(asks_before(one) for one in others[what]) for what in rest}
    before: list[Answer | None] = [None] * len(requests)
    earlier: dict[str, list[Answer]] = {what: [] for what in rest}
    if doubtful or any(again.values()):
        tell("true: the first tree, where the second fails or claims little")
        found, earlier = _answers(a, [requests[k] for k in doubtful], again, store)
        for k, answer in zip(doubtful, found, strict=True):
            before[k] = answer
    judged = [
        (groups[request], judge(one, two))
        for request, one, two in zip(requests, before, after, strict=True)
    ]
    findings = grouped(judged)
    for what, kind in (("laws", "draws"), ("intervals", "intervals")):
        of_kind = tuple(cell for cell in changed if cell.kind == kind)
        findings += _others(what, kind, earlier[what], others[what], of_kind)
    return findings


def planned(changed: Iterable[Cell]) -> dict[tuple[str, str], tuple[Cell, ...]]:
    """Return which method is judged on which network, in the order of asking, with its cells.

    Every estimator has its most telling case judged before any has its second.

    Args:
        changed: exact cells.

    Returns:
        Method and network to cells. The network is a name of the probe, or an architecture.

    Example:
        >>> methods = ("np/end", "np/local-pg", "fg_w/end")
        >>> cells = [Cell("estimate", method, method, "mlp-2x6") for method in methods]
        >>> [method for method, _ in planned(cells)]
        ['np/local-pg', 'fg_w/end', 'np/end']
    """
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in changed:
        if cell.kind == "estimate" and cell.method:
            net = next((n for start, n in NETS.items() if cell.arch.startswith(start)), cell.arch)
            found.setdefault((cell.method, net), []).append(cell)
    order = list(NETS.values())

    def rank(key: tuple[str, str]) -> tuple[int, int]:
        """Return how telling a case is, 0 first."""
        locality = key[0].partition("/")[2] or "end"
        which = TELLING.index(locality) if locality in TELLING else len(TELLING)
        return which, order.index(key[1]) if key[1] in order else len(order)

    queues: dict[str, list[tuple[str, str]]] = {}
    for key in sorted(found, key=rank):
        queues.setdefault(key[0].partition("/")[0], []).append(key)
    turns = [
        (k, at, key) for at, queue in enumerate(queues.values()) for k, key in enumerate(queue)
    ]
    return {key: tuple(found[key]) for _, _, key in sorted(turns, key=lambda turn: turn[:2])}


def _answers(
    side: Side,
    requests: Sequence[tuple[str, str]],
    rest: Mapping[str, bool],
    store: Store | None,
) -> tuple[list[Answer], dict[str, list[Answer]]]:
    """Return what a tree answers for each method on a network, and for laws and intervals."""
    cells = [
        {"method": method, ("net" if net in NETS.values() else "arch"): net}
        for method, net in requests
    ]
    found: list[Answer] = []
    others: dict[str, list[Answer]] = {what: [] for what in rest}
    with Replies(side, PROBE, store) as live:
        spent = 0.0
        for k in range(0, len(cells), AT_ONCE):
            some = cells[k : k + AT_ONCE]
            if spent > SECONDS:
                found += [cell | LATE for cell in some]
                continue
            answer = live.ask({"cells": some})
            found += answer["cells"]
            spent += answer["cpu"]  # of kept answers too: the same call reaches as far again
        for what, wanted in rest.items():
            if wanted:
                others[what] = live.ask({what: True})[what]
    return found, others


def asks_before(answer: Answer) -> bool:
    """Return whether the first tree is to be asked too: all but what is true and claims no bias at all.

    Args:
        answer: of the second tree.

    Example:
        >>> asks_before({"status": "ok", "held": True, "claimed": "none"})
        False
    """
    if answer.get("late"):
        return False
    return not (
        answer["status"] == "ok" and answer.get("held") and answer.get("claimed", "none") == "none"
    )


def judge(before: Answer | None, after: Answer) -> Judged | None:
    """Judge one method on one network.

    Args:
        before: what the probe answered in the first tree; None where it was not asked.
        after: what it answered in the second.

    Returns:
        The judgement; None where it is true.

    Example:
        >>> after = {"status": "ok", "held": False, "claimed": "none", "bias": 0.02, "scale": 0.98}
        >>> judge(None, after | {"place": "", "place_scale": 0.98}).what
        'scale .9800 of the gradient'
    """
    known = before is not None and before["status"] == "ok"
    if after["status"] == "failed":
        old = before is not None and before["status"] == "failed"
        return Judged("failed", after["reason"], NOT_JUDGED if old else FAILED)
    if after["status"] == "n/a":
        weaker = known and before is not None and before.get("held")
        return Judged("n/a", after["reason"], CHANGED if weaker else NOT_JUDGED)
    if after["held"] is None:
        return Judged("n/a", "it documents no mean and claims a bias", NOT_JUDGED)
    if not after["held"]:
        return _untrue(before if known else None, after)
    if before is None or not known or before.get("held") is None:
        return None
    if not before["held"]:
        return _off("now true", before, after, BETTER)
    if CLAIMS.index(after["claimed"]) > CLAIMS.index(before["claimed"]):
        what = f"claims bias={after['claimed']!r} in place of {before['claimed']!r}"
        return Judged("bias", what, CHANGED)
    return _own_step(before, after)


def _own_step(before: Answer, after: Answer) -> Judged | None:
    """Judge the bias that finite differences have at an estimator's own step."""
    one, two = before.get("error"), after.get("error")
    if not one or two is None or abs(two / one - 1) <= STEP:
        return None
    worse = two > one
    what = f"bias at its own step {two / one:.3g} times as large"
    size = max(two / one, one / two)
    return Judged("bias", what, WORSE if worse else BETTER, one, two, "bias", size)


def _untrue(before: Answer | None, after: Answer) -> Judged:
    """Judge a mean that is not what it should be: new, worse, less so, or an old fault."""
    if before is None or before.get("held") is None or before["held"]:
        return _off("", before, after, WORSE)
    one, two = before["bias"], after["bias"]
    if one == two or abs(two - one) <= EQUAL * abs(one):
        return _off("an old fault", before, after, SAME)
    return _off("", before, after, CHANGED if two < one else WORSE)


def _off(told: str, before: Answer | None, after: Answer, verdict: str) -> Judged:
    """Return a judgement with the number that shows what is off: the scale where it is one everywhere."""
    shown = before if verdict == BETTER else after
    assert shown is not None
    aim = "documented mean" if shown.get("expects") == "documented" else "gradient"
    bias, scale = shown["bias"], shown["scale"]
    if not isfinite(bias):
        return Judged(
            "bias", shown.get("what") or "an estimate is not finite", verdict, size=float("inf")
        )
    plain = (
        abs(bias - abs(scale - 1.0)) <= 1e-6 * max(bias, 1e-12)
        and shown.get("expects") != "direction"
    )
    kind = "scale" if plain else "bias"
    what = (
        f"scale {digits(scale)} of the {aim}" if plain else f"bias {digits(bias, 3)} of the {aim}"
    )
    if not plain and shown.get("place"):
        what += f"; scale {digits(shown['place_scale'])} on {shown['place']}"
    what = ": ".join(part for part in (told, what) if part)
    numbers = (None if before is None else before.get(kind), after.get(kind))
    return Judged(kind, what, verdict, *numbers, kind, bias)


def digits(value: float, places: int = 4) -> str:
    """Return a number near 1 or below as tables show it.

    Args:
        value: the number.
        places: digits after the point.

    Example:
        >>> digits(0.98), digits(-0.31, 2), digits(1.21)
        ('.9800', '-.31', '1.2100')
    """
    text = f"{value:.{places}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def grouped(judged: Sequence[tuple[tuple[Cell, ...], Judged | None]]) -> list[Finding]:
    """Return one finding for all cells of an estimator, or of many, that have the same kind and verdict.

    The number shown is that of the largest fault.

    Args:
        judged: cells, with the judgement on them.

    Returns:
        The findings, the largest faults first.

    Example:
        >>> cells = tuple(Cell("estimate", x, f"fg_w/{x}", "mlp-2x6") for x in ("end", "local"))
        >>> fault = Judged("scale", "scale .9800 of the gradient", WORSE, 1.0, 0.98, "scale", 0.02)
        >>> [finding.where for finding in grouped([((cell,), fault) for cell in cells])]
        ['fg_w, end, local, mlp-2x6']
    """
    groups: dict[tuple[str, ...], list[tuple[tuple[Cell, ...], Judged]]] = {}
    for cells, one in judged:
        if one is not None:
            estimator = cells[0].method.partition("/")[0]
            aside = {NOT_JUDGED: ("", "", NOT_JUDGED), FAILED: (one.what, "", FAILED)}
            key = aside.get(one.verdict, (estimator, one.kind, one.verdict))
            groups.setdefault(key, []).append((cells, one))
    findings = []
    for kind, verdict in dict.fromkeys(key[1:] for key in groups if key[0]):
        alike = [key for key in groups if key[1:] == (kind, verdict)]
        if len(alike) > TOLD_APART:
            groups["", kind, verdict] = [pair for key in alike for pair in groups.pop(key)]
    for group in groups.values():
        cells = tuple(cell for own, _ in group for cell in own)
        said = Counter(one.what for _, one in group)
        worst = max((one for _, one in group), key=lambda one: (one.size, said[one.what]))
        shown = next(own for own, one in group if one is worst)
        what = worst.what
        if len(said) > 1 and worst.verdict == NOT_JUDGED:
            what += f" (the commonest of {len(said)} reasons)"
        elif len(said) > 1:
            of = place(shown[:1]).rpartition(", ")[0]
            what += f" (of {of}, the largest of {len(group)})"
        findings.append(
            Finding(
                "true", worst.kind, place(cells), what, worst.before, worst.after, worst.unit,
                verdict=worst.verdict, cells=cells,
            )
        )  # fmt: skip
    return sorted(findings, key=lambda finding: finding.verdict != WORSE)


def place(cells: Sequence[Cell], most: int = 3) -> str:
    """Return what cells have in common: estimators, localities, networks.

    Args:
        cells: at least one.
        most: names that are listed; more are counted.

    Returns:
        A text for the table.

    Example:
        >>> place([Cell("estimate", net, "np/end", net) for net in ("mlp-2x6", "cnn-tiny")])
        'np, end, mlp-2x6, cnn-tiny'
    """
    parts = []
    for names, plural in (
        ([cell.method.partition("/")[0] for cell in cells], "estimators"),
        ([cell.method.partition("/")[2] for cell in cells], "localities"),
        ([cell.arch.partition("[")[0] for cell in cells], "networks"),
    ):
        distinct = [name for name in dict.fromkeys(names) if name]
        parts += distinct if len(distinct) <= most else [f"{len(distinct)} {plural}"]
    return ", ".join(parts)


def _others(
    what: str, kind: str, before: Sequence[Answer], after: Sequence[Answer], cells: tuple[Cell, ...]
) -> list[Finding]:
    """Return the findings about laws of directions or intervals."""
    earlier = {answer["name"]: answer for answer in before}
    number = "square" if what == "laws" else "coverage"
    findings = []
    for answer in after:
        old = earlier.get(answer["name"])
        where = f"{'law ' * (what == 'laws')}{answer['name']}"
        if answer["status"] == "failed":
            verdict = NOT_JUDGED if old is not None and old["status"] == "failed" else FAILED
            findings.append(
                Finding("true", "failed", where, answer["reason"], verdict=verdict, cells=cells)
            )
        if answer["status"] != "ok" or answer["held"]:
            continue
        one = old.get(number) if old is not None and old["status"] == "ok" else None
        fault = old is not None and old["status"] == "ok" and not old["held"]
        verdict = _again(faults(old), faults(answer)) if fault and old is not None else WORSE
        same = verdict == SAME
        what_ = (
            _moment(answer)
            if what == "laws"
            else f"holds the truth in {answer[number]:.1%} of runs"
        )
        if what == "intervals":
            what_ += ", claimed 95 %"
        what_ = "an old fault: " * bool(same) + what_
        findings.append(
            Finding(
                "true",
                kind,
                where,
                what_,
                one,
                answer[number],
                number,
                verdict=verdict,
                cells=cells,
            )
        )
    return findings


def faults(answer: Answer) -> tuple[float, ...]:
    """Return how far off an untrue law or interval is, 0 for each part that holds.

    Args:
        answer: of the probe: a law is off by its |v|²/d, mean or products, an interval by its coverage.

    Example:
        >>> faults({"square": 1.25, "error": 0.01, "mean": 0.5, "products": 9.0})
        (0.25, 0.0, 9.0)
        >>> faults({"coverage": 0.75})
        (0.25,)
    """
    if "coverage" in answer:
        return (1 - answer["coverage"],)
    square = abs(answer["square"] - 1)
    return (
        0.0 if square <= SIGMAS * answer["error"] else square,  # NaN is a fault too
        *(0.0 if answer[part] <= SIGMAS else answer[part] for part in ("mean", "products")),
    )


def _again(before: Sequence[float], after: Sequence[float]) -> str:
    """Return the verdict on what was untrue before: an old fault, less of it in every part, or worse."""
    apart = [two - one for one, two in zip(before, after, strict=True)]
    level = [EQUAL * max(1.0, abs(one)) for one in before]
    if all(abs(more) <= equal for more, equal in zip(apart, level, strict=True)):
        return SAME
    less = all(more <= equal for more, equal in zip(apart, level, strict=True))
    return CHANGED if less else WORSE


def _moment(answer: Answer) -> str:
    """Return which moment of a law is off."""
    if abs(answer["square"] - 1) > SIGMAS * answer["error"]:
        return f"|v|²/d is {digits(answer['square'])} on average, expected 1"
    if answer["mean"] > answer["products"]:
        return f"its mean is {answer['mean']:.0f} standard errors from 0"
    return f"its coordinates are not uncorrelated of variance 1: {answer['products']:.0f} standard errors off"
