"""The grid of a tuning: values tried and options chosen at its edge. It imports nothing, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbers(values: object) -> list[float]:
    """Sort the numbers among the values tried for an option.

    Args:
        values: a list, or the only value.

    Returns:
        The numbers in ascending order, without truth values.

    Example:
        >>> numbers([0.3, "sgd", 0.1, True])
        [0.1, 0.3]
    """
    listed = values if isinstance(values, list) else [values]
    return sorted(v for v in listed if isinstance(v, int | float) and not isinstance(v, bool))


def edges(tuning: Mapping[str, Any]) -> dict[str, str]:
    """Find the options whose chosen value is an end of its grid, beyond which a better one may lie.

    Args:
        tuning: a tune record.

    Returns:
        Option to ``lower`` or ``upper``, in alphabetical order. An option with one tried value has no edge.

    Example:
        >>> edges({"grid": {"lr": [0.01, 0.03, 0.1]}, "chosen": {"lr": 0.1}})
        {'lr': 'upper'}
    """
    grid, chosen = (
        part if isinstance(part, Mapping) else {}
        for part in (tuning.get("grid"), tuning.get("chosen"))
    )
    at_edge = {}
    for name in sorted(set(grid) & set(chosen)):
        tried = numbers(grid[name])
        if isinstance(grid[name], list) and len(grid[name]) > 1 and chosen[name] in tried:
            ends = {tried[0]: "lower", tried[-1]: "upper"}
            if chosen[name] in ends:
                at_edge[name] = ends[chosen[name]]
    return at_edge
