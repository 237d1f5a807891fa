"""Studies of comparisons: many sites, many methods, several tasks."""

from __future__ import annotations

from functools import partial
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import norm, trim_mean

from fgbench.stats import aggregate, multiple_tests, paired_seeds
from fgbench.stats.bias import bias
from fgbench.stats.blocks import blocks
from fgbench.stats.calibration.study import COVERAGE, Answers, Study, below, holds
from fgbench.stats.intervals import Floats

SITES, ELEMENTS = 12, 20
METHODS, EXAMPLES = 9, 360  # beside the reference; the test set of digits
WRONG = 0.1  # error of the reference on the task
SPREADS = (1.0, 1.0, 0.15)  # probit standard deviations: examples, examples by method, seeds
AT_MOST = (0.0, 0.05)
MARGIN = 0.03
TASKS = ((1, 10), (3, 10), (6, 10))  # tasks and runs of each


def sites(biased: int, draws: int, random: np.random.Generator) -> Answers:
    """Test the bias of every site of a forward gradient, whose sites share the slopes.

    Args:
        biased: how many sites carry a bias.
        draws: of the point.
        random: the run's generator.

    Returns:
        The share of false rejections among all (0 without any) with Benjamini-Hochberg, whether Holm
        rejects any site falsely, and the share of biased sites found.

    Example:
        >>> random = np.random.default_rng(0)
        >>> sorted(sites(0, 32, random))
        ['Benjamini-Hochberg, false among rejected', 'Holm, any false']
    """
    v = random.standard_normal((draws, SITES, ELEMENTS))
    slopes = v[..., 0].sum(1) / sqrt(SITES)  # the gradient is alike in every site
    d = slopes[:, None, None] * v
    d[..., 0] -= 1.0 / sqrt(SITES)
    d[:, :biased, 1] += sqrt(5.0 * sqrt(2.0 * ELEMENTS) / draws)
    sums = np.stack([d[blocks(draws) == i].sum(0) for i in range(blocks(draws).max() + 1)])
    p_values = [
        bias(sums[:, s] @ sums[:, s].T, float((d[:, s] ** 2).sum()), draws).p_value
        for s in range(SITES)
    ]
    found, strict = (
        np.array([below(p) for p in adjust(p_values)])
        for adjust in (multiple_tests.benjamini_hochberg, multiple_tests.holm)
    )
    answers: Answers = {
        "Benjamini-Hochberg, false among rejected": found[biased:].sum() / max(found.sum(), 1.0),
        "Holm, any false": float(strict[biased:].any()),
    }
    if biased:
        answers["Benjamini-Hochberg, biased sites found"] = float(found[:biased].mean())
    return answers


def wrong(
    rates: Floats, seeds: int, random: np.random.Generator, spreads: tuple[float, float, float]
) -> Floats:
    """Draw which test examples each run gets wrong: a probit of example, method and seed.

    Args:
        rates: error of each method over all the examples there are, shape [methods].
        seeds: runs of each.
        random: the run's generator.
        spreads: standard deviations over examples, examples by method, and seeds by method.

    Returns:
        0 or 1, shape [methods, seeds, examples].

    Example:
        >>> wrong(np.array([0.1, 0.2]), 3, np.random.default_rng(0), SPREADS).shape
        (2, 3, 360)
    """
    total = sqrt(1.0 + sum(s**2 for s in spreads))
    methods = len(rates)
    hard = spreads[0] * random.standard_normal(EXAMPLES)
    own = spreads[1] * random.standard_normal((methods, 1, EXAMPLES))
    run = spreads[2] * random.standard_normal((methods, seeds, 1))
    chance = ndtr(total * ndtri(rates)[:, None, None] + hard + own + run)
    found: Floats = (random.random(chance.shape) < chance).astype(np.float64)
    return found


def families(seeds: int, random: np.random.Generator) -> Answers:
    """Compare nine methods as good as the reference, then nine worse by exactly the margin.

    Args:
        seeds: paired runs.
        random: the run's generator.

    Returns:
        Whether any is called better or worse, whether any is called equivalent, and the share of
        intervals of the differences that hold.

    Example:
        >>> sorted(families(4, np.random.default_rng(0)))[0]
        'any better or worse, equal'
    """
    answers: Answers = {}
    for name, gap in (("equal", 0.0), ("worse by the margin", MARGIN)):
        rates = np.array([WRONG] + [WRONG + gap] * METHODS)
        reference, *others = wrong(rates, seeds, random, SPREADS)
        found = {str(i): paired_seeds.difference(one, reference) for i, one in enumerate(others)}
        said = paired_seeds.verdicts(found, MARGIN).values()
        answers[f"difference, {name}"] = float(
            np.mean([holds(one.number, gap) for one in found.values()])
        )
        if gap:
            answers["any equivalent, worse by the margin"] = float(
                any(v.equivalence_p <= multiple_tests.LEVEL for v in said)
            )
        else:
            answers["any better or worse, equal"] = float(
                any(v.holm_p <= multiple_tests.LEVEL for v in said)
            )
    return answers


