"""Guided evolution strategies: mean and variance by the covariance of the directions, exactly."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance.nets import FEW, Case
from fgbench.conformance.unbiased import Drawn
from fgbench.conformance.variance import variance
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.task import Task
from tests.makers.cases import slow_if
from tests.makers.function_view import FunctionView
from tests.makers.networks import batch, build, worst

NOISE = Noise(0, dtype=torch.float64)
SHAPES = {"w": (2, 3), "b": (2,)}
G = {name: NOISE.normal(f"g {name}", shape) for name, shape in SHAPES.items()}
D, K = 8, 3


def make(text: str) -> Any:
    return registry.make("estimators", text).thing


def linear() -> FunctionView:
    zeros = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    return FunctionView(lambda p: sum((G[n] * p[n]).sum() for n in G), zeros)


def guides() -> dict[str, Tensor]:
    return {name: NOISE.normal(f"guide {name}", (K, *shape)) for name, shape in SHAPES.items()}


def design() -> DesignedNoise:
    """An orthonormal design of all numbers that one estimate draws: ξ and ζ together."""
    basis = torch.linalg.qr(NOISE.normal("basis", (D + K, D + K))).Q * sqrt(D + K)
    w, b, low = basis.split([6, 2, K], 1)
    given = {"w": w.reshape(-1, 2, 3), "b": b, "low": low}
    return DesignedNoise(0, dtype=torch.float64, given=given)


def covariance(alpha: float) -> Tensor:
    """α I + (1 − α)(d/k) Q Qᵀ, over both parameters joined."""
    flat = torch.cat([guide.flatten(1) for guide in guides().values()], 1)
    q = torch.linalg.qr(flat.T).Q
    return alpha * torch.eye(D, dtype=torch.float64) + (1 - alpha) * D / K * q @ q.T


def joined(grads: Any) -> Tensor:
    return torch.cat([grads[name].flatten() for name in SHAPES])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_mean_is_the_gradient_times_the_covariance(alpha: float) -> None:
    made = make(f"guided_es[alpha={alpha},directions={D + K},guides={K}]")
    found = made(linear(), design(), guides()).grads
    expected = covariance(alpha) @ joined(G)
    torch.testing.assert_close(joined(found), expected, rtol=0, atol=1e-8)  # a difference of 1e-3
    exact = replace(made, step=0.0)(linear(), design(), guides()).grads
    torch.testing.assert_close(joined(exact), expected, rtol=0, atol=1e-12)


def test_alpha_0_stays_within_the_subspace_and_alpha_1_is_plain() -> None:
    inside = joined(make("guided_es[alpha=0,step=0]")(linear(), NOISE, guides()).grads)
    q = covariance(0.0) * K / D
    torch.testing.assert_close(q @ inside, inside, rtol=0, atol=1e-12)
    plain = make("guided_es[alpha=1,step=0]")(linear(), NOISE, guides()).grads
    view = linear()
    v = NOISE.directions(SHAPES)
    expected = view.credit(view.slopes(v), v)
    torch.testing.assert_close(joined(plain), joined(expected), rtol=0, atol=1e-12)


def test_the_trace_of_the_covariance_is_that_of_plain_noise() -> None:
    for alpha in (0.0, 0.3, 1.0):
        assert float(covariance(alpha).trace()) == pytest.approx(D, rel=1e-12)


DOCUMENTED = [
    "guided_es[step=0,alpha=0.2,guides=2]",
    "guided_es[step=0,alpha=1,guides=1]",
    "guided_es[step=0,directions=2,guides=1]",
    "guided_es[step=0,guides=40]",
]


@pytest.mark.parametrize("text", slow_if(DOCUMENTED, lambda text: text != DOCUMENTED[0]))
def test_documented_variance_is_exact(text: str) -> None:
    assert "equals the exact one" in variance(Case.build(FEW, "end", make(text)))


def test_the_documented_mean_is_that_of_a_design() -> None:
    """On a network, and under local losses: the state of every objective spans a space of its own."""
    for locality in ("end", "local"):
        case = Case.build(FEW, locality, make("guided_es[step=0,guides=2]"))
        total: dict[str, Tensor] = {}
        for view in case.task.views(case.x, case.y, CostCounter()):
            if view.objective.updates:
                own = case.estimator.expected(view, case.state[view.objective.name])
                total |= own
            view.output()
        drawn = Drawn.by(case)
        assert drawn.degree_two()
        expected = case.flat(total)
        top = float(expected.abs().max())
        basis = torch.linalg.qr(NOISE.normal("all", (drawn.size, drawn.size))).Q * sqrt(drawn.size)
        mean = torch.stack([drawn.at(r) for r in basis]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=0, atol=1e-9 * top)
        assert float((case.flat(case.truth) - expected).abs().max()) > 0.1 * top


def test_the_efficiency_of_a_good_guide() -> None:
    """With the gradient itself among the guides and α = 0: |C g|²/(|g|² E|ĝ|²) → 1/(k + 2)."""
    view = linear()
    own = {name: torch.cat([G[name].unsqueeze(0), guides()[name][1:]]) for name in SHAPES}
    made = make(f"guided_es[step=0,alpha=0,guides={K}]")
    q = made._basis(own)
    g = joined(G)
    inside = torch.cat([q[name].flatten(1) for name in SHAPES], 1)
    c = D / K * inside.T @ inside
    mean, energy = c @ g, g @ c @ g
    second = energy * c.trace() + 2 * (mean @ mean)
    efficiency = float((mean @ g) ** 2 / ((g @ g) * second))
    assert efficiency == pytest.approx(1 / (K + 2), rel=1e-10)
    assert view.shapes == SHAPES


def test_the_newest_estimate_is_the_first_guide() -> None:
    task, made, noise = build("mlp-2x4", "guided_es/local", (1, 2, 2))
    x, y = batch(3, (1, 2, 2))
    state = task.init_state(made, noise)
    assert state.keys() == {"module0", "module1"}
    step = task.estimate(x, y, made, noise, state)
    for objective, own in step.new_state.items():
        for name, guide in own.items():
            assert torch.equal(guide[0], step.body[name])
            assert torch.equal(guide[1:], state[objective][name][:-1])


def test_guides_pull_the_estimate_along() -> None:
    """Fed with the true gradient as guide, the estimate points along it far more than a plain one."""
    task, made, noise = build("mlp-2x8", "guided_es[guides=1,alpha=0.1,step=0]/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    truth = task.scheme_truth(x, y)
    state = {"end": {name: g.unsqueeze(0) for name, g in truth.items()}}

    def cosine(body: Any) -> float:
        e, g = (torch.cat([t[n].flatten() for n in truth]) for t in (body, truth))
        return float(e @ g / (e.norm() * g.norm()))

    guided = [cosine(_estimate(task, x, y, made, noise.at(k), state)) for k in range(8)]
    plain = [
        cosine(_estimate(task, x, y, replace(made, alpha=1.0), noise.at(k), state))
        for k in range(8)
    ]
    assert min(guided) > 0.25 > max(plain)


def _estimate(task: Task, x: Tensor, y: Tensor, made: Any, noise: Noise, state: Any) -> Any:
    return task.estimate(x, y, made, noise, state).body


def test_claims_and_price() -> None:
    assert make("guided_es").claims(None).bias == "some"
    assert make("guided_es[alpha=1]").claims(None).bias == "vanishing"
    assert make("guided_es[alpha=1,step=0]").claims(None).bias == "none"
    task, made, noise = build("mlp-2x8", "guided_es[directions=3]/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    state = task.init_state(made, noise)
    ledger = task.estimate(x, y, made, noise, state).ledger
    assert ledger.forwards == pytest.approx(1 + 2 * 3)
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) == 0.0
