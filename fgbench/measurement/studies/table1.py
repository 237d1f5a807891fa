"""Measure Table 1 of the founding paper: the variance of forward gradients of one layer on a grid.

Estimates are drawn by the registered estimators on :class:`fgbench.measurement.studies.one_layer.Layer` and
compared with the closed forms of :mod:`fgbench.core.theory.forward_gradient`.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023, section
5 and its table 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import law as law_of
from fgbench.core.theory import forward_gradient
from fgbench.errors import UsageError
from fgbench.measurement.studies.one_layer import Layer
from fgbench.stats.blocks import LEAST_BLOCKS, blocks
from fgbench.stats.intervals import ROUNDING, Number
from fgbench.stats.variance import relative_variance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from fgbench.core.estimator import Estimator

METHODS = {"weight": "fg_w", "activity": "fg_a"}
SHARES: dict[str, forward_gradient.Share] = {"shared": "b", "independent": "none"}
WHAT = ("noise", "total")
ABOUT = {
    **{"method": "fg_w fg_a", "locality": "end", "arch": "one layer", "data": "64 examples"},
    **{"dtype": "float64"},
}

Sizes = Sequence[int]
Names = Sequence[str]
Row = dict[str, Any]


def table1(
    fan_in: Sizes = (4, 16, 64),
    fan_out: Sizes = (4, 16, 64),
    batch: Sizes = (2, 8, 32),
    laws: Names = ("gaussian", "rademacher", "sphere"),
    draws: int = 256,
    seed: int = 0,
    parts: Callable[[str, Callable[[], list[Row]]], list[Row]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Measure the variance of forward gradients on a grid, beside the closed forms.

    The interval of a cell is that of :func:`fgbench.stats.variance.relative_variance`: log-t over at most 32
    blocks of draws, without a control variate; at 256 draws it covers .93 (gaussian, d = 4) to .96. Cells
    share only the examples (and those of one size the given batch of ``noise``), so that the cells whose
    interval misses the prediction are independent of each other.

    Args:
        fan_in: inputs of the layer, p.
        fan_out: its units, q.
        batch: examples in a batch, N.
        laws: laws of the directions.
        draws: estimates per cell.
        seed: of examples, batches and directions.
        parts: called with the name of a block and a function that makes its rows; returns rows it has kept
            or makes them. None makes all.
        progress: called with one line before every size.

    Returns:
        A row per cell: the fields of :class:`Cell`; ``predicted`` and ``measured`` (with interval), the
        variance per weight in units of S, where V is 3; ``inside``: whether the interval holds what was
        predicted.

    Raises:
        UsageError: for an empty grid, a size below 1, an unknown law, or fewer than 4 draws.

    Cost: about 1.2 ms per draw on one core: 205 s for the default grid of 648 cells.

    Example:
        >>> rows = table1(fan_in=(2,), fan_out=(2,), batch=(2,), laws=("sphere",), draws=4)
        >>> len(rows), rows[0]["place"], rows[0]["what"]
        (8, 'weight', 'noise')
    """
    _check(draws, fan_in=fan_in, fan_out=fan_out, batch=batch, laws=laws)
    rows = []
    for p, q in product(fan_in, fan_out):
        noise = Noise(seed, dtype=torch.float64).child("table1").child(f"{p} {q}")
        layer = Layer(p, q, noise.child("examples"))
        for b in batch:
            size = f"fan-in {p}, fan-out {q}, batch {b}"
            if progress is not None:
                progress(size)
            make = partial(_block, layer, (p, q, b), laws, noise, draws)
            rows += make() if parts is None else parts(size, make)
    return rows


