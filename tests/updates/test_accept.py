"""The rule ``accept``: a step that raises the loss of its batch leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.registry import make
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.moves import move, weights


def square(params: Any) -> Tensor:
    found: Tensor = params["w"].square().sum()
    return found


def rule(**options: Any) -> Any:
    text = ",".join(f"{k}={v}" for k, v in options.items())
    return make("updates", f"accept[{text}]" if text else "accept").thing


def stepped(
    grad: float, at: float = 1.0, loss: Any = square, known: Any = None, **options: Any
) -> tuple[float, dict[str, Any], int]:
    """Where one step from ``at`` ends, the optimiser's buffers, and how often the loss was evaluated."""
    w = weights(at)
    sgd = torch.optim.SGD(list(w.values()), lr=1.0, momentum=0.9)
    calls = []

    def counted(params: Any) -> Tensor:
        calls.append(1)
        return torch.as_tensor(loss(params))

    grads = {"w": torch.tensor([grad], dtype=torch.float64)}
    rule(**options).step(move(w, grads, loss=counted, optimizer=sgd, known=known), {})
    return float(w["w"].detach()), dict(sgd.state_dict()["state"]), len(calls)


@pytest.mark.parametrize(
    ("grad", "end"),
    [
        (0.5, 0.5),  # falls
        (2.0, -1.0),  # as low as before: kept
        (2.1, 1.0),  # rises beyond the minimum
        (-0.1, 1.0),  # the wrong way
        (float("nan"), 1.0),
    ],
)
def test_a_step_is_kept_unless_the_loss_rises(grad: float, end: float) -> None:
    found, buffers, calls = stepped(grad)
    assert found == pytest.approx(end, abs=1e-15)
    assert (found == 1.0) == (buffers == {})  # a refused first step leaves no momentum
    assert calls == 2
    assert stepped(grad, known=torch.tensor(1.0))[2] == 1


@pytest.mark.parametrize(
    ("grad", "end"),
    [(0.5, 0.5), (-0.5, 0.5), (2.1, 1.0), (-2.1, 1.0), (2.0, 1.0), (0.0, 1.0), (float("nan"), 1.0)],
)
def test_both_ways_take_the_lowest_and_a_tie_stays(grad: float, end: float) -> None:
    found, _, calls = stepped(grad, both="true")
    assert found == pytest.approx(end, abs=1e-15)
    assert calls == 3


def test_the_lower_of_two_falls_is_taken() -> None:
    assert stepped(0.5, loss=lambda p: -p["w"].square().sum(), both="true")[0] == 1.5
    assert stepped(-0.5, loss=lambda p: -p["w"].square().sum(), both="true")[0] == 1.5


def run_of(update: str, lr: float) -> TrainingRun:
    workload = Workload.of("mlp-2x8", "synthetic[train=64,test=32]", dtype="float64")
    subject = workload.task(registry.method("fg_w/local"), 0)
    recipe = Recipe(epochs=2, batch=16, lr=lr, update=update)
    return TrainingRun(subject.task, subject.estimator, recipe, subject.noise, workload.data)


def test_the_loss_of_a_batch_never_rises_in_training() -> None:
    run = run_of("accept", lr=0.3)
    losses = []
    follow = run.learner.follow

    def watched(estimate: Any, clock: Any, noise: Any, loss: Any) -> None:
        before = float(loss())
        follow(estimate, clock, noise, loss)
        losses.append(float(loss()) - before)

    run.learner.follow = watched  # type: ignore[method-assign]
    for _ in range(8):
        run.take()
    assert max(losses) <= 1e-12
    kept = sum(change < 0 for change in losses)
    assert 0 < kept < len(losses)  # both happened


def test_it_costs_a_pass_of_values_through_every_window() -> None:
    costs = []
    for update in ("none", "accept", "accept[both=true]"):
        run = run_of(update, lr=0.01)
        run.take()
        costs.append(run.unseen[0][1])
    for k, extra in ((1, 1.0), (2, 2.0)):
        assert costs[k]["forwards"] - costs[0]["forwards"] == pytest.approx(extra)
        heads = costs[k]["readouts"] - costs[0]["readouts"]
        assert heads > 0
        assert costs[k]["forward_equivalents"] > costs[0]["forward_equivalents"]
