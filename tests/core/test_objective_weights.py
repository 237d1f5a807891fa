"""An objective's weight multiplies whatever is a derivative of its loss, coupled losses included."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fgbench.conformance.nets import MIXER, TINY, Case, Net
from fgbench.core.cost import CostCounter
from fgbench.core.view import View
from fgbench.registry import make

HEAVY = 3.0
COUPLED = tuple(f"contrastive{where}[features=3,stop_keys=false]" for where in ("", "-local-pg"))


@pytest.mark.parametrize(
    ("net", "locality"),
    [(TINY, "end"), (MIXER, "local-pg"), *((MIXER, locality) for locality in COUPLED)],
)
def test_slopes_differences_and_gradients_are_multiplied(net: Net, locality: str) -> None:
    case = Case.build(net, locality, make("estimators", "fg_a").thing)
    for view in case.task.views(case.x, case.y, CostCounter()):
        view.output()
        if not view.objective.updates:
            continue
        heavy = replace(view.objective, weight=HEAVY * view.objective.weight)
        other = View(view.chain, heavy, view.window.start, case.y, CostCounter())
        u = case.noise.directions(view.sites, 2)
        pairs = [
            (view.slopes(u), other.slopes(u), 1e-9),
            (view.slopes(u, step=1e-4), other.slopes(u, step=1e-4), 1e-9),
            *((g, other.reverse()[name], 1e-9) for name, g in view.reverse().items()),
        ]
        for one, three, near in pairs:
            assert bool(one.any())
            torch.testing.assert_close(three, HEAVY * one, rtol=near, atol=1e-12)


def test_an_output_error_is_that_of_the_weighted_loss() -> None:
    case = Case.build(TINY, "overlap[losses=every]", make("estimators", "fa").thing)
    weights = []
    for view in case.task.views(case.x, case.y, CostCounter()):
        error = view.output_error()
        logits = view.predictions({}).detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(logits, case.y)
        (alone,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(error, view.objective.weight * alone)
        weights.append(view.objective.weight)
    assert 2.0 in weights


def test_an_error_of_its_own_through_the_weights_themselves_is_the_weighted_gradient() -> None:
    """With the weights as feedback weights, feedback alignment is backprop of the weighted losses."""
    fa = make("estimators", "fa[error=own]").thing
    case = Case.build(TINY, "overlap[losses=every]", fa)
    own = dict(case.task.chain.named_parameters())
    state = {name: {n: own[n].detach().clone() for n in part} for name, part in case.state.items()}
    found = case.task.estimate(case.x, case.y, fa, case.noise, state).body
    torch.testing.assert_close(case.flat(found), case.flat(case.truth), rtol=1e-9, atol=1e-12)
