"""PEPITA: the difference of two passes is an adaptive direct feedback."""

from __future__ import annotations

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from tests.makers.feedback import grads_of, linear_net, made
from tests.makers.networks import batch, worst

SHAPE = (2, 4, 6)


def passes(task, x, f, error):  # type: ignore[no-untyped-def]
    """Run a multilayer perceptron with ReLU on x and on x + F e: inputs, pre-activations, outputs of both."""
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    found = []
    for start in (x.flatten(1), x.flatten(1) + error @ f.flatten(1)):
        ins, outs = [start], []
        for k in range(len(task.chain)):
            z = ins[-1] @ own[f"body.{k}.l0.weight"].T + own[f"body.{k}.l0.bias"]
            outs.append(z.clamp_min(0))
            ins.append(outs[-1])
        found.append((ins, outs))
    return found


@pytest.mark.parametrize("presynaptic", ["second", "first"])
def test_the_estimate_is_its_closed_form(presynaptic: str) -> None:
    text = f"pepita[kappa=0.7,presynaptic={presynaptic}]/end"
    task, pepita, state = made("mlp-3x5", text)
    x, y = batch(4, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    error = 4 * view.output_error()
    clean, second = passes(task, x, state["end"]["F"], error)
    met = second[0] if presynaptic == "second" else clean[0]
    want = {}
    for k in range(3):
        difference = (clean[1][k] - second[1][k]) / 4
        want[f"body.{k}.l0.weight"] = difference.T @ met[k]
        want[f"body.{k}.l0.bias"] = difference.sum(0)
    step = task.estimate(x, y, pepita, Noise(0, dtype=torch.float64), state)
    assert worst(step.body, want) < 1e-12
    logits = second[1][-1] @ task.chain.get_parameter("readouts.final.linear.weight").detach().T
    logits = logits + task.chain.get_parameter("readouts.final.linear.bias").detach()
    later = (torch.softmax(logits, 1) - torch.eye(5, dtype=torch.float64)[y]) / 4
    found = step.readouts["readouts.final.linear.weight"]
    torch.testing.assert_close(found, later.T @ second[1][-1], rtol=1e-12, atol=1e-14)


def test_where_no_relu_switches_the_difference_is_linear_in_the_error() -> None:
    """h′_l − h_l = D_l W_l ... D_1 W_1 F e: direct feedback with an adaptive matrix, to rounding."""
    task, pepita, state = made("mlp-2x5", "pepita[kappa=1e-5,presynaptic=first]/end")
    x, y = batch(4, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    moving = (4 * view.output_error()) @ state["end"]["F"].flatten(1)
    ins, want = x.flatten(1), {}
    for k in range(2):
        w, c = own[f"body.{k}.l0.weight"], own[f"body.{k}.l0.bias"]
        on = (ins @ w.T + c > 0).double()
        moving = on * (moving @ w.T)
        want[f"body.{k}.l0.weight"] = -moving.T @ ins / 4
        ins = (ins @ w.T + c).clamp_min(0)
    found = grads_of(task, pepita, x, y, state)
    assert worst(found, want) < 1e-8  # differences of numbers near 1 in float64, of size 1e-6


def test_without_modulation_the_readout_alone_learns() -> None:
    task, pepita, state = made("mlp-3x5", "pepita[kappa=0]/end")
    x, y = batch(4, SHAPE)
    step = task.estimate(x, y, pepita, Noise(0, dtype=torch.float64), state)
    assert not any(bool(g.any()) for g in step.body.values())
    bp = task.estimate(x, y, registry.make("estimators", "bp").thing, Noise(0))
    assert worst(step.readouts, bp.readouts) < 1e-14


def test_modulation_that_carries_the_readout_back_is_backprop() -> None:
    """One linear layer with W_1 F = −W_2ᵀ: the difference is backprop's error at the layer."""
    task = linear_net(9, 4)
    pepita = registry.make("estimators", "pepita[presynaptic=first]").thing
    x, y = batch(4, (9,))
    w1 = task.chain.get_parameter("body.0.l0.weight").detach()
    w2 = task.chain.get_parameter("readouts.final.linear.weight").detach()
    f = -torch.linalg.pinv(w1) @ w2.T
    state = {"end": {"F": f.T.contiguous()}}
    truth = task.scheme_truth(x, y)
    assert worst(grads_of(task, pepita, x, y, state), truth) < 1e-12
    assert worst(grads_of(task, pepita, x, y, {"end": {"F": 1.02 * f.T}}), truth) > 1e-3


def test_every_objective_modulates_its_own_start() -> None:
    task, pepita, state = made("mlp-3x5", "pepita/local")
    shapes = {o: tuple(own["F"].shape) for o, own in state.items()}
    assert shapes == {"module0": (5, *SHAPE), "module1": (5, 5), "module2": (5, 5)}
    x, y = batch(4, SHAPE)
    found = grads_of(task, pepita, x, y, state)
    assert found.keys() == task.chain.body_parameters().keys()
    assert all(bool(g.any()) for n, g in found.items())


def test_modulation_is_uniform_within_its_bound() -> None:
    _, _, state = made("mlp-2x5", "pepita/end")
    f, bound = state["end"]["F"], 0.05 * (6 / 48) ** 0.5
    assert float(f.abs().max()) <= bound
    sd = (4 / 45 / f.numel()) ** 0.5
    assert abs(float(f.square().mean()) / bound**2 - 1 / 3) < 6 * sd


def test_it_costs_two_passes_and_a_pull() -> None:
    task, pepita, state = made("mlp-3x5", "pepita/end")
    x, y = batch(4, SHAPE)
    ledger = task.estimate(x, y, pepita, Noise(0, dtype=torch.float64), state).ledger
    assert (ledger.forwards, ledger.pulls, ledger.backwards, ledger.slopes) == (2, 1, 0, 0)
