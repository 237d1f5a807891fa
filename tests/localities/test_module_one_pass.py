"""Deep supervision in one pass: the gradient of ``module`` at the price of backprop."""

from __future__ import annotations

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import ONE_PASS, why_not
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.training.recipe import Recipe
from tests.makers.measuring import measured, workload
from tests.makers.networks import worst
from tests.makers.places import ARCHS, made, price_and_work
from tests.makers.training import train

ONE = "module[one_pass=true]"


@pytest.mark.parametrize("arch", [*ARCHS, "mlp-1x5"])
def test_gradients_are_those_of_a_pass_per_loss(arch: str) -> None:
    one, x, y = made(arch, ONE)
    each, _, _ = made(arch, "module")
    bp, noise = registry.make("estimators", "bp").thing, Noise(0, dtype=torch.float64)
    found, want = one.estimate(x, y, bp, noise), each.estimate(x, y, bp, noise)
    assert worst(one.scheme_truth(x, y), each.scheme_truth(x, y)) < 1e-12
    assert worst(found.body, want.body) < 1e-12
    assert found.readouts.keys() == want.readouts.keys()
    assert worst(found.readouts, want.readouts) < 1e-12
    assert found.loss is not None
    torch.testing.assert_close(found.loss, want.loss)


def test_it_costs_three_passes_and_the_heads() -> None:
    """To the operation, but for the first layer's input, which has no gradient."""
    task, x, y = made("mlp-4x8", ONE)
    price, work, aside = price_and_work(task, "bp", x, y)
    layers = [
        2 * p.numel() for n, p in task.chain.body_parameters().items() if n.endswith("weight")
    ]
    unit = sum(layers) + 2 * 8 * 5
    assert price == pytest.approx(work + layers[0] / unit, rel=1e-8)
    assert price - aside == pytest.approx(3 * sum(layers) / unit, rel=1e-8)
    assert aside == pytest.approx(3 * 4 * 2 * 8 * 5 / unit, rel=1e-8)
    each, _, _ = made("mlp-4x8", "module")
    assert price_and_work(each, "bp", x, y)[0] > 1.5 * price


@pytest.mark.parametrize("name", ["fg_a", "fg_w", "np", "wp", "fa", "dfa"])
def test_other_estimators_are_told_to_use_a_pass_per_loss(name: str) -> None:
    task, _, _ = made("mlp-4x8", ONE)
    assert why_not(registry.make("estimators", name).thing, task.scheme) == ONE_PASS
    assert why_not(registry.make("estimators", "bp").thing, task.scheme) == ""


def test_values_and_slopes_of_the_sum_are_refused() -> None:
    task, x, y = made("mlp-4x8", ONE)
    (view,) = task.views(x, y, CostCounter())
    with pytest.raises(UsageError, match="objective 'deep' adds losses on the way"):
        view.losses()
    with pytest.raises(UsageError, match="objective 'deep' adds losses on the way"):
        view.slopes(Noise(0, dtype=torch.float64).directions(view.sites))


@pytest.mark.slow
def test_it_is_measured_and_trained() -> None:
    found = measured(f"bp/{ONE}", "bp/module", f"fg_a/{ONE}", where=workload("mlp-2x8"))
    assert [one["status"] for one in found] == ["ok", "ok", "skipped"]
    assert found[0]["bias"]["value"] == 0.0
    assert found[0]["locality_gap"]["value"] == pytest.approx(found[1]["locality_gap"]["value"])
    assert found[2]["reason"] == ONE_PASS
    recipe = Recipe(epochs=1, batch=16, lr=0.05)
    data = "synthetic[size=4,train=64,test=32]"
    one, each = (
        train(f"bp/{name}", arch="mlp-3x8", data=data, recipe=recipe, dtype="float64")
        for name in (ONE, "module")
    )
    assert one["test_loss"] == pytest.approx(each["test_loss"], rel=1e-9)
    assert one["cost"]["forward_equivalents"] < each["cost"]["forward_equivalents"]
