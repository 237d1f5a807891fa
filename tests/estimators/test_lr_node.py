"""The likelihood ratio: by hand, its mean over designs, and its variance over every vector of signs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, design, sites_of, worst
from tests.makers.signs import signs

SHAPE = (1, 1, 2)
NET = "mlp-2x3[activation=tanh]"


def test_it_is_the_loss_times_the_noise_at_the_noisy_activities() -> None:
    """By hand, two layers and a long step: the second layer meets the noisy output of the first."""
    task, lr, noise = build(NET, "lr_node[antithetic=false,step=0.5]/end", SHAPE)
    x, y = batch(3, SHAPE)
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    xi = {n: noise.directions(sites_of(task)).rows(n, 0, 1)[0] for n in sites_of(task)}
    h, inputs = x.flatten(1), {}
    for k in range(2):
        inputs[f"body.{k}.l0"] = h
        z = h @ own[f"body.{k}.l0.weight"].T + own[f"body.{k}.l0.bias"]
        h = torch.tanh(z + 0.5 * xi[f"body.{k}.l0"])
    logits = h @ own["readouts.final.linear.weight"].T + own["readouts.final.linear.bias"]
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    found = task.estimate(x, y, lr, noise).body
    for n, t in xi.items():
        credit = losses.unsqueeze(1) * t / (0.5 * 3)
        assert worst({"w": found[f"{n}.weight"]}, {"w": credit.T @ inputs[n]}) < 1e-12
        assert worst({"b": found[f"{n}.bias"]}, {"b": credit.sum(0)}) < 1e-12
    pair = registry.make("estimators", "lr_node[step=0.5]").thing
    assert worst(task.estimate(x, y, pair, noise).body, found) > 1e-2


DESIGNS = [
    (arch, layerwise)
    for arch in (NET, "mlp-2x4", "cnn-tiny[width=4]")
    for layerwise in ("false", "true")
]


@pytest.mark.parametrize(("arch", "layerwise"), slow_if(DESIGNS, lambda case: "cnn" in case[0]))
def test_the_mean_over_a_design_tends_to_the_gradient(arch: str, layerwise: str) -> None:
    shape = (1, 4, 4) if arch.startswith("cnn") else SHAPE
    task, lr, _ = build(arch, f"lr_node[step=1e-5,layerwise={layerwise}]/end", shape)
    x, y = batch(3, shape)
    truth, noise = task.scheme_truth(x, y), design(task, "fg_a")
    assert worst(task.estimate(x, y, lr, noise).body, truth) < 1e-5


def variance_over_signs(task: Any, made: Any, x: Any, y: Any) -> dict[str, float]:
    truth, every = task.scheme_truth(x, y), signs(sites_of(task, 1))
    found = dict.fromkeys(truth, 0.0)
    for k in range(64):
        given = {n: t[k : k + 1] for n, t in every.items()}
        e = task.estimate(x, y, made, DesignedNoise(0, dtype=torch.float64, given=given)).body
        for n, g in truth.items():
            found[n] += float(((e[n] - g) ** 2).sum()) / 64
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layerwise", ["false", "true"])
@pytest.mark.parametrize("antithetic", ["true", "false"])
@pytest.mark.parametrize("arch", [NET, "mlp-2x3"])  # a ReLU leaves units off, which get noise too
def test_the_documented_variance_is_that_over_all_signs(
    arch: str, antithetic: str, layerwise: str
) -> None:
    more = f"layerwise={layerwise},antithetic={antithetic}"
    task, lr, _ = build(arch, f"lr_node[step=1e-4,law=rademacher,{more}]/end", SHAPE)
    x, y = batch(1, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    predicted, found = lr.predicted_variance(view, {}), variance_over_signs(task, lr, x, y)
    if antithetic == "true" and layerwise == "false":
        assert predicted is None  # the loss times the moved inputs stays in a pair
        return
    for n, v in found.items():
        assert float(predicted[n]) == pytest.approx(v, rel=1e-2 if antithetic == "false" else 1e-4)
    np = registry.make("estimators", "np[law=rademacher]").thing.predicted_variance(view, {})
    assert any(abs(float(np[n]) / v - 1) > 0.1 for n, v in found.items())


def test_the_loss_over_the_step_rules_the_variance_without_pairs() -> None:
    """Of (loss / step) u the second moment is that of the loss alone: a tenth of the step, a hundredfold."""
    task, _, _ = build("mlp-1x4", "bp/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    each = [
        registry.make("estimators", f"lr_node[antithetic=false,step={step}]").thing
        for step in ("1e-3", "1e-4")
    ]
    long, short = (made.predicted_variance(view, {}) for made in each)
    for name in long:
        assert float(short[name]) == pytest.approx(100 * float(long[name]), rel=1e-2)


def test_a_constant_in_the_loss_leaves_pairs_alone() -> None:
    task, lr, noise = build(NET, "lr_node[step=1e-3,layerwise=true]/end", SHAPE)
    x, y = batch(3, SHAPE)
    plain = registry.make("estimators", "lr_node[step=1e-3,antithetic=false,layerwise=true]").thing
    before = [task.estimate(x, y, e, noise).body for e in (lr, plain)]
    own = task.chain.criterion
    task.chain.criterion = lambda prediction, labels: own(prediction, labels) + 5.0
    after = [task.estimate(x, y, e, noise).body for e in (lr, plain)]
    assert worst(after[0], before[0]) < 1e-9
    assert worst(after[1], before[1]) > 0.1


def test_the_mean_of_the_others_is_a_baseline_without_bias() -> None:
    """Over every vector of signs of one layer and two examples the mean tends to the gradient."""
    text = "lr_node[step=1e-4,law=rademacher,antithetic=false,baseline=mean]/end"
    task, lr, _ = build("mlp-1x3[activation=tanh]", text, SHAPE)
    x, y = batch(2, SHAPE)
    noise = DesignedNoise(0, dtype=torch.float64, given=signs(sites_of(task, 2)))
    truth = task.scheme_truth(x, y)
    assert worst(task.estimate(x, y, lr, noise).body, truth) < 1e-6
    (view,) = task.views(x, y, CostCounter())
    assert lr.predicted_variance(view, {}) is None


def test_its_cost_is_its_passes() -> None:
    for text, passes in (("", 2), ("[antithetic=false]", 1), ("[layerwise=true,directions=2]", 8)):
        task, lr, noise = build(NET, f"lr_node{text}/end", SHAPE)
        ledger = task.estimate(*batch(3, SHAPE), lr, noise).ledger
        assert (ledger.forwards, ledger.pulls) == (
            passes + 1.0,
            float(passes),
        )  # the readout's own pass
