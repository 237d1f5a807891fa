"""Combine the draws at every point into the numbers of a record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.measurement.draw_statistics.places import ALL
from fgbench.stats import (
    intervals,
    mean_direction,
    multiple_tests,
    replicates,
    scale_free,
    variance,
    variance_split,
)
from fgbench.stats.intervals import Number
from fgbench.stats.mean_direction import Estimates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fgbench.measurement.draw_statistics.places import Place, PlaceMoments
    from fgbench.measurement.result import MethodResult

NOT_FINITE = "an estimate is not finite"
NO_END = "no gradient of the end loss to compare with"


def numbers(result: MethodResult) -> dict[str, Any]:
    """Combine the points of one method into the numbers of its record.

    Args:
        result: results of the method, whose points were all measured.

    Returns:
        The numbers by their names in the record, and its status.

    Example:
        >>> from fgbench.core.estimator import Claims
        >>> from fgbench.estimators.bp import Backprop
        >>> from fgbench.measurement.design import Design
        >>> from fgbench.measurement.draw_statistics.places import PlaceMoments
        >>> from fgbench.measurement.result import MethodResult, Plan, PointResult
        >>> one, zero = np.ones(6), np.zeros(6)
        >>> exact = PlaceMoments(one, one, zero, np.zeros((6, 6)), one, one, 0.0, None, 1.0, 1.0, one, 3)
        >>> plan = Plan(Backprop(), draws=6, claims=Claims("none", deterministic=True), elements=3)
        >>> point = PointResult(plan, 0, 0.0, {ALL: exact}, "dual", {"forward_equivalents": 3.0})
        >>> numbers(MethodResult(Design(), plan).with_point(point))["scale"]["value"]
        1.0
    """
    body, per_place = _combine(result)
    return {
        **body,
        "status": "diverged" if body["reason"] == NOT_FINITE else "ok",
        **_priced(body, result),
        "expected_cosine": intervals.expected_cosine(result.plan.elements),
        "elements": result.plan.elements,
        "claimed": _claimed(result),
        **_documented(result),
        **{f"per_{kind}": _of(kind, per_place) for kind in ("site", "module", "parameter")},
        "cost": _cost(result),
        "points": _points(result),
        "silent": _silent(result),
    }


def of_moment(result: MethodResult, moment: float) -> dict[str, Any]:
    """Combine the points of one moment of the trajectory.

    Args:
        result: results of the method, whose points were all measured.
        moment: epochs of the trajectory.

    Returns:
        The numbers of the body by their names in the record, and those of `ALONG` by site.

    Example:
        >>> from fgbench.core.estimator import Claims
        >>> from fgbench.estimators.bp import Backprop
        >>> from fgbench.measurement.design import Design
        >>> from fgbench.measurement.draw_statistics.places import PlaceMoments
        >>> from fgbench.measurement.result import MethodResult, Plan, PointResult
        >>> one, zero = np.ones(6), np.zeros(6)
        >>> exact = PlaceMoments(one, one, zero, np.zeros((6, 6)), one, one, 0.0, None, 1.0, 1.0, one, 3)
        >>> plan = Plan(Backprop(), draws=6, claims=Claims("none", deterministic=True), elements=3)
        >>> point = PointResult(plan, 0, 0.0, {ALL: exact}, "dual", {"forward_equivalents": 3.0})
        >>> of_moment(MethodResult(Design(), plan).with_point(point), 0.0)["relative_variance"]["value"]
        0.0
    """
    body, per_place = _combine(result.at(moment))
    sites = {
        name: {k: numbers[k] for k in ALONG if k in numbers}
        for name, numbers in _of("site", per_place).items()
    }
    return {**body, **_priced(body, result), "per_site": sites}


def _silent(result: MethodResult) -> list[str]:
    """Return the parameters whose estimate is 0 in every draw although their gradient is not."""
    found = []
    for kind, name in result.points[0].places:
        series = [point.places[kind, name] for point in result.points]
        drawn = [s.y for s in series if not s.reason]  # where the gradient is not 0
        if kind == "parameter" and drawn and not any(y.any() for y in drawn):
            found.append(name)
    return found


def _claimed(result: MethodResult) -> dict[str, str]:
    """Return the bias that is claimed, and its cause where an option or the locality is one."""
    claims = result.plan.claims
    if claims is None:
        return {}
    kind = {} if claims.kind == "gradient" else {"kind": claims.kind}
    return {"bias": claims.bias, "why": claims.why, **kind}


def _documented(result: MethodResult) -> dict[str, Any]:
    """Return bias and scale against the documented mean, relative to its norm; none without one."""
    series = [point.documented for point in result.points]
    known = [s for s in series if s is not None and not s.reason]
    if not known or len(known) < len(series):
        return {}
    inits = [point.init for point in result.points]
    moments = [point.moment for point in result.points]
    where = inits, [sorted(set(moments)).index(m) for m in moments]
    pairs = [(s.gram, float(s.d2.sum())) for s in known]
    rounding = result.plan.rounding
    scale = replicates.scale_over([s.x for s in known], *where, rounding)
    return {"documented": {"bias": _bias_of(result, pairs, where), "scale": scale.json()}}


def _cost(result: MethodResult) -> dict[str, float]:
    """Return the cost of one estimate."""
    return dict(result.points[-1].cost)


def _points(result: MethodResult) -> list[dict[str, Any]]:
    """Return efficiency and variance of every point, for comparing methods point by point."""
    rows = []
    for point in result.points:
        s = point.places[ALL]
        usable = not (s.reason or _not_finite(s))
        gradient = not _no_gradient(result)
        number = intervals.efficiency(s.x, s.y, s.control).value if usable else None
        variance = _variance(s, result).value if usable and gradient else None
        at = {"init": point.init, "moment": point.moment}
        rows.append({**at, "efficiency": number, "relative_variance": variance})
    return rows


def _variance(s: PlaceMoments, result: MethodResult) -> Number:
    """Return the relative variance at a point."""
    return variance.relative_variance(s.d2, s.gram, s.x, s.control, rounding=result.plan.rounding)


def _priced(body: dict[str, Any], result: MethodResult) -> dict[str, Any]:
    """Return efficiency per forward equivalent of an estimate, and variance times them."""
    price = _cost(result)["forward_equivalents"]
    return {
        "efficiency_per_forward": _times(body["efficiency"], 1 / price),
        "variance_times_cost": _times(body["relative_variance"], price),
    }


def _combine(result: MethodResult) -> tuple[dict[str, Any], dict[Place, dict[str, Any]]]:
    """Combine the points of the body, and those of every place in it."""
    per_place = {place: _place(result, place) for place in result.points[0].places}
    for place, between in result.plan.distances.items():
        per_place[place]["distance"] = between
    return per_place.pop(ALL), per_place


def _of(kind: str, per_place: dict[Place, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the places of one kind, the p-values of their bias adjusted for their number."""
    places = {name: numbers for (of, name), numbers in per_place.items() if of == kind}
    tested = multiple_tests.benjamini_hochberg([p["bias"]["p_value"] for p in places.values()])
    for place, adjusted in zip(places.values(), tested, strict=True):
        place["bias"]["p_adjusted"] = adjusted
    return places


