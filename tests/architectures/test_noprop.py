"""The stack of label denoisers: its schedule, and its network under backprop."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest
import torch

from fgbench.architectures.noprop import Denoiser, Step, schedule
from fgbench.core.noise.keyed import Noise
from tests.makers.places import exact, made


@pytest.mark.parametrize("blocks", [1, 2, 5, 20])
def test_steps_lead_from_one_law_to_the_next(blocks: int) -> None:
    """Mean: a + b √ᾱ_{t−1} = √ᾱ_t. Variance: b² (1 − ᾱ_{t−1}) + c = 1 − ᾱ_t. And a²/(2c) is half the gain."""
    steps = schedule(blocks)
    assert len(steps) == blocks
    for one, other in pairwise(steps):
        assert one.after == other.before
    for step in steps:
        assert 0 < step.before < step.after < 1
        assert step.a + step.b * sqrt(step.before) == pytest.approx(sqrt(step.after), rel=1e-12)
        assert step.b**2 * (1 - step.before) + step.c == pytest.approx(1 - step.after, rel=1e-12)
        assert step.a**2 / (2 * step.c) == pytest.approx(step.gain / 2, rel=1e-12)


def test_estimators_follow_the_final_loss_through_all_blocks() -> None:
    exact(*made("noprop-3x6", "end"))


def test_the_first_block_begins_at_a_label_of_zeros() -> None:
    with Noise(0).seeded():
        block = Denoiser(pixels=4, classes=3, width=5, step=Step(0.2, 0.5))
    image = Noise(1).normal("image", (2, 1, 2, 2))
    nothing = torch.cat([torch.zeros(2, 6), image.flatten(1)], 1)
    assert torch.equal(block(image), block(nothing))
    anything = torch.cat(
        [torch.ones(2, 3), nothing[:, 3:]], 1
    )  # what a block predicted is not read
    assert torch.equal(block(anything), block(nothing))
