"""Weight mirror: noise whose sample covariance is 1 makes one step copy the weights exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.conformance.nets import Case, Net
from fgbench.core.cost import CostCounter
from fgbench.core.feedback_weights import crossed
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.task import Task
from tests.makers.feedback import grads_of, linear_net, made
from tests.makers.localities import Greedy
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)
WIDTH = 3
EXAMPLES = 2 * WIDTH


def white(task: Task, shift: float = 0.0) -> DesignedNoise:
    """Noise at every site that is ±a e_i over the batch: its mean is 0 and Σ x xᵀ/(n − 1) is 1."""
    a = ((EXAMPLES - 1) / 2) ** 0.5
    basis, _ = torch.linalg.qr(Noise(3, dtype=torch.float64).normal("basis", (WIDTH, WIDTH)))
    rows = a * torch.cat([basis, -basis]) + shift
    given = dict.fromkeys(task.chain.shapes(), rows[None])
    return DesignedNoise(0, dtype=torch.float64, given=given)


def behind(task: Task) -> dict[str, torch.Tensor]:
    """The weights that noise meets: all but the first layer's, whose input is the data."""
    (objective,) = task.objectives
    own = crossed(task.chain, objective)
    return {n: w.detach() for n, w in own.items() if not n.startswith("body.0")}


@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("arch", ["mlp-3x3", "mlp-3x3[activation=tanh]"])
def test_white_noise_copies_the_weights_in_one_step(arch: str, shift: float) -> None:
    """Biases and a mean of the noise drop out, because answers are centred over the batch."""
    task, mirror, state = made(arch, "weight_mirror[rate=1,decay=1,norm=free]/end")
    x, y = batch(EXAMPLES, SHAPE)
    new = task.estimate(x, y, mirror, white(task, shift), state).new_state["end"]
    for name, w in behind(task).items():
        torch.testing.assert_close(new[name], w, rtol=0, atol=1e-12)
    assert set(new) == set(state["end"])


def test_the_feedback_tends_to_the_ratio_of_its_rates_times_the_weights() -> None:
    text = "weight_mirror[rate=0.2,decay=0.5,norm=free]/end"
    task, mirror, state = made("mlp-2x3", text)
    x, y = batch(EXAMPLES, SHAPE)
    now, steps = state, 5
    for _ in range(steps):
        now = task.estimate(x, y, mirror, white(task), now).new_state
    for name, w in behind(task).items():
        left = 0.5**steps
        want = left * state["end"][name] + 0.4 * (1 - left) * w
        torch.testing.assert_close(now["end"][name], want, rtol=0, atol=1e-12)


def test_feedback_of_a_fixed_norm_takes_the_direction_alone() -> None:
    task, mirror, state = made("mlp-2x3", "weight_mirror[rate=1,decay=1]/end")
    x, y = batch(EXAMPLES, SHAPE)
    new = task.estimate(x, y, mirror, white(task), state).new_state["end"]
    for name, w in behind(task).items():
        want = w * (state["end"][name].norm() / w.norm())
        torch.testing.assert_close(new[name], want, rtol=0, atol=1e-12)


def test_the_error_of_one_mirror_is_that_of_its_closed_form() -> None:
    """Σ (|w_j|² + w_ji²)/n over |W|² is (fan_in + 1)/n for gaussian noise, here 9/1999.

    A sum of 64 products of variances: their relative deviation is below √(2/8), and 5 of them are allowed.
    """
    task = linear_net(6, 8, 8, classes=8)
    mirror = registry.make("estimators", "weight_mirror[rate=1,decay=1,norm=free]").thing
    noise = Noise(0, dtype=torch.float64)
    x, y = batch(2000, (6,))
    new = task.estimate(x, y % 8, mirror, noise, task.init_state(mirror, noise)).new_state["end"]
    for name, w in behind(task).items():
        off = float((new[name] - w).square().sum() / w.square().sum())
        assert 0.1 < off / (9 / 1999) < 1 + 5 * (2 / 8) ** 0.5


