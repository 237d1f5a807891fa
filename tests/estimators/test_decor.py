"""Decorrelation: the base at first, then its gradient on inputs that learn to be decorrelated."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance.learned import learned as trained
from fgbench.conformance.nets import OPAQUE, Case
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.estimators.decor import OWN
from tests.makers.networks import batch, build, design, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


def started(arch: str, text: str) -> Any:
    task, made, noise = build(arch, f"{text}/end", SHAPE)
    return task, made, noise, task.init_state(made, noise)


@pytest.mark.parametrize("arch", ["mlp-2x8", MIXER, "cnn-tiny[width=4]"])
@pytest.mark.parametrize("base", ["np", "dfa", "fg_w"])
def test_without_a_rate_it_is_its_base_to_the_bit(arch: str, base: str) -> None:
    task, made, noise, state = started(arch, f"decor[base={base},rate=0]")
    x, y = batch(3, SHAPE)
    step = task.estimate(x, y, made, noise, state)
    own = registry.make("estimators", base).thing
    inner = {o: {n: t for n, t in s.items() if not n.startswith(OWN)} for o, s in state.items()}
    plain = task.estimate(x, y, own, noise.child("base"), inner).body
    assert all(torch.equal(step.body[n], g) for n, g in plain.items())
    for n, t in step.new_state["end"].items():
        assert torch.equal(t, state["end"][n])


def learned(task: Any, made: Any, state: Any, x: Tensor, y: Tensor, steps: int) -> list[Any]:
    states = [state]
    for _ in range(steps):
        states.append(
            task.estimate(x, y, made, Noise(0, dtype=torch.float64), states[-1]).new_state
        )
    return states


def correlation(task: Any, x: Tensor, y: Tensor, state: Any) -> float:
    """Mean size of the entries beside the diagonal of the decorrelated inputs' second moments."""
    (view,) = task.views(x, y, CostCounter())
    found = []
    for name, own in view.inputs().items():
        seen = own.values @ state["end"][OWN + name].mT
        c = seen.mT @ seen / seen.shape[1]
        found.append((c - torch.diag_embed(c.diagonal(dim1=1, dim2=2))).abs().mean())
    return float(torch.stack(found).mean())


def test_correlations_fall_step_by_step() -> None:
    task, made, _, state = started("mlp-2x8", "decor[base=bp,rate=0.01]")
    x, y = batch(20, SHAPE)
    sizes = [correlation(task, x, y, s) for s in learned(task, made, state, x, y, 25)]
    assert all(b < a for a, b in pairwise(sizes))
    assert sizes[-1] < 0.6 * sizes[0]


def test_white_inputs_leave_r_alone() -> None:
    task, made, _, state = started("mlp-1x8", "decor[base=bp,rate=0.1]")
    x = torch.linalg.qr(Noise(1, dtype=torch.float64).normal("x", (48, 48)))[0].reshape(48, *SHAPE)
    _, y = batch(48, SHAPE)
    after = learned(task, made, state, x, y, 3)[-1]["end"][f"{OWN}body.0.l0.weight"]
    assert float((after[0] - torch.eye(48, dtype=torch.float64)).abs().max()) < 1e-12


@pytest.mark.parametrize("arch", ["mlp-2x8", MIXER])
def test_the_mean_is_the_gradient_of_the_weights_on_decorrelated_inputs(arch: str) -> None:
    """By autograd: W = V R, dL/dV Rᵀ... a step along dL/dV changes W by dL/dV R."""
    task, made, _, state = started(arch, "decor[base=fg_a,rate=0.05]")
    x, y = batch(6, SHAPE)
    bp = registry.make("estimators", "decor[base=bp,rate=0.05]").thing
    state = learned(task, bp, state, x, y, 5)[-1]
    (view,) = task.views(x, y, CostCounter())
    inputs, truth = view.inputs(), task.scheme_truth(x, y)
    expected = made.expected(view, state["end"])
    for name, own in inputs.items():
        r = state["end"][OWN + name]
        w = own.matrices(task.chain.get_parameter(name).detach())
        v = torch.linalg.solve(r.mT, w.mT).mT.requires_grad_()
        moved = {n: p.detach() for n, p in task.chain.named_parameters()}
        moved[name] = own.weights(v @ r)
        logits = torch.func.functional_call(task.chain, moved, (x,))
        (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y), v)
        assert worst({name: own.weights(g @ r)}, {name: expected[name]}) < 1e-9
    assert worst(expected, truth) > 1e-2
    found = task.estimate(x, y, bp, Noise(0), state).body
    assert worst(found, expected) < 1e-12


def test_around_a_forward_gradient_the_design_has_the_documented_mean() -> None:
    task, made, _, state = started("mlp-2x5", "decor[rate=0.05]")
    x, y = batch(3, SHAPE)
    bp = registry.make("estimators", "decor[base=bp,rate=0.05]").thing
    state = learned(task, bp, state, x, y, 4)[-1]
    (view,) = task.views(x, y, CostCounter())
    mean = made.expected(view, state["end"])
    assert worst(task.estimate(x, y, made, design(task, "fg_a"), state).body, mean) < 1e-10


def test_a_biased_base_without_a_documented_mean_has_none() -> None:
    task, made, _, state = started("mlp-2x5", "decor[base=dfa]")
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    assert made.expected(view, state["end"]) is None
    claims = made.claims(task.scheme)
    assert (claims.bias, claims.backward, claims.deterministic) == ("some", "segment", True)


def test_weights_that_enter_unknown_have_no_state() -> None:
    case = Case.build(OPAQUE, "end", registry.make("estimators", "decor[base=bp]").thing)
    assert not any(n.startswith(OWN) for own in case.state.values() for n in own)
    trained(case, steps=2)
