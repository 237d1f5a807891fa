"""Directions within the span of the inputs: nothing of the gradient is lost, and fewer numbers are drawn."""

from __future__ import annotations

from typing import Any

import pytest

from fgbench import registry
from fgbench.conformance.nets import CONVOLUTION, FEW, Case
from fgbench.conformance.variance import variance
from fgbench.core.cost import CostCounter
from fgbench.estimators.agzo import Bases
from tests.makers.networks import batch, build, orthonormal, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


def view_of(arch: str, text: str = "agzo", b: int = 3) -> Any:
    task, made, _ = build(arch, f"{text}/end", SHAPE)
    (view,) = task.views(*batch(b, SHAPE), CostCounter())
    return task, made, view


@pytest.mark.parametrize("arch", ["mlp-2x8", MIXER, "cnn-tiny[width=4]"])
def test_the_gradient_lies_in_the_spans(arch: str) -> None:
    task, _, view = view_of(arch)
    bases, truth = Bases.of(view, 0), task.scheme_truth(*batch(3, SHAPE))
    matrices = {n for n, p in view.params.items() if p.dim() > 1 and n.endswith("weight")}
    assert matrices == bases.inputs.keys()
    assert worst(bases.weights(bases.coordinates(truth)), truth) < 1e-10
    some = Bases.of(view, 1)
    assert worst(some.weights(some.coordinates(truth)), truth) > 1e-3  # a rank of 1 loses some


@pytest.mark.parametrize("arch", ["mlp-2x8", "cnn-tiny[width=4]"])
@pytest.mark.parametrize("locality", ["end", "local"])
def test_the_mean_over_an_orthonormal_design_is_the_gradient(arch: str, locality: str) -> None:
    task, agzo, _ = build(arch, f"agzo/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    shapes = {}
    for view in task.views(x, y, CostCounter()):
        if view.objective.updates:
            shapes |= Bases.of(view, 0).shapes
        view.output()
    design = orthonormal(shapes, per_example=False)
    assert worst(task.estimate(x, y, agzo, design).body, task.scheme_truth(x, y)) < 1e-10


def test_a_rank_projects_the_mean() -> None:
    task, agzo, view = view_of("mlp-2x8", "agzo[rank=2]")
    x, y = batch(3, SHAPE)
    truth, mean = task.scheme_truth(x, y), agzo.expected(view, {})
    design = orthonormal(dict(Bases.of(view, 2).shapes), per_example=False)
    assert worst(task.estimate(x, y, agzo, design).body, mean) < 1e-10
    assert worst(mean, truth) > 1e-3
    assert agzo.claims(task.scheme).bias == "some"


EXACT = [(FEW, "sphere"), (FEW, "gaussian"), (FEW, "rademacher"), (CONVOLUTION, "gaussian")]


@pytest.mark.slow
@pytest.mark.parametrize(("net", "law"), EXACT)
def test_documented_variances_are_exact(net: Any, law: str) -> None:
    made = registry.make("estimators", f"agzo[law={law},directions=2]").thing
    assert "equals the exact one" in variance(Case.build(net, "end", made))


def test_the_relative_variance_is_the_numbers_drawn_plus_1() -> None:
    task, agzo, view = view_of("mlp-2x8")
    square = sum(float((g**2).sum()) for g in task.scheme_truth(*batch(3, SHAPE)).values())
    found = sum(float(v) for v in agzo.predicted_variance(view, {}).values())
    assert found == pytest.approx(
        (2 * (3 * 8 + 8) + 1) * square, rel=1e-10
    )  # 3 examples, 8 rows, 8 biases
    with_more = view_of("mlp-2x8", b=60)  # more examples than inputs: the law of all weights
    plain = registry.make("estimators", "fg_w").thing.predicted_variance(with_more[2], {})
    all_on = agzo.predicted_variance(with_more[2], {})
    live = sum(float(one.sum()) for one in Bases.of(with_more[2], 0).live.values())
    weights = sum(p.numel() for p in with_more[2].params.values())
    ratio = sum(map(float, all_on.values())) / sum(map(float, plain.values()))
    assert ratio == pytest.approx((live + 1) / (weights + 1), rel=1e-10)


def test_a_small_step_gives_the_slope() -> None:
    task, exact, noise = build("mlp-2x8", "agzo/end", SHAPE)
    x, y = batch(3, SHAPE)
    step = registry.make("estimators", "agzo[step=1e-7]").thing
    assert step.claims(task.scheme).bias == "vanishing"
    slope = task.estimate(x, y, exact, noise).body
    assert 0 < worst(task.estimate(x, y, step, noise).body, slope) < 1e-4


def test_weights_that_enter_unknown_get_plain_directions() -> None:
    case = Case.build(FEW, "end", registry.make("estimators", "agzo").thing)
    (view,) = case.task.views(case.x, case.y, CostCounter())
    bases = Bases.of(view, 0)
    assert bases.shapes["body.0.l0.bias"] == (2,)
    assert bases.shapes["body.0.l0.weight"] == (2, 2)
