"""The goal of a network on a data set: the shape of predictions, the loss, and the metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fgbench.core.losses import IGNORED, cross_entropy, squared_error
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.losses import Loss


@dataclass(frozen=True)
class Metric:
    """A number that says how well a split is predicted: a mean over examples, and what is made of it.

    Args:
        of: from predictions and targets to one number per example, ``[b]``.
        finish: from the mean over the examples of a split, and all its targets, to the metric; the mean
            itself where None.
        unit: of the metric, such as ``bits``; ``fraction`` for what is shown in percent, "" for none.
        best: ``low`` or ``high``, whichever is better.
        chance: what predictions that do not look at the inputs reach, None where that is not known.

    Example:
        >>> import torch
        >>> metric = Metric(squared_error, lambda mean, targets: math.sqrt(mean))
        >>> metric.value(4.0, torch.zeros(3))
        2.0
    """

    of: Callable[[Tensor, Any], Tensor]
    finish: Callable[[float, Any], float] | None = None
    unit: str = ""
    best: Literal["low", "high"] = "low"
    chance: float | None = None

    def value(self, mean: float, targets: Any) -> float:
        """Return the metric of a split.

        Args:
            mean: of its examples' numbers.
            targets: all its targets.
        """
        return mean if self.finish is None else float(self.finish(mean, targets))

    def described(self) -> dict[str, Any]:
        """Return unit, better direction and chance level, as records have them."""
        return {"unit": self.unit, "best": self.best, "chance": self.chance}


@dataclass(frozen=True)
class Goal:
    """The shape of a prediction, the loss per example, and the metrics of a split.

    Args:
        outputs: shape of the prediction of one example: ``(classes,)``, ``(tokens, vocabulary)``, ``(1,)``.
        loss: from predictions and targets to one loss per example, ``[b]``.
        metrics: by name, beside the loss.
        main: the metric that is shown first and by which settings are chosen; ``loss`` is one of them.

    Raises:
        UsageError: if ``main`` is no metric.

    Example:
        >>> goal = classes(10)
        >>> goal.outputs, goal.main, goal.metrics["error"].chance
        ((10,), 'error', 0.9)
    """

    outputs: tuple[int, ...]
    loss: Loss
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    main: str = "loss"

    def __post_init__(self) -> None:
        if self.main != "loss" and self.main not in self.metrics:
            raise unknown("main metric", self.main, ["loss", *self.metrics])
        if "loss" in self.metrics:
            raise UsageError("the loss is a metric always: give the others other names")

    def described(self) -> dict[str, dict[str, Any]]:
        """Return what records say of the metrics, the main one first."""
        shown = {"loss": Metric(self.loss), **self.metrics}
        names = [self.main, *(name for name in self.metrics if name != self.main)]
        return {name: shown[name].described() for name in names}


def classes(count: int) -> Goal:
    """Return the goal of a label per example: cross entropy, and the fraction of wrong predictions.

    Args:
        count: number of classes.

    Example:
        >>> import torch
        >>> classes(3).metrics["error"].of(torch.eye(3), torch.tensor([0, 1, 1]))
        tensor([0., 0., 1.])
    """
    error = Metric(_wrong, unit="fraction", chance=1 - 1 / count)
    return Goal((count,), cross_entropy, {"error": error}, "error")


def tokens(length: int, vocabulary: int, *, text: bool = False, labels: int = 0) -> Goal:
    """Return the goal of a label per token: cross entropy averaged over the tokens of an example.

    Args:
        length: tokens of an example.
        vocabulary: number of labels.
        text: whether the tokens are characters, so that the loss is told in bits per character.
        labels: how many of the labels occur, equally often, for the level of chance; all where 0.

    Example:
        >>> tokens(64, 128, text=True).described()["bits_per_character"]
        {'unit': 'bits', 'best': 'low', 'chance': 7.0}
        >>> tokens(20, 10).main
        'token_error'
    """
    metrics = {
        "token_error": Metric(_wrong_tokens, unit="fraction", chance=1 - 1 / (labels or vocabulary))
    }
    if text:
        bits = Metric(cross_entropy, _in_bits, "bits", chance=math.log2(vocabulary))
        metrics = {"bits_per_character": bits, **metrics}
    return Goal((length, vocabulary), cross_entropy, metrics, next(iter(metrics)))


def numbers(shape: tuple[int, ...], variance: float) -> Goal:
    """Return the goal of regression: squared error, and the part of the variance that is explained.

    Args:
        shape: of one example's target.
        variance: of the test targets about their mean, averaged over the numbers of an example: what
            guessing that mean has as its squared error.

    Example:
        >>> list(numbers((1,), variance=2.0).metrics)
        ['mse', 'r2']
    """
    mse = Metric(squared_error, chance=variance)
    r2 = Metric(squared_error, _explained, best="high", chance=0.0)
    return Goal(shape, squared_error, {"mse": mse, "r2": r2}, "mse")


def variance(targets: Tensor) -> float:
    """Return the variance of targets over examples, averaged over the numbers of an example.

    Example:
        >>> import torch
        >>> variance(torch.tensor([[0.0], [2.0]]))
        1.0
    """
    return float(targets.double().var(0, unbiased=False).mean())


def _wrong(prediction: Tensor, labels: Tensor) -> Tensor:
    """Return 1 for each example whose highest logit is not its label's, ``[b]``."""
    return (prediction.argmax(1) != labels).to(prediction.dtype)


def _wrong_tokens(prediction: Tensor, labels: Tensor) -> Tensor:
    """Return the fraction of wrong tokens of each example, ``[b]``."""
    counted = labels != IGNORED
    wrong = (prediction.argmax(-1) != labels) & counted
    return wrong.flatten(1).sum(1).to(prediction.dtype) / counted.flatten(1).sum(1)


def _in_bits(mean: float, targets: Any) -> float:
    """Return nats as bits."""
    return mean / math.log(2)


def _explained(mean: float, targets: Tensor) -> float:
    """Return the part of the variance of a split's targets that its squared error leaves explained."""
    return 1 - mean / variance(targets)