def powers(seeds: int, random: np.random.Generator) -> Answers:
    """Compare nine methods that are better by one standard deviation of a paired difference.

    Args:
        seeds: paired runs, of which only the errors are known.
        random: the run's generator.

    Returns:
        The share called better.

    Example:
        >>> sorted(powers(10, np.random.default_rng(0)))
        ['better by 1 sd']
    """
    pairs = random.standard_normal((METHODS, seeds)) - 1.0
    found = {str(i): paired_seeds.difference(p, np.zeros(seeds)) for i, p in enumerate(pairs)}
    said = paired_seeds.verdicts(found, 10.0).values()
    return {"better by 1 sd": float(np.mean([v.words.startswith("better") for v in said]))}


def equivalent(seeds: int, random: np.random.Generator) -> Answers:
    """Test equivalence of one method to the reference, from the errors of seeds alone.

    Args:
        seeds: paired runs, of standard deviation a half of the margin.
        random: the run's generator.

    Returns:
        Rejections of "as far as the margin" where it is, and where there is no difference.

    Example:
        >>> len(equivalent(10, np.random.default_rng(0)))
        3
    """
    noise = 0.5 * random.standard_normal(seeds)
    at, none = (paired_seeds.difference(noise + gap, np.zeros(seeds)) for gap in (1.0, 0.0))
    return {
        "two one-sided tests, at the margin": below(paired_seeds.equivalence(at, 1.0)),
        "two one-sided tests, no difference": below(paired_seeds.equivalence(none, 1.0)),
        "smallest margin is an upper bound": float(paired_seeds.smallest_margin(at) >= 1.0),
    }


def _truth(tasks: int) -> tuple[float, Floats]:
    """Return the interquartile mean of many runs of normal tasks, and the means of the tasks."""
    means = np.linspace(0.0, 3.0, tasks) if tasks > 1 else np.zeros(1)
    levels = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    return float(trim_mean((means[:, None] + levels).reshape(-1), 0.25)), means


def over_tasks(tasks: int, runs: int, random: np.random.Generator) -> Answers:
    """Aggregate normal scores of several tasks, some apart and some overlapping.

    Args:
        tasks: how many.
        runs: of each.
        random: the run's generator.

    Returns:
        Coverage of the interquartile mean, and of the performance profile, the latter averaged over
        thresholds.

    Example:
        >>> sorted(over_tasks(1, 10, np.random.default_rng(0)))
        ['interquartile mean', 'performance profile']
    """
    answer, means = _truth(tasks)
    scores = list(means[:, None] + random.standard_normal((tasks, runs)))
    at = np.linspace(-1.0, means[-1] + 1.0, 21)
    _, low, high = aggregate.performance_profile(scores, at)
    share = norm.sf(at - means[:, None]).mean(0)
    return {
        "interquartile mean": holds(aggregate.interquartile_mean(scores), answer),
        "performance profile": float(np.mean((low <= share) & (share <= high))),
    }


def studies() -> list[Study]:
    """List the studies of comparisons.

    Returns:
        Sites, families of methods, equivalence, aggregates.

    Example:
        >>> studies()[0].name
        '12 sites, none biased, K = 256'
    """
    rejected = {"Benjamini-Hochberg, false among rejected": AT_MOST, "Holm, any false": AT_MOST}
    found = {"Benjamini-Hochberg, biased sites found": (0.5, 1.0)}
    family = {
        "any better or worse, equal": AT_MOST,
        "any equivalent, worse by the margin": AT_MOST,
        "difference, equal": COVERAGE,
        "difference, worse by the margin": COVERAGE,
    }
    one = {
        "two one-sided tests, at the margin": (0.03, 0.07),
        "two one-sided tests, no difference": (0.95, 1.0),
        "smallest margin is an upper bound": COVERAGE,
    }
    several = {"interquartile mean": COVERAGE, "performance profile": COVERAGE}
    return [
        Study("12 sites, none biased, K = 256", partial(sites, 0, 256), 1000, rejected),
        Study("12 sites, 4 biased, K = 256", partial(sites, 4, 256), 1000, rejected | found),
        Study("9 methods, 10 seeds, examples", partial(families, 10), 2500, family),
        Study("9 methods, 20 seeds, examples", partial(families, 20), 1500, family),
        Study("9 methods, 10 seeds", partial(powers, 10), 1000, {"better by 1 sd": (0.25, 1.0)}),
        Study("9 methods, 20 seeds", partial(powers, 20), 1000, {"better by 1 sd": (0.8, 1.0)}),
        Study("1 method, 10 seeds", partial(equivalent, 10), 5000, one),
        *(
            Study(f"{tasks} tasks x {runs} runs", partial(over_tasks, tasks, runs), 2000, several)
            for tasks, runs in TASKS
        ),
    ]
