"""Where gradients are measured: moments of a shared backprop trajectory, and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.training.recipe import default_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.training.recipe import Recipe
    from fgbench.workload import Workload

TRAJECTORY_STEPS = 200  # at most so many steps count as one epoch of the trajectory


class _Trajectory:
    """Backprop of the final loss, every other readout learning from its own loss on the same body."""

    def attach(self, chain: Chain) -> None:
        """Put a readout on every module."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the end objective and one readout-only objective per module."""
        last = len(chain)
        whole = Objective("end", (0, last), "final", tuple(range(last)))
        heads = {chain.local_readout(k): k + 1 for k in range(last)}
        local = (Objective(n, (k, k), n, ()) for n, k in heads.items() if n != "final")
        return (*local, whole)


def _walked(workload: Workload, chain: Chain, seed: int) -> Iterator[int]:
    """Train a chain by backprop in place, yielding the number of steps done before each step.

    As in :mod:`fgbench.training.loop`, what does not fill a batch is left out of a pass.
    """
    recipe = default_recipe(workload.arch, workload.data.name, exact=True)
    task = Task(Scheme(chain, _Trajectory()))
    backprop = registry.make("estimators", "bp").thing
    params = dict(chain.named_parameters())
    optimizer = torch.optim.SGD(params.values(), lr=recipe.peak_lr, momentum=recipe.momentum)
    data, done, size = workload.data, 0, _batch(workload, recipe)
    noise = Noise(seed).child("trajectory")
    while True:
        order = noise.at(done).permutation("order", len(data.train_x)).to(data.train_x.device)
        for rows in order[: len(order) // size * size].split(size):
            yield done
            pixels, labels = data.rows(rows)
            x = data.normalise(pixels, workload.dtype)
            step = task.estimate(x, labels, backprop, noise)
            for name, grad in {**step.body, **step.readouts}.items():
                params[name].grad = grad
            optimizer.step()
            done += 1


def _batch(workload: Workload, recipe: Recipe) -> int:
    """Return the examples of a step of the shared trajectory: the recipe's, or all where they are fewer."""
    return min(recipe.batch, len(workload.data.train_x))


def epoch_steps(workload: Workload) -> int:
    """Return how many steps one epoch of the shared trajectory has: those of training, at most 200."""
    recipe = default_recipe(workload.arch, workload.data.name, exact=True)
    whole = len(workload.data.train_x) // _batch(workload, recipe)
    return min(whole, TRAJECTORY_STEPS)


def default_moments(chain: Chain) -> tuple[float, ...]:
    """Return the start, or one epoch where the final readout starts at zero."""
    weights = [p for p in chain.readout_parameters("final").values() if p.dim() > 1]
    return (1.0,) if all(float(p.detach().abs().max()) == 0.0 for p in weights) else (0.0,)


def at_moments(
    workload: Workload, base: Chain, seed: int, moments: tuple[float, ...]
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Yield (moment, parameters) along the shared trajectory, in order of time."""
    steps = epoch_steps(workload)
    walk = _walked(workload, base, seed)
    done = next(walk)
    for moment in sorted(moments):
        target = round(moment * steps)
        while done < target:
            done = next(walk)
        yield moment, {name: p.detach().clone() for name, p in base.named_parameters()}


def picked(
    workload: Workload, seed: int, moment: float, index: int, size: int
) -> tuple[Tensor, Tensor]:
    """Draw images and labels keyed by (init, moment, index), from the training set."""
    data = workload.data
    noise = Noise(seed).child("point").child(f"{moment}/{index}")
    return data.rows(noise.permutation("batch", len(data.train_x))[:size])
