"""The verdicts on a measured scale: whether it is 1, and whether it is below 0.

Halving an estimate divides its relative variance by four, so that variances compare between scales of 1
alone. An efficiency is a square and hides the sign of a scale. Terminal, figures, CSV, site and leaderboard
all read here which points are crossed out and which have no efficiency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from fgbench.stats import multiple_tests
from fgbench.stats.intervals import finite, t_quantile, t_test
from fgbench.stats.multiple_tests import LEVEL

NEAR = 0.05  # of a scale to 1: variances differ by a tenth
OWN = (
    "fgbench.estimators."  # modules whose claims are checked exactly with every change of the code
)


class Sign(StrEnum):
    """The verdict on the sign of a scale.

    Example:
        >>> str(Sign.UPHILL)
        'points uphill'
    """

    KNOWN = ""
    UPHILL = "points uphill"
    UNRESOLVED = "sign not resolved"

    def beside(self, efficiency: float | None) -> str:
        """Return the words that stand beside an efficiency.

        Args:
            efficiency: its value, None or NaN where there is none.

        Returns:
            Nothing where the sign is known, or is open and there is no efficiency that it could spoil.

        Example:
            >>> Sign.UNRESOLVED.beside(0.1), Sign.UNRESOLVED.beside(None), Sign.UPHILL.beside(None)
            ('sign not resolved', '', 'points uphill')
        """
        spoilt = self is not Sign.UNRESOLVED or _number(efficiency) is not None
        return self.value if spoilt else ""


def scale_p(numbers: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """Return the p-value of a scale of 1, where there is something to test.

    Args:
        numbers: of a place: ``scale``, and ``bias``, whose ``detectable`` of 0 says that draws have no
            sampling error.
        record: the record they are from; see :func:`checked_exactly`.

    Returns:
        The recorded p-value, which is over draws; of older records that of t at the recorded interval; 0
        for a scale that is off without sampling error. None where nothing is left to test: no value, a
        scale of 1 without sampling error, an estimate that is exactly unbiased.

    Example:
        >>> scale_p({"scale": {"value": 1.2, "low": 1.1, "high": 1.3, "n": 5, "p_value": 0.03}}, {})
        0.03
        >>> round(scale_p({"scale": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 5}}, {}), 6)
        0.05
    """
    scale, bias = _part(numbers, "scale"), _part(numbers, "bias")
    value, low, high, n = (_number(scale.get(name)) for name in ("value", "low", "high", "n"))
    if value is None or checked_exactly(record):
        return None
    if _number(bias.get("detectable")) == 0.0 or (low is not None and low == high):
        return 0.0 if abs(value - 1.0) > NEAR else None
    if "p_value" in scale:
        return _number(scale["p_value"])
    if low is None or high is None or n is None or n < 2:
        return None
    reach = high - value if value < 1.0 else value - low
    t = t_quantile(n - 1.0) * (value - 1.0) / reach if reach > 0.0 else 0.0
    return t_test(t, 1.0, n - 1.0)[1]


def checked_exactly(record: Mapping[str, Any]) -> bool:
    """Return whether an estimate is known to be unbiased without sampling.

    The estimators of this package that claim no bias have a mean that is computed exactly, over
    directions by design (:mod:`fgbench.conformance.unbiased`), and a test holds them to it. What their
    draws show by chance is no evidence against that.

    Args:
        record: of measure: ``claimed`` and ``about`` are read, and ``file``, which says that the
            estimator is from a file.

    Returns:
        Whether it is.

    Example:
        >>> about = {"module": "fgbench.estimators.fg_a", "file": ""}
        >>> checked_exactly({"claimed": {"bias": "none"}, "about": about})
        True
        >>> checked_exactly({"claimed": {"bias": "some"}, "about": about})
        False
    """
    about = _part(record, "about")
    own = str(about.get("module")).startswith(OWN) and not (about.get("file") or record.get("file"))
    return own and _part(record, "claimed").get("bias") == "none"


def sign_p(numbers: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """Return the two-sided p-value of a scale of 0, that of t at the recorded interval.

    It is below the level exactly where the interval lies on one side of 0.

    Args:
        numbers: of a place: ``scale`` is read.
        record: the record they are from; see :func:`checked_exactly`.

    Returns:
        The p-value; 0 for a scale without error, 1 for one without an interval. None where nothing is left
        to test: no value, or an estimate that is exactly unbiased, whose scale is 1.

    Example:
        >>> round(sign_p({"scale": {"value": -0.2, "low": -0.4, "high": 0.0, "n": 5}}, {}), 6)
        0.05
    """
    scale = _part(numbers, "scale")
    value, low, high, n = (_number(scale.get(name)) for name in ("value", "low", "high", "n"))
    if value is None or checked_exactly(record):
        return None
    if low is None or high is None or value == 0.0:
        return 1.0
    reach = high - value if value < 0.0 else value - low
    if low == high or reach <= 0.0:
        return 0.0
    if n is None or n < 2:
        return 1.0
    return t_test(t_quantile(n - 1.0) * value / reach, 1.0, n - 1.0)[1]


def signs(places: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Sign]:
    """Return the sign of each of the scales that are shown together.

    The efficiency is a square and does not show it. Where a scale is surely below 0, a step along the mean
    of the estimate raises the loss, so that it has no efficiency. Where its interval holds both signs, as
    over networks whose fixed random feedback points along the gradient in some and against it in others, the
    efficiency is that of a factor whose sign differs from network to network. P-values are adjusted by Holm.

    Args:
        places: numbers and record of each, as of :func:`sign_p`.

    Returns:
        `Sign.UPHILL` for a scale that is surely below 0, `Sign.UNRESOLVED` where the sign is open,
        `Sign.KNOWN` for all others.

    Example:
        >>> of = [{"value": v, "low": v - 0.1, "high": v + 0.1, "n": 5} for v in (-0.3, -0.05, 0.3)]
        >>> [str(sign) for sign in signs([({"scale": scale}, {}) for scale in of])]
        ['points uphill', 'sign not resolved', '']
    """
    adjusted = multiple_tests.holm([sign_p(*place) for place in places])
    values = [_number(_part(numbers, "scale").get("value")) for numbers, _ in places]
    return [
        Sign.KNOWN
        if p is None or value is None
        else Sign.UNRESOLVED
        if p >= LEVEL
        else (Sign.UPHILL if value < 0.0 else Sign.KNOWN)
        for value, p in zip(values, adjusted, strict=True)
    ]


def looked_at(numbers: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """Return the p-value with which a scale counts among those that are shown together.

    Args:
        numbers: as of :func:`scale_p`.
        record: as of :func:`scale_p`.

    Returns:
        That of :func:`scale_p`; 1 for a scale with sampling error of an estimate that is known to be
        unbiased: it is no evidence, but one more number that was looked at.

    Example:
        >>> record = {"claimed": {"bias": "none"}, "about": {"module": "fgbench.estimators.fg_a"}}
        >>> looked_at({"scale": {"value": 1.1, "low": 0.9, "high": 1.3, "n": 5}}, record)
        1.0
    """
    p = scale_p(numbers, record)
    if p is not None or not checked_exactly(record):
        return p
    scale, bias = _part(numbers, "scale"), _part(numbers, "bias")
    sampled = _number(bias.get("detectable")) != 0.0 and scale.get("low") != scale.get("high")
    return 1.0 if _number(scale.get("value")) is not None and sampled else None


def off_scale(values: Sequence[float | None], p_values: Sequence[float | None]) -> list[bool]:
    """Return which of the scales that are shown together are surely not 1, and away from it.

    P-values are adjusted by Holm, so that at most one figure in twenty crosses out anything falsely.

    Args:
        values: the scales; None or NaN where there is none.
        p_values: of :func:`scale_p`, None or NaN where there is nothing to test.

    Returns:
        For each whether its variance is not comparable.

    Example:
        >>> off_scale([0.5, 0.8, 1.01], [0.001, 0.3, 1e-9])
        [True, False, False]
    """
    adjusted = multiple_tests.holm([finite(p) for p in p_values])
    return [
        p is not None and p < LEVEL and v is not None and abs(v - 1.0) > NEAR
        for v, p in zip(values, adjusted, strict=True)
    ]


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a record, empty where it has none."""
    part = record.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: object) -> float | None:
    """Return a finite number as a float, and None for anything else."""
    return finite(value) if isinstance(value, int | float) else None
