"""From the draws at every point to the numbers of a record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench import bias, intervals, multiple, points
from fgbench.intervals import Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fgbench.drawing import Found, Series

NOT_FINITE = "an estimate is not finite"


def numbers(result: Found) -> dict[str, Any]:
    """Combine the points of one method.

    Args:
        result: everything measured of it.

    Returns:
        The numbers of its record by their names there, and its status.
    """
    places = list(result.series[0])
    per_place = {p: _place(result, [s[p] for s in result.series]) for p in places}
    whole = per_place.pop("all")
    tested = multiple.benjamini_hochberg([p["bias"]["p_value"] for p in per_place.values()])
    for place, adjusted in zip(per_place.values(), tested, strict=True):
        place["bias"]["p_adjusted"] = adjusted
    price = result.cost["forward_equivalents"]
    eff = whole["efficiency"]
    per_forward = {
        k: v / price if k in ("value", "low", "high") and v is not None else v
        for k, v in eff.items()
    }
    return {
        **whole,
        "status": "diverged" if whole["reason"] == NOT_FINITE else "ok",
        "efficiency_per_forward": per_forward,
        "expected_cosine": intervals.expected_cosine(result.elements),
        "elements": result.elements,
        "claimed": result.claimed,
        "per_site": per_place,
        "cost": result.cost,
    }


def _place(result: Found, series: list[Series]) -> dict[str, Any]:
    """Combine the points of one place."""
    inits, moments = zip(*result.where, strict=True)
    where = (list(inits), [sorted(set(moments)).index(m) for m in moments])
    reasons = sorted({s.reason or _unsound(s) for s in series} - {""})
    if reasons:
        none = {"value": None, "low": None, "high": None, "n": 0}
        names = ("efficiency", "relative_variance", "scale", "cosine", "locality_gap")
        empty: dict[str, Any] = {name: dict(none) for name in names}
        empty["bias"] = {**none, "p_value": None, "detectable": None}
        empty |= {"efficiency_debiased": None, "predicted_variance": None, "end": None}
        return {**empty, "heavy_tail": False, "control": False, "reason": reasons[0]}

    def over(kind: Any, numbers: list[Number]) -> dict[str, Any]:
        return dict(kind(numbers, *where).json())

    ends = [s for s in series if s.gap is not None]
    gaps = [Number.exact(s.gap, 1) for s in series if s.gap is not None]
    predicted = [s.predicted for s in series if s.predicted is not None and s.predicted > 0]
    debiased = [intervals.efficiency_debiased(s.x, s.y) for s in series]
    useful = len(ends) == len(series)
    none = {"value": None, "low": None, "high": None, "n": 0}
    return {
        "efficiency": _efficiency([(s.x, s.y, s.control) for s in series], where),
        "efficiency_debiased": float(np.mean([d for d in debiased if d is not None]))
        if any(d is not None for d in debiased)
        else None,
        "relative_variance": over(
            points.variance_over,
            [
                bias.relative_variance(s.d2, s.gram, s.x, s.control, rounding=result.rounding)
                for s in series
            ],
        ),
        "predicted_variance": float(np.exp(np.mean(np.log(predicted))))
        if len(predicted) == len(series)
        else None,
        "bias": _bias(result, series, where),
        "scale": over(points.mean_over, [intervals.scale(s.x) for s in series]),
        "cosine": _possible(over(points.mean_over, [intervals.cosine(_cosines(s)) for s in series]))
        if useful
        else dict(none),
        "end": {
            "efficiency": _efficiency([(s.end_x, s.end_y, None) for s in series], where),
            "scale": over(points.mean_over, [intervals.scale(s.end_x) for s in series]),
        }
        if useful
        else None,
        "locality_gap": over(points.mean_over, gaps) if useful else dict(none),
        "heavy_tail": any(intervals.heavy_tail(s.y) for s in series) and not result.exact,
        "control": all(s.control is not None for s in series),
        "reason": "",
    }


def _unsound(s: Series) -> str:
    """Say whether an estimate was not finite: no number of its draws means anything."""
    return "" if np.isfinite(s.y).all() else NOT_FINITE


def _efficiency(rows: Sequence[tuple[Any, Any, Any]], where: Any) -> dict[str, Any]:
    """Combine the efficiency of the points; from the mean root where a single point is unresolved."""
    alone = [intervals.efficiency(x, y, control) for x, y, control in rows]
    found = points.efficiency_over(alone, *where)
    if found.value is None and len(rows) > 1 and all(n.low is not None for n in alone):
        roots = [float(np.mean(x) / np.sqrt(np.mean(y))) for x, y, _ in rows]
        found = points.efficiency_pooled(roots, *where)
    return {**found.json(), "reason": found.reason}


def _bias(result: Found, series: list[Series], where: Any) -> dict[str, Any]:
    """Combine the bias of the points; without sampling noise any difference is bias for certain."""
    found = points.bias_over(
        np.stack([s.gram for s in series]),
        np.array([s.d2.sum() for s in series]),
        result.draws,
        where[0],
        where[1],
        result.rounding,
    )
    if result.exact and found.value:
        found = replace(found, p_value=0.0, detectable=0.0)
    return found.json()


def _possible(found: dict[str, Any]) -> dict[str, Any]:
    """Keep the ends of a mean cosine within [-1, 1], which a t interval over few points leaves."""
    ends = {k: max(-1.0, min(found[k], 1.0)) for k in ("low", "high") if found[k] is not None}
    return {**found, **ends}


def _cosines(s: Series) -> np.ndarray[Any, Any]:
    """Return the cosine of each draw with the end-to-end gradient; 0 for an estimate of zero."""
    roots = np.sqrt(np.maximum(s.end_y, 0.0))
    return np.where(roots > 0, s.end_x / np.where(roots > 0, roots, 1.0), 0.0)
