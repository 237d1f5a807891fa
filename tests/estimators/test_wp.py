"""Forms of weight and node perturbation: extrapolation, kernels, a mean baseline, masks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance.nets import FEW, SMOOTH, Case
from fgbench.conformance.unbiased import Drawn
from fgbench.conformance.variance import _exact, variance
from fgbench.core import differences
from fgbench.core.clock import START
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.errors import UsageError
from tests.makers.cases import slow_if
from tests.makers.function_view import FunctionView
from tests.makers.networks import batch, build, design, worst

G = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
LINEAR = FunctionView(lambda w: (G * w["w"]).sum(), {"w": torch.zeros(3)})


def make(text: str) -> Any:
    return registry.make("estimators", text).thing


def given(rows: Tensor, **more: Tensor) -> DesignedNoise:
    return DesignedNoise(0, dtype=torch.float64, given={"w": rows, **more})


def estimate(text: str, noise: Noise, view: Any = LINEAR) -> Tensor:
    found: Tensor = make(text)(view, noise, {}).grads["w"]
    return found


# unchanged by default


def test_defaults_are_what_they_were() -> None:
    """Forward and central differences as written out, bit for bit."""
    task, wp, noise = build("mlp-2x8[activation=tanh]", "wp[directions=3]/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    (view,) = task.views(x, y, CostCounter())
    v = noise.directions(view.shapes, 3)
    forward = view.credit(view.slopes(v, step=1e-3), v)
    central = view.credit((view.slopes(v, step=1e-3) + view.slopes(v, step=-1e-3)) / 2, v)
    found = task.estimate(x, y, wp, noise).body
    assert all(torch.equal(found[n], g) for n, g in forward.items())
    found = task.estimate(x, y, replace(wp, sided="central"), noise).body
    assert all(torch.equal(found[n], g) for n, g in central.items())


# extrapolation and kernels


def test_richardson_and_kernel_are_the_differences_they_name() -> None:
    cube = FunctionView(lambda w: (G * w["w"] ** 3).sum(), {"w": torch.tensor([1.0, 0.3, -0.7])})
    v = torch.tensor([[1.0, -2.0, 0.5], [0.2, 0.1, 3.0]], dtype=torch.float64)
    noise = given(v, length=torch.tensor([0.9, -1.1], dtype=torch.float64))
    u = noise.directions({"w": (3,)})
    found = estimate("wp[sided=richardson,step=0.2]", noise, cube)
    expected = cube.credit(differences.extrapolated(cube, u, 0.2), u)["w"]
    assert torch.equal(found, expected)
    exact = cube.credit(cube.slopes(u), u)["w"]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)  # a cube has no ε⁴
    for order in (1, 3, 5):
        found = estimate(f"wp[sided=kernel,step=0.2,order={order}]", noise, cube)
        lengths = torch.tensor([0.9, -1.1], dtype=torch.float64) / sqrt(3.0)
        slopes = differences.weighted(cube, u, 0.2, lengths, order)
        assert torch.equal(found, cube.credit(slopes, u)["w"])


@pytest.mark.parametrize(("text", "least", "most"), [
    ("central", 14.0, 18.0), ("richardson", 200.0, 320.0),
])  # fmt: skip
def test_the_order_of_the_bias_along_one_direction(text: str, least: float, most: float) -> None:
    """Four times the step: ε² gives 16 times the error, ε⁴ 256 times."""
    view = FunctionView(lambda w: (w["w"] * G).sum().exp(), {"w": torch.full((3,), 0.1)})
    rows = torch.tensor([[0.3, -0.4, 0.2]], dtype=torch.float64)
    exact = view.credit(
        view.slopes(given(rows).directions({"w": (3,)})), given(rows).directions({"w": (3,)})
    )
    errors = [
        float(
            (estimate(f"wp[sided={text},step={step}]", given(rows), view) - exact["w"]).abs().max()
        )
        for step in (0.2, 0.05)
    ]
    assert least < errors[0] / errors[1] < most


def test_lengths_are_uniform_and_drawn_for_every_direction() -> None:
    """Of 4,000 lengths: mean, second moment and range; 5 standard errors (a false alarm in 2 million)."""
    noise = Noise(3, dtype=torch.float64)
    r = noise.child("lengths").directions({"length": ()}, 4000, "uniform").rows("length", 0, 4000)
    r = r / sqrt(3.0)
    assert float(r.abs().max()) <= 1.0
    assert abs(float(r.mean())) < 5 / sqrt(3 * 4000)
    assert abs(float((r**2).mean()) - 1 / 3) < 5 * sqrt(4 / 45 / 4000)
    other = (
        noise.at(1).child("lengths").directions({"length": ()}, 1, "uniform").rows("length", 0, 1)
    )
    assert float(other) != float(r[0])


# the mean of the others as baseline


def all_signs(n: int, d: int) -> Tensor:
    return torch.tensor(list(product((-1.0, 1.0), repeat=n * d)), dtype=torch.float64).reshape(
        -1, n, d
    )


def test_leave_one_out_has_the_gradient_as_mean_and_the_variance_of_a_sample_covariance() -> None:
    """Over every choice of signs, n = 3, d = 2; for x = ⟨g, v⟩ and y = vᵢ the variance of a sample
    covariance is μ₂₂/n − (n − 2) μ₁₁²/(n (n − 1)) + μ₂₀ μ₀₂/(n (n − 1))."""
    n, g = 3, torch.tensor([1.0, -2.0], dtype=torch.float64)
    view = FunctionView(lambda w: (g * w["w"]).sum(), {"w": torch.zeros(2)})
    text = f"wp[directions={n},baseline=mean,step=1]"
    every = torch.stack([estimate(text, given(rows), view) for rows in all_signs(n, 2)])
    torch.testing.assert_close(every.mean(0), g, rtol=0, atol=1e-12)
    energy = (g**2).sum()
    expected = energy / n - (n - 2) / (n * (n - 1)) * g**2 + energy / (n * (n - 1))
    torch.testing.assert_close(every.var(0, correction=0), expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_leave_one_out_of_a_gaussian_has_d_plus_1_over_n_minus_1() -> None:
    """Exactly, from the coefficients of the estimate in its n d numbers; linear but for rounding."""
    case = Case.build(FEW, "end", make("wp[directions=3,baseline=mean]"))
    g = torch.cat([t.flatten() for t in case.truth.values()])
    shapes = {n: tuple(t.shape) for n, t in case.truth.items()}
    sizes = [t.numel() for t in case.truth.values()]

    class OnALine:
        """The objective replaced by its linear part."""

        def __init__(self) -> None:
            self.shapes, self.clock = shapes, START

        def slopes(self, u: Any, step: float | None = None) -> Tensor:
            rows = torch.cat([u.rows(n, 0, u.n).flatten(1) for n in shapes], 1)
            return (rows @ g + 0.3).unsqueeze(1)  # any clean loss

        def credit(self, slopes: Tensor, u: Any) -> dict[str, Tensor]:
            rows = torch.cat([u.rows(n, 0, u.n).flatten(1) for n in shapes], 1)
            parts = (slopes[:, 0] @ rows / u.n).split(sizes)
            return {n: p.reshape(shapes[n]) for n, p in zip(shapes, parts, strict=True)}

    inner = case.estimator

    class Linear(type(inner)):  # type: ignore[misc]
        def __call__(self, view: Any, noise: Any, state: Any) -> Any:
            return inner(OnALine(), noise, state)

    linear = case.of(Linear(**vars(inner)))
    drawn = Drawn.by(linear)
    assert drawn.degree_two()
    total = sum(_exact(linear, drawn))
    d = len(g)
    assert total / float(g @ g) == pytest.approx((d + 1) / (3 - 1), rel=1e-10)


def test_the_mean_baseline_removes_what_all_directions_share() -> None:
    """A quadratic with signs: its diagonal is the same for all, and cancels; the clean loss leaves it."""
    h = torch.tensor([3.0, -1.0, 5.0], dtype=torch.float64)
    view = FunctionView(lambda w: (G * w["w"] + h * w["w"] ** 2 / 2).sum(), {"w": torch.zeros(3)})
    rows = all_signs(4, 3)[77]
    found = estimate("wp[directions=4,baseline=mean,step=0.5]", given(rows), view)
    linear = estimate("wp[directions=4,baseline=mean,step=0.5]", given(rows))
    torch.testing.assert_close(found, linear, rtol=0, atol=1e-12)
    clean = estimate("wp[directions=4,step=0.5]", given(rows), view)
    expected = estimate("wp[directions=4,step=0.5]", given(rows)) + 0.25 * h.sum() * rows.mean(0)
    torch.testing.assert_close(clean, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["wp", "np"])
def test_the_mean_baseline_needs_two_directions(name: str) -> None:
    made = make(f"{name}[baseline=mean]")
    case = Case.build(SMOOTH, "end", made)
    assert case.refused.startswith("baseline=mean needs two directions at least")
    if name == "wp":
        with pytest.raises(UsageError, match="baseline=mean is for sided=forward"):
            make("wp[baseline=mean,sided=central,directions=2]")


def test_np_leaves_one_out_example_by_example() -> None:
    """By hand from the slopes of node perturbation."""
    task, np, noise = build("mlp-2x8", "np[directions=3,baseline=mean]/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    (view,) = task.views(x, y, CostCounter())
    u = noise.directions(view.sites, 3).masked(view.masks())
    slopes = view.slopes(u, step=1e-3)
    others = torch.stack(
        [slopes[k] - slopes[[j for j in range(3) if j != k]].mean(0) for k in range(3)]
    )
    expected = view.pull(view.credit(others, u))
    assert worst(task.estimate(x, y, np, noise).body, expected) < 1e-10
    clean = task.estimate(x, y, make("np[directions=3]"), noise).body
    assert worst(clean, expected) > 1e-2


# masks


@pytest.mark.parametrize("name", ["fg_w", "wp[sided=central]"])
def test_keeping_all_is_no_mask_bit_for_bit(name: str) -> None:
    task, plain, noise = build("mlp-2x8", f"{name}/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    expected = task.estimate(x, y, plain, noise).body
    for mask in ("small[keep=1]", "large[keep=1]", "random[keep=1]"):
        found = task.estimate(x, y, replace(plain, mask=mask), noise).body
        assert all(torch.equal(found[n], g) for n, g in expected.items())
        assert replace(plain, mask=mask).claims(task.scheme).bias == plain.claims(task.scheme).bias


@pytest.mark.parametrize("kind", ["small", "large"])
def test_a_masked_estimate_has_the_masked_gradient_as_mean(kind: str) -> None:
    task, fg_w, _ = build("mlp-2x8", f"fg_w[mask={kind}[keep=0.25]]/end", (2, 4, 6))
    x, y = batch(3, (2, 4, 6))
    truth = task.scheme_truth(x, y)
    found = task.estimate(x, y, fg_w, design(task, "fg_w")).body
    assert worst(found, truth) > 0.1
    for name, w in task.chain.body_parameters().items():
        k = max(1, round(0.25 * w.numel()))
        size = w.detach().abs().flatten() * (1 if kind == "small" else -1)
        on = (
            (size <= size.kthvalue(k).values).reshape(w.shape)
            if w.dim() > 1
            else torch.ones_like(w)
        )
        masked = truth[name] * on
        assert float((found[name] - masked).abs().max()) < 1e-10 * float(truth[name].abs().max())
        assert bool((found[name][on == 0] == 0).all())
    (view,) = task.views(x, y, CostCounter())
    assert worst(found, fg_w.expected(view, {})) < 1e-10
    assert fg_w.claims(task.scheme).bias == "some"


DOCUMENTED = [
    "fg_w[mask=small[keep=0.5],law=sphere]",
    "fg_w[mask=small[keep=0.5]]",
    "fg_w[mask=large[keep=0.25],law=rademacher]",
    "fg_w[mask=large[keep=0.5],law=lowrank[rank=2]]",
]


@pytest.mark.parametrize("text", slow_if(DOCUMENTED, lambda text: text != DOCUMENTED[0]))
def test_documented_variances_of_masked_estimates_are_exact(text: str) -> None:
    assert "equals the exact one" in variance(Case.build(FEW, "end", make(text)))


def test_the_variance_of_a_mask_is_that_of_the_weights_it_keeps() -> None:
    """k + 1 times the energy of the masked gradient, k with the vectors."""
    case = Case.build(FEW, "end", make("fg_w[mask=small[keep=0.5]]"))
    (view,) = case.task.views(case.x, case.y, CostCounter())
    mean = case.estimator.expected(view, {})
    energy = sum(float((g**2).sum()) for g in mean.values())
    kept = 2 * (2 + 2)  # in each of two layers half of 4 weights, and 2 biases
    found = sum(float(v) for v in case.estimator.predicted_variance(view, {}).values())
    assert found == pytest.approx((kept + 1) * energy, rel=1e-10)


def test_a_random_mask_keeps_its_share_of_the_gradient_on_average() -> None:
    """Over all masks and designed directions: expected() is k/n of it, and of vectors all."""
    case = Case.build(FEW, "end", make("fg_w[mask=random[keep=0.5]]"))
    (view,) = case.task.views(case.x, case.y, CostCounter())
    expected = case.estimator.expected(view, {})
    for name, g in case.truth.items():
        share = 0.5 if g.dim() > 1 else 1.0
        torch.testing.assert_close(expected[name], share * g, rtol=0, atol=1e-12)


def test_the_mask_is_read_before_anything_moves() -> None:
    """A long step moves small weights past the others; the mask of both sides is that of the clean ones."""
    task, wp, noise = build(
        "mlp-1x4", "wp[sided=central,step=5.0,mask=small[keep=0.25]]/end", (1, 2, 2)
    )
    x, y = batch(3, (1, 2, 2))
    w = task.chain.body_parameters()["body.0.l0.weight"].detach().clone()
    found = task.estimate(x, y, wp, noise).body["body.0.l0.weight"]
    k = max(1, round(0.25 * w.numel()))
    limit = w.abs().flatten().kthvalue(k).values
    assert bool(((found != 0) == (w.abs() <= limit)).all())
