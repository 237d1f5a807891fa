"""What stands in a cell of a table: a number with its interval, a bias with its verdict, a spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats import multiple_tests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVEL = 0.05
AT_START = " (as where a head starts at zero)"
NEAR = 0.05  # of a scale to 1: variances differ by a tenth


def number(found: Any, digits: int = 3) -> str:
    """Write a measured number as ``value [low, high]``; a dash where there is none."""
    if found is None:
        return "-"
    if not isinstance(found, dict):
        return f"{found:.{digits}g}"
    value, low, high = (found.get(k) for k in ("value", "low", "high"))
    if value is None:
        return "-" if high is None else f"< {high:.{digits}g}"
    if low is None or high is None or low == high:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def bias(found: Mapping[str, Any], adjusted: float | None) -> str:
    """Write a bias with its verdict, both of them over draws.

    Where a bias is seen its interval stands beside the p-value, and only its upper end where the lower one
    is 0: the test is one-sided and the sharper of the two. Where none is seen the smallest that the test
    would have seen says what that is worth.

    Args:
        found: the measured bias.
        adjusted: its p-value adjusted for the other rows, see :func:`holm`; None where there was no test.

    Returns:
        One cell.
    """
    low, high = (found.get(f"draws_{end}") for end in ("low", "high"))
    if adjusted is None:
        upper = number({"value": None, "high": high})
        return "-" if high is None else f"not tested ({upper})"
    if found["detectable"] == 0.0:
        return f"{number(found['value'])} (exact)"
    if not rejected(found, adjusted):
        return f"not rejected (p={adjusted:.2g}, detectable {number(found['detectable'])})"
    value = number({"value": found["value"], "low": low, "high": high})
    if low == 0.0 and high is not None:
        value = f"{number(found['value'])}, at most {number(high)}"
    return f"{value} (p={adjusted:.2g})"


def rejected(found: Mapping[str, Any], adjusted: float | None) -> bool:
    """Tell whether the test saw a bias and how large it is.

    Args:
        found: the measured bias.
        adjusted: its adjusted p-value.

    Returns:
        Whether there is a bias to state.
    """
    return adjusted is not None and adjusted < LEVEL and found["value"] is not None


def off_scale(scale: Mapping[str, Any] | None, bias: Mapping[str, Any] | None) -> bool:
    """Tell whether a scale is surely not 1, so that a variance is not that of an unbiased estimate.

    Surely: 1 lies twice as far off as the interval reaches; at all where no draw has a sampling error.

    Args:
        scale: the measured scale; None where there is none.
        bias: the measured bias, whose ``detectable`` of 0 says that draws have no sampling error.

    Returns:
        Whether variances are not comparable.
    """
    if not scale or scale.get("value") is None:
        return False
    value, ends = scale["value"], [scale.get(end) for end in ("low", "high")]
    reach = abs(value - ends[value < 1.0]) if None not in ends else float("inf")
    exact = (bias or {}).get("detectable") == 0.0
    return bool(abs(value - 1.0) > (NEAR if exact else max(2.0 * reach, NEAR)))


def holm(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Adjust the p-values of the bias tests of several rows: one false alarm in twenty tables.

    Args:
        records: measure records; exact ones and those that were not tested count for nothing.

    Returns:
        The Holm-adjusted p-value of each.
    """
    tests = [r.get("bias") or {} for r in records]
    sampled = [None if t.get("detectable") == 0.0 else t.get("p_value") for t in tests]
    return [
        t.get("p_value") if adjusted is None else adjusted
        for t, adjusted in zip(tests, multiple_tests.holm(sampled), strict=True)
    ]


def spread(values: Sequence[float]) -> str:
    """Write mean [min, max]."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def undefined(record: Mapping[str, Any]) -> str:
    """Say of a record that ended well why its numbers are undefined, and which moments have some.

    Args:
        record: of measure.

    Returns:
        Such as "all: undefined, at moment 0 the truth is zero"; "" where it has numbers.
    """
    if record["status"] != "ok" or not record.get("reason"):
        return ""
    parts = record.get("per_moment") or []
    lost = missing(record) if parts else list(record.get("moments") or [])
    kept = [f"{p['moment']:g}" for p in parts if not p.get("reason")]
    at = f"at moment{'s' * (len(lost) > 1)} {', '.join(map(_text, lost))} " if lost else ""
    told = f"undefined, {at}{record['reason']}{AT_START * (0 in lost)}"
    return f"{'all: ' * bool(parts)}{told}" + (
        f"; --moments {','.join(kept)} gives it" if kept else ""
    )


def missing(record: Mapping[str, Any]) -> list[Any]:
    """List the moments of a record at which nothing could be divided by its truth."""
    return [p["moment"] for p in record.get("per_moment") or [] if p.get("reason")]


def _text(moment: Any) -> str:
    """Write a moment."""
    return f"{moment:g}" if isinstance(moment, int | float) else str(moment)
