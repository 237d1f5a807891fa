"""Studies of change points: numbers of commits that only wander, and such with a planted step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fgbench.stats import change_points
from fgbench.stats.calibration.study import POWER, Answers, Study

LAWS: dict[str, Callable[[np.random.Generator, int], change_points.Floats]] = {
    "normal": lambda random, n: random.standard_normal(n),
    "heavy tails": lambda random, n: random.standard_t(3, n) / 3**0.5,
    "skewed": lambda random, n: random.exponential(1.0, n) - 1.0,
}
"""Noise of a number between commits, of standard deviation 1."""
NOISE = 0.03
"""Standard deviation of a time between processes, relative to it: 2.9 to 4.9 % were measured."""
STEP = 0.3
"""Size of the planted step, relative to the number."""
FALSE = {"normal": (0.0, 0.01), "heavy tails": (0.0, 0.02), "skewed": (0.0, 0.02)}


def wandering(law: str, n: int, random: np.random.Generator) -> Answers:
    """Look for change points in a series of noise, and in the same with a step.

    Args:
        law: of the noise, one of `LAWS`.
        n: commits.
        random: the run's generator.

    Returns:
        Whether any change was found where there is none; whether exactly the planted one was, in the middle
        and two commits before the end.

    Example:
        >>> sorted(wandering("normal", 8, np.random.default_rng(0)))
        ['a step in the middle', 'a step of the last two', 'any change, none there']
    """
    noise = NOISE * LAWS[law](random, n)
    answers = {"any change, none there": float(bool(_changes(1.0 + noise)))}
    for name, at in (("a step in the middle", n // 2), ("a step of the last two", n - 2)):
        level = 1.0 + STEP * (np.arange(n) >= at)
        answers[name] = float(_changes(level * (1.0 + noise)) == (at,))
    return answers


def _changes(values: change_points.Floats) -> tuple[int, ...]:
    """Return the change points of a series of medians of samples."""
    return change_points.levels(values.tolist(), single=False).changes


def studies() -> list[Study]:
    """List the studies of change points.

    Returns:
        One per law and number of commits.

    Example:
        >>> studies()[0].name
        'change points, normal, 8 commits'
    """
    found = []
    for law, most in FALSE.items():
        for n in (8, 12, 30) if law == "normal" else (8, 12):
            bands = {"any change, none there": most}
            if law == "normal":
                bands |= dict.fromkeys(("a step in the middle", "a step of the last two"), POWER)
            run = partial(wandering, law, n)
            found.append(Study(f"change points, {law}, {n} commits", run, 4000, bands))
    return found
