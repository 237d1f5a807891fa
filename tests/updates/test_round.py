"""The rule ``round``: weights are integers times a power of two, in range, whatever was done to them."""

from __future__ import annotations

from math import log2
from typing import Any

import torch

from fgbench import registry
from fgbench.registry import make
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.moves import move, weights


def rule(**options: Any) -> Any:
    text = ",".join(f"{k}={v}" for k, v in options.items())
    return make("updates", f"round[{text}]" if text else "round").thing


def stepped(chosen: Any, w: Any, state: Any, grad: float, step: int = 0, lr: float = 1.0) -> None:
    grads = {name: torch.full_like(p, grad) for name, p in w.items()}
    chosen.step(move(w, grads, lr=lr, step=step), state)


def test_the_grid_reaches_far_enough_and_is_no_coarser_than_that() -> None:
    for bits in (2, 4, 8, 16, 24):
        w = weights(0.3, -0.7, 0.1)
        (step,) = rule(bits=bits).start(w, {}).values()
        most = 2 ** (bits - 1) - 1
        assert log2(float(step)).is_integer()
        assert most * float(step) >= 2 * 0.7 > most * float(step) / 2


def test_all_lie_on_the_grid_from_the_start_and_stay_in_range() -> None:
    chosen, w = rule(bits=4), weights(1.0, -0.26, 0.0)
    state = chosen.start(w, {})
    step = float(state["w"])
    assert w["w"].tolist() == [1.0, -0.5, 0.0]
    for grad in (-0.3, 7.0, -100.0, 100.0, 0.4):
        stepped(chosen, w, state, grad)
        k = w["w"].detach() / step
        assert torch.equal(k, k.round())
        assert float(k.min()) >= -8
        assert float(k.max()) <= 7
    for grad, end in ((-1e9, 7), (1e9, -8)):  # saturated: clipped, never wrapped
        stepped(chosen, w, state, grad)
        assert (w["w"] / step).tolist() == [end] * 3


def test_a_step_below_half_the_grid_moves_nothing_and_one_above_does() -> None:
    chosen, w = rule(bits=8), weights(1.0, 0.5)
    state = chosen.start(w, {})
    step = float(state["w"])
    before = w["w"].detach().clone()
    stepped(chosen, w, state, 0.49 * step)
    assert torch.equal(w["w"], before)
    stepped(chosen, w, state, 0.51 * step)
    assert torch.equal(w["w"], before - step)
    stepped(chosen, w, state, 5.0, lr=0.0)
    assert torch.equal(w["w"], before - step)


def test_parameters_that_start_at_zero_have_the_finest_grid() -> None:
    w = {**weights(0.5, 0.25), "b": torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))}
    head = {"h": torch.nn.Parameter(torch.tensor([0.01], dtype=torch.float64))}
    state = rule(bits=8).start(w, head)
    assert state["b"] == state["h"] < state["w"]


def test_random_rounding_moves_by_the_step_on_average() -> None:
    """Of n = 20,000 weights a step of 0.3 grid steps moves a share of .3: its standard error is .0032.

    At 5 of them a sound rule fails once in 10⁶ runs; rounding to the nearest moves none.
    """
    chosen = rule(bits=8, to="random")
    w = {"w": torch.nn.Parameter(torch.ones(20_000, dtype=torch.float64))}
    state = chosen.start(w, {})
    step = float(state["w"])
    stepped(chosen, w, state, 0.3 * step)
    k = w["w"].detach() / step
    assert set((k - 1 / step).tolist()) == {-1.0, 0.0}
    moved = float((k < 1 / step).double().mean())
    assert abs(moved - 0.3) < 5 * 0.0033
    before = w["w"].detach().clone()
    stepped(chosen, w, state, 1.0, lr=0.0)
    assert torch.equal(w["w"], before)  # on the grid nothing is drawn away from it
    other = {"w": torch.nn.Parameter(torch.ones(20_000, dtype=torch.float64))}
    stepped(chosen, other, chosen.start(other, {}), 0.3 * step, step=1)
    assert not torch.equal(other["w"], before)  # another step, other noise


def test_a_fine_grid_trains_as_floats_do() -> None:
    ends = []
    for update in ("none", "round[bits=24]", "round[bits=3]"):
        workload = Workload.of("mlp-2x8", "synthetic[train=64,test=32]", dtype="float64")
        subject = workload.task(registry.method("BP"), 0)
        recipe = Recipe(epochs=1, batch=16, lr=0.05, update=update)
        run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, workload.data)
        while run.step < run.steps:
            run.take()
        ends.append({n: p.detach().clone() for n, p in subject.task.chain.named_parameters()})
    plain, fine, coarse = ends
    assert max(float((fine[n] - p).abs().max()) for n, p in plain.items()) < 1e-5
    assert max(float((coarse[n] - p).abs().max()) for n, p in plain.items()) > 1e-2
