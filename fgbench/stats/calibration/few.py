"""Studies of few draws: the bias test, of estimates with heavy tails too, and paired ratios."""

from __future__ import annotations

from functools import partial
from math import exp, log

import numpy as np

from fgbench.stats import intervals, replicates
from fgbench.stats.bias import JUDGED
from fgbench.stats.blocks import blocks
from fgbench.stats.calibration.laws import directions, estimates
from fgbench.stats.calibration.study import COVERAGE, SIZE, Answers, Study, below, holds
from fgbench.stats.intervals import Floats, Number

LAWS = ("gaussian", "rademacher")
DESIGNS = ((JUDGED, 1), (JUDGED, 2), (2 * JUDGED, 1))  # draws, and batches of one network
TOO_FEW = (JUDGED // 2, 1)
EXAMPLES, UNITS, INPUTS = 16, 12, 16
SHIFT = 0.5  # norm of a bias
AT_LEAST = (0.93, 1.0)  # a norm cut at 0, below what the draws resolve
SPREAD = 1.0  # of the logarithm of an example's credit: the largest of 16 has half of the square
HALF = 0.5 * (1.0 + 0.5 / 200.0)  # efficiency is 1 / (1 + inefficiency), this to 1e-4
Point = tuple[Floats, float]  # Gram matrix and Σ|d|², relative to |g|²


def _weights(law: str, d: int, draws: int, random: np.random.Generator) -> tuple[Point, Point]:
    """Draw one point of a forward gradient along d weights, as the test reads it: unbiased, then biased."""
    made = estimates(directions(law, d, draws, random))
    fair, moved = (made.facts(by) for by in (0.0, SHIFT))
    return (fair.gram, float(fair.d2.sum())), (moved.gram, float(moved.d2.sum()))


def _activities(law: str, draws: int, random: np.random.Generator) -> tuple[Point, Point]:
    """Draw one point of a forward gradient along activities of one layer: unbiased, then biased."""
    # e = Σ_b ⟨c_b, u_b⟩ u_b x_bᵀ with g = Σ_b c_b x_bᵀ: few examples have most of the credit c, as where
    # most are learnt, and the inputs x, of one sign as behind a ReLU, add the noise of all units up
    inputs = np.abs(random.standard_normal((EXAMPLES, INPUTS)))
    sizes = np.exp(SPREAD * random.standard_normal((EXAMPLES, 1)))
    credit = sizes * random.standard_normal((EXAMPLES, UNITS))
    u = directions(law, EXAMPLES * UNITS, draws, random).reshape(draws, EXAMPLES, UNITS)
    errors = np.einsum("kbq,bq->kb", u, credit)[:, :, None] * u - credit
    d = (errors.transpose(0, 2, 1) @ inputs).reshape(draws, -1)
    truth = (credit.T @ inputs).reshape(-1)
    d /= np.sqrt(truth @ truth)
    away = np.sign(random.standard_normal(d.shape[1])) / np.sqrt(d.shape[1])
    return _point(d), _point(d + SHIFT * away)


def _point(d: Floats) -> Point:
    """Return the Gram matrix and Σ|d|² of errors, shape [draws, elements]."""
    which = blocks(len(d))
    sums = np.stack([d[which == i].sum(0) for i in range(which.max() + 1)])
    return sums @ sums.T, float((d**2).sum())


def judged(
    kind: partial[tuple[Point, Point]], draws: int, batches: int, random: np.random.Generator
) -> Answers:
    """Test points of an estimate together, as a record does, without a bias and with one of a half.

    Args:
        kind: draws one point of both.
        draws: of each.
        batches: points, of one network.
        random: the run's generator.

    Returns:
        Whether no bias was rejected, whether there was a verdict at all, and whether the interval over
        draws holds the bias that there is.

    Example:
        >>> sorted(judged(partial(_weights, "gaussian", 5), 32, 1, np.random.default_rng(0)))[-1]
        'bias, over draws'
    """
    drawn = [kind(draws, random) for _ in range(batches)]
    none, some = (
        replicates.bias_over(
            np.stack([g for g, _ in part]), [s for _, s in part], draws, [0] * batches
        )
        for part in zip(*drawn, strict=True)
    )
    return {
        "bias test, no bias": below(none.p_value),
        "bias test, a verdict": float(none.p_value is not None),
        "bias, over draws": holds(Number(None, some.draws_low, some.draws_high, draws), SHIFT),
    }


def paired(inits: int, draws: int, random: np.random.Generator) -> Answers:
    """Compare the measured efficiency of two estimators on the same points, with noise of few draws.

    Args:
        inits: networks; the log ratio of the two inefficiencies has a standard deviation of .03.
        draws: of each point.
        random: the run's generator.

    Returns:
        Size where they are alike, and coverage where one is half as efficient.

    Example:
        >>> len(paired(4, 16, np.random.default_rng(0)))
        2
    """
    logs = log(200.0) + 0.3 * random.standard_normal(inits)
    apart = 0.03 * random.standard_normal(inits)
    one, alike, half = (
        [_efficiency(value, draws, random) for value in each]
        for each in (logs, logs + apart, logs + apart + log(2.0))
    )
    none, some = (replicates.paired_log_ratio(two, one, range(inits)) for two in (alike, half))
    return {
        "paired ratio of efficiencies, none": below(none.p_value),
        "paired ratio of efficiencies": holds(some.ratio, HALF),
    }


def _efficiency(logarithm: float, draws: int, random: np.random.Generator) -> float | None:
    """Measure the efficiency of a forward gradient of this log inefficiency, without a control."""
    slopes = random.standard_normal(draws) ** 2
    norms = slopes + random.chisquare(exp(logarithm) - 2.0, draws)
    return intervals.efficiency(slopes, slopes * norms).value


def studies() -> list[Study]:
    """List the studies of few draws.

    Returns:
        The bias test by kind of estimate, law and design, then paired ratios.

    Example:
        >>> studies()[0].name
        'fg_w gaussian, d = 20, 32 draws x 1 batches'
    """
    found = []
    for law in LAWS:
        kinds = {f"fg_w {law}, d = {d}": partial(_weights, law, d) for d in (20, 2000)}
        kinds[f"fg_a {law}, heavy tails"] = partial(_activities, law)
        for name, kind in kinds.items():
            for draws, batches in DESIGNS:
                if draws > JUDGED and "fg_w" in name:
                    continue  # among the forward gradients already
                run = partial(judged, kind, draws, batches)
                bands = {"bias test, no bias": SIZE, "bias, over draws": AT_LEAST}
                title = f"{name}, {draws} draws x {batches} batches"
                found.append(Study(title, run, 1200, bands))
            none = partial(judged, kind, *TOO_FEW)
            bands = {"bias test, a verdict": (0.0, 0.0)}
            found.append(
                Study(f"{name}, {TOO_FEW[0]} draws x {TOO_FEW[1]} batches", none, 100, bands)
            )
    bands = {"paired ratio of efficiencies, none": SIZE, "paired ratio of efficiencies": COVERAGE}
    pair = Study("10 inits x 64 draws, two estimators", partial(paired, 10, 64), 2000, bands)
    return [*found, pair]
