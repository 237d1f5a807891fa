"""A snapshot as control variate: what cancels, what is left, and when a snapshot is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.noise.keyed import DesignedNoise, Noise
from tests.makers.networks import batch, build, weights_of, worst
from tests.makers.signs import signs

SHAPE = (1, 1, 2)
NET = "mlp-1x2[activation=tanh]"  # 6 weights


def started(method: str, arch: str = NET) -> Any:
    task, made, noise = build(arch, f"{method}/end", SHAPE)
    return task, made, noise, task.init_state(made, noise)


def away(task: Any, state: Any, age: float = 1.0) -> Any:
    """A state between snapshots, whose snapshot and mean are anything."""
    noise = Noise(7, dtype=torch.float64)
    own = dict(state["end"])
    for name, p in task.chain.body_parameters().items():
        shape = tuple(p.shape)
        own[f"snapshot:{name}"] = p.detach() + 0.3 * noise.normal(f"w{name}", shape)
        own[f"mean:{name}"] = noise.normal(f"m{name}", shape)
    return {"end": {**own, "age": torch.full_like(own["age"], age)}}


def at_snapshot(task: Any, state: Any, x: Any, y: Any) -> Any:
    """The gradient at the snapshot."""
    kept = {n: p.detach().clone() for n, p in task.chain.body_parameters().items()}
    with torch.no_grad():
        for n, p in task.chain.body_parameters().items():
            p.copy_(state["end"][f"snapshot:{n}"])
    found = task.scheme_truth(x, y)
    with torch.no_grad():
        for n, p in task.chain.body_parameters().items():
            p.copy_(kept[n])
    return found


@pytest.mark.parametrize("base", ["fg_w", "wp[sided=central]", "fg_a", "mezo"])
def test_with_shared_noise_all_but_the_mean_cancels_at_the_snapshot(base: str) -> None:
    task, made, noise, state = started(f"svrg[base={base},period=9,mean=false]")
    x, y = batch(3, SHAPE)
    first = task.estimate(x, y, made, noise, state)
    second = task.estimate(x, y, made, noise.redrawn(1), first.new_state)
    assert worst(dict(second.body), dict(first.body)) < 1e-7
    other = registry.make("estimators", f"svrg[base={base},period=9,share=none]").thing
    apart = task.estimate(x, y, other, noise.redrawn(1), first.new_state).body
    assert worst(dict(apart), dict(first.body)) > 1e-2


def test_over_every_vector_of_signs_mean_and_variance_are_their_closed_forms() -> None:
    """The mean is g(θ) − g(w) + G; the variance (d − 1)|g(θ) − g(w)|²."""
    task, made, _, state = started("svrg[base=fg_w[law=rademacher],period=9]")
    x, y = batch(3, SHAPE)
    state = away(task, state)
    here, then = task.scheme_truth(x, y), at_snapshot(task, state, x, y)
    want = {n: g - then[n] + state["end"][f"mean:{n}"] for n, g in here.items()}
    rows = signs(weights_of(task))
    draws = []
    for k in range(64):
        given = {n: t[k : k + 1] for n, t in rows.items()}
        one = DesignedNoise(0, dtype=torch.float64, given=given)
        draws.append(dict(task.estimate(x, y, made, one, state).body))
    mean = {n: torch.stack([e[n] for e in draws]).mean(0) for n in want}
    assert worst(mean, want) < 1e-12
    documented = task.expected(x, y, made, state)
    assert worst(documented, want) < 1e-12
    found = sum(float((e[n] - g).square().sum()) for e in draws for n, g in want.items()) / 64
    change = sum(float((g - then[n]).square().sum()) for n, g in here.items())
    assert found == pytest.approx(5 * change, rel=1e-10)


@pytest.mark.parametrize("base", ["fg_w", "np", "dfa"])
def test_with_a_period_of_one_it_is_its_base(base: str) -> None:
    task, made, noise, state = started(f"svrg[base={base},period=1]", "mlp-2x4")
    own = registry.make("estimators", base).thing
    x, y = batch(3, SHAPE)
    inner = {
        "end": {n.partition(":")[2]: t for n, t in state["end"].items() if n.startswith("base:")}
    }
    plain = task.estimate(x, y, own, noise.child("base"), inner).body
    for _ in range(3):
        step = task.estimate(x, y, made, noise, state)
        assert all(torch.equal(step.body[n], g) for n, g in plain.items())
        state = step.new_state
    task, one, _, _ = started("svrg[base=fg_w,period=1]")
    assert one.claims(task.scheme).bias == "none"


def test_a_snapshot_stays_where_it_was_taken() -> None:
    """A shallow copy, as released, moves with the weights."""
    task, made, noise, state = started("svrg[base=fg_w,period=4]")
    x, y = batch(3, SHAPE)
    name = "snapshot:body.0.l0.weight"
    taken = []
    for k in range(6):
        state = task.estimate(x, y, made, noise.at(k), state).new_state
        taken.append(state["end"][name].clone())
        with torch.no_grad():
            for p in task.chain.parameters():
                p.add_(0.1)
    assert all(torch.equal(taken[0], t) for t in taken[1:4])
    assert not torch.equal(taken[0], taken[4])
    assert torch.equal(taken[4], taken[5])


def test_the_mean_is_that_of_all_estimates_at_the_snapshot() -> None:
    task, made, noise, state = started("svrg[base=fg_w,period=9,full=3]")
    x, y = batch(3, SHAPE)
    own = registry.make("estimators", "fg_w").thing
    seen = [dict(task.estimate(x, y, own, noise.child(c)).body) for c in ("base", "full1", "full2")]
    for k in range(3):
        step = task.estimate(x, y, made, noise.redrawn(k), state)
        state = step.new_state
        if k:
            seen.append(
                dict(task.estimate(x, y, own, noise.redrawn(k).child("base")).body)
            )  # θ stays at w
        for name, one in seen[0].items():
            want = torch.stack([e[name] for e in seen]).mean(0)
            torch.testing.assert_close(
                state["end"][f"mean:{name}"], want, rtol=0, atol=1e-12 * float(one.abs().max() + 1)
            )


def test_a_base_with_an_optimiser_of_its_own_is_refused() -> None:
    task, made, _, _ = started("svrg[base=fg_w]")
    learns = registry.make("estimators", "svrg[base=fdfa]").thing
    assert made.supports(task.scheme) == ""
    assert "optimiser of its own" in learns.supports(task.scheme)