def _times(number: dict[str, Any], factor: float) -> dict[str, Any]:
    """Multiply a number and the ends of its interval."""
    ends = ("value", "low", "high")
    return {k: v * factor if k in ends and v is not None else v for k, v in number.items()}


ALONG = (
    *("efficiency", "relative_variance", "predicted_variance", "bias", "scale", "cosine"),
    *("cosine_draws", "split", "distance", "elements", "heavy_tail", "reason"),
)
"""Numbers of a site that are reported at each moment."""
NONE: dict[str, Any] = {"value": None, "low": None, "high": None, "n": 0}


def _place(result: MethodResult, at: Place) -> dict[str, Any]:
    """Combine the points of one place."""
    series = [point.places[at] for point in result.points]
    moments = [point.moment for point in result.points]
    where = (
        [point.init for point in result.points],
        [sorted(set(moments)).index(m) for m in moments],
    )
    reasons = sorted({s.reason or _not_finite(s) for s in series} - {""})
    if reasons:
        names = ("efficiency", "relative_variance", "scale", "cosine", "locality_gap", *FURTHER)
        none = {**NONE, "reason": reasons[0]}
        empty: dict[str, Any] = {name: dict(none) for name in names}
        empty["bias"] = {**none, "p_value": None, "detectable": None}
        empty["scale"] = {**none, "p_value": None}
        empty |= {"efficiency_debiased": None, "predicted_variance": None, "end": None}
        empty |= {"elements": series[0].elements, "split": None}
        return {**empty, "heavy_tail": False, "control": False, "reason": reasons[0]}

    def over(kind: Any, numbers: list[Number]) -> dict[str, Any]:
        return dict(kind(numbers, *where).json())

    ends = [s for s in series if s.gap is not None]
    gaps = [Number.exact(s.gap, 1) for s in series if s.gap is not None]
    predicted = [s.predicted for s in series if s.predicted is not None and s.predicted > 0]
    debiased = [intervals.efficiency_debiased(s.x, s.y) for s in series]
    useful, no_end = len(ends) == len(series), {**NONE, "reason": NO_END}
    bodies = [point.places[ALL] for point in result.points]
    variances = [_variance(s, result) for s in series]
    estimates = [Estimates.of_errors(s.x, s.y, s.gram, result.plan.rounding) for s in series]
    found: dict[str, Any] = {
        "efficiency": _efficiency([(s.x, s.y, s.control) for s in series], where),
        "efficiency_debiased": float(np.mean([d for d in debiased if d is not None]))
        if any(d is not None for d in debiased)
        else None,
        "relative_variance": over(replicates.variance_over, variances),
        "predicted_variance": float(np.exp(np.mean(np.log(predicted))))
        if len(predicted) == len(series)
        else None,
        "bias": _bias(result, at, series, bodies, where),
        "scale": replicates.scale_over([s.x for s in series], *where, result.plan.rounding).json(),
        "cosine": _cosine([(s.end_x, s.end_y) for s in series], where) if useful else dict(no_end),
        "cosine_draws": _band([(s.end_x, s.end_y) for s in series]) if useful else dict(no_end),
        "end": {
            "efficiency": _efficiency([(s.end_x, s.end_y, None) for s in series], where),
            "scale": over(replicates.mean_over, [intervals.scale(s.end_x) for s in series]),
            "cosine_of_mean": _cosine_of_mean(
                estimates, [(s.end_x, s.g2 / s.end2) for s in series], where
            ),
        }
        if useful
        else None,
        "locality_gap": over(replicates.mean_over, gaps) if useful else dict(no_end),
        "locality_cosine": over(
            replicates.mean_over, [Number.exact(_locality_cosine(s), 1) for s in series]
        )
        if useful
        else dict(no_end),
        **_further(result, series, estimates, where),
        "split": _split(result, at, variances),
        "elements": series[0].elements,
        "heavy_tail": any(intervals.heavy_tail(s.y) for s in series) and not result.plan.exact,
        "control": all(s.control is not None for s in series),
        "reason": "",
    }
    return found | _without_gradient(result)


