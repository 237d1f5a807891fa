"""Studies of means of estimates, and of perturbation noise beside the noise of batches."""

from __future__ import annotations

from functools import partial
from math import sqrt

import numpy as np

from fgbench.stats import mean_direction, variance_split
from fgbench.stats.calibration.laws import directions, estimates, relative_variance
from fgbench.stats.calibration.study import COVERAGE, Answers, Study, holds
from fgbench.stats.intervals import Number

SPREADS = {"alike": 0.06, "apart": 0.20}  # sd of log relative variance over batches
DIMENSION = 200  # elements of the gradients of batches, whose variance falls as 1/k over them
CAREFUL = (0.93, 1.0)  # an interval whose degenerate part is counted twice


def mean_of_estimates(d: int, draws: int, shift: float, random: np.random.Generator) -> Answers:
    """Measure one point of a forward gradient whose mean is off by a shift orthogonal to the truth.

    Args:
        d: elements of the gradient.
        draws: of the point.
        shift: norm of the bias over that of the truth.
        random: the run's generator.

    Returns:
        Coverage of the normalised error, with and without control, signal-to-noise and the cosine of the
        mean.

    Example:
        >>> answers = mean_of_estimates(5, 16, 0.0, np.random.default_rng(0))
        >>> list(answers)[:2]
        ['normalised error', 'normalised error, controlled']
    """
    facts = estimates(directions("gaussian", d, draws, random)).facts(shift)
    variance = relative_variance("gaussian", d)
    e = mean_direction.Estimates.of_errors(facts.x, facts.y, facts.gram)
    error, square = variance + shift**2, 1.0 + shift**2
    inverse = mean_direction.inverse_cosine(e, facts.x)
    return {
        "normalised error": holds(mean_direction.normalised_error(facts.d2), error),
        "normalised error, controlled": holds(
            mean_direction.normalised_error(facts.d2, facts.control), error
        ),
        "signal-to-noise": holds(mean_direction.signal_to_noise(e), square / variance),
        "cosine of the mean": holds(
            mean_direction.cosine_of_mean(inverse, 1.0), 1.0 / sqrt(square)
        ),
    }


def noise_of_batches(drawn: int, spread: float, random: np.random.Generator) -> Answers:
    """Split the variance at one network: 16 truths, draws on a few of their batches.

    Args:
        drawn: batches that are drawn on, each with a relative variance of its own known to 10 %.
        spread: standard deviation of its logarithm over batches.
        random: the run's generator.

    Returns:
        Coverage of the variance over batches, the ratio of perturbation variance to it and both noise scales.

    Example:
        >>> answers = noise_of_batches(2, 0.1, np.random.default_rng(0))
        >>> sorted(set(answers.values()) - {0.0, 1.0})
        []
    """
    scales = 1.0 / np.sqrt(np.arange(1.0, DIMENSION + 1))
    truths = random.standard_normal((variance_split.TRUTHS, DIMENSION)) * scales
    truths[:, 0] += 2.0
    logs = spread * random.standard_normal(drawn) - spread**2 / 2
    values = 300.0 * np.exp(logs + 0.1 * random.standard_normal(drawn) - 0.005)
    within = [Number(v, v * np.exp(-0.2), v * np.exp(0.2), 64) for v in values]
    gram = truths @ truths.T
    size = float(np.diag(gram).mean())
    found = variance_split.cell(gram, within, np.diag(gram)[:drawn].tolist(), 1e-12)
    numbers = variance_split.numbers([found], ([0], [0]), 4, 128)
    batch, mean = float((scales**2).sum()), 4.0
    perturbation = 300.0 * (batch + mean)  # log-normal factors of mean 1

    def held(name: str, answer: float) -> float:
        of = numbers[name]
        return holds(Number(of["value"], of["low"], of["high"], of["n"]), answer)

    return {
        "variance over batches": held("batch_variance", batch / size),
        "perturbation over batch": held("perturbation_over_batch", perturbation / batch),
        "noise scale of batches": held("batch_noise_scale", 128.0 * batch / mean),
        "noise scale of perturbation": held("perturbation_noise_scale", 4.0 * perturbation / mean),
    }


def studies() -> list[Study]:
    """List the studies of means and noise.

    Returns:
        Forward gradients with and without bias; batches that are alike and apart.

    Example:
        >>> studies()[0].name
        'mean of fg_w gaussian, bias 0, d = 20, K = 256'
    """
    bands = dict.fromkeys(("normalised error", "normalised error, controlled"), COVERAGE)
    bands |= dict.fromkeys(("signal-to-noise", "cosine of the mean"), CAREFUL)
    means = [
        Study(
            f"mean of fg_w gaussian, bias {shift:g}, d = {d}, K = {draws}",
            partial(mean_of_estimates, d, draws, shift),
            1000,
            bands,
        )
        for d in (20, 2000)
        for draws in (256, 1000)
        for shift in (0.0, 0.5)
    ]
    names = ("variance over batches", "perturbation over batch", "noise scale of batches")
    bands = dict.fromkeys((*names, "noise scale of perturbation"), CAREFUL)
    return means + [
        Study(
            f"{variance_split.TRUTHS} truths, {drawn} batches, {name}",
            partial(noise_of_batches, drawn, spread),
            2000,
            bands,
        )
        for drawn in (2, 4, 8)
        for name, spread in SPREADS.items()
    ]
