"""Measure records whose numbers are undefined, because a truth they would be divided by is zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AT_START = " (as where a head starts at zero)"


def undefined(record: Mapping[str, Any]) -> str:
    """Explain why the numbers of a finished record are undefined, and at which moments they are not.

    Args:
        record: of measure.

    Returns:
        One line; "" where the record has numbers.

    Example:
        >>> undefined({"status": "ok", "reason": "the truth is zero", "moments": [0]})
        'undefined, at moment 0 the truth is zero (as where a head starts at zero)'
        >>> undefined({"status": "ok", "reason": ""})
        ''
    """
    if record["status"] != "ok" or not record.get("reason"):
        return ""
    parts = record.get("per_moment") or []
    lost = missing(record) if parts else list(record.get("moments") or [])
    defined = [f"{p['moment']:g}" for p in parts if not p.get("reason")]
    at = f"at moment{'s' * (len(lost) > 1)} {', '.join(map(_text, lost))} " if lost else ""
    cause = f"undefined, {at}{record['reason']}{AT_START * (0 in lost)}"
    return f"{'all: ' * bool(parts)}{cause}" + (
        f"; --moments {','.join(defined)} gives it" if defined else ""
    )


def missing(record: Mapping[str, Any]) -> list[Any]:
    """List the moments of a record at which its numbers are undefined.

    Args:
        record: of measure.

    Returns:
        Moments, as recorded.

    Example:
        >>> parts = [{"moment": 0, "reason": "the truth is zero"}, {"moment": 1, "reason": ""}]
        >>> missing({"per_moment": parts})
        [0]
    """
    return [p["moment"] for p in record.get("per_moment") or [] if p.get("reason")]


def _text(moment: Any) -> str:
    """Format a moment."""
    return f"{moment:g}" if isinstance(moment, int | float) else str(moment)