def _no_gradient(result: MethodResult) -> str:
    """Return why a method has no bias, "" where it estimates a gradient."""
    claims = result.plan.claims
    if claims is None or claims.kind == "gradient":
        return ""
    return f"it claims kind={claims.kind!r}: it estimates no gradient"


def _without_gradient(result: MethodResult) -> dict[str, Any]:
    """Return the numbers that a method lacks which estimates no gradient, with the reason."""
    why = _no_gradient(result)
    if not why:
        return {}
    none = {**NONE, "reason": why}
    return {
        **dict.fromkeys(("relative_variance", "normalised_error"), none),
        "scale": {**none, "p_value": None},
        "bias": {**none, "p_value": None, "detectable": None},
        **dict.fromkeys(("predicted_variance", "split")),
    }


def _not_finite(s: PlaceMoments) -> str:
    """Return the reason why draws give no number where an estimate was not finite, or ""."""
    return "" if np.isfinite(s.y).all() else NOT_FINITE


def _efficiency(rows: Sequence[tuple[Any, Any, Any]], where: Any) -> dict[str, Any]:
    """Combine the efficiency of the points, by the mean of its roots where single ones are unresolved."""
    alone = [intervals.efficiency(x, y, control) for x, y, control in rows]
    number = replicates.efficiency_over(alone, *where)
    if number.value is None and len(rows) > 1 and all(n.low is not None for n in alone):
        roots = [float(np.mean(x) / np.sqrt(np.mean(y))) for x, y, _ in rows]
        number = replicates.efficiency_pooled(roots, *where)
    return {**number.json(), "reason": number.reason}


def _bias(
    result: MethodResult,
    at: Place,
    series: list[PlaceMoments],
    bodies: list[PlaceMoments],
    where: Any,
) -> dict[str, Any]:
    """Combine the bias of the points; with the scale of the body free where that is what is claimed."""
    claims = result.plan.claims
    if claims is None or claims.bias != "scale":
        return _bias_of(result, [(s.gram, float(s.d2.sum())) for s in series], where)
    scales = [float(np.mean(body.x)) for body in bodies]
    if not all(c > 0.0 for c in scales):
        none = {**NONE, "reason": "the scale along the gradient is not above 0"}
        return {**none, "p_value": None, "detectable": None}
    pairs = [
        scale_free.across(s.x, s.gram, s.d2)
        if at == ALL
        else scale_free.rescaled(c, s.x, s.gram, s.d2)
        for c, s in zip(scales, series, strict=True)
    ]
    return _bias_of(result, pairs, where)


