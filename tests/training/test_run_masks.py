"""Masks that a module draws itself: the same for a whole estimate, others at the next step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload


def net(classes: int) -> nn.Module:
    """Return a small network with dropout."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, classes)
    )


def test_masks_change_from_step_to_step_and_are_those_of_the_seed_again() -> None:
    workload = Workload.of(net, "synthetic[train=64,test=32]")
    seen: list[list[Tensor]] = []
    for _ in range(2):
        subject = workload.task(registry.method("FG-A"), seed=0)
        recipe = Recipe(epochs=1, batch=16, lr=0.0001)
        run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, workload.data)
        chain, outputs = subject.task.chain, []
        x = torch.ones(2, 1, 8, 8)
        while run.step < run.steps:
            run.take()
            with torch.no_grad():
                first, again = (chain.run(chain.start(x), 0, 1) for _ in range(2))
            assert torch.equal(first, again)
            outputs.append(first)
        seen.append(outputs)
    changed = [float((a - b).abs().max()) for a, b in zip(seen[0], seen[0][1:], strict=False)]
    assert min(changed) > 0.01  # a step of the optimiser moves outputs by far less
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
