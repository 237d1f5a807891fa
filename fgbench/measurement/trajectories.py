"""Trajectories along which gradients are measured, and the batches at their points.

A trajectory is the training of one network; a waypoint is the network at one moment of it. All methods share
a trajectory of backprop, or each follows its own training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.training.optimizers import uncompiled
from fgbench.training.recipe import default_recipe
from fgbench.training.run import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.network import Chain
    from fgbench.registry import Method
    from fgbench.training.recipe import Recipe
    from fgbench.workload import Workload

TRAJECTORY_STEPS = 200  # most steps that count as one epoch of the shared trajectory


@dataclass(frozen=True)
class Waypoint:
    """A network at one moment of a trajectory.

    Args:
        moment: epochs of training before it.
        steps: steps of training before it.
        params: parameters by name.
        state: state of each objective, where training changes it.
        diverged: why training ended before the moment, or "".
        failed: what the estimator raised on the way, or "".

    Example:
        >>> Waypoint(moment=0.0, steps=0).diverged
        ''
    """

    moment: float
    steps: int | None
    params: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, State] = field(default_factory=dict)
    diverged: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Trajectory:
    """The training of one network, by backprop or by a method.

    Args:
        workload: data and architecture.
        start: the network at the start. It stays as it is.
        seed: of the network and of training.
        moments: epochs after which there is a waypoint.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> trajectory = Trajectory(workload, workload.chain(0), 0, (0.0, 1.0))
        >>> [waypoint.steps for waypoint in trajectory.backprop()]
        [0, 1]
    """

    workload: Workload
    start: Chain
    seed: int
    moments: tuple[float, ...]

    def backprop(self) -> Iterator[Waypoint]:
        """Yield the waypoints of the shared trajectory, in order of time.

        The final loss trains the body, and every other readout learns from its own loss on that body.
        """
        chain = copy.deepcopy(self.start)
        with Noise(self.seed).child("heads").seeded():
            chain.attach()
        chain.to(device=self.workload.device, dtype=self.workload.dtype)
        steps = epoch_steps(self.workload)
        for moment, params in at_moments(self.workload, chain, self.seed, self.moments):
            yield Waypoint(moment, round(moment * steps), params)

    def own(self, method: Method, exact: bool) -> Iterator[Waypoint]:
        """Return the waypoints of a method's own training, in order of time.

        The training is the run of :func:`fgbench.training.loop.train` with this seed, step for step, up
        to the last moment. It ends with a waypoint that says why where it diverges or raises.

        Args:
            method: trained by the recipe that ships for it.
            exact: whether its estimator claims to be deterministic, which decides the recipe.

        Returns:
            An iterator, which trains as far as it is read.

        Raises:
            UsageError: for a moment after the recipe's last epoch, or fewer images than a batch.
        """
        data = self.workload.data
        name = f"{method.estimator.text}/{method.locality.text}"
        recipe = default_recipe(self.workload.arch, data.name, exact, name)
        if max(self.moments) > recipe.epochs:
            raise UsageError(
                f"moments along the own training of {method.text} end with the {recipe.epochs} epochs of "
                f"its recipe, got {max(self.moments):g}"
            )
        if recipe.batch > len(data.train_y):
            raise UsageError(
                f"batch {recipe.batch} is larger than the {len(data.train_y)} training examples"
            )
        task, estimator, noise = self.workload.task(method, self.seed, self.start)
        run = TrainingRun(task, estimator, recipe, noise, data)
        return _trained(run, sorted(self.moments))


def _trained(run: TrainingRun, moments: list[float]) -> Iterator[Waypoint]:
    """Yield the waypoints of a training run."""
    for moment in moments:
        try:
            with at_work(run.estimator):
                diverged = _train_to(run, moment)
        except MethodFailed as failed:
            yield Waypoint(moment, None, failed=str(failed))
            return
        if diverged:
            yield Waypoint(moment, None, diverged=f"its own training: {diverged}")
            return
        params = {n: p.detach().clone() for n, p in run.task.chain.named_parameters()}
        state: dict[str, State] = {
            objective: {name: t.detach().clone() for name, t in tensors.items()}
            for objective, tensors in run.learner.state.items()
        }
        yield Waypoint(moment, run.step, params, state)


def _train_to(run: TrainingRun, moment: float) -> str:
    """Train up to a moment; return why training ended before it, or ""."""
    while run.step < round(moment * run.per_epoch):
        run.take()
        reason = run.look()
        if not reason and run.step % run.per_epoch == 0:
            reason = run.settle()
        if reason:
            return reason
    return ""


class _BackpropLocality:
    """Backprop of the final loss, every other readout learning from its own loss on the same body."""

    def attach(self, chain: Chain) -> None:
        """Put a readout on every module."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the end objective and one readout-only objective per module."""
        last = len(chain)
        end = Objective("end", (0, last), "final", tuple(range(last)))
        heads = {chain.local_readout(k): k + 1 for k in range(last)}
        local = (Objective(n, (k, k), n, ()) for n, k in heads.items() if n != "final")
        return (*local, end)


