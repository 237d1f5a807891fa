"""Noise that lives for several steps."""

from __future__ import annotations

import torch

from fgbench.core.clock import Clock
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.replay import NoiseReplay


def test_draws_stay_until_the_next_multiple() -> None:
    draws = [Noise(0, ("train",)).at(step).held(4).normal("x", (3,)) for step in range(12)]
    for step, x in enumerate(draws):
        assert torch.equal(x, draws[step - step % 4])
    assert len({float(x.sum()) for x in draws}) == 3


def test_a_clock_counts_where_one_is_given() -> None:
    noise = Noise(0).at(3)
    assert torch.equal(
        noise.held(4, Clock(step=9)).normal("x", (3,)), noise.at(8).held(4).normal("x", (3,))
    )


def test_it_shares_no_draw_with_the_steps_it_lives_for() -> None:
    for every in (1, 4):
        noise = Noise(0).at(4)
        assert not torch.equal(noise.held(every).normal("x", (8,)), noise.normal("x", (8,)))


def test_measuring_redraws_it() -> None:
    noise = Noise(0).at(6)
    draws = [noise.redrawn(k).held(4).normal("x", (8,)) for k in range(3)]
    assert len({float(x.sum()) for x in draws}) == 3
    assert torch.equal(draws[1], noise.redrawn(1).held(4).normal("x", (8,)))


def test_a_step_that_holds_noise_is_not_captured() -> None:
    """Its steps draw from other ones; fresh noise under every step may be captured."""
    for every, reason in ((4, "it reads the number of the step"), (1, "")):
        replay = NoiseReplay()
        noise = replay.noise({"directions": Noise(0)}, step=6)["directions"]
        drawn = noise.held(every).normal("x", (3,))
        assert torch.equal(drawn, Noise(0).at(6).held(every).normal("x", (3,)))
        assert replay.reason == reason
