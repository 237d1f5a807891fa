"""Studies of measuring: one simulated point of `measure`, and headlines over points."""

from __future__ import annotations

from functools import partial
from math import exp, log, sqrt

import numpy as np

from fgbench.stats import bias, intervals, replicates, variance
from fgbench.stats.calibration.laws import LAWS, directions, estimates, relative_variance
from fgbench.stats.calibration.study import (
    COVERAGE,
    EXACT,
    POWER,
    SIZE,
    Answers,
    Study,
    below,
    holds,
)
from fgbench.stats.intervals import Floats, Number

DIMENSIONS, DRAWS = (20, 2000), (64, 256, 1000)
HALVED = (2000, 1000)  # d and K at which a bias of 50 % is planted
WIDE = (0.93, 0.99)  # the interval of a norm, cut at 0
FINDS = (0.69, 0.90)  # what `detectable` promises
COMPONENTS = {"few": (0.16, 0.06, 0.16), "many": (0.33, 0.20, 0.29)}  # init, batch, both
INEFFICIENCY, STEP = 200.0, 2.3  # at the first moment, and the log ratio from one to the next


def forward_gradient(law: str, d: int, draws: int, random: np.random.Generator) -> Answers:
    """Measure one point of a forward gradient, without bias and with two sizes of it.

    Args:
        law: of the directions.
        d: elements of the gradient.
        draws: of the point.
        random: the run's generator.

    Returns:
        Coverage of efficiency, relative variance (each with and without control), scale and bias;
        size and power of the bias test.

    Example:
        >>> answers = forward_gradient("gaussian", 5, 32, np.random.default_rng(0))
        >>> sorted(answers)[0]
        'bias'
    """
    made = estimates(directions(law, d, draws, random))
    none = made.facts()
    answer = relative_variance(law, d)
    seen = sqrt(3.0 * sqrt(2.0 * d) / draws)
    shifts = (0.0, seen, 0.5) if (d, draws) == HALVED else (0.0, seen)
    plain, moved, *halved = (
        bias.bias(f.gram, float(f.d2.sum()), draws) for f in map(made.facts, shifts)
    )
    held = Number(moved.value, moved.low, moved.high, draws)
    control = (none.x, none.control)
    answers = {
        "efficiency": holds(intervals.efficiency(none.x, none.y), 1.0 / (1.0 + answer)),
        "efficiency, controlled": holds(
            intervals.efficiency(none.x, none.y, none.control), 1.0 / (1.0 + answer)
        ),
        "relative variance": holds(variance.relative_variance(none.d2, none.gram), answer),
        "relative variance, controlled": holds(
            variance.relative_variance(none.d2, none.gram, *control), answer
        ),
        "scale": holds(intervals.scale(none.x), 1.0),
        "bias test, no bias": below(plain.p_value),
        "bias": holds(held, seen),
        "bias test, detectable bias": below(moved.p_value),
    }
    if halved:
        answers["bias test, bias of 50 %"] = below(halved[0].p_value)
    return answers


def coupled_truth(law: str, d: int, draws: int, random: np.random.Generator) -> Answers:
    """Compare estimates with <g, v> v on the same directions: slopes with 1 % noise, scale 1 or 1.02.

    Args:
        law: of the directions.
        d: elements of the gradient.
        draws: of the point.
        random: the run's generator.

    Returns:
        Size and power of the test of the scale, and coverage of the scale.

    Example:
        >>> len(coupled_truth("gaussian", 5, 32, np.random.default_rng(0)))
        4
    """
    v = directions(law, d, draws, random)
    noise = 0.01 * random.standard_normal(draws)
    answers: Answers = {}
    for name, excess in (("no error", 0.0), ("scale 1.02", 0.02)):
        f = estimates(v, excess, noise).facts(truth=0.0)
        found = bias.coupled(f.x, f.gram, float(f.d2.sum()))
        answers[f"coupled truth, {name}"] = below(found.test.p_value)
        answers[f"coupled scale, {name}"] = holds(found.scale, 1.0 + excess)
    return answers


def _logs(
    inits: int, batches: int, sd: tuple[float, float, float], random: np.random.Generator
) -> tuple[Floats, list[int], list[int]]:
    """Draw the log inefficiency of points at two moments, and the init and moment of each."""
    init = sd[0] * random.standard_normal((inits, 1, 1))
    batch = sqrt(sd[1] ** 2 + sd[2] ** 2) * random.standard_normal((inits, 2, batches))
    values = log(INEFFICIENCY) + STEP * np.arange(2)[None, :, None] + init + batch
    which = np.broadcast_to(np.arange(inits)[:, None, None], values.shape)
    when = np.broadcast_to(np.arange(2)[None, :, None], values.shape)
    return values.reshape(-1), which.reshape(-1).tolist(), when.reshape(-1).tolist()


def _point(logarithm: float, draws: int, random: np.random.Generator) -> Number:
    """Measure a point of this log inefficiency: e = <g, v> v, |v|² less slope² chi-squared."""
    slopes = random.standard_normal(draws) ** 2
    norms = slopes + random.chisquare(exp(logarithm) - 2.0, draws)  # E slope² |v|² = 1 + exp
    return intervals.efficiency(slopes, slopes * norms, slopes)


