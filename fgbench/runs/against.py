"""Methods beside a reference, from their records: ratios of what was measured, paired tests of trainings.

Measurements are compared on the same networks and batches, trainings by the seeds that both have.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.records.metrics import ERROR, main_of
from fgbench.stats import seeds_needed
from fgbench.stats.margins import margin_of
from fgbench.stats.paired_seeds import Verdict, difference, verdicts
from fgbench.stats.replicates import paired_log_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Record = Mapping[str, Any]

NAMES = ("efficiency", "relative_variance")
UNPAIRED = "no numbers at the same points"
ENDED = ("ok", "diverged")


def against(records: Sequence[Record], reference: str) -> list[dict[str, Any]]:
    """Return records of ``measure`` with their ratios to a reference method.

    Network and batch affect both estimates alike, so their effect cancels in the ratio at a point. The
    geometric mean of the ratios over points is therefore known much better than either number: see
    :func:`fgbench.stats.replicates.paired_log_ratio`. Records with the same seed have the same points.

    Args:
        records: of ``measure``, including those of the reference.
        reference: METHOD of the reference, as in the records.

    Returns:
        The records with a field ``against``: the reference's ``method``, whether the record is the
        reference's ``own``, and for ``efficiency`` and ``relative_variance`` the ratio to the reference's
        value, with its interval and the unadjusted p-value of a ratio of 1. Each entry of ``per_moment``
        has the field for its own points.

    Example:
        >>> point = {"init": 0, "moment": 0.0, "relative_variance": 2.0, "efficiency": 0.25}
        >>> record = {"seed": 0, "method": "FG-A", "points": [point]}
        >>> against([record], "FG-A")[0]["against"]["own"]
        True
    """
    references = {r["seed"]: r for r in records if r["method"] == reference}
    return [_with_ratios(r, references.get(r["seed"], {}), reference) for r in records]


def _with_ratios(record: Record, other: Record, reference: str) -> dict[str, Any]:
    """Return one record with its ratios to the reference's record."""
    mine, theirs = record.get("points") or [], other.get("points") or []
    name = {"method": reference, "own": record["method"] == reference}
    compared = {**record, "against": name | _ratios(mine, theirs)}
    if record.get("per_moment"):
        compared["per_moment"] = [
            {**part, "against": name | _ratios(_at(mine, part), _at(theirs, part))}
            for part in record["per_moment"]
        ]
    return compared


def _at(points: Sequence[Record], part: Record) -> list[Record]:
    """Return the points of a moment."""
    return [p for p in points if p["moment"] == part["moment"]]


def _ratios(mine: Sequence[Record], theirs: Sequence[Record]) -> dict[str, Any]:
    """Compute the ratios of two methods over their points."""
    where = [(p["init"], p["moment"]) for p in mine]
    if not mine or where != [(p["init"], p["moment"]) for p in theirs]:
        empty = {"value": None, "low": None, "high": None, "n": 0, "p_value": None}
        return {name: {**empty, "reason": UNPAIRED} for name in NAMES}
    moments = sorted({moment for _, moment in where})
    inits, when = [init for init, _ in where], [moments.index(moment) for _, moment in where]
    ratios = {}
    for name in NAMES:
        pair = paired_log_ratio([p[name] for p in mine], [p[name] for p in theirs], inits, when)
        undefined = pair.ratio.value is None
        reason = {"reason": _missing(mine, theirs, name) if undefined else pair.ratio.reason}
        ratios[name] = {**pair.ratio.json(), "p_value": pair.p_value, **reason}
    return ratios


def _missing(mine: Sequence[Record], theirs: Sequence[Record], name: str) -> str:
    """Format how many points have no ratio, at which moments, and whose number is missing there."""
    missing = [[not 0.0 < (p[name] or 0.0) < inf for p in points] for points in (mine, theirs)]
    points = [p for p, *either in zip(mine, *missing, strict=True) if any(either)]
    whose = " and ".join(
        w for w, each in zip(("its own", "the reference's"), missing, strict=True) if any(each)
    )
    moments = dict.fromkeys(f"{p['moment']:g}" for p in points)
    at = f" (moment {', '.join(moments)})" if len({p["moment"] for p in mine}) > 1 else ""
    return f"{len(points)} of {len(mine)} points{at} have no positive number: {whose}"


def trained_against(
    records: Sequence[Record], reference: str, margin: float | None = None
) -> list[dict[str, Any]]:
    """Return records of ``train`` with the paired test of each method against a reference method.

    Two runs of one seed have the same initial weights and the same order of examples. Where it is known
    which test examples each run got wrong, examples count as sampled too. A run that diverged counts at the
    level of chance.

    Args:
        records: of ``train``, of one network and data set, including those of the reference.
        reference: METHOD of the reference, as in the records.
        margin: the largest difference that does not matter, in the unit of the metric in records; that of
            the data set where None.

    Returns:
        The records with a field ``against``, the same for all runs of a method: see :func:`judged`.

    Example:
        >>> run = {"verb": "train", "data": "digits", "status": "ok"}
        >>> runs = [{**run, "method": "BP", "seed": seed, "test_error": 0.1} for seed in range(3)]
        >>> trained_against(runs, "BP")[0]["against"]["own"]
        True
    """
    methods: dict[str, list[Record]] = {}
    for record in records:
        methods.setdefault(str(record["method"]), []).append(record)
    found = judged(methods, reference, margin)
    return [{**record, "against": found[str(record["method"])]} for record in records]


