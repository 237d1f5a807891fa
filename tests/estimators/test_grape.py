"""GrAPE: feedback that turns towards the Jacobian, by steps on a cosine."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from fgbench import registry
from fgbench.core.clock import Clock
from fgbench.core.cost import CostCounter
from fgbench.core.direct_feedback import jacobian
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from tests.makers.feedback import grads_of, jacobians, linear_net, made
from tests.makers.networks import batch, design, worst

SHAPE = (2, 4, 6)


def test_the_step_descends_one_minus_the_cosine() -> None:
    """Against autograd, with the estimate of an orthogonal design, which is the mean Jacobian."""
    task, grape, state = made("mlp-3x5", "grape[rate=0.3]/end")
    x, y = batch(3, SHAPE)
    new = task.estimate(x, y, grape, design(task, "fg_a"), state).new_state["end"]
    for name, j in jacobians(task, x).items():
        b = state["end"][name].clone().requires_grad_()
        loss = 1 - torch.cosine_similarity(b.flatten(), j.mean(0).flatten(), dim=0)
        (grad,) = torch.autograd.grad(loss, b)
        torch.testing.assert_close(new[name], (b - 0.3 * grad).detach(), rtol=1e-12, atol=1e-12)


def test_a_single_direction_of_one_layer_has_a_positive_cosine_of_known_size() -> None:
    """cos(J u uᵀ, J) = |J u|/(|u| |J|), draw by draw, where this layer alone is perturbed."""
    task, _, _ = made("mlp-2x5", "grape/end")
    x, y = batch(1, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    u = Noise(2, dtype=torch.float64).normal("u", (16, 1, 5))
    name, other = view.sites
    j = jacobians(task, x)[name][0]
    still = FixedDirections({name: u, other: torch.zeros_like(u)})
    tangents = view.output_tangent(still, at="out")
    for i in range(16):
        seen = jacobian(tangents[i : i + 1], u[i : i + 1], j.shape)
        found = (seen * j).sum() / (seen.norm() * j.norm())
        want = (j @ u[i, 0]).norm() / (u[i, 0].norm() * j.norm())
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
        assert float(found) > 0


@pytest.mark.slow
def test_frozen_weights_lead_to_a_damped_direction_and_not_to_the_jacobian() -> None:
    """Steps along all signs in turn: B tends to E[J u uᵀ/(|J u| |u|)], and the plain average to J."""
    task = linear_net(6, 3, classes=2)
    with torch.no_grad():  # singular values far apart
        w = task.chain.get_parameter("readouts.final.linear.weight")
        w.copy_(w * torch.tensor([[8.0], [0.5]]))
    j = w.detach()
    signs = torch.tensor(list(product((1.0, -1.0), repeat=3)), dtype=torch.float64)
    each = torch.einsum("ki,ni,nj->nkj", j, signs, signs)
    torch.testing.assert_close(each.mean(0), j, rtol=1e-12, atol=1e-12)  # what fdfa averages
    damped = (each / each.flatten(1).norm(dim=1)[:, None, None]).mean(0)
    grape = registry.make("estimators", "grape[rate=0.02]").thing
    b = Noise(3, dtype=torch.float64).normal("b", (2, 3))
    for _ in range(400):
        for seen in each:
            b = grape._turned(b, seen)

    def cosine(a: torch.Tensor) -> float:
        return float((a * b).sum() / (a.norm() * b.norm()))

    assert cosine(damped) > 0.9999
    assert cosine(j) < 0.999


def test_the_control_changes_the_size_of_the_feedback_and_never_its_direction() -> None:
    task, control, state = made("mlp-3x5", "grape[rule=rescale,rate=0.3]/end")
    x, y = batch(3, SHAPE)
    new = task.estimate(x, y, control, Noise(0, dtype=torch.float64), state).new_state["end"]
    for name, b in state["end"].items():
        ratio = new[name] / b
        torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-12, atol=0)
        assert float(ratio[0, 0]) < 1


def test_the_feedback_turns_before_it_serves_as_in_direct_feedback_alignment() -> None:
    task, grape, state = made("mlp-3x5", "grape/overlap")
    dfa = registry.make("estimators", "dfa").thing
    x, y = batch(4, SHAPE)
    step = task.estimate(x, y, grape, Noise(0, dtype=torch.float64), state)
    assert worst(step.body, grads_of(task, dfa, x, y, step.new_state)) < 1e-14
    assert worst(step.body, grads_of(task, dfa, x, y, state)) > 1e-4
    still = registry.make("estimators", "grape[rate=0]").thing
    assert worst(grads_of(task, still, x, y, state), grads_of(task, dfa, x, y, state)) < 1e-14


def test_an_anchor_is_backprop_at_its_steps() -> None:
    task, anchored, state = made("mlp-2x5", "grape[anchor=3]/end")
    assert anchored.claims(task.scheme).backward == "network"
    x, y = batch(4, SHAPE)
    truth = task.scheme_truth(x, y)
    for step in range(5):
        found = grads_of(task.at(Clock(step=step)), anchored, x, y, state)
        assert (worst(found, truth) < 1e-13) == (step % 3 == 0)
    plain = registry.make("estimators", "grape").thing
    assert plain.claims(task.scheme).gated