def _bias_of(
    result: MethodResult, pairs: Sequence[tuple[Any, float]], where: Any
) -> dict[str, Any]:
    """Combine Gram matrices and sums of squares; for an exact estimate any difference is certainly bias."""
    number = replicates.bias_over(
        np.stack([gram for gram, _ in pairs]),
        np.array([total for _, total in pairs]),
        result.plan.draws,
        where[0],
        where[1],
        result.plan.rounding,
    )
    if result.plan.exact and number.value:
        number = replace(number, p_value=0.0, detectable=0.0)
    return number.json()


FURTHER = (
    *("normalised_error", "signal_to_noise", "scheme_cosine", "cosine_of_mean"),
    *("sign_agreement", "locality_cosine", "cosine_draws"),
)


def _further(
    result: MethodResult, series: list[PlaceMoments], estimates: list[Estimates], where: Any
) -> dict[str, Any]:
    """Combine the further numbers against the gradient of the scheme's own objectives."""
    errors = [
        mean_direction.normalised_error(s.d2, s.control, result.plan.rounding) for s in series
    ]
    noise = replicates.ratio_over([mean_direction.signal_to_noise(e) for e in estimates], *where)
    agreed = replicates.mean_over([intervals.mean(s.agreement) for s in series], *where)
    return {
        "normalised_error": replicates.variance_over(errors, *where).json(),
        "signal_to_noise": {**noise.json(), "reason": noise.reason},
        "scheme_cosine": _cosine([(s.x, s.y) for s in series], where),
        "cosine_of_mean": _cosine_of_mean(estimates, [(s.x, 1.0) for s in series], where),
        "sign_agreement": _within(agreed.json(), 0.0),
    }


def _split(result: MethodResult, at: Place, variances: list[Number]) -> dict[str, Any] | None:
    """Split the variance at every (init, moment) and combine them; None without truths of batches."""
    if not result.between:
        return None
    networks = [(point.init, point.moment) for point in result.points]
    order = list(dict.fromkeys(networks))
    cells = []
    for gram, network in zip(result.between, order, strict=True):
        here = [k for k, other in enumerate(networks) if other == network]
        squares = [result.points[k].places[at].g2 for k in here]
        within = [variances[k] for k in here]
        cells.append(variance_split.cell(gram[at], within, squares, result.plan.rounding))
    moments = sorted({moment for _, moment in order})
    where = [init for init, _ in order], [moments.index(moment) for _, moment in order]
    return variance_split.numbers(cells, where, result.plan.directions, result.design.batch)


def _within(number: dict[str, Any], least: float) -> dict[str, Any]:
    """Clip the ends of an interval to [least, 1]: a t interval over few points may be wider."""
    ends = {k: max(least, min(number[k], 1.0)) for k in ("low", "high") if number[k] is not None}
    return {**number, **ends}


def _cosine(rows: Sequence[tuple[Any, Any]], where: Any) -> dict[str, Any]:
    """Combine the mean cosine of single draws with a gradient; 0 for an estimate of zero."""
    cosines = [intervals.cosine(_cosines(x, y)) for x, y in rows]
    return _within(replicates.mean_over(cosines, *where).json(), -1.0)


def _cosines(x: Any, y: Any) -> Any:
    """Return ⟨e, G⟩/|e||G| of every draw, 0 for an estimate of zero."""
    roots = np.sqrt(np.maximum(y, 0.0))
    return np.where(roots > 0, x / np.where(roots > 0, roots, 1.0), 0.0)


def _band(rows: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Return median, 5 % and 95 % quantiles of the cosine of single draws, over all points."""
    drawn = np.concatenate([_cosines(x, y) for x, y in rows])
    low, middle, high = map(float, np.quantile(drawn, (0.05, 0.5, 0.95)))
    return {"value": middle, "low": low, "high": high, "n": len(drawn)}


def _cosine_of_mean(
    estimates: Sequence[Estimates], rows: Sequence[tuple[Any, float]], where: Any
) -> dict[str, Any]:
    """Combine the cosine of the mean draw with a gradient, averaging inverse squares over points."""
    inverse = [
        mean_direction.inverse_cosine(e, x, ratio)
        for e, (x, ratio) in zip(estimates, rows, strict=True)
    ]
    signs = {float(np.sign(np.mean(x))) for x, _ in rows}
    if len(signs) > 1:
        inverse = [Number(None, None, None, e.draws, mean_direction.UNRESOLVED) for e in estimates]
    number = mean_direction.cosine_of_mean(replicates.mean_over(inverse, *where), max(signs))
    return {**number.json(), "reason": number.reason}


def _locality_cosine(s: PlaceMoments) -> float:
    """Return the cosine between g and G, from |g − G|² = |g|² + |G|² − 2⟨g, G⟩."""
    assert s.gap is not None
    return (s.g2 + s.end2 * (1.0 - s.gap)) / (2.0 * float(np.sqrt(s.g2 * s.end2)))