def over_points(
    inits: int, batches: int, sd: tuple[float, float, float], random: np.random.Generator
) -> Answers:
    """Go from points to a headline, batches fresh for every init and moment, 64 draws a point.

    Args:
        inits: networks.
        batches: per init and moment.
        sd: standard deviations of log inefficiency over inits, batches and both together.
        random: the run's generator.

    Returns:
        Coverage of the geometric mean over points.

    Example:
        >>> len(over_points(2, 1, COMPONENTS["few"], np.random.default_rng(0)))
        2
    """
    logs, which, when = _logs(inits, batches, sd, random)
    found = [_point(value, 64, random) for value in logs]
    answer = log(INEFFICIENCY) + STEP / 2
    variances = [Number.exact(1.0 / p.value - 1.0, p.n) if p.value else p for p in found]
    return {
        "efficiency over points": holds(
            replicates.efficiency_over(found, which, when), 1.0 / (1.0 + exp(answer))
        ),
        "relative variance over points": holds(
            replicates.variance_over(variances, which, when), exp(answer)
        ),
    }


def one_init(batches: int, random: np.random.Generator) -> Answers:
    """Measure one init: the interval is about its own mean over batches.

    Args:
        batches: per moment.
        random: the run's generator.

    Returns:
        Coverage.

    Example:
        >>> list(one_init(2, np.random.default_rng(0)))
        ['efficiency of one init']
    """
    logs, which, when = _logs(1, batches, (0.0, 0.2, 0.29), random)
    found = [_point(value, 64, random) for value in logs]
    answer = 1.0 / (1.0 + exp(log(INEFFICIENCY) + STEP / 2))
    return {"efficiency of one init": holds(replicates.efficiency_over(found, which, when), answer)}


def paired(inits: int, random: np.random.Generator) -> Answers:
    """Compare two estimators on the same points, alike and one 10 % noisier.

    Args:
        inits: networks; three moments' means make its log ratio, of standard deviation .03.
        random: the run's generator.

    Returns:
        Size, power and coverage.

    Example:
        >>> len(paired(4, np.random.default_rng(0)))
        3
    """
    a = np.exp(0.3 * random.standard_normal(inits))
    b = a * np.exp(0.03 * random.standard_normal(inits))
    alike, worse = (
        replicates.paired_log_ratio((f * a).tolist(), b.tolist(), range(inits)) for f in (1.0, 1.1)
    )
    return {
        "paired ratio, none": below(alike.p_value),
        "paired ratio, 10 %": below(worse.p_value),
        "paired ratio": holds(worse.ratio, 1.1),
    }


def _forward_gradients() -> list[Study]:
    """List every law, dimension and number of draws."""
    found = []
    for law in LAWS:
        for d in DIMENSIONS:
            for draws in DRAWS:
                bands = {
                    "efficiency": COVERAGE,
                    # |v|² never varies: with the control nothing is left to chance
                    "efficiency, controlled": COVERAGE if law == "gaussian" else EXACT,
                    "relative variance": COVERAGE,
                    "relative variance, controlled": COVERAGE,
                    "scale": COVERAGE,
                    "bias test, no bias": SIZE,
                    "bias": WIDE,
                    "bias test, detectable bias": FINDS,
                }
                if (d, draws) == HALVED:
                    bands["bias test, bias of 50 %"] = POWER
                runs = 2500 if d == 20 else 1500
                run = partial(forward_gradient, law, d, draws)
                found.append(Study(f"fg_w {law}, d = {d}, K = {draws}", run, runs, bands))
    return found


def _coupled() -> list[Study]:
    """List the coupled truth by law and dimension."""
    bands = {
        "coupled truth, no error": SIZE,
        "coupled scale, no error": COVERAGE,
        "coupled truth, scale 1.02": POWER,
        "coupled scale, scale 1.02": COVERAGE,
    }
    return [
        Study(f"coupled {law}, d = {d}, K = 256", partial(coupled_truth, law, d, 256), 1000, bands)
        for law in LAWS
        for d in DIMENSIONS
    ]


def _points() -> list[Study]:
    """List the designs of inits and batches."""
    bands = dict.fromkeys(("efficiency over points", "relative variance over points"), COVERAGE)
    found = [
        Study(
            f"{inits} inits x {batches} batches, {name} points vary",
            partial(over_points, inits, batches, sd),
            3000,
            bands,
        )
        for inits, batches in ((5, 2), (10, 1))
        for name, sd in COMPONENTS.items()
    ]
    once = Study(
        "1 init x 4 batches", partial(one_init, 4), 3000, {"efficiency of one init": COVERAGE}
    )
    bands = {
        "paired ratio, none": SIZE,
        "paired ratio, 10 %": (0.94, 1.0),
        "paired ratio": COVERAGE,
    }
    return [*found, once, Study("10 inits, two estimators", partial(paired, 10), 5000, bands)]


def studies() -> list[Study]:
    """List the studies of measuring.

    Returns:
        Forward gradients, the coupled truth, points.

    Example:
        >>> studies()[0].name
        'fg_w gaussian, d = 20, K = 64'
    """
    return [*_forward_gradients(), *_coupled(), *_points()]
