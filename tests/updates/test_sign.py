"""The rule ``sign``: every weight moves by the rate against the sign of its estimate."""

from __future__ import annotations

from math import asin, pi

import pytest
import torch

from fgbench.core.noise.keyed import Noise
from fgbench.registry import make
from tests.makers.moves import move, weights

RULE = make("updates", "sign").thing


def test_weights_move_by_the_rate_and_zero_stays() -> None:
    w = weights(1.0, 1.0, 1.0)
    grads = {"w": torch.tensor([-3.0, 0.0, 1e-9], dtype=torch.float64)}
    assert RULE.step(move(w, grads, lr=0.25), RULE.start(w, {})) == {}
    assert w["w"].tolist() == [1.25, 1.0, 0.75]
    assert grads["w"].tolist() == [-3.0, 0.0, 1e-9]


def test_the_scale_of_the_estimate_does_not_matter() -> None:
    ends = []
    for scale in (1.0, 1e-6):
        w = weights(1.0, 2.0)
        RULE.step(move(w, {"w": scale * torch.tensor([0.3, -4.0]).double()}, lr=0.1), {})
        ends.append(w["w"].tolist())
    assert ends[0] == ends[1]


def test_the_mean_sign_of_a_forward_gradient_is_an_arcsine() -> None:
    """E sign((v·g) v_i) = (2/π) arcsin(g_i/|g|) for gaussian v: .4097 and .5903 at g = (3, 4).

    A mean of n = 40,000 signs has a standard error below 1/√n = .005; at 5 of them a sound rule fails once
    in 10⁶ runs, and (2/π) arcsin of g_i/Σ|g| (.2820, .3875) is 25 away.
    """
    g, n = torch.tensor([3.0, 4.0], dtype=torch.float64), 40_000
    v = Noise(11, dtype=torch.float64).normal("v", (n, 2))
    w = {"w": torch.nn.Parameter(torch.zeros(n, 2, dtype=torch.float64))}
    RULE.step(move(w, {"w": (v @ g).unsqueeze(1) * v}), {})
    mean = -w["w"].detach().mean(0)
    want = torch.tensor([2 / pi * asin(0.6), 2 / pi * asin(0.8)], dtype=torch.float64)
    assert want.tolist() == pytest.approx([0.4097, 0.5903], abs=1e-4)
    assert float((mean - want).abs().max()) < 5 / n**0.5
    planted = torch.tensor([2 / pi * asin(3 / 7), 2 / pi * asin(4 / 7)], dtype=torch.float64)
    assert float((mean - planted).abs().max()) > 20 / n**0.5
