"""Captured steps: the same run to the bit, noise that is not frozen, and what is not captured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fgbench import course, graph, registry
from fgbench.course import Course
from fgbench.experiment import Experiment
from fgbench.recipe import Recipe
from tests.recorder import Recorder

OWN = Path(__file__).with_name("stateful.py")
RECIPE = Recipe(epochs=2, batch=20, lr=0.05, weight_decay=1e-3, flip=True, warmup_epochs=0.1)
STEPS = 8


def course_of(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    mode: str,
    arch: str = "mlp-2x16",
    recipe: Recipe = RECIPE,
    backend: Any = None,
) -> Course:
    """A run on a CPU whose steps the recorder captures where asked to."""
    monkeypatch.setattr(course, "backend_of", lambda device: backend or Recorder())
    experiment = Experiment.of(arch, "digits")
    task, estimator, noise = experiment.task(registry.method(method), 0)
    return Course(task, estimator, recipe, noise, experiment.data.subset(160), mode)


def taken(run: Course, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """All that steps have made: parameters, moments, state, losses."""
    for _ in range(steps):
        run.take()
    losses = [loss for loss, _ in run.unseen if loss is not None]
    found = {name: t.clone() for name, t in run.learner.tensors().items()}
    return {**found, "losses": torch.stack(losses) if losses else torch.zeros(0)}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, t in one.items() if not torch.equal(t, other[name])]


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bp": ("BP", "mlp-2x16", {}),
    "fg_a, local losses": ("LG-FG-A", "localmixer-xs/2/4", {}),
    "fg_a, uniform noise, which is changed in place": ("fg_a[law=uniform]/local", "mlp-2x16", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_captured_steps_are_the_plain_ones_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, arch, changes = CASES[name]
    case = {"method": method.format(file=OWN), "arch": arch, "recipe": RECIPE.but(**changes)}
    plain = taken(course_of(monkeypatch, mode="off", **case))
    recorder = Recorder()
    run = course_of(monkeypatch, mode="on", backend=recorder, **case)
    captured = taken(run)
    assert (run.graph.used, run.graph.reason) == (True, "on")
    assert recorder.replays == STEPS - 3
    assert differing(captured, plain) == []
    assert bool(plain["losses"].isfinite().all())
