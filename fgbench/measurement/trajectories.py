"""Trajectories along which gradients are measured, and the batches at their points.

A trajectory is the training of one network; a waypoint is the network at one moment of it. All methods share
a trajectory of backprop, or each follows its own training.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.training.recipe import brought_rules, default_recipe
from fgbench.training.run import TrainingRun
from fgbench.training.uncompiled import uncompiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        failed: what the method raised on the way, or "".
        heads: of every method on a shared trajectory, the readouts that its locality brings.

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
    heads: tuple[Heads, ...] = ()

    def of(self, i: int) -> Waypoint:
        """Return the waypoint of one method on a shared trajectory, with the readouts of its locality.

        Args:
            i: number of the method.
        """
        if i >= len(self.heads):
            return self
        heads = self.heads[i]
        shared = {n: p for n, p in self.params.items() if not n.startswith(heads.prefixes)}
        return replace(self, params={**shared, **heads.params}, failed=heads.failed)


class Heads(NamedTuple):
    """The readouts that a method's locality brings, at one moment of the shared trajectory.

    Args:
        prefixes: beginnings of their parameters' names.
        params: their parameters by name.
        failed: what their losses or batches raised on the way, or "".

    Example:
        >>> dict(Heads().params)
        {}
    """

    prefixes: tuple[str, ...] = ()
    params: Mapping[str, Tensor] = MappingProxyType({})
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

    def backprop(self, tasks: Sequence[Task | None] = ()) -> Iterator[Waypoint]:
        """Yield the waypoints of the shared trajectory, in order of time.

        The final loss trains the body, and every other readout learns from its own loss on that body, those
        that the localities of methods bring among them.

        Args:
            tasks: the networks of the methods at the start, under their localities; None where a method
                has none.
        """
        chain = copy.deepcopy(self.start)
        with Noise(self.seed).child("heads").seeded():
            chain.attach()
        chain.to(device=self.workload.device, dtype=self.workload.dtype)
        steps = epoch_steps(self.workload)
        heads = [_OwnHeads(task, chain, self.workload) for task in tasks]
        train = [own for own in heads if own.names]
        for moment, params in at_moments(self.workload, chain, self.seed, self.moments, train):
            now = tuple(own.at() for own in heads)
            yield Waypoint(moment, round(moment * steps), params, heads=now)

    def own(self, method: Method, exact: bool) -> Iterator[Waypoint]:
        """Return the waypoints of a method's own training, in order of time.

        The training is the run of :func:`fgbench.training.loop.train` with this seed, step for step, up
        to the last moment. It ends with a waypoint that says why where it diverges or raises.

        Args:
            method: trained by the recipe that ships for it.
            exact: whether its estimator claims to be free of noise, which decides the recipe.

        Returns:
            An iterator, which trains as far as it is read.

        Raises:
            UsageError: for a moment after the recipe's last epoch, or fewer images than a batch.
        """
        data = self.workload.data
        name = f"{method.estimator.text}/{method.locality.text}"
        own = brought_rules(self.workload.maker(), method.locality.thing, method.estimator.thing)
        recipe = default_recipe(self.workload.arch, data.name, exact, name, own)
        if max(self.moments) > recipe.epochs:
            raise UsageError(
                f"moments along the own training of {method.text} end with the {recipe.epochs} epochs of "
                f"its recipe, got {max(self.moments):g}"
            )
        if recipe.batch > data.train_size:
            raise UsageError(
                f"batch {recipe.batch} is larger than the {data.train_size} training examples"
            )
        task, estimator, noise = self.workload.task(method, self.seed, self.start)
        run = TrainingRun(task, estimator, recipe, noise, data)
        return _trained(run, sorted(self.moments))


def _trained(run: TrainingRun, moments: list[float]) -> Iterator[Waypoint]:
    """Yield the waypoints of a training run."""
    for moment in moments:
        try:
            with at_work(run.estimator, *run.parts):
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


@dataclass(frozen=True)
class _Given:
    """Objectives that are given, on a network that has its readouts."""

    found: tuple[Objective, ...]

    def attach(self, chain: Chain) -> None:
        """Attach nothing."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the objectives."""
        return self.found