@pytest.mark.parametrize(
    "arch", ["cnn-tiny[width=4]", "localmixer-xs/2/4[channels=12,groups=3,side=2]"]
)
def test_through_norms_and_convolutions_the_feedback_turns_to_the_weights(arch: str) -> None:
    """Random feedback has cosines near 0; 200 examples leave cosines above 0.7 with every weight."""
    task, mirror, state = made(arch, "weight_mirror[rate=1,decay=1]/end")
    x, y = batch(200, SHAPE)
    new = task.estimate(x, y, mirror, Noise(0, dtype=torch.float64), state).new_state["end"]
    own = crossed(task.chain, task.objectives[0])
    for name in list(own)[1:]:
        if name.endswith("weight"):
            w = own[name].detach()
            if w.dim() == 2 and arch.startswith(
                "localmixer"
            ):  # a norm before it takes the mean out
                w = w - w.mean(1, keepdim=True)
            cosine = float((new[name] * w).sum() / (new[name].norm() * w.norm()))
            assert cosine > 0.7, name


def test_under_forward_forward_no_weight_is_crossed_and_the_gradient_is_exact() -> None:
    """A module has one layer, and its goodness has no weights."""
    mirror = registry.make("estimators", "weight_mirror").thing
    case = Case.build(Net("mlp-2x4", (1, 2, 2), 3, 4), "forward_forward", mirror)
    step = case.task.estimate(case.x, case.y, mirror, case.noise, case.state)
    assert worst(step.body, case.truth) < 1e-14
    assert set(step.new_state) == {"module0", "module1"}


def test_blocks_whose_readouts_have_no_weights_mirror_their_own() -> None:
    """600 examples; the second layer of a block is answered to noise, the first to what comes in."""
    mirror = registry.make("estimators", "weight_mirror[rate=1,decay=1]").thing
    case = Case.build(Net("noprop-2x3", (1, 2, 2), 3, 600), "noprop_dt", mirror)
    step = case.task.estimate(case.x, case.y, mirror, case.noise, case.state)
    for k in range(2):
        name = f"body.{k}.l1.weight"
        w, b = case.task.chain.get_parameter(name).detach(), step.new_state[f"block{k}"][name]
        assert float((b * w).sum() / (b.norm() * w.norm())) > 0.95


def test_given_its_feedback_it_is_feedback_alignment_and_the_mirror_touches_nothing() -> None:
    task, mirror, state = made("mlp-3x5", "weight_mirror/end")
    fa = registry.make("estimators", "fa").thing
    x, y = batch(4, SHAPE)
    before = {n: p.detach().clone() for n, p in task.chain.named_parameters()}
    found = grads_of(task, mirror, x, y, state)
    same = task.init_state(fa, Noise(0, dtype=torch.float64))
    assert worst(found, grads_of(task, fa, x, y, same)) == 0.0
    assert all(torch.equal(p, before[n]) for n, p in task.chain.named_parameters())
    assert all(p.grad is None for p in task.chain.parameters())


@pytest.mark.parametrize("locality", ["interlocking", "overlap", "module"])
def test_every_weight_that_an_error_crosses_is_mirrored(locality: str) -> None:
    """Also where an objective updates some modules of its window alone."""
    task, mirror, state = made("mlp-3x3", f"weight_mirror[rate=1,decay=1,norm=free]/{locality}")
    x, y = batch(EXAMPLES, SHAPE)
    new = task.estimate(x, y, mirror, white(task), state).new_state
    own = dict(task.chain.named_parameters())
    for o in task.objectives:
        if o.updates:
            first = f"body.{o.window[0]}."
            for name, b in new[o.name].items():
                if not name.startswith(first):
                    torch.testing.assert_close(b, own[name].detach(), rtol=0, atol=1e-12)


def test_the_mirror_costs_a_pass_and_a_pull() -> None:
    task, mirror, state = made("mlp-3x5", "weight_mirror/end")
    _, fa, same = made("mlp-3x5", "fa/end")
    x, y = batch(4, SHAPE)

    def cost(method: Any, own: Any) -> CostCounter:
        return task.estimate(x, y, method, Noise(0, dtype=torch.float64), own).ledger

    one, other = cost(mirror, state), cost(fa, same)
    assert (one.forwards - other.forwards, one.pulls - other.pulls) == (1.0, 1.0)
    assert one.backwards == other.backwards


def test_a_readout_of_two_layers_is_refused() -> None:
    task, mirror, _ = build("mlp-3x5", "weight_mirror/end", SHAPE)
    deep = Task.build(task.chain, Greedy(), Noise(0))
    assert "mirrors readouts of one weight operation" in mirror.supports(deep.scheme)
    assert mirror.supports(task.scheme) == ""
