"""Noise on one layer at a time: the slopes of single layers, and a variance without the other layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise
from tests.makers.networks import batch, build, sites_of, worst
from tests.makers.signs import signs

SHAPE = (1, 1, 2)


def test_of_a_single_layer_it_is_node_perturbation() -> None:
    for law in ("gaussian", "sphere"):
        task, inp, noise = build("mlp-1x4", f"inp[law={law},directions=3]/end", SHAPE)
        np = registry.make("estimators", f"np[law={law},directions=3]").thing
        x, y = batch(3, SHAPE)
        one, other = (task.estimate(x, y, e, noise).body for e in (inp, np))
        assert all(torch.equal(one[n], g) for n, g in other.items())


def test_a_small_step_gives_the_slope_along_each_layer_alone() -> None:
    task, inp, noise = build("mlp-3x4[activation=tanh]", "inp[step=1e-6]/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    credit = {}
    for name, shape in view.sites.items():
        u = noise.directions(type(view.sites)({name: shape}), 1, "sphere")
        credit |= view.credit(view.slopes(u), u)
    slopes = view.pull(credit)
    assert worst(task.estimate(x, y, inp, noise).body, slopes) < 1e-5
    joint = noise.directions(view.sites, 1, "sphere")
    together = view.pull(view.credit(view.slopes(joint), joint))
    assert worst(together, slopes) > 1e-2


def over_signs(task: Any, made: Any, b: int) -> dict[str, float]:
    """The variance of each parameter over all signs of a layer, the same signs at both layers."""
    x, y = batch(b, SHAPE)
    truth = task.scheme_truth(x, y)
    rows = signs({"layer": (b, 3)})["layer"]
    found = dict.fromkeys(truth, 0.0)
    for row in rows:
        given = {name: row.unsqueeze(0) for name in sites_of(task, b)}
        noise = DesignedNoise(0, dtype=torch.float64, given=given)
        e = task.estimate(x, y, made, noise).body
        for n, g in truth.items():
            found[n] += float(((e[n] - g) ** 2).sum()) / len(rows)
    return found


@pytest.mark.parametrize("b", [1, 2])
def test_the_documented_variance_is_that_over_all_signs(b: int) -> None:
    """Layers do not enter each other's scores, so one vector of signs may serve both."""
    text = "inp[law=rademacher,step=1e-6]/end"
    task, inp, _ = build("mlp-2x3[activation=tanh]", text, SHAPE)
    (view,) = task.views(*batch(b, SHAPE), CostCounter())
    predicted, found = inp.predicted_variance(view, {}), over_signs(task, inp, b)
    for n, v in found.items():
        assert float(predicted[n]) == pytest.approx(v, rel=1e-4)
    np = registry.make("estimators", "np[law=rademacher]").thing
    wrong = np.predicted_variance(view, {})
    assert any(float(wrong[n]) > 1.1 * v for n, v in found.items())


def test_one_example_of_a_layer_has_units_minus_1() -> None:
    task, inp, _ = build("mlp-2x3[activation=tanh]", "inp[law=sphere]/end", SHAPE)
    (view,) = task.views(*batch(1, SHAPE), CostCounter())
    found, truth = inp.predicted_variance(view, {}), view.reverse()
    for name in ("body.0.l0.bias", "body.1.l0.weight"):
        square = float((truth[name] ** 2).sum())
        assert float(found[name]) == pytest.approx(2 * square, rel=1e-10)


def test_it_costs_a_noisy_pass_for_every_layer() -> None:
    task, inp, noise = build("mlp-4x8", "inp[directions=2]/end", SHAPE)
    ledger = task.estimate(*batch(3, SHAPE), inp, noise).ledger
    assert (ledger.forwards, ledger.pulls, ledger.slopes) == (1.0 + 4 * 2, 1.0, 0.0)


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_node_perturbation_has_n_plus_1_for_one_example(law: str) -> None:
    """All units of one example: N + 1 for gaussian noise and N − 1 for signs, over the passes."""
    task, np, _ = build("mlp-1x4[activation=tanh]", f"np[law={law},directions=2]/end", SHAPE)
    (view,) = task.views(*batch(1, SHAPE), CostCounter())
    found = sum(float(v) for v in np.predicted_variance(view, {}).values())
    square = sum(float((g**2).sum()) for g in view.reverse().values())
    assert found == pytest.approx((5 if law == "gaussian" else 3) / 2 * square, rel=1e-10)


def test_the_documented_variance_of_node_perturbation_is_that_over_all_signs() -> None:
    task, np, _ = build("mlp-2x3[activation=tanh]", "np[law=rademacher,step=1e-6]/end", SHAPE)
    x, y = batch(1, SHAPE)
    truth, every = task.scheme_truth(x, y), signs(sites_of(task, 1))
    (view,) = task.views(x, y, CostCounter())
    predicted, found = np.predicted_variance(view, {}), dict.fromkeys(truth, 0.0)
    for k in range(64):
        given = {n: t[k : k + 1] for n, t in every.items()}
        e = task.estimate(x, y, np, DesignedNoise(0, dtype=torch.float64, given=given)).body
        for n, g in truth.items():
            found[n] += float(((e[n] - g) ** 2).sum()) / 64
    for n, v in found.items():
        assert float(predicted[n]) == pytest.approx(v, rel=1e-4)
