"""The projection onto the gradient of a local loss: exact where the local loss is the objective's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)


def started(arch: str, text: str = "fg_guess") -> Any:
    task, made, noise = build(arch, f"{text}/end", SHAPE)
    state = task.init_state(made, noise)
    return task, made, noise, state


def with_head(task: Any, state: Any, site: str, factor: float = 1.0) -> Any:
    """The state in which the head of a site is the network's own readout."""
    w = task.chain.get_parameter("readouts.final.linear.weight").detach()
    b = task.chain.get_parameter("readouts.final.linear.bias").detach()
    own = dict(state["end"])
    own[site], own[f"{site}.bias"] = (factor * w).reshape(own[site].shape), b
    return {"end": own}


@pytest.mark.parametrize(
    ("arch", "last"), [("mlp-1x6", 0), ("mlp-3x6", 2), ("cnn-tiny[width=4]", 2)]
)
def test_with_the_networks_own_head_it_is_backprop(arch: str, last: int) -> None:
    task, made, noise, state = started(arch)
    x, y = batch(4, SHAPE)
    site = list(task.chain.index)[-1]
    truth = {n: g for n, g in task.scheme_truth(x, y).items() if n.startswith(site)}
    found = task.estimate(x, y, made, noise, with_head(task, state, site)).body
    assert worst(found, truth) < 1e-10
    assert worst(task.estimate(x, y, made, noise, state).body, truth) > 1e-2


def credits(task: Any, made: Any, noise: Any, state: Any, x: Any, y: Any) -> Any:
    (view,) = task.views(x, y, CostCounter())
    return made(view, noise, state["end"]).credit, view


def test_it_is_the_projection_of_the_gradient_at_every_output() -> None:
    """Against autograd: idempotent, never uphill, and no longer than the gradient."""
    task, made, noise, state = started("mlp-3x6")
    x, y = batch(4, SHAPE)
    credit, _ = credits(task, made, noise, state, x, y)
    outs = {}

    def tap(kind: str, name: str, z: Any, /) -> Any:
        if kind == "out":
            outs[name] = z
        return z

    f = task.chain.run(x, 0, 3, tap)
    loss = torch.nn.functional.cross_entropy(task.chain.read("final", f), y)
    exact = dict(zip(outs, torch.autograd.grad(loss, list(outs.values())), strict=True))
    for name, g in exact.items():
        c = credit["out", name]
        along, square = (c * g).sum(1), (c * c).sum(1)
        torch.testing.assert_close(along, square, rtol=1e-9, atol=1e-14)
        assert bool((square <= (g * g).sum(1) * (1 + 1e-9)).all())
        head, bias = state["end"][name], state["end"][f"{name}.bias"]
        h = outs[name].detach().requires_grad_()
        local = torch.nn.functional.cross_entropy(h @ head.T + bias, y)
        (u,) = torch.autograd.grad(local, h)
        projected = ((g * u).sum(1) / (u * u).sum(1)).unsqueeze(1) * u
        torch.testing.assert_close(c, projected, rtol=1e-9, atol=1e-14)


def test_heads_learn_their_own_losses() -> None:
    task, made, noise, state = started("mlp-2x6")
    x, y = batch(4, SHAPE)
    step = task.estimate(x, y, made, noise, state)
    (view,) = task.views(x, y, CostCounter())
    for name, h in view.activities().items():
        head = state["end"][name].clone().requires_grad_()
        bias = state["end"][f"{name}.bias"].clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(h @ head.T + bias, y)
        own = dict(
            zip((name, f"{name}.bias"), torch.autograd.grad(loss, (head, bias)), strict=True)
        )
        assert worst({n: step.state_grads["end"][n] for n in own}, own) < 1e-12
    for text in ("fixed", "fresh"):
        task, still, noise, kept = started("mlp-2x6", f"fg_guess[heads={text}]")
        assert not task.estimate(x, y, still, noise, kept).state_grads
        two = [task.estimate(x, y, still, noise.at(k), kept).body for k in (0, 1)]
        assert (worst(*two) < 1e-12) == (text == "fixed") == still.claims(task.scheme).deterministic


def test_a_head_of_zeros_guesses_nothing() -> None:
    task, made, noise, state = started("mlp-2x6")
    zero = {"end": {n: torch.zeros_like(t) for n, t in state["end"].items()}}
    found = task.estimate(*batch(4, SHAPE), made, noise, zero).body
    assert all(not bool(g.any()) for g in found.values())


def test_estimates_of_examples_permute_with_them() -> None:
    task, made, noise, state = started("mlp-2x6")
    x, y = batch(4, SHAPE)
    turned = torch.tensor([3, 1, 0, 2])
    one, _ = credits(task, made, noise, state, x, y)
    two, _ = credits(task, made, noise, state, x[turned], y[turned])
    for place, c in one.items():
        torch.testing.assert_close(two[place], c[turned], rtol=1e-9, atol=1e-14)


def test_its_cost_is_a_slope_for_every_layer() -> None:
    task, made, noise, state = started("mlp-4x16")
    ledger = task.estimate(*batch(4, SHAPE), made, noise, state).ledger
    found = (ledger.forwards, ledger.slopes, ledger.pulls)
    assert found == pytest.approx((1.0, 4.0, 1.0))
    bp = registry.make("estimators", "bp").thing
    assert ledger.readouts > task.estimate(*batch(4, SHAPE), bp, Noise(0)).ledger.readouts
