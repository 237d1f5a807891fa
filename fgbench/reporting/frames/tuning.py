"""What the record of a tuning says of its grid; imports nothing, for the terminal as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbers(values: object) -> list[float]:
    """Sort the numbers among the values tried for an option.

    Args:
        values: a list, or the only value.

    Returns:
        The numbers from the least up; truth values are none.
    """
    listed = values if isinstance(values, list) else [values]
    return sorted(v for v in listed if isinstance(v, int | float) and not isinstance(v, bool))


def edges(tuning: Mapping[str, Any]) -> dict[str, str]:
    """Find the options whose chosen value ends its grid: beyond it a better one may lie.

    Args:
        tuning: a tune record.

    Returns:
        Option to ``lower`` or ``upper``, in alphabetical order; an option of which one value was tried
        has no edge.
    """
    grid, chosen = (
        found if isinstance(found, Mapping) else {}
        for found in (tuning.get("grid"), tuning.get("chosen"))
    )
    found = {}
    for name in sorted(set(grid) & set(chosen)):
        tried = numbers(grid[name])
        if isinstance(grid[name], list) and len(grid[name]) > 1 and chosen[name] in tried:
            ends = {tried[0]: "lower", tried[-1]: "upper"}
            if chosen[name] in ends:
                found[name] = ends[chosen[name]]
    return found
