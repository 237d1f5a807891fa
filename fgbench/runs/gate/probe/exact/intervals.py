"""Intervals and p-values of fixed arrays."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .cells import Cell, NotHere, cell
from .flat import Numbers, of_nested


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield intervals and p-values of fixed arrays.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> next(cells({}))["name"]
        'intervals intervals.mean'
    """
    import numpy as np

    i = np.arange(24.0)
    x = 1 + 0.3 * np.cos(i * i)
    y = x**2 + 0.5 + 0.2 * np.sin(3 * i)
    d = np.cos(np.outer(i + 1, np.arange(1, 6) + 0.5)) + 0.2
    gram, squares = d @ d.T, (d**2).sum(1)
    points = [list(x[k : k + 6]) for k in (0, 6, 12, 18)]
    calls: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
        "intervals.mean": ("intervals", (x,), {}),
        "intervals.scale": ("intervals", (x,), {}),
        "intervals.cosine": ("intervals", (x / 4,), {}),
        "intervals.efficiency": ("intervals", (x, y), {}),
        "intervals.scale_test": ("intervals", (x,), {}),
        "intervals.t_quantile": ("intervals", (7.0,), {}),
        "intervals.t_test": ("intervals", (0.3, 0.2, 7.0), {}),
        "medians.median": ("medians", (list(x),), {}),
        "aggregate.interquartile_mean": ("aggregate", ([x, y],), {}),
        "aggregate.wilson": ("aggregate", (np.array([0.2, 0.5]), np.array([10.0, 20.0])), {}),
        "bias.bias": ("bias", (gram, float(squares.sum()), 24), {}),
        "bias.coupled": ("bias", (x, gram, float(squares.sum())), {}),
        "blocks.sign_flip_p": ("blocks", (gram[:8, :8],), {}),
        "variance.relative_variance": ("variance", (squares, gram), {}),
        "variance.draws_needed": ("variance", (0.1, squares, gram), {}),
        "mean_direction.normalised_error": ("mean_direction", (x,), {}),
        "multiple_tests.holm": ("multiple_tests", ([0.01, None, 0.04, 0.2],), {}),
        "multiple_tests.benjamini_hochberg": ("multiple_tests", ([0.01, 0.04, None],), {}),
        "paired_seeds.seed_mean": ("paired_seeds", (x[:10],), {}),
        "paired_seeds.sign_flip": ("paired_seeds", (x[:10] - 1,), {}),
        "paired_seeds.difference": ("paired_seeds", (x[:10], y[:10]), {}),
        "replicates.spread": ("replicates", (list(x[:6]),), {"inits": [0, 0, 1, 1, 2, 2]}),
        "replicates.scale_over": ("replicates", (points,), {"inits": [0, 0, 1, 1]}),
        "replicates.efficiency_pooled": ("replicates", ([0.5, 0.6, 0.4],), {"inits": [0, 1, 2]}),
        "replicates.paired_log_ratio": (
            "replicates",
            (list(y[:4]), list(x[:4])),
            {"inits": [0, 1, 2, 3]},
        ),
        "seeds_needed.seeds_for": ("seeds_needed", (3,), {}),
    }
    for name, (room, given, named) in calls.items():
        yield cell(
            "intervals",
            f"intervals {name}",
            partial(_called, room, name, given, named),
            about=name,
        )


def _called(room: str, name: str, given: Sequence[Any], named: Mapping[str, Any]) -> Numbers:
    """Return what a function of ``fgbench.stats`` returns for fixed arrays."""
    module = importlib.import_module(f"fgbench.stats.{room}")
    function = getattr(module, name.rpartition(".")[2], None)
    if function is None:
        raise NotHere(f"fgbench.stats.{name} does not exist")
    return of_nested(function(*given, **named))
