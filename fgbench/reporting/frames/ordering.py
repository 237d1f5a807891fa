"""The order of methods, tasks and settings, the same in every table and figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fgbench.reporting.frames.method_names import family, natural

PRESETS = (
    *("BP", "L-BP", "LG-BP", "FG-W", "LG-FG-W", "FG-A", "LG-FG-A"),
    *("FA", "L-FA", "LG-FA", "DFA", "NP"),
)
"""Presets in the order of legends and rows."""
TASKS = ("supervised", "contrastive")


def order(methods: Iterable[str]) -> list[str]:
    """Sort method names: presets in the order of `PRESETS`, then the alphabet, settings behind their method.

    Args:
        methods: METHODs or labels, in any order; repeated names count once.

    Returns:
        The sorted names.

    Example:
        >>> order(["mine", "NP", "FG-A[directions=16]", "FG-A[directions=4]", "BP"])
        ['BP', 'FG-A[directions=4]', 'FG-A[directions=16]', 'NP', 'mine']
    """
    ranks = {name: rank for rank, name in enumerate(PRESETS)}

    def key(name: str) -> tuple[Any, ...]:
        method = family(name)
        return ranks.get(method, len(ranks)), natural(method), natural(name)

    return sorted(set(methods), key=key)


def arranged(table: pd.DataFrame, keys: list[str], **lists: Iterable[str]) -> pd.DataFrame:
    """Sort rows as they are drawn: methods as by `order`, other columns from low to high.

    Numbers inside texts are compared by size, and supervised tasks come before contrastive ones.

    Args:
        table: with a column ``method``.
        keys: columns to sort by.
        lists: column to its values, for columns with an order of their own.

    Returns:
        The sorted table with a new index from 0.

    Example:
        >>> table = pd.DataFrame({"method": ["NP", "BP", "BP"], "data": ["a16", "a16", "a4"]})
        >>> arranged(table, ["data", "method"]).values.tolist()
        [['BP', 'a4'], ['BP', 'a16'], ['NP', 'a16']]
    """
    ranks = {
        name: {value: at for at, value in enumerate(values)}
        for name, values in {"method": order(table["method"]), "task": TASKS, **lists}.items()
    }

    def key(column: pd.Series) -> pd.Series:
        rank = ranks.get(str(column.name))
        if rank is None and pd.api.types.is_numeric_dtype(column):
            return column
        if rank is None:
            rank = {v: at for at, v in enumerate(sorted(set(column.dropna()), key=natural))}
        return column.map(rank)

    return table.sort_values(keys, key=key, kind="stable").reset_index(drop=True)
