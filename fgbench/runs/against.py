"""Methods beside a reference on the same networks and batches, from their records."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from fgbench.stats.replicates import paired_log_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Record = Mapping[str, Any]

NAMES = ("efficiency", "relative_variance")
UNPAIRED = "no numbers at the same points"


def against(records: Sequence[Record], reference: str) -> list[dict[str, Any]]:
    """Return records of measure with their ratios to a reference method.

    What a network and a batch do to both estimates cancels in the ratio of a point, so that its geometric
    mean over points is known far better than either number: see
    :func:`fgbench.stats.replicates.paired_log_ratio`. Records of one seed are of the same points.

    Args:
        records: of measure, those of the reference among them.
        reference: its METHOD, as in the records.

    Returns:
        The records with ``against``: the ``method``, whether it is the record's ``own``, and for
        ``efficiency`` and ``relative_variance`` the ratio to the reference's with its interval and the
        p-value of a ratio of 1, not adjusted. Each of ``per_moment`` has it of its own points.
    """
    known = {r["seed"]: r for r in records if r["method"] == reference}
    return [_beside(r, known.get(r["seed"], {}), reference) for r in records]


def _beside(record: Record, other: Record, reference: str) -> dict[str, Any]:
    """Set one record beside the reference's."""
    mine, theirs = record.get("points") or [], other.get("points") or []
    name = {"method": reference, "own": record["method"] == reference}
    found = {**record, "against": name | _ratios(mine, theirs)}
    if record.get("per_moment"):
        found["per_moment"] = [
            {**part, "against": name | _ratios(_at(mine, part), _at(theirs, part))}
            for part in record["per_moment"]
        ]
    return found


def _at(points: Sequence[Record], part: Record) -> list[Record]:
    """Pick the points of a moment."""
    return [p for p in points if p["moment"] == part["moment"]]


def _ratios(mine: Sequence[Record], theirs: Sequence[Record]) -> dict[str, Any]:
    """Compare the numbers of two methods point by point."""
    where = [(p["init"], p["moment"]) for p in mine]
    if not mine or where != [(p["init"], p["moment"]) for p in theirs]:
        empty = {"value": None, "low": None, "high": None, "n": 0, "p_value": None}
        return {name: {**empty, "reason": UNPAIRED} for name in NAMES}
    moments = sorted({moment for _, moment in where})
    inits, when = [init for init, _ in where], [moments.index(moment) for _, moment in where]
    found = {}
    for name in NAMES:
        pair = paired_log_ratio([p[name] for p in mine], [p[name] for p in theirs], inits, when)
        lost = pair.ratio.value is None
        reason = {"reason": _lost(mine, theirs, name) if lost else pair.ratio.reason}
        found[name] = {**pair.ratio.json(), "p_value": pair.p_value, **reason}
    return found


def _lost(mine: Sequence[Record], theirs: Sequence[Record], name: str) -> str:
    """Say how many points have no ratio, at which moments, and whose number is missing there."""
    lacks = [[not 0.0 < (p[name] or 0.0) < inf for p in points] for points in (mine, theirs)]
    both = [p for p, *lost in zip(mine, *lacks, strict=True) if any(lost)]
    whose = " and ".join(
        w for w, lost in zip(("its own", "the reference's"), lacks, strict=True) if any(lost)
    )
    moments = dict.fromkeys(f"{p['moment']:g}" for p in both)
    at = f" (moment {', '.join(moments)})" if len({p["moment"] for p in mine}) > 1 else ""
    return f"{len(both)} of {len(mine)} points{at} have no positive number: {whose}"
