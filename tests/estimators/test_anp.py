"""Activity-based node perturbation: towards J g, exactly or by its integral."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise
from fgbench.core.theory.site_gradients import site_gradients, site_jacobian
from fgbench.estimators.anp import _shares
from tests.makers.networks import batch, build, design, worst

SHAPE = (1, 1, 2)
DEEP = "mlp-3x4[activation=tanh]"


def viewed(arch: str, text: str, b: int = 2) -> Any:
    task, made, noise = build(arch, f"{text}/end", SHAPE)
    x, y = batch(b, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    return task, made, noise, (x, y), view


def test_of_a_single_layer_it_is_normalised_node_perturbation() -> None:
    """On a sphere |u|² is the number of units, so the division changes nothing."""
    task, anp, noise, data, _ = viewed("mlp-1x4[activation=tanh]", "anp[law=sphere,directions=2]")
    np = registry.make("estimators", "np[law=sphere,directions=2]").thing
    assert worst(*(task.estimate(*data, e, noise).body for e in (anp, np))) < 1e-9


def test_the_change_is_j_times_the_noise() -> None:
    _, _, noise, _, view = viewed(DEEP, "anp")
    u = noise.directions(view.sites, 1)
    clean, noisy = view.activities("site"), view.perturbed(u, 0, 1e-6).activities("site")
    change = torch.cat([(noisy[n] - clean[n]).flatten(1) for n in view.sites], 1) / 1e-6
    flat = torch.cat([u.rows(n, 0, 1)[0].flatten(1) for n in view.sites], 1)
    j = site_jacobian(view)
    expected = (j @ flat.unsqueeze(2)).squeeze(2)
    assert float((change - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert torch.equal(j.diagonal(dim1=1, dim2=2), torch.ones_like(flat))


def test_gradients_at_the_sites_are_those_of_backprop() -> None:
    task, _, _, data, view = viewed(DEEP, "anp")
    pulled = view.pull(site_gradients(view))
    assert worst(pulled, task.scheme_truth(*data)) < 1e-12


@pytest.mark.parametrize("arch", [DEEP, "mlp-3x4"])
def test_without_the_division_the_mean_is_j_g(arch: str) -> None:
    """Over an orthonormal design, at a step whose square is below rounding."""
    task, anp, _, data, view = viewed(arch, "anp[normalise=false,step=1e-6]", b=3)
    mean = anp.expected(view, {})
    assert worst(task.estimate(*data, anp, design(task, "fg_a")).body, mean) < 1e-5
    truth = task.scheme_truth(*data)
    assert worst(mean, truth) > 1e-2
    last = {n: g for n, g in truth.items() if n.startswith("body.0.")}
    assert worst(mean, last) < 1e-12  # nothing comes before the first layer


def test_the_mean_of_the_division_is_an_integral_with_closed_forms() -> None:
    same = torch.full((1, 5), 3.0, dtype=torch.float64)
    torch.testing.assert_close(_shares(same, torch.tensor([5])), 1 / (5 * same), rtol=1e-12, atol=0)
    a, b = 0.3, 7.0
    two = torch.tensor([[a, b]], dtype=torch.float64)
    root = (a * b) ** 0.5
    expected = torch.tensor([[1 / (a + root), 1 / (b + root)]], dtype=torch.float64)
    torch.testing.assert_close(_shares(two, torch.tensor([2])), expected, rtol=1e-10, atol=0)
    off = torch.tensor([[0.0, a, b]], dtype=torch.float64)
    torch.testing.assert_close(_shares(off, torch.tensor([2]))[:, 1:], expected, rtol=1e-10, atol=0)


DRAWS, BOUND = 3000, 4.5
"""8 coordinates of the mean credit and 1 of the gradient: 4.5 errors in 7e-6 of all seeds each."""


@pytest.mark.slow
def test_the_mean_of_the_normalised_form_is_the_integral_and_points_along_j_g() -> None:
    arch = "mlp-2x4[activation=tanh]"
    _, anp, noise, _, view = viewed(arch, "anp[step=1e-5]", b=1)
    draws = []
    for k in range(DRAWS):
        credit = anp(view, noise.redrawn(k), {}).credit
        draws.append(torch.cat([t.flatten() for t in credit.values()]))
    every = torch.stack(draws)
    mean, error = every.mean(0), every.std(0) / DRAWS**0.5
    predicted = torch.cat([t.flatten() for t in anp.mean_credit(view).values()])
    assert float(((mean - predicted) / error).abs().max()) < BOUND
    g = torch.cat([t.flatten() for t in site_gradients(view).values()])
    along = (site_jacobian(view)[0] @ g).flatten()
    cos = torch.nn.functional.cosine_similarity
    assert float(cos(predicted, along, 0)) > 0.99
    assert float(cos(predicted, g, 0)) < float(cos(predicted, along, 0))
    assert float(((mean - g) / error).abs().max()) > BOUND  # the gradient itself is rejected


def test_an_estimate_of_an_example_is_its_own() -> None:
    task, anp, noise, (x, y), view = viewed(DEEP, "anp", b=3)
    u = noise.directions(view.sites, 1)
    rows = {n: u.rows(n, 0, 1) for n in u.names}
    turned = torch.tensor([2, 0, 1])
    plain = DesignedNoise(0, dtype=torch.float64, given=rows)
    other = DesignedNoise(0, dtype=torch.float64, given={n: t[:, turned] for n, t in rows.items()})
    (moved,) = task.views(x[turned], y[turned], CostCounter())
    one, two = anp(view, plain, {}).credit, anp(moved, other, {}).credit
    for n, c in one.items():
        torch.testing.assert_close(two[n], c[turned], rtol=1e-9, atol=1e-12)


def test_scale_and_cost() -> None:
    task, anp, noise, data, _ = viewed("mlp-2x4[activation=tanh]", "anp", b=3)
    root = registry.make("estimators", "anp[scale=sqrt]").thing
    one, other = (task.estimate(*data, e, noise) for e in (anp, root))
    assert worst({n: g * 8**0.5 for n, g in other.body.items()}, one.body) < 1e-10
    assert (one.ledger.forwards, one.ledger.pulls) == (2.0, 1.0)  # a clean pass and a noisy one
