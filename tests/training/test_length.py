"""Lengths of trainings: what a budget buys, where the run ends, and that it goes on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.runs.run import run_all
from fgbench.training.length import Length, cost_of_step, fitted, steps_for
from fgbench.training.loop import train
from fgbench.training.recipe import Recipe
from fgbench.workload import Workload

CASE: dict[str, Any] = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}


def trained(method: str, **options: Any) -> dict[str, Any]:
    return run_all("train", [method], batch=16, **CASE, **options)[0]


def test_a_budget_of_forward_equivalents_buys_what_the_ledger_says() -> None:
    """Backprop costs 3 forward passes of a batch: 4 batches an epoch, 30 passes are 10 epochs."""
    record = trained("BP", forwards=30)
    spent = record["steps"] * record["cost"]["forward_equivalents"] * 16 / 64
    assert record["steps"] == 40
    assert spent == 30
    assert record["epochs"] == 10
    assert record["settings"]["steps"] == 40
    assert "epochs" not in record["settings"]


def test_a_run_may_end_within_an_epoch_and_is_evaluated_there() -> None:
    record = trained("BP", forwards=8)
    assert record["steps"] == 10
    assert [point["epoch"] for point in record["history"]] == [1, 2, 2.5]
    assert record["epochs"] == 2.5
    assert record["test_error"] == record["history"][-1]["test_error"]


def test_the_schedule_ends_with_the_run() -> None:
    recipe = Recipe(epochs=2, batch=1, lr=1.0)
    assert [recipe.factor(step, 4, 5) for step in range(5)] == pytest.approx(
        [1, 0.8, 0.6, 0.4, 0.2]
    )
    assert [recipe.factor(step, 4, 8) for step in range(8)] == [
        recipe.factor(step, 4) for step in range(8)
    ]


def test_as_many_steps_as_the_epochs_have_give_the_same_numbers() -> None:
    one, other = trained("FG-A", epochs=3), trained("FG-A", steps=12)
    assert one["history"][-1]["test_loss"] == other["history"][-1]["test_loss"]
    assert one["correct"] == other["correct"]
    assert one["key"] != other["key"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"forwards": 3, "epochs": 1}, "forwards and epochs both say"),
        ({"forwards": 3, "steps": 4}, "steps and forwards both say"),
        ({"forwards": 0}, "forwards: expected a number above 0, got 0"),
        ({"forwards": "many"}, "got 'many'"),
        ({"steps": 2.5}, "steps: expected a whole number of 1 or more, got 2.5"),
        ({"steps": True}, "got True"),
        ({"seconds": float("inf")}, "seconds: expected a number above 0"),
        ({"forwards": 0.01}, "less than one step"),
    ],
)
def test_a_wrong_length_is_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        trained("BP", **options)


def test_a_long_warm_up_is_shortened() -> None:
    recipe = Recipe(epochs=50, batch=1, lr=1.0, warmup_epochs=5)
    assert fitted(recipe, 8, per_epoch=4).warmup_epochs == 0.5
    assert fitted(recipe, 200, per_epoch=4) == recipe


def test_looking_up_the_cost_leaves_the_network_as_it_was() -> None:
    workload = Workload.of(**CASE)
    subject = workload.task(registry.method("BP"), seed=0)
    before = {name: p.detach().clone() for name, p in subject.task.chain.named_parameters()}
    assert cost_of_step(subject, Recipe(epochs=1, batch=16, lr=1e9), workload.data) == 3.0
    for name, p in subject.task.chain.named_parameters():
        assert p.equal(before[name])


def test_a_budget_is_never_exceeded() -> None:
    for cost in (1.0, 2.5, 3.0, 7.0):
        steps = steps_for(10, cost, 16, 64)
        assert steps * cost * 16 / 64 <= 10 < (steps + 1) * cost * 16 / 64


def test_seconds_give_a_number_of_steps_that_a_checkpoint_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stopped in its middle and finishes as many steps as it set out to take."""
    workload = Workload.of(**CASE)
    found: list[int] = []

    def stop(progress: Any) -> None:
        found.append(progress.steps)
        if progress.step > progress.steps // 2:
            raise KeyboardInterrupt

    how: dict[str, Any] = {"length": Length(seconds=0.05), "checkpoint": tmp_path / "run"}
    recipe = Recipe(epochs=1, batch=16, lr=0.1)
    monkeypatch.setattr("fgbench.training.length.time_of_step", lambda run, most: 0.0005)
    with pytest.raises(KeyboardInterrupt):
        train(workload, registry.method("BP"), recipe, progress=stop, **how)
    monkeypatch.setattr("fgbench.training.length.time_of_step", lambda run, most: 0.01)
    told: list[str] = []
    record = train(workload, registry.method("BP"), recipe, tell=told.append, **how)
    assert found[0] == 100
    assert record["steps"] == 100
    assert told[0].startswith("goes on from its checkpoint")


def test_what_an_update_rule_looks_at_again_counts() -> None:
    """A conservative step looks at the loss once more, or twice with both signs."""
    for rule, more in (("accept", 1.0), ("accept[both=true]", 2.0)):
        record = trained("BP", forwards=30, update=rule)
        assert record["cost"]["forward_equivalents"] <= 3.0 + more
        assert record["steps"] * record["cost"]["forward_equivalents"] * 16 / 64 <= 30
