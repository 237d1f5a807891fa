"""``hizoo``: shaped noise and the curvature it learns, by exact quadrature on a quadratic."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core.noise.keyed import DesignedNoise
from tests.makers.networks import batch, build, worst

D, NAME = 3, "body.0.l0.weight"
NODES = [(-(3**0.5), 1 / 6), (0.0, 2 / 3), (3**0.5, 1 / 6)]
"""Gauss-Hermite: moments of a standard normal up to degree 5 are exact."""
H = torch.tensor([[0.5, 2.0, 4.0]], dtype=torch.float64)


def quadratic(options: str, scale: float = 1.0) -> Any:
    """A quadratic loss of three weights, its gradient and its Hessian."""
    task, estimator, _ = build("linear", f"hizoo[{options}]/end", (D,), 1)
    task.chain.criterion = lambda p, y: scale * (p.square() + p).sum(1)
    x, _ = batch(4, (D,), 1)
    y = torch.zeros(4, dtype=torch.long)
    return task, estimator, (x, y), task.scheme_truth(x, y)[NAME], 2 * scale * x.T @ x / 4


def mean(found: Any) -> Tensor:
    """The expectation of a function of standard normal directions ``[1, 1, 3]``, by quadrature."""
    total = torch.zeros(())
    for nodes in product(NODES, repeat=D):
        u = torch.tensor([[[node for node, _ in nodes]]], dtype=torch.float64)
        weight = torch.tensor([w for _, w in nodes], dtype=torch.float64).prod()
        total = total + weight * found(u)
    return total


def estimate(case: Any, u: Tensor, h: Tensor = H) -> Any:
    task, estimator, (x, y), _, _ = case
    noise = DesignedNoise(0, dtype=torch.float64, given={NAME: u})
    return task.estimate(x, y, estimator, noise, {"end": {NAME: h}})


@pytest.mark.parametrize(("unscale", "power"), [("false", 1), ("true", 0)])
def test_its_mean_is_the_gradient_over_the_curvature(unscale: str, power: int) -> None:
    case = quadratic(f"step=0.1,unscale={unscale}")
    g = case[3]
    found = mean(lambda u: estimate(case, u).body[NAME])
    torch.testing.assert_close(found, g / H**power, rtol=1e-10, atol=1e-12)


def test_its_second_moment_is_the_closed_form() -> None:
    """tr(S) gᵀS g + 2 gᵀS² g with S = diag(1/h)."""
    case = quadratic("step=0.1")
    g, s = case[3], 1 / H
    found = mean(lambda u: estimate(case, u).body[NAME].square().sum())
    want = s.sum() * (g * s * g).sum() + 2 * (g * s * s * g).sum()
    assert float(found) == pytest.approx(float(want), rel=1e-10)


def samples(case: Any, h: Tensor = H) -> Tensor:
    """The mean of the sample of the curvature."""
    _, estimator, _, _, hessian = case

    def one(u: Tensor) -> Tensor:
        v = (u[0] / h.sqrt())[0]
        curved = (v @ hessian @ v / 2).unsqueeze(0)
        found: Tensor = estimator.sample(h, u, curved)
        return found

    return mean(one)


def test_the_mean_of_its_sample_is_the_diagonal_and_of_the_released_one_is_not() -> None:
    case = quadratic("step=0.1")
    diagonal = case[4].diagonal().unsqueeze(0)
    torch.testing.assert_close(samples(case), diagonal, rtol=1e-10, atol=1e-12)
    released = quadratic("step=0.1,curvature=released")
    trace = (diagonal / H).sum()
    torch.testing.assert_close(samples(released), diagonal + H * trace / 2, rtol=1e-10, atol=0)


def test_the_released_form_settles_at_half_the_dimension_plus_one() -> None:
    case = quadratic("step=0.1,curvature=released")
    h = case[4].diagonal().unsqueeze(0) * (D + 2) / 2
    torch.testing.assert_close(samples(case, h), h, rtol=1e-10, atol=0)


@pytest.mark.parametrize("form", ["centred", "released"])
def test_its_state_is_the_sample_from_losses(form: str) -> None:
    """On a quadratic L₊ + L₋ − 2 L₀ = ε² vᵀH v exactly, at any step."""
    case = quadratic(f"step=0.3,smooth=0.25,curvature={form}")
    u = torch.tensor([[[0.5, -2.0, 1.0]]], dtype=torch.float64)
    v = (u[0] / H.sqrt())[0]
    bend = v @ case[4] @ v / 2
    sample = bend * H * (u[0] ** 2 - float(form == "centred"))
    before = H.clone()
    found = estimate(case, u).new_state["end"][NAME]
    torch.testing.assert_close(found, 0.75 * H + 0.25 * sample.abs(), rtol=1e-9, atol=1e-12)
    assert torch.equal(before, H)


def test_the_curvature_scales_with_the_loss_and_the_step_does_not() -> None:
    plain, larger = (quadratic("step=0.1", scale) for scale in (1.0, 8.0))
    u = torch.tensor([[[0.5, -2.0, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(samples(larger), 8 * samples(plain), rtol=1e-10, atol=0)
    a, b = estimate(plain, u), estimate(larger, u, 8 * H)
    torch.testing.assert_close(a.body[NAME], b.body[NAME], rtol=1e-9, atol=0)


@pytest.mark.parametrize("locality", ["end", "local"])
def test_without_smoothing_it_is_the_central_difference(locality: str) -> None:
    found = []
    for method in ("hizoo[smooth=0,directions=2]", "wp[sided=central,directions=2]"):
        task, estimator, noise = build("mlp-2x70", f"{method}/{locality}")
        x, y = batch()
        state = task.init_state(estimator, noise)
        found.append(task.estimate(x, y, estimator, noise, state))
    assert worst(dict(found[0].body), dict(found[1].body)) < 1e-9
    for own in found[0].new_state.values():
        assert all(torch.equal(h, torch.ones_like(h)) for h in own.values())


def test_it_costs_two_passes_and_the_clean_one() -> None:
    task, estimator, noise = build("mlp-2x6", "hizoo[directions=2]/end")
    x, y = batch()
    state = task.init_state(estimator, noise)
    ledger = task.estimate(x, y, estimator, noise, state).ledger
    assert (ledger.forwards, ledger.slopes, ledger.backwards) == (5.0, 0.0, 0.0)


def test_the_documented_mean_is_that_of_a_vanishing_step() -> None:
    case = quadratic("step=0.1")
    task, estimator, (x, y), g, _ = case
    view = next(iter(task.views(x, y, task.chain.counter())))
    torch.testing.assert_close(estimator.expected(view, {NAME: H})[NAME], g / H)