def judged(
    runs: Mapping[str, Sequence[Record]], reference: str, margin: float | None = None
) -> dict[str, dict[str, Any]]:
    """Judge the trainings of several methods against those of a reference.

    Args:
        runs: method to its runs, one per seed, the reference's among them.
        reference: its name.
        margin: the largest difference that does not matter; that of the data set where None.

    Returns:
        Method to the reference's ``method`` and whether it is its ``own``; the difference of the main
        metric ``value low high``, positive where the method is worse, with ``n`` pairs and ``examples`` that
        count as sampled; its ``p_value``, ``holm_p`` and ``equivalence_p``, both adjusted over the methods;
        ``margin`` and ``smallest_margin``; the ``verdict`` and how many ``comparisons`` there are; the
        ``smallest_p`` that so many seeds can reach, the ``least_seeds`` that any test needs, and
        ``seeds_to_decide``; how many of its runs ``diverged``; and a ``reason`` where there is no verdict.

    Example:
        >>> run = {"data": "digits", "status": "ok"}
        >>> bp = [{**run, "seed": seed, "test_error": 0.1} for seed in range(9)]
        >>> far = [{**run, "seed": seed, "test_error": 0.3 + 0.001 * seed} for seed in range(9)]
        >>> judged({"BP": bp, "DFA": far}, "BP")["DFA"]["verdict"]
        'worse'
    """
    first = next((r for mine in runs.values() for r in mine if r["status"] == "ok"), {})
    metric = main_of(first)
    theirs = runs.get(reference, ())
    pairs = {name: _pairs(mine, theirs) for name, mine in runs.items() if name != reference}
    tested = {name: difference(*both) for name, both in pairs.items() if not isinstance(both, str)}
    if margin is None and tested:
        margin = margin_of(str(first.get("data")), metric)
    found = verdicts(tested, margin) if tested and margin is not None else {}
    listed = {}
    for name, mine in runs.items():
        lost = sum(r["status"] == "diverged" for r in mine)
        about = {"method": reference, "own": name == reference, "diverged": lost}
        if name in found:
            about |= _verdict(found[name], len(found))
        elif name != reference:
            about |= {"verdict": "", "reason": str(pairs[name])}
        listed[name] = about
    return listed


def _verdict(found: Verdict, comparisons: int) -> dict[str, Any]:
    """Return a verdict as a record holds it."""
    seeds = found.difference.seeds
    return {
        **found.difference.number.json(),
        "examples": found.difference.examples,
        "p_value": found.difference.p_value,
        "holm_p": found.holm_p,
        "equivalence_p": found.equivalence_p,
        "margin": found.margin,
        "smallest_margin": found.smallest_margin,
        "verdict": found.words,
        "comparisons": comparisons,
        "smallest_p": seeds_needed.smallest_p(seeds, comparisons),
        "least_seeds": seeds_needed.least_seeds(comparisons),
        "seeds_to_decide": seeds_needed.seeds_to_decide(
            found.difference, found.margin, comparisons
        ),
        "reason": "",
    }


def _pairs(
    mine: Sequence[Record], theirs: Sequence[Record]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | str:
    """Return what two methods got wrong on the seeds they share, or why they cannot be compared."""
    ended = [{r["seed"]: r for r in runs if r["status"] in ENDED} for runs in (mine, theirs)]
    seeds = sorted(set(ended[0]) & set(ended[1]))
    if len(seeds) < 2:
        counts = " and ".join(str(len(one)) for one in ended)
        return f"paired tests need 2 shared seeds, and {counts} runs ended"
    rows = [[one[seed] for seed in seeds] for one in ended]
    wrong = [[_wrong(r) for r in runs] for runs in rows]
    sizes = {None if w is None else len(w) for runs in wrong for w in runs}
    if len(sizes) == 1 and None not in sizes:
        return np.array(wrong[0]), np.array(wrong[1])
    values = [[_value(r) for r in runs] for runs in rows]
    if any(v is None for runs in values for v in runs):
        return "a run diverged, and the level of chance of this metric is not known"
    return np.array(values[0], float), np.array(values[1], float)


def _wrong(record: Record) -> Any:
    """Return which test examples a run got wrong, None where that is not recorded."""
    correct, count = record.get("correct"), (record.get("examples") or {}).get("test")
    if not correct or not count or main_of(record).name != ERROR.name or record["status"] != "ok":
        return None
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(correct), np.uint8))
    return 1.0 - bits[: int(count)]


def _value(record: Record) -> float | None:
    """Return the main metric of a run, negative where more is better; of a diverged one that of chance."""
    metric = main_of(record)
    value = record.get(metric.field()) if record["status"] == "ok" else metric.chance
    return None if value is None else metric.sign * float(value)