class _OwnHeads:
    """The readouts that one method's locality brings, which learn on the body of the shared trajectory.

    A readout that the shared network has as well, equal in kind and weights, is no readout of its own. The
    batches are those that the locality makes, such as two views of every image.

    Args:
        task: the method's network at the start; it stays as it is. None for no method.
        shared: the network of the trajectory.
        workload: data and architecture.

    Attributes:
        names: the readouts.
        failed: what the locality raised, or "".
    """

    def __init__(self, task: Task | None, shared: Chain, workload: Workload) -> None:
        self.names: dict[str, int] = {}
        self.failed = ""
        if task is None:
            return
        for o in task.objectives:
            if not task.chain.readout_parameters(o.readout):  # such as a sum of squares
                continue
            if o.head and not _alike(o.readout, task.chain, shared):
                self.names.setdefault(o.readout, o.window[1])
        if not self.names:
            return
        self._scheme, self._data = task.scheme, workload.data
        chain = copy.deepcopy(task.chain)
        chain.body = shared.body
        taught = sorted(self.names.items(), key=lambda named: named[1])
        found = tuple(Objective(name, (k, k), name, ()) for name, k in taught)
        self._task = Task(Scheme(chain, _Given(found)))
        own = [chain.readout_parameters(name) for name in self.names]
        self._params = {name: p for params in own for name, p in params.items()}
        recipe = _backprop_recipe(workload)
        self._optimizer = _sgd(self._params, recipe)

    def learn(self, inputs: Any, targets: Any, noise: Noise) -> None:
        """Take a step of every readout on its own loss."""
        if self.failed:
            return
        try:
            with at_work(*self._task.parts):
                x, y = self._scheme.batch(inputs, targets, self._data, noise.child("views"))
                _follow(self._task, x, y, noise, self._params, self._optimizer)
        except MethodFailed as failed:
            self.failed = str(failed)

    def at(self) -> Heads:
        """Return the readouts as they are now."""
        if not self.names:
            return Heads()
        prefixes = tuple(f"readouts.{name}." for name in self.names)
        params = {name: p.detach().clone() for name, p in self._params.items()}
        return Heads(prefixes, params, self.failed)


def _alike(name: str, one: Chain, other: Chain) -> bool:
    """Return whether two networks have the same readout of a name: its kind, options and weights."""
    if name not in other.readouts:
        return False
    a, b = one.readout(name), other.readout(name)
    mine, theirs = a.state_dict(), b.state_dict()
    same = type(a) is type(b) and repr(a) == repr(b) and mine.keys() == theirs.keys()
    return same and all(torch.equal(t, theirs[n]) for n, t in mine.items())


def _sgd(params: Mapping[str, Tensor], recipe: Recipe) -> torch.optim.SGD:
    """Return the optimiser of the trajectory."""
    sgd: type[torch.optim.SGD] = uncompiled(torch.optim.SGD)
    return sgd(params.values(), lr=recipe.peak_lr, momentum=recipe.momentum)


def _follow(
    task: Task,
    x: Any,
    targets: Any,
    noise: Noise,
    params: Mapping[str, Tensor],
    optimizer: torch.optim.SGD,
) -> None:
    """Take one step of backprop on a task's objectives."""
    step = task.estimate(x, targets, registry.make("estimators", "bp").thing, noise)
    for name, grad in {**step.body, **step.readouts}.items():
        params[name].grad = grad
    optimizer.step()


def _train_by_backprop(
    workload: Workload, chain: Chain, seed: int, heads: Sequence[_OwnHeads]
) -> Iterator[int]:
    """Train a chain by backprop in place, yielding the number of steps done before each step.

    As in :mod:`fgbench.training.loop`, examples that do not fill a batch are left out of an epoch.
    """
    recipe = _backprop_recipe(workload)
    task = Task(Scheme(chain, _BackpropLocality()))
    params = dict(chain.named_parameters())
    optimizer = _sgd(params, recipe)
    data, done, size = workload.data, 0, _batch(workload, recipe)
    noise = Noise(seed).child("trajectory")
    views = workload.noise(seed).child("trajectory").child("heads")
    while True:
        order = noise.at(done).permutation("order", data.train_size).to(data.stored)
        for rows in order[: len(order) // size * size].split(size):
            yield done
            stored = data.rows(rows)
            for own in heads:  # on the body before its step, like the readouts of the chain
                own.learn(*stored, views.at(done))
            _follow(task, *data.prepare(*stored, workload.dtype), noise, params, optimizer)
            done += 1


def _batch(workload: Workload, recipe: Recipe) -> int:
    """Return the examples of a step of the shared trajectory: the recipe's, or all if fewer."""
    return min(recipe.batch, workload.data.train_size)


def _backprop_recipe(workload: Workload) -> Recipe:
    """Return the recipe of backprop, whose training the shared trajectory is."""
    own = brought_rules(workload.maker())
    return default_recipe(workload.arch, workload.data.name, True, "", own)


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
    recipe = _backprop_recipe(workload)
    steps = workload.data.train_size // _batch(workload, recipe)
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
    zero = [float(p.detach().abs().max()) == 0.0 for p in weights]
    return (
        (1.0,) if zero and all(zero) else (0.0,)
    )  # a wrapped network may have no readout of its own


def at_moments(
    workload: Workload,
    chain: Chain,
    seed: int,
    moments: tuple[float, ...],
    heads: Sequence[_OwnHeads] = (),
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Train a chain along the shared trajectory, in place, and yield its parameters at each moment.

    Args:
        workload: data and architecture.
        chain: the network at the start, with a readout on every module.
        seed: of the order of the examples.
        moments: epochs.
        heads: readouts of methods that learn along.

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
    training = _train_by_backprop(workload, chain, seed, heads)
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
        Inputs and targets as stored, ``[size, ...]``.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> images, labels = point_batch(workload, seed=0, moment=0.0, index=0, size=8)
        >>> len(images), len(labels)
        (8, 8)
    """
    data = workload.data
    noise = Noise(seed).child("point").child(f"{moment}/{index}")
    return data.rows(noise.permutation("batch", data.train_size)[:size])
