"""Forward direct feedback alignment: it learns the Jacobian, and is backprop where that is one matrix."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.direct_feedback import jacobian
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.training.learned_state import LearnedState
from tests.makers.feedback import grads_of, jacobians, linear_net, made
from tests.makers.networks import batch, design, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


@pytest.mark.parametrize(
    ("arch", "maps"),
    [
        ("mlp-3x5", "averaged"),
        ("cnn-tiny[width=4]", "averaged"),
        ("cnn-tiny[width=4]", "full"),
        (MIXER, "averaged"),
    ],
)
def test_over_orthogonal_directions_the_feedback_is_the_mean_jacobian(arch: str, maps: str) -> None:
    """√d times an orthonormal basis of all layers' units has the mean of u uᵀ, 1, exactly."""
    task, fdfa, state = made(arch, f"fdfa[beta=1,maps={maps}]/end")
    x, y = batch(3, SHAPE)
    step = task.estimate(x, y, fdfa, design(task, "fg_a"), state)
    truth = jacobians(task, x)
    top = max(float(j.abs().max()) for j in truth.values())
    for name, j in truth.items():
        mean, b = j.mean(0), step.new_state["end"][name]
        shared = [i for i in range(1, b.dim()) if b.shape[i] < mean.shape[i]]
        want = mean.sum(shared, keepdim=True) if shared else mean
        torch.testing.assert_close(b, want, rtol=0, atol=1e-12 * top)


def test_with_the_jacobian_of_a_linear_network_it_is_backprop() -> None:
    task = linear_net(6, 5, 4, 3)
    fdfa = registry.make("estimators", "fdfa[beta=1]").thing
    x, y = batch(3, (6,))
    zero = task.init_state(fdfa, Noise(0, dtype=torch.float64))
    learned = task.estimate(x, y, fdfa, design(task, "fg_a"), zero).new_state
    truth = task.scheme_truth(x, y)
    assert worst(grads_of(task, fdfa, x, y, learned), truth) < 1e-12
    off = {"end": {n: 1.02 * b for n, b in learned["end"].items()}}
    assert worst(grads_of(task, fdfa, x, y, off), truth) > 1e-3


def test_it_starts_with_nothing_but_the_readout() -> None:
    task, fdfa, state = made("mlp-3x5", "fdfa/end")
    x, y = batch(4, SHAPE)
    step = task.estimate(x, y, fdfa, Noise(0, dtype=torch.float64), state)
    assert not any(bool(g.any()) for g in step.body.values())
    bp = task.estimate(x, y, registry.make("estimators", "bp").thing, Noise(0))
    assert worst(step.readouts, bp.readouts) < 1e-14


@pytest.mark.parametrize("locality", ["end", "local", "overlap"])
def test_given_its_feedback_it_is_direct_feedback_alignment(locality: str) -> None:
    """The credit takes the feedback as it was before the step, whatever the step makes of it."""
    task, dfa, state = made("mlp-3x5", f"dfa/{locality}")
    x, y = batch(4, SHAPE)
    fdfa = registry.make("estimators", "fdfa[beta=1]").thing
    step = task.estimate(x, y, fdfa, Noise(5, dtype=torch.float64), state)
    assert worst(step.body, task.estimate(x, y, dfa, Noise(0), state).body) < 1e-14
    moved = next(iter(step.new_state.values()))["body.0.l0"]
    assert not torch.equal(moved, next(iter(state.values()))["body.0.l0"])


def test_both_ways_of_learning_move_towards_the_same_estimate() -> None:
    task, average, state = made("mlp-2x5", "fdfa[beta=0.25]/end")
    _, adam, _ = made("mlp-2x5", "fdfa[learn=adam,lr=0.003]/end")
    state = {"end": {n: b + 1 for n, b in state["end"].items()}}
    x, y = batch(4, SHAPE)
    noise = Noise(3, dtype=torch.float64)
    one, other = (task.estimate(x, y, e, noise, state) for e in (average, adam))
    assert other.new_state == {}
    assert one.state_grads == {}
    for name, b in state["end"].items():
        want = b - 0.25 * other.state_grads["end"][name]
        torch.testing.assert_close(one.new_state["end"][name], want, rtol=1e-14, atol=1e-14)
    teacher = LearnedState(adam, state).teacher
    assert isinstance(teacher, torch.optim.Adam)
    assert teacher.param_groups[0]["lr"] == 0.003


def test_the_variance_of_an_entry_over_all_signs_is_its_closed_form() -> None:
    """Σ_k |J_k's row|² + (κ − 2) J² with κ = 1: all 2⁵ signs of two layers, one example."""
    task, _, _ = made("mlp-2x3", "fdfa/end")
    x, y = batch(1, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    signs = torch.tensor(list(product((1.0, -1.0), repeat=6)), dtype=torch.float64)
    u = dict(zip(view.sites, signs.view(64, 2, 1, 3).unbind(1), strict=True))
    tangents = view.output_tangent(FixedDirections(u), at="out")
    truth = jacobians(task, x)
    rows = torch.stack([j[0].square().sum(1) for j in truth.values()]).sum(0)
    for name, j in truth.items():
        draws = [jacobian(tangents[i : i + 1], u[name][i : i + 1], j[0].shape) for i in range(64)]
        found = torch.stack(draws).var(0, unbiased=False)
        want = rows[:, None] - j[0].square()
        torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-12)


def test_an_unknown_law_is_named() -> None:
    with pytest.raises(Exception, match="law of directions"):
        registry.make("estimators", "fdfa[law=gausian]")