def _block(
    layer: Layer, size: tuple[int, int, int], laws: Names, noise: Noise, draws: int
) -> list[Row]:
    """Measure all cells of one size: fan-in, fan-out and batch."""
    b = size[-1]
    given = layer.batch(b, noise.child(f"given {b}"))
    rows = []
    for names in product(METHODS, laws, SHARES, WHAT):
        cell = Cell(*size, *names)
        own = noise.child(" ".join(map(str, (b, *names))))
        steps = [own.redrawn(k) for k in range(draws)]
        if cell.what == "noise":
            drawn = [(given, step) for step in steps]
            rows.append(_row(layer, cell, given, drawn))
        else:
            drawn = [(layer.batch(b, step), step) for step in steps]
            rows.append(_row(layer, cell, layer.everything, drawn))
    return rows


def _check(draws: int, **grid: Sequence[Any]) -> None:
    """Check the number of draws and the grid."""
    if draws < LEAST_BLOCKS:
        raise UsageError(f"table1 needs draws of at least {LEAST_BLOCKS}, got {draws}")
    for name in grid["laws"]:
        law_of(name)
    for name, values in grid.items():
        least = min((v for v in values if isinstance(v, int)), default=1)
        if not values or least < 1 or len(set(values)) < len(values):
            kind = "laws" if name == "laws" else "numbers from 1 up"
            raise UsageError(f"table1: {name} needs different {kind}, got {list(values)}")


