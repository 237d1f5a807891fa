"""Every metric against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from fgbench.core.losses import cross_entropy, squared_error
from fgbench.core.noise.keyed import Noise
from fgbench.data import goal
from fgbench.data.goal import Goal, Metric
from fgbench.errors import UsageError

NOISE = Noise(4, dtype=torch.float64)


def of(metric, prediction, targets):
    """The metric of a split of one batch."""
    return metric.value(float(metric.of(prediction, targets).double().mean()), targets)


def test_error_is_the_fraction_of_wrong_labels():
    logits, labels = NOISE.normal("logits", (9, 3)), torch.arange(9) % 3
    want = sum(int(row.argmax()) != int(y) for row, y in zip(logits, labels, strict=True)) / 9
    metric = goal.classes(3).metrics["error"]
    assert of(metric, logits, labels) == pytest.approx(want, rel=1e-15)
    assert metric.chance == pytest.approx(2 / 3)


def test_bits_per_character_are_the_loss_in_bits():
    logits, labels = NOISE.normal("text", (4, 5, 8)), torch.arange(20).view(4, 5) % 8
    found = goal.tokens(5, 8, text=True)
    assert found.main == "bits_per_character"
    want = float(cross_entropy(logits, labels).mean()) / math.log(2)
    assert of(found.metrics["bits_per_character"], logits, labels) == pytest.approx(want, rel=1e-14)
    flat = torch.zeros(4, 5, 8)
    assert of(found.metrics["bits_per_character"], flat, labels) == pytest.approx(3.0, rel=1e-6)
    assert found.metrics["bits_per_character"].chance == 3.0


def test_token_error_leaves_out_what_has_no_label():
    logits = torch.eye(3).repeat(2, 1, 1)  # predicts 0, 1, 2
    labels = torch.tensor([[0, 0, -100], [-100, -100, 1]])
    assert of(goal.tokens(3, 3).metrics["token_error"], logits, labels) == (0.5 + 1) / 2


def test_r2_is_the_explained_part_of_the_variance():
    y = NOISE.normal("y", (50,))
    p = (y + 0.5 * NOISE.normal("noise", (50,)))[:, None]
    found = goal.numbers((1,), goal.variance(y))
    residual, total = ((p[:, 0] - y) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    assert of(found.metrics["r2"], p, y) == pytest.approx(float(1 - residual / total), rel=1e-13)
    assert of(found.metrics["mse"], p, y) == pytest.approx(float(residual / 50), rel=1e-13)
    guess = y.mean().expand(50, 1)
    assert of(found.metrics["r2"], guess, y) == pytest.approx(0.0, abs=1e-12)
    assert of(found.metrics["mse"], guess, y) == pytest.approx(found.metrics["mse"].chance)
    assert (found.metrics["r2"].best, found.metrics["mse"].best) == ("high", "low")


def test_a_goal_refuses_a_main_metric_that_it_lacks():
    with pytest.raises(UsageError, match=r"unknown main metric 'ms'.*mse"):
        Goal((1,), squared_error, {"mse": Metric(squared_error)}, "ms")
    with pytest.raises(UsageError, match="the loss is a metric always"):
        Goal((1,), squared_error, {"loss": Metric(squared_error)})
