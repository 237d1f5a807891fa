"""Direct feedback alignment of the sign of the error."""

from __future__ import annotations

import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.losses import squared_error
from fgbench.core.noise.keyed import Noise
from tests.makers.feedback import grads_of, made
from tests.makers.networks import batch, worst

SHAPE = (2, 4, 6)


def test_with_a_softmax_the_credit_is_a_vector_of_the_label() -> None:
    """sign(p − y*) is −1 at the label and 1 elsewhere: Σ_k B_k − 2 B_label, whatever the predictions."""
    task, sdfa, state = made("mlp-3x5", "sdfa/end")
    x, y = batch(4, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    credit = sdfa(view, Noise(0), state["end"]).credit
    for (_, name), c in credit.items():
        b = state["end"][name]
        torch.testing.assert_close(c, (b.sum(0) - 2 * b[y]) / 4, rtol=1e-14, atol=1e-14)


def test_the_size_of_the_error_does_not_count() -> None:
    """Of squared error: predictions further off by any factors of one sign give the same hidden updates."""
    task, sdfa, state = made("mlp-3x5", "sdfa/end")
    _, dfa, same = made("mlp-3x5", "dfa/end")
    task.chain.criterion = squared_error
    x, _ = batch(4, SHAPE)
    f = task.chain(x).detach()
    sign = torch.where(torch.arange(20).view(4, 5) % 3 == 0, 1.0, -1.0).double()
    near, far = f - 0.1 * sign, f - sign * (1 + torch.arange(20).view(4, 5))
    found = [grads_of(task, sdfa, x, y, state) for y in (near, far)]
    assert worst(found[0], found[1]) == 0.0
    sized = [grads_of(task, dfa, x, y, same) for y in (near, far)]
    assert worst(sized[0], sized[1]) > 0.1
    turned = grads_of(task, sdfa, x, f + 0.1 * sign, state)
    assert worst({n: -g for n, g in turned.items()}, found[0]) == 0.0


def test_a_weight_of_a_loss_counts_and_objectives_share_their_feedback() -> None:
    task, sdfa, state = made("mlp-3x5", "sdfa/overlap[losses=every]")
    owners = [o for o, own in state.items() if "body.1.l0" in own]
    assert len(owners) > 1
    assert len({id(state[o]["body.1.l0"]) for o in owners}) == 1
    x, y = batch(4, SHAPE)
    views = [v for v in task.views(x, y, CostCounter()) if v.objective.updates]
    weights = {v.objective.weight for v in views}
    assert len(weights) > 1
    for v in views:
        credit = sdfa(v, Noise(0), state[v.objective.name]).credit
        for (_, name), c in credit.items():
            b = state[v.objective.name][name]
            want = v.objective.weight * (b.sum(0) - 2 * b[y]) / 4
            torch.testing.assert_close(c, want, rtol=1e-14, atol=1e-14)


def test_it_has_the_feedback_of_direct_feedback_alignment() -> None:
    task, _, state = made("cnn-tiny[width=4]", "sdfa[scale=2]/end")
    dfa = registry.make("estimators", "dfa").thing
    noise = Noise(0, dtype=torch.float64)
    for name, b in task.init_state(dfa, noise)["end"].items():
        assert torch.equal(2 * b, state["end"][name])