def _train_by_backprop(workload: Workload, chain: Chain, seed: int) -> Iterator[int]:
    """Train a chain by backprop in place, yielding the number of steps done before each step.

    As in :mod:`fgbench.training.loop`, examples that do not fill a batch are left out of an epoch.
    """
    recipe = default_recipe(workload.arch, workload.data.name, exact=True)
    task = Task(Scheme(chain, _BackpropLocality()))
    backprop = registry.make("estimators", "bp").thing
    params = dict(chain.named_parameters())
    sgd = uncompiled(torch.optim.SGD)
    optimizer = sgd(params.values(), lr=recipe.peak_lr, momentum=recipe.momentum)
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
    """Return the examples of a step of the shared trajectory: the recipe's, or all if fewer."""
    return min(recipe.batch, len(workload.data.train_x))


def epoch_steps(workload: Workload) -> int:
    """Return how many steps one epoch of the shared trajectory has.

    Args:
        workload: data and architecture.

    Returns:
        The steps of an epoch of training, but at most 200.

    Example:
        >>> from fgbench.workload import Workload
        >>> epoch_steps(Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]"))
        1
    """
    recipe = default_recipe(workload.arch, workload.data.name, exact=True)
    steps = len(workload.data.train_x) // _batch(workload, recipe)
    return min(steps, TRAJECTORY_STEPS)


def default_moments(chain: Chain) -> tuple[float, ...]:
    """Return the moments that are measured by default.

    Args:
        chain: the network at the start.

    Returns:
        The start, or the end of the first epoch where the final readout starts at zero.

    Example:
        >>> from fgbench.workload import Workload
        >>> data = "synthetic[train=64,test=32]"
        >>> default_moments(Workload.of("mlp-1x4", data).chain(0))
        (0.0,)
        >>> default_moments(Workload.of("localmixer-xs/2/4", data).chain(0))
        (1.0,)
    """
    weights = [p for p in chain.readout_parameters("final").values() if p.dim() > 1]
    return (1.0,) if all(float(p.detach().abs().max()) == 0.0 for p in weights) else (0.0,)


def at_moments(
    workload: Workload, chain: Chain, seed: int, moments: tuple[float, ...]
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Train a chain along the shared trajectory, in place, and yield its parameters at each moment.

    Args:
        workload: data and architecture.
        chain: the network at the start, with a readout on every module.
        seed: of the order of the examples.
        moments: epochs.

    Yields:
        The moment and a copy of the parameters by name, in order of time.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> chain = workload.chain(0)
        >>> [moment for moment, params in at_moments(workload, chain, 0, (1.0, 0.0))]
        [0.0, 1.0]
    """
    steps = epoch_steps(workload)
    training = _train_by_backprop(workload, chain, seed)
    done = next(training)
    for moment in sorted(moments):
        target = round(moment * steps)
        while done < target:
            done = next(training)
        yield moment, {name: p.detach().clone() for name, p in chain.named_parameters()}


def point_batch(
    workload: Workload, seed: int, moment: float, index: int, size: int
) -> tuple[Tensor, Tensor]:
    """Draw the batch of a point from the training set.

    Args:
        workload: data and architecture.
        seed: of the network.
        moment: epochs of training before.
        index: number of the batch at this network.
        size: examples.

    Returns:
        Images as stored ``[size, ...]`` and labels ``[size]``.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> images, labels = point_batch(workload, seed=0, moment=0.0, index=0, size=8)
        >>> len(images), len(labels)
        (8, 8)
    """
    data = workload.data
    noise = Noise(seed).child("point").child(f"{moment}/{index}")
    return data.rows(noise.permutation("batch", len(data.train_x))[:size])
