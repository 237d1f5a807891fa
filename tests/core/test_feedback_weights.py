"""The deviation of random feedback weights."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from fgbench.core.feedback_weights import deviation


@pytest.mark.parametrize(
    ("shape", "fan_in"), [((3, 4), 4), ((8, 3, 5, 5), 75), ((7, 2), 2), ((1, 9), 9)]
)
def test_weights_of_zeros_get_the_deviation_of_their_inputs(
    shape: tuple[int, ...], fan_in: int
) -> None:
    assert deviation(torch.zeros(shape)) == pytest.approx(1 / sqrt(fan_in))


def test_other_weights_get_their_own_deviation() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert deviation(weight) == pytest.approx(float(weight.std()))
    assert deviation(torch.tensor([[-2.0]])) == 2.0
