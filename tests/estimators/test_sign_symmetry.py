"""Sign symmetry: backprop where all weights have one size, and the angles between V and W."""

from __future__ import annotations

from math import acos, degrees, pi, sqrt

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.feedback_weights import crossed, deviation
from fgbench.core.noise.keyed import Noise
from tests.makers.feedback import grads_of, made
from tests.makers.networks import batch, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


@pytest.mark.parametrize("locality", ["end", "local"])
@pytest.mark.parametrize("arch", ["mlp-3x5", "cnn-tiny[width=4]", MIXER])
def test_weights_of_one_size_make_it_backprop(arch: str, locality: str) -> None:
    task, usf, state = made(arch, f"sign_symmetry/{locality}")
    with torch.no_grad():
        for o in task.objectives:
            for name, w in crossed(task.chain, o).items() if o.updates else ():
                w.copy_(w.sign() * state[o.name][name])
    x, y = batch(3, SHAPE)
    truth = task.scheme_truth(x, y)
    assert worst(grads_of(task, usf, x, y, state), truth) < 1e-12
    scaled = {o: {n: 1.01 * s for n, s in own.items()} for o, own in state.items()}
    assert worst(grads_of(task, usf, x, y, scaled), truth) > 1e-4


@pytest.mark.parametrize("mode", ["usf", "brsf", "frsf"])
def test_it_is_feedback_alignment_through_its_own_feedback(mode: str) -> None:
    """And the feedback follows the signs that the weights have now, one by one."""
    task, method, state = made("mlp-3x5", f"sign_symmetry[mode={mode}]/end")
    fa = registry.make("estimators", "fa").thing
    x, y = batch(3, SHAPE)
    noise = Noise(2, dtype=torch.float64)
    with torch.no_grad():
        w = task.chain.get_parameter("body.1.l0.weight")
        w[2, 2] *= -1
        w[0, 0] = 0.0
    v = {}
    for name, own in crossed(task.chain, task.objectives[0]).items():
        size = state["end"][name]
        if mode == "brsf":
            size = size * noise.child("sizes").normal(name, tuple(own.shape)).abs()
        v[name] = own.detach().sign() * size
    found = grads_of(task, method, x, y, state, noise)
    assert worst(found, grads_of(task, fa, x, y, {"end": v})) < 1e-14
    assert v["body.1.l0.weight"][0, 0] == 0.0
    v["body.1.l0.weight"][2] *= -1
    assert worst(found, grads_of(task, fa, x, y, {"end": v})) > 1e-4


def test_fixed_sizes_that_are_the_weights_make_it_backprop() -> None:
    task, frsf, _ = made("mlp-3x5", "sign_symmetry[mode=frsf]/end")
    x, y = batch(3, SHAPE)
    own = crossed(task.chain, task.objectives[0])
    state = {"end": {name: w.detach().abs() for name, w in own.items()}}
    assert worst(grads_of(task, frsf, x, y, state), task.scheme_truth(x, y)) < 1e-12


def test_only_batchwise_sizes_are_drawn_at_every_step() -> None:
    x, y = batch(3, SHAPE)
    for mode in ("usf", "brsf", "frsf"):
        task, method, state = made("mlp-2x5", f"sign_symmetry[mode={mode}]/end")
        noise = Noise(2, dtype=torch.float64)
        one, other = (grads_of(task, method, x, y, state, noise.at(k)) for k in (0, 1))
        assert (worst(one, other) == 0.0) == (mode != "brsf")
        assert method.claims(task.scheme).deterministic == (mode != "brsf")


@pytest.mark.parametrize(
    ("law", "mode", "angle"),
    [
        ("gaussian", "usf", acos(sqrt(2 / pi))),
        ("gaussian", "frsf", acos(2 / pi)),
        ("uniform", "usf", pi / 6),
        ("uniform", "frsf", acos(3 / 4)),
    ],
)
def test_the_angle_between_feedback_and_weights_is_its_closed_form(
    law: str, mode: str, angle: float
) -> None:
    """1.2e5 weights: a cosine of independent entries has a deviation below 1/√n, 0.17°; 0.9° is 5 of them."""
    task, method, _ = made("mlp-1x2500", f"sign_symmetry[mode={mode},law={law}]/end")
    name = "body.0.l0.weight"
    w = task.chain.get_parameter(name).detach()
    with torch.no_grad():
        raw = Noise(7, dtype=torch.float64)
        drawn = 2 * raw.draw("uniform", "w", 0, tuple(w.shape)) - 1
        w.copy_(drawn if law == "uniform" else raw.normal("w", tuple(w.shape)))
    state = task.init_state(method, Noise(0, dtype=torch.float64))["end"]
    v = w.detach().sign() * state[name]
    found = acos(float((v * w).sum() / (v.norm() * w.norm())))
    assert abs(degrees(found - angle)) < 0.9
    assert float(v.square().mean().sqrt()) == pytest.approx(deviation(w), rel=0.02)


def test_a_deep_network_neither_explodes_nor_vanishes() -> None:
    x, y = batch(8, SHAPE)
    for mode in ("usf", "brsf", "frsf"):
        task, method, state = made("mlp-8x32", f"sign_symmetry[mode={mode}]/end")
        truth = task.scheme_truth(x, y)
        for name, g in grads_of(task, method, x, y, state).items():
            assert 0.1 < float(g.norm() / truth[name].norm()) < 10, name


def test_the_readout_may_keep_its_own_weights() -> None:
    """The layer below it then has backprop's gradient."""
    task, method, state = made("mlp-2x5", "sign_symmetry[readout=exact]/end")
    assert set(state["end"]) == {"body.0.l0.weight", "body.1.l0.weight"}
    x, y = batch(3, SHAPE)
    found, truth = grads_of(task, method, x, y, state), task.scheme_truth(x, y)
    last = {n: g for n, g in truth.items() if n.startswith("body.1")}
    assert worst(found, last) < 1e-13
    assert worst(found, truth) > 1e-2


@pytest.mark.slow
def test_the_mean_over_batchwise_sizes_is_documented() -> None:
    """400 estimates of every entry, fixed in advance: none of 275 means is 5 of its deviations off.

    A false alarm has odds of about 2e-4; a mean of 1 in place of √(2/π) is far outside.
    """
    task, brsf, state = made("mlp-2x5", "sign_symmetry[mode=brsf]/end")
    x, y = batch(3, SHAPE)
    noise = Noise(4, dtype=torch.float64)
    (view,) = task.views(x, y, CostCounter())
    mean = brsf.expected(view, state["end"])
    draws = [grads_of(task, brsf, x, y, state, noise.at(k)) for k in range(400)]
    worst_ = 0.0
    for name, want in mean.items():
        seen = torch.stack([d[name] for d in draws])
        moved = seen.std(0) > 1e-12 * seen.abs().max()
        off = (seen.mean(0) - want) / (seen.std(0) / 20).clamp_min(1e-30)
        worst_ = max(worst_, float(off[moved].abs().max()) if bool(moved.any()) else 0.0)
    assert worst_ < 5
    plain = {"end": {n: s * sqrt(pi / 2) for n, s in state["end"].items()}}
    wrong = brsf.expected(view, plain["end"])
    name = "body.1.l0.weight"
    seen = torch.stack([d[name] for d in draws])
    spread = (seen.std(0) / 20).clamp_min(1e-30)
    assert float(((seen.mean(0) - wrong[name]) / spread)[seen.std(0) > 1e-12].abs().max()) > 5
    usf = registry.make("estimators", "sign_symmetry").thing
    assert usf.expected(view, state["end"]) is None
