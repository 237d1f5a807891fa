"""Coordinate-wise differences: exact on a quadratic, and what an active set leaves out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.clock import Clock
from fgbench.core.noise.keyed import Noise
from tests.makers.function_view import FunctionView
from tests.makers.networks import batch, build, worst

SHAPE = (1, 2, 2)
NOISE = Noise(0, dtype=torch.float64)


def make(text: str) -> Any:
    return registry.make("estimators", text).thing


def quadratic(clock: Clock = Clock()) -> tuple[FunctionView, torch.Tensor]:  # noqa: B008
    """g·w + wᵀ H w/2 of a matrix and a vector, and diag H."""
    m = NOISE.normal("h", (8, 8))
    h, g = m + m.T, NOISE.normal("g", (8,))

    def loss(p: Any) -> torch.Tensor:
        w = torch.cat([p["w"].flatten(), p["b"]])
        return g @ w + w @ h @ w / 2

    params = {"w": NOISE.normal("w", (2, 3)), "b": NOISE.normal("b", (2,))}
    return FunctionView(loss, params, clock), h.diagonal()


def test_central_is_exact_on_a_quadratic_at_any_step() -> None:
    view, _ = quadratic()
    for step in (1e-2, 1.0, 10.0):
        found = make(f"cge[sided=central,step={step}]")(view, NOISE, {}).grads
        for name, g in view.gradient.items():
            torch.testing.assert_close(found[name], g, rtol=0, atol=1e-11)


def test_forward_is_off_by_half_the_diagonal_curvature() -> None:
    view, diagonal = quadratic()
    parts = {"w": diagonal[:6].reshape(2, 3), "b": diagonal[6:]}
    found = make("cge[step=0.5]")(view, NOISE, {}).grads
    for name, g in view.gradient.items():
        torch.testing.assert_close(found[name], g + 0.25 * parts[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("locality", ["end", "local-pg"])
@pytest.mark.parametrize(("sided", "order"), [("forward", 1), ("central", 2)])
def test_the_error_shrinks_with_the_step(sided: str, order: int, locality: str) -> None:
    task, made, noise = build("mlp-2x4[activation=tanh]", f"cge[sided={sided}]/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    truth = task.scheme_truth(x, y)
    errors = [
        worst(task.estimate(x, y, replace(made, step=step), noise).body, truth)
        for step in (4e-2, 2e-2)
    ]
    assert errors[0] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_noise_changes_nothing_and_every_weight_costs_a_pass() -> None:
    task, made, noise = build("mlp-1x4", "cge/end", SHAPE)
    x, y = batch(3, SHAPE)
    one, two = (task.estimate(x, y, made, n) for n in (noise, noise.redrawn(7)))
    assert all(torch.equal(one.body[n], g) for n, g in two.body.items())
    assert one.ledger.forwards == pytest.approx(20 + 1)
    central = task.estimate(x, y, replace(made, sided="central"), noise).ledger
    assert central.forwards == pytest.approx(2 * 20 + 1)
    assert central.slopes == central.pulls == central.backwards == 0
    claims = made.claims(task.scheme)
    assert (claims.bias, claims.deterministic, claims.backward) == ("vanishing", True, "none")


def test_an_active_set_gets_its_gradient_and_the_rest_nothing() -> None:
    view, _ = quadratic()
    made = make("cge[sided=central,keep=0.5]")
    found = made(view, NOISE, {}).grads
    for name, g in view.gradient.items():
        on = found[name] != 0
        assert int(on.sum()) == g.numel() // 2
        torch.testing.assert_close(found[name][on], g[on], rtol=0, atol=1e-10)
    claims = made.claims(None)
    assert (claims.bias, claims.deterministic) == ("some", False)
    task, sparse, noise = build("mlp-1x4", "cge[keep=0.5]/end", SHAPE)
    ledger = task.estimate(*batch(3, SHAPE), sparse, noise).ledger
    assert ledger.forwards == pytest.approx(8 + 2 + 1)


def test_an_active_set_stays_for_its_steps() -> None:
    def active(step: int, k: int = 0) -> torch.Tensor:
        view, _ = quadratic(Clock(step=step))
        noise = NOISE.at(step).redrawn(k) if k else NOISE.at(step)
        grads = make("cge[keep=0.5,every=10]")(view, noise, {}).grads
        return torch.cat([(g != 0).flatten() for g in grads.values()])

    assert torch.equal(active(10), active(19))
    sets = {tuple(active(step).tolist()) for step in (0, 10, 20, 30, 40)}
    assert len(sets) > 1
    drawn = {
        tuple(active(10, k).tolist()) for k in range(1, 6)
    }  # measuring draws another each time
    assert len(drawn) > 1


def test_the_mean_over_sets_is_the_share_that_they_keep() -> None:
    """Every set of 1 of 2 weights and 1 of 2 others: nothing is rescaled."""
    view = FunctionView(lambda p: (p["w"] * torch.tensor([1.0, -2.0])).sum(), {"w": torch.zeros(2)})
    made = make("cge[keep=0.5]")
    found = {
        tuple((made(view, NOISE.at(k), {}).grads["w"]).round(decimals=6).tolist())
        for k in range(20)
    }
    assert found == {(1.0, 0.0), (0.0, -2.0)}
