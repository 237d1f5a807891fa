"""Ratios of methods to a reference method on the same networks and batches, from their records."""

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
