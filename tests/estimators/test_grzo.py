"""GRZO: noise of its own for every example, made of shared noise and signs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance.nets import LEAST, Case
from fgbench.conformance.variance import variance
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.theory import forward_gradient
from fgbench.core.view import View
from fgbench.errors import UsageError
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)


def make(text: str) -> Any:
    return registry.make("estimators", text).thing


def signs(count: int) -> Tensor:
    return torch.tensor(list(product((-1.0, 1.0), repeat=count)), dtype=torch.float64)


# the law of the noise, without a network


def flipped(base: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """z_i = U ∘ r_i s_iᵀ: ``[K, B, m, n]``."""
    return base.unsqueeze(1) * rows.unsqueeze(3) * columns.unsqueeze(2)


@pytest.mark.parametrize("base", ["rademacher", "gaussian"])
def test_the_variance_formula_by_enumeration(base: str) -> None:
    """Two examples, one 2 × 2 matrix: all signs, and a gaussian base by quadrature."""
    b, m, n = 2, 2, 2
    g = Noise(0, dtype=torch.float64).normal("g", (b, m, n))
    if base == "rademacher":
        us, weights = signs(4), torch.full((16,), 1 / 16, dtype=torch.float64)
        fourth = 1.0
    else:
        at = (0.0, 3**0.5, -(3**0.5))
        odds = (2 / 3, 1 / 6, 1 / 6)
        us = torch.tensor(list(product(at, repeat=4)), dtype=torch.float64)
        weights = torch.tensor(
            [w[0] * w[1] * w[2] * w[3] for w in product(odds, repeat=4)], dtype=torch.float64
        )
        fourth = 3.0
    every = signs(b * (m + n))
    rows, columns = every.split([b * m, b * n], 1)
    first, second = torch.zeros(m, n, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for u, weight in zip(us, weights, strict=True):
        base_noise = u.reshape(1, m, n).expand(len(every), m, n)
        z = flipped(base_noise, rows.reshape(-1, b, m), columns.reshape(-1, b, n))
        slopes = (z * g).sum((2, 3))
        estimates = (slopes.unsqueeze(2).unsqueeze(3) * z).mean(1)
        first += weight * estimates.mean(0)
        second += weight * (estimates**2).sum((1, 2)).mean()
    mean = g.mean(0)
    torch.testing.assert_close(first, mean, rtol=0, atol=1e-12)
    variance = float(second - (mean**2).sum())
    expected = (m * n - 1) * float((g**2).sum()) / b**2 + (fourth - 1) * float((mean**2).sum())
    assert variance == pytest.approx(expected, rel=1e-12)
    floor = (fourth - 1) * float((mean**2).sum())
    assert variance > floor


# on networks


@pytest.mark.parametrize("step", [0.0, 1e-5])
@pytest.mark.parametrize("arch", ["mlp-2x8[activation=tanh]", "cnn-tiny[width=4]"])
def test_the_estimate_is_that_of_explicit_weights_of_every_example(arch: str, step: float) -> None:
    """By hand: the slope of each loss along its own U ∘ r sᵀ, from views of the whole batch."""
    task, made, noise = build(arch, f"grzo[normalise=false,step={step},directions=2]/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    each = made._flipped(view, noise)
    total: dict[str, Tensor] = {}
    for i in range(3):
        u = each(i)
        own = view.slopes(u)[:, i]
        for name in u.names:
            part = torch.tensordot(own, u.rows(name, 0, 2), dims=1) / 2
            total[name] = total[name] + part if name in total else part
    found = task.estimate(x, y, made, noise).body
    assert worst(found, total) < (1e-10 if step == 0 else 1e-4)


def test_signs_flip_rows_and_columns_of_one_base() -> None:
    task, made, noise = build("mlp-2x8", "grzo/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    each = made._flipped(view, noise)
    base = noise.directions(view.shapes, 1, made.base)
    for name, shape in view.shapes.items():
        u = base.rows(name, 0, 1)[0]
        ratio = [each(i).rows(name, 0, 1)[0] / u for i in range(3)]
        for r in ratio:
            assert bool((r.abs() == 1).all())
            if len(shape) > 1:
                assert int(torch.linalg.matrix_rank(r)) == 1
        assert not torch.equal(ratio[0], ratio[1])


def test_one_example_is_a_forward_gradient_along_its_noise() -> None:
    task, made, noise = build("mlp-2x8", "grzo[normalise=false,step=0]/end", SHAPE)
    x, y = batch(1, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    u = made._flipped(view, noise)(0)
    expected = view.credit(view.slopes(u), u)
    assert worst(task.estimate(x, y, made, noise).body, expected) < 1e-12


@pytest.mark.parametrize("base", ["rademacher", "gaussian"])
def test_the_documented_variance_is_the_formula(base: str) -> None:
    """(d − 1) Σ|g_i|²/B² + (κ − 1)|ḡ|², from gradients of single examples."""
    text = f"grzo[normalise=false,step=0,base={base},directions=2]"
    task, made, _ = build("mlp-2x8", f"{text}/end", SHAPE)
    x, y = batch(3, SHAPE)
    own = [task.scheme_truth(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    mean = task.scheme_truth(x, y)
    energy = sum(float((g**2).sum()) for one in own for g in one.values()) / 9
    d = sum(g.numel() for g in mean.values())
    floor = (0 if base == "rademacher" else 2) * sum(float((g**2).sum()) for g in mean.values())
    (view,) = task.views(x, y, CostCounter())
    found = made.predicted_variance(view, {})
    assert float(sum(found.values())) == pytest.approx(((d - 1) * energy + floor) / 2, rel=1e-9)
    assert replace(made, normalise=True).predicted_variance(view, {}) is None
    parts = forward_gradient.example_gradients(view)
    assert parts is not None
    for i, part in enumerate(parts):
        assert worst({n: 3 * g for n, g in part.items()}, own[i]) < 1e-9


def test_the_mean_and_variance_over_all_signs_on_the_smallest_network() -> None:
    """Every sign of rows (2 + 2) and columns (2) of two examples; the base, whose law is even, is ones."""
    case = Case.build(LEAST, "end", make("grzo[normalise=false,step=0,base=rademacher]"))
    (view,) = case.task.views(case.x, case.y, CostCounter())
    parts = forward_gradient.example_gradients(view)
    assert parts is not None
    every: Tensor | float = 0.0
    for own, s in zip(parts, signs(12).split(6, 1), strict=True):
        matrix = s[:, :2].unsqueeze(2) * s[:, 2:4].unsqueeze(1)
        z = torch.cat([matrix.flatten(1), s[:, 4:]], 1)
        slopes = z @ torch.cat([g.flatten() for g in own.values()])
        every = every + slopes.unsqueeze(1) * z
    assert isinstance(every, torch.Tensor)
    truth = case.flat(case.truth)
    torch.testing.assert_close(every.mean(0), truth, rtol=0, atol=1e-10)
    predicted = sum(float(v) for v in case.estimator.predicted_variance(view, {}).values())
    spread = float(every.var(0, correction=0).sum())
    assert spread == pytest.approx(predicted, rel=1e-9)


def test_forgotten_signs_are_found() -> None:
    """Were the signs of all examples the same, the variance would be that of one shared direction."""
    case = Case.build(LEAST, "end", make("grzo[normalise=false,step=0,base=rademacher]"))
    (view,) = case.task.views(case.x, case.y, CostCounter())
    predicted = sum(float(v) for v in case.estimator.predicted_variance(view, {}).values())
    shared = forward_gradient.weight_variance(view, "rademacher", 1, view.cells)
    assert shared is not None
    assert abs(sum(float(v) for v in shared.values()) / predicted - 1) > 0.02


# division by the spread


def test_dividing_by_the_spread_forgets_the_size_of_the_loss() -> None:
    task, made, noise = build("mlp-2x8", "grzo[step=0]/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    found = task.estimate(x, y, made, noise).body
    plain = task.estimate(x, y, replace(made, normalise=False), noise).body
    slopes = view.slopes_apart(made._flipped(view, noise))
    spread = slopes.std(correction=0)
    expected = {n: g / (3 * spread) for n, g in plain.items()}
    assert worst(found, expected) < 1e-10
    louder = View(task.chain, replace(view.objective, weight=5.0), x, y, CostCounter())
    assert worst(made(louder, noise, {}).grads, found) < 1e-10
    times_5 = {n: 5 * g for n, g in plain.items()}
    assert worst(replace(made, normalise=False)(louder, noise, {}).grads, times_5) < 1e-10


def test_examples_of_large_gradient_count_less() -> None:
    """Norms 6, 1 and .3 along single numbers: means of slope/spread, not c alike."""
    norms = torch.tensor([6.0, 1.0, 0.3], dtype=torch.float64)
    z = Noise(0, dtype=torch.float64).normal("z", (200_000, 3))
    slopes = z * norms
    scaled = slopes / slopes.std(1, correction=0, keepdim=True) * z
    factors = scaled.mean(0) / norms
    assert float(factors[0]) < 0.5 * float(factors[1]) < 0.5 * float(factors[2])


def test_what_cannot_be_is_refused() -> None:
    task, made, noise = build("mlp-2x8", "grzo/end", SHAPE)
    with pytest.raises(UsageError, match="normalise=true needs two examples at least"):
        task.estimate(*batch(1, SHAPE), made, noise)
    contrastive = Case.build(LEAST, "contrastive[features=3,stop_keys=false]", make("grzo"))
    assert "losses couple the examples" in contrastive.refused
    assert make("grzo").claims(None).bias == "some"
    assert make("grzo[normalise=false]").claims(None).bias == "vanishing"


@pytest.mark.parametrize(("step", "forwards", "slopes"), [(0.0, 1, 2), (1e-3, 3, 0)])
def test_the_price_does_not_grow_with_the_batch(step: float, forwards: int, slopes: int) -> None:
    task, made, noise = build("mlp-2x8", f"grzo[step={step}]/end", SHAPE)
    ledger = task.estimate(*batch(4, SHAPE), made, noise).ledger
    assert (ledger.forwards, ledger.slopes) == pytest.approx((forwards, slopes))
    assert ledger.pulls == ledger.backwards == 0


LAWS = ["sphere", "gaussian", "rademacher"]


@pytest.mark.parametrize("law", slow_if(LAWS, lambda law: law != "sphere"))
def test_independent_noise_of_examples_has_its_closed_form(law: str) -> None:
    """``fg_w[share=none]``: the variance of all examples' own, exactly by the coefficients."""
    made = make(f"fg_w[share=none,law={law}]")
    assert "equals the exact one" in variance(Case.build(LEAST, "end", made))
