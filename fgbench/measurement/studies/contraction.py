"""The contraction of forward gradient descent in linear regression, beside its closed form.

With inputs from N(0, I) in d dimensions, targets θ* · x + s N(0, 1), the loss ½ (y − θ · x)² and one fresh
example per step, a step of rate a along k averaged Gaussian forward gradients turns the mean squared distance
δ² from θ* into

    [1 − 2a + a² (d + 2) r] δ² + a² d s² r,    r = (d + 1 + k) / k,

where r = 1 for the exact gradient: E[ξξᵀAξξᵀ] = 2A + tr(A) I for symmetric A. See Bos and Schmidt-Hieber,
Convergence guarantees for forward gradient descent in the linear regression model, arXiv:2309.15001.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench import registry
from fgbench.data.linear_regression import solution
from fgbench.errors import UsageError
from fgbench.workload import Workload

if TYPE_CHECKING:
    from fgbench.core.estimator import Estimator

WEIGHT = "body.0.l0.weight"
NORMAL = 1.959964  # 97.5 % quantile of the normal law


def closed_form(
    features: int, rate: float, directions: int | None, distance: float = 1.0, noise: float = 0.0
) -> float:
    """Return the mean squared distance from θ* after one step.

    Args:
        features: d.
        rate: a.
        directions: k, None for the exact gradient.
        distance: squared distance before the step.
        noise: s.

    Example:
        >>> 1 - 1 / 64 == closed_form(6, rate=1 / 64, directions=1)
        True
        >>> 1 - 1 / 8 == closed_form(6, rate=1 / 8, directions=None)
        True
    """
    r = 1.0 if directions is None else (features + 1 + directions) / directions
    factor = 1 - 2 * rate + rate**2 * (features + 2) * r
    return factor * distance + rate**2 * features * noise**2 * r


def best_rate(features: int, directions: int | None) -> float:
    """Return the rate at which one step without noise contracts most.

    Args:
        features: d.
        directions: k, None for the exact gradient.

    Example:
        >>> best_rate(6, 1), best_rate(6, None)
        (0.015625, 0.125)
    """
    r = 1.0 if directions is None else (features + 1 + directions) / directions
    return 1 / ((features + 2) * r)


@dataclass(frozen=True)
class Contraction:
    """The mean squared distance from θ* after a step, measured and in closed form.

    Args:
        predicted: closed form.
        value: mean over fresh examples and noise.
        low: lower end of its 95 % interval.
        high: upper end.
        n: steps measured, all from the same start.

    Example:
        >>> Contraction(0.98, 0.97, 0.96, 0.985, 100).inside
        True
    """

    predicted: float
    value: float
    low: float
    high: float
    n: int

    @property
    def inside(self) -> bool:
        """Whether the closed form lies in the interval."""
        return self.low <= self.predicted <= self.high


def contraction(
    method: str = "FG-W",
    *,
    features: int = 6,
    rate: float | None = None,
    noise: float = 0.0,
    steps: int = 2000,
    seed: int = 0,
) -> Contraction:
    """Measure one step of forward gradient descent from θ = 0, on fresh examples of ``linear_regression``.

    Args:
        method: ``FG-W`` with options, or ``BP``; a step of another method has no closed form here.
        features: d; the squared distance at the start is 1.
        rate: a; the best one where None.
        noise: s.
        steps: steps from the same start, each with an example and noise of its own.
        seed: of examples and noise.

    Returns:
        The mean with its 95 % interval (normal law), and the closed form.

    Raises:
        UsageError: for a method without a closed form.

    Cost: ``steps`` estimates on a network of ``features`` weights.

    Example:
        >>> found = contraction(steps=200)
        >>> found.predicted, found.n, found.inside
        (0.984375, 200, True)
    """
    made = registry.method(method)
    k = _directions(made.estimator.thing, method)
    rate = best_rate(features, k) if rate is None else rate
    data = f"linear_regression[features={features},noise={noise},train={steps},test=1,seed={seed}]"
    workload = Workload.of("linear", data, dtype="float64")
    task, estimator, keyed = workload.task(made, seed)
    target = solution(features, seed)
    found = np.empty(steps)
    with torch.no_grad():
        task.chain.body_parameters()[WEIGHT].zero_()
    for i in range(steps):
        x, y = workload.data.batch(torch.tensor([i]), torch.float64)
        step = task.estimate(x, y, estimator, keyed.child("directions").at(i))
        found[i] = float((-rate * step.body[WEIGHT][0] - target).square().sum())
    half = NORMAL * float(found.std(ddof=1)) / sqrt(steps)
    mean = float(found.mean())
    return Contraction(
        closed_form(features, rate, k, 1.0, noise), mean, mean - half, mean + half, steps
    )


def _directions(estimator: Estimator, method: str) -> int | None:
    """Return the number of Gaussian directions of an estimator, None for the exact gradient."""
    name = type(estimator).__name__
    if name == "Backprop":
        return None
    law = getattr(estimator, "law", "")
    if name != "WeightForwardGradient" or law != "gaussian":
        raise UsageError(
            f"{method} has no closed form here: choose BP, or FG-W with gaussian directions"
        )
    return int(getattr(estimator, "directions", 1))
