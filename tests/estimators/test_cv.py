"""The control variate: its mean over every vector of signs, its variance there, and what spoils it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance.nets import FEW, Case
from fgbench.conformance.pure import noise_keys
from fgbench.conformance.variance import variance
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise
from tests.makers.networks import batch, build, weights_of, worst
from tests.makers.signs import signs

SHAPE = (1, 1, 2)
NET = "mlp-1x2[activation=tanh]"  # 6 weights, 64 vectors of signs


def every_sign(task: Any) -> DesignedNoise:
    return DesignedNoise(0, dtype=torch.float64, given=signs(weights_of(task)))


def each_sign(task: Any) -> list[DesignedNoise]:
    rows = signs(weights_of(task))
    return [
        DesignedNoise(0, dtype=torch.float64, given={n: t[k : k + 1] for n, t in rows.items()})
        for k in range(len(next(iter(rows.values()))))
    ]


@pytest.mark.parametrize("base", ["dfa", "dfa[scale=3]", "fa", "bp"])
@pytest.mark.parametrize("locality", ["end", "local-pg"])
def test_the_mean_over_every_vector_of_signs_is_the_gradient(base: str, locality: str) -> None:
    task, cv, noise = build(NET, f"cv[base={base}]/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    state = task.init_state(cv, noise)
    found = task.estimate(x, y, cv, every_sign(task), state).body
    assert worst(found, task.scheme_truth(x, y)) < 1e-12


def test_a_base_that_depends_on_the_same_directions_is_biased() -> None:
    """The planted fault: designed noise gives the base the direction of the control variate."""
    task, cv, _ = build(NET, "cv[base=fg_w]/end", SHAPE)
    x, y = batch(3, SHAPE)
    truth = task.scheme_truth(x, y)
    draws = [task.estimate(x, y, cv, one).body for one in each_sign(task)]
    mean = {n: torch.stack([e[n] for e in draws]).mean(0) for n in truth}
    assert worst(mean, truth) > 1e-2
    case = Case.build(FEW, "end", cv)
    assert noise_keys(case) == "no random numbers are drawn for two purposes"


@pytest.mark.parametrize("base", ["dfa", "dfa[scale=0]", "fa"])
def test_the_variance_over_signs_is_d_minus_1_times_what_the_base_misses(base: str) -> None:
    task, cv, noise = build(NET, f"cv[base={base}]/end", SHAPE)
    x, y = batch(3, SHAPE)
    state = task.init_state(cv, noise)
    truth = task.scheme_truth(x, y)
    found = {n: torch.zeros((), dtype=torch.float64) for n in truth}
    every = each_sign(task)
    for one in every:
        e = task.estimate(x, y, cv, one, state).body
        for n, g in truth.items():
            found[n] = found[n] + ((e[n] - g) ** 2).sum() / len(every)
    own = registry.make("estimators", base).thing
    b = task.estimate(x, y, own, noise, state).body
    missed = sum(float(((g - b[n]) ** 2).sum()) for n, g in truth.items())
    assert float(sum(found.values())) == pytest.approx(5 * missed, rel=1e-10)
    (view,) = task.views(x, y, CostCounter())
    predicted = cv.predicted_variance(view, state["end"])
    for n, v in found.items():
        assert float(predicted[n]) == pytest.approx(float(v), rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["gaussian", "rademacher", "uniform", "sphere"])
def test_documented_variances_are_exact(law: str) -> None:
    made = registry.make("estimators", f"cv[law={law},directions=2]").thing
    assert "equals the exact one" in variance(Case.build(FEW, "end", made))


def test_around_backprop_every_draw_is_the_gradient() -> None:
    for text in ("cv[base=bp]", "cv[base=cv[base=bp]]", "cv[base=bp,law=gaussian,directions=3]"):
        task, cv, noise = build("mlp-2x4", f"{text}/end", SHAPE)
        x, y = batch(3, SHAPE)
        assert worst(task.estimate(x, y, cv, noise).body, task.scheme_truth(x, y)) < 1e-12
        (view,) = task.views(x, y, CostCounter())
        assert float(sum(cv.predicted_variance(view, {}).values())) < 1e-20


def test_around_nothing_it_is_the_forward_gradient() -> None:
    task, cv, noise = build(NET, "cv[base=dfa[scale=0]]/end", SHAPE)
    fg_w = registry.make("estimators", "fg_w[law=rademacher]").thing
    x, y = batch(3, SHAPE)
    found = task.estimate(x, y, cv, noise, task.init_state(cv, noise)).body
    plain = task.estimate(x, y, fg_w, noise).body
    assert all(torch.equal(found[n], g) for n, g in plain.items())


def test_an_unbiased_base_with_noise_has_a_closed_form() -> None:
    """E|h − g|² = (d − 1) E|g − b|², and E|g − b|² is the variance of the base."""
    task, cv, _ = build(NET, "cv[base=fg_a]/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    inner = registry.make("estimators", "fg_a").thing.predicted_variance(view, {})
    found = cv.predicted_variance(view, {})
    total: Tensor = sum(inner.values())
    assert float(sum(found.values())) == pytest.approx(5 * float(total), rel=1e-12)
    assert (
        build(NET, "cv[base=fg_a[norm_grad=false,average=c]]/end", SHAPE)[1].predicted_variance(
            view, {}
        )
        is None
    )


def test_it_claims_what_its_base_reaches() -> None:
    for base, reach in {
        "bp": "network",
        "dfa": "segment",
        "fg_w": "none",
        "cv[base=fa]": "network",
    }.items():
        task, cv, _ = build(NET, f"cv[base={base}]/end", SHAPE)
        claims = cv.claims(task.scheme)
        assert (claims.bias, claims.backward) == ("none", reach)


def test_its_price_is_the_base_and_a_pass_with_one_weight_slope() -> None:
    task, cv, noise = build("mlp-3x8", "cv[base=dfa]/end", SHAPE)
    x, y = batch(4, SHAPE)
    dfa = registry.make("estimators", "dfa").thing
    state = task.init_state(cv, noise)
    cost, base = (task.estimate(x, y, e, noise, state).ledger for e in (cv, dfa))
    assert cost.slopes - base.slopes == pytest.approx(2.0)
    assert cost.forward_equivalents - base.forward_equivalents == pytest.approx(3.0 / cost.network)


@pytest.mark.parametrize("text", ["cv[base=mezo]", "decor[base=mezo]", "cv[base=cv[base=mezo]]"])
def test_a_base_that_streams_its_estimate_is_taken_as_a_gradient(text: str) -> None:
    task, made, noise = build(NET, f"{text}/end", SHAPE)
    x, y = batch(3, SHAPE)
    state = task.init_state(made, noise)
    found = task.estimate(x, y, made, noise, state).body
    if text.startswith("decor"):  # R = I at first
        mezo = registry.make("estimators", "mezo").thing
        plain = task.estimate(x, y, mezo, noise.child("base")).body
        assert worst(found, dict(plain.items())) < 1e-12
    assert all(bool(g.any()) for g in found.values())
