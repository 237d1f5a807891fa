"""Linear regression on normal inputs, for which forward gradient descent has a closed form."""

from __future__ import annotations

import torch

from fgbench.core.losses import squared_error
from fgbench.core.noise.keyed import Noise
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import fingerprint
from fgbench.data.goal import Goal, Metric
from fgbench.errors import UsageError
from fgbench.registry import register


@register("datasets", "linear_regression")
def linear_regression(
    *,
    features: int = 6,
    noise: float = 0.0,
    train: int = 4096,
    test: int = 1024,
    seed: int = 0,
    data_dir: str | None = None,
) -> Arrays:
    """Make inputs x from N(0, I) and targets θ* · x + noise · N(0, 1); needs no file and no network.

    The loss is ½ (y − prediction)². With the linear network (``linear``), one step per fresh example and
    Gaussian noise on weights, the mean squared distance from θ* is known in closed form: see
    :mod:`fgbench.measurement.studies.contraction`.

    Args:
        features: numbers in an input.
        noise: standard deviation of the noise in the targets.
        train: training examples.
        test: test examples.
        seed: another seed gives another θ* and other examples.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set, in float64; θ* has norm 1.

    Raises:
        UsageError: a number is out of its range.

    Example:
        >>> data = linear_regression(features=3, train=8, test=4)
        >>> data.shape, data.outputs, data.main
        ((3,), (1,), 'mse')
    """
    for name, value in {"features": features, "train": train, "test": test}.items():
        if value < 1:
            raise UsageError(f"linear_regression: {name} must be 1 or more, got {value}")
    if not 0 <= noise < float("inf"):
        raise UsageError(f"linear_regression: noise must be 0 or more, got {noise}")
    draws, target = (
        Noise(seed, dtype=torch.float64).child("linear_regression"),
        solution(features, seed),
    )
    parts = []
    for name, count in (("train", train), ("test", test)):
        x = draws.normal(f"{name} x", (count, features))
        parts += [x, x @ target + noise * draws.normal(f"{name} noise", (count,))]
    mse = Metric(squared_error, chance=1 + noise**2)
    goal = Goal((1,), half_squared_error, {"mse": mse}, "mse")
    return Arrays(
        "linear_regression", *parts, goal=goal, fingerprint=fingerprint("linear_regression", *parts)
    )


def solution(features: int, seed: int = 0) -> torch.Tensor:
    """Return θ*, of norm 1.

    Args:
        features: numbers in an input.
        seed: of the data set.

    Returns:
        float64 ``[features]``.

    Example:
        >>> round(float(solution(6).norm()), 12)
        1.0
    """
    draws = Noise(seed, dtype=torch.float64).child("linear_regression")
    target = draws.normal("target", (features,))
    target /= target.norm()
    return target


def half_squared_error(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute half the squared error of each example.

    Args:
        prediction: ``[b, 1]``.
        targets: ``[b]``.

    Returns:
        ``[b]``.

    Example:
        >>> half_squared_error(torch.tensor([[3.0]]), torch.tensor([1.0]))
        tensor([2.])
    """
    off = prediction[:, 0] - targets
    return 0.5 * off * off