# one cell


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Args:
        fan_in: inputs of the layer, p.
        fan_out: its units, q.
        batch: examples in a batch, N.
        place: ``weight`` or ``activity``: where the noise is.
        law: law of the directions.
        sharing: ``shared``: one direction for the whole batch; ``independent``: one for each example.
        what: ``noise``: the variance over directions at one given batch; ``total``: over fresh batches and
            directions.

    Example:
        >>> Cell(4, 4, 2, "weight", "sphere", "shared", "noise").estimator().law
        'sphere'
    """

    fan_in: int
    fan_out: int
    batch: int
    place: str
    law: str
    sharing: str
    what: str

    def estimator(self) -> Estimator:
        """Build the registered estimator of this cell."""
        options = f"law={self.law},share={SHARES[self.sharing]}"
        estimator: Estimator = registry.make(
            "estimators", f"{METHODS[self.place]}[{options}]"
        ).thing
        return estimator

    def predicted(self, moments: forward_gradient.Moments) -> float:
        """Return the closed-form variance per weight.

        Args:
            moments: moments of the batch for ``noise``, of the population for ``total``.
        """
        weights = self.fan_in * self.fan_out
        form = (
            forward_gradient.noise_variance
            if self.what == "noise"
            else forward_gradient.total_variance
        )
        units = weights if self.place == "weight" else self.fan_out
        return form(moments, self.batch, units, self.law, SHARES[self.sharing]) / weights


def _row(layer: Layer, cell: Cell, given: Tensor, drawn: Sequence[tuple[Tensor, Noise]]) -> Row:
    """Measure one cell.

    Args:
        layer: the layer of this cell's sizes.
        cell: the cell.
        given: the examples whose mean gradient is the mean of the estimates, and whose moments enter the
            prediction: the batch for ``noise``, all examples for ``total``.
        drawn: the examples and the noise of every draw.

    Returns:
        The row, see :func:`table1`.
    """
    gradients = layer.gradients(given)
    weights = gradients[0].numel()
    centre = gradients.mean(0)
    errors = (e - centre for e in layer.estimates(cell.estimator(), drawn))
    measured = variance(errors, len(drawn), weights)
    predicted = cell.predicted(forward_gradient.Moments.of(gradients))
    held = inside(predicted, measured)
    return {**asdict(cell), "predicted": predicted, "measured": measured.json(), "inside": held}


def variance(errors: Iterable[Tensor], draws: int, weights: int) -> Number:
    """Return the variance per weight of estimates with its interval, from their errors.

    Args:
        errors: estimate minus a common point, one per draw, all of one shape.
        draws: number of draws.
        weights: number that the sum over coordinates is divided by.

    Returns:
        The variance with a 95 % interval.

    Example:
        >>> errors = [torch.tensor([s, -s], dtype=torch.float64) for s in (1.0, -1.0, 2.0, -2.0)]
        >>> round(variance(errors, draws=4, weights=2).value, 3)
        3.333
    """
    squares = torch.zeros(draws, dtype=torch.float64)
    which = blocks(draws)
    sums: dict[int, Tensor] = {}
    for k, d in enumerate(errors):
        squares[k] = (d**2).sum()
        block = int(which[k])
        sums[block] = sums[block] + d if block in sums else d
    flat = torch.stack([sums[block].flatten() for block in sorted(sums)])
    gram = flat @ flat.T
    return relative_variance(squares.numpy() / weights, gram.numpy() / weights)


def inside(predicted: float, measured: Number) -> bool:
    """Check whether an interval contains a prediction, up to rounding at order one.

    Args:
        predicted: the prediction.
        measured: a number with its interval.

    Returns:
        Whether it does.

    Example:
        >>> inside(1.0, Number(1.1, 0.9, 1.3, 64))
        True
    """
    assert measured.low is not None
    assert measured.high is not None
    return measured.low - ROUNDING <= predicted <= measured.high + ROUNDING


# the table


def entry(place: str, law: str, sharing: str) -> str:
    """Format an entry of Table 1: total variance per weight, with m = pq or q units per score.

    The relative variance of one loss is m + a for every law, which leaves (m + a + 1)/N V + (m + a) S with
    shared and (m + a + 1)/N V + (m + a)/N S with independent directions.

    Args:
        place: ``weight`` or ``activity``.
        law: law of the directions.
        sharing: ``shared`` or ``independent``.

    Returns:
        The entry.

    Example:
        >>> entry("weight", "gaussian", "shared")
        '(pq+2)/N V + (pq+1) S'
    """
    units = "pq" if place == "weight" else "q"
    a = round(forward_gradient.relative_variance(1, law) - 1, 9)
    first, second = (f"({units}{n:+g})" if n else units for n in (a + 1, a))
    return f"{first}/N V + {second}{'/N' if sharing == 'independent' else ''} S"


def outcome(rows: Sequence[Row]) -> dict[str, Any]:
    """Summarise the grid.

    Args:
        rows: rows of :func:`table1`.

    Returns:
        ``summary``: one row for all cells, for each kind of variance, law and sharing, and for each entry of
        Table 1. ``cells`` and how many are ``inside``, ``coverage`` with its Clopper-Pearson interval, and
        median, smallest and largest ``ratio`` of measured to predicted (none where 0 is predicted).

    Example:
        >>> outcome([])
        {'summary': []}
    """
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    names = ("place", "law", "sharing", "what")
    sums = [(), ("what",), ("law",), ("sharing",), ("place", "law", "sharing")]
    for by in sums:
        for row in rows:
            groups[tuple(str(row[n]) if n in by else "all" for n in names)].append(row)
    return {"summary": [_summed(dict(zip(names, g, strict=True)), r) for g, r in groups.items()]}


def _summed(group: dict[str, str], rows: Sequence[Row]) -> Row:
    """Summarise one group of cells."""
    where = {name: group[name] for name in ("place", "law", "sharing")}
    held = sum(row["inside"] for row in rows)
    ratios = [r["measured"]["value"] / r["predicted"] for r in rows if r["predicted"] > ROUNDING]
    spread = (median(ratios), min(ratios), max(ratios)) if ratios else (None, None, None)
    return {
        **group,
        "entry": "" if "all" in where.values() else entry(**where),
        "cells": len(rows),
        "inside": held,
        "coverage": share(held, len(rows)).json(),
        "ratio": {**dict(zip(("value", "low", "high"), spread, strict=True)), "n": len(ratios)},
    }


def share(hits: int, n: int) -> Number:
    """Return a share of independent trials with the interval of Clopper and Pearson.

    Its ends are the shares at which so many hits or more, or so many or fewer, have a probability of 2.5 %.

    Args:
        hits: trials that succeeded.
        n: all trials.

    Returns:
        The share with its 95 % interval.

    Example:
        >>> share(0, 10).low, round(share(0, 10).high, 4)
        (0.0, 0.3085)
    """
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return Number(hits / n, low, high, n)
