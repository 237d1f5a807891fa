"""The length of a training as a budget: a number of steps, of forward equivalents or of seconds.

A budget in forward equivalents buys every method the same compute. It is turned into a number of steps before
the run, by the ledger of an estimate, so that the schedule of the learning rate knows where it ends and the
run depends on no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, isfinite
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, at_work
from fgbench.training.run import TrainingRun

if TYPE_CHECKING:
    from fgbench.data.dataset import DataSet
    from fgbench.training.recipe import Recipe
    from fgbench.workload import Subject

TIMED = 20  # steps whose median is the time of a step
UNTIMED = 3  # first steps, which allocate what later ones use
LONGEST_WARMUP = 0.25  # of a run


@dataclass(frozen=True)
class Length:
    """How long a training is; at most one of the three is given, and none means the epochs of the recipe.

    Args:
        steps: optimiser steps.
        forwards: forward equivalents, in passes over the training set: an epoch of backprop costs three.
        seconds: of training, without evaluation and checkpoints; the number of steps follows from the time
            of some steps on this machine, so that two runs may differ in length.

    Example:
        >>> options = {"forwards": 60, "batch": 32}
        >>> Length.taken(options), options
        (Length(steps=None, forwards=60.0, seconds=None), {'batch': 32})
    """

    steps: int | None = None
    forwards: float | None = None
    seconds: float | None = None

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [f.name for f in fields(cls)]

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Length:
        """Take the three options out of others, and check them.

        Args:
            options: of ``train``.

        Returns:
            The length.

        Raises:
            UsageError: for a value that is no positive number, or two statements of the length.
        """
        given = {name: options.pop(name, None) for name in cls.names()}
        stated = {name: value for name, value in given.items() if value is not None}
        if len(stated) > 1 or (stated and options.get("epochs") is not None):
            names = [*stated, *(["epochs"] if options.get("epochs") is not None else [])]
            raise UsageError(f"{' and '.join(names)} both say how long a training is; give one")
        read: dict[str, Any] = {name: _positive(name, value) for name, value in stated.items()}
        return cls(**read)

    @property
    def stated(self) -> dict[str, int | float]:
        """The given one by its name, for the settings of a record; {} where none is given."""
        found = {name: getattr(self, name) for name in self.names()}
        return {name: value for name, value in found.items() if value is not None}

    def in_steps(self, subject: Subject, recipe: Recipe, data: DataSet) -> Length:
        """Return the length as a number of steps where it is one of forward equivalents.

        Args:
            subject: the network under the method's locality, and the estimator; they are not changed.
            recipe: what to train with.
            data: the examples of the run.

        Returns:
            A length in steps; any other length as it is.

        Raises:
            UsageError: if the budget is smaller than one step.
            MethodFailed: if the code of the method raises.
        """
        if self.forwards is None:
            return self
        cost = cost_of_step(subject, recipe, data)
        return Length(steps=steps_for(self.forwards, cost, recipe.batch, data.train_size))


BY_RECIPE = Length()
"""The epochs of the recipe."""


def _positive(name: str, value: Any) -> int | float:
    """Read a positive number; of steps a whole one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    whole = name != "steps" or number == int(number) if isfinite(number) else False
    if isinstance(value, bool) or not whole or number <= 0:
        kind = "a whole number of 1 or more" if name == "steps" else "a number above 0"
        raise UsageError(f"{name}: expected {kind}, got {value!r}")
    return int(number) if name == "steps" else number


def steps_for(forwards: float, cost: float, batch: int, train_size: int) -> int:
    """Return the number of steps that a budget of forward equivalents buys.

    Args:
        forwards: the budget, in passes over the training set.
        cost: of one step, in forward passes of its batch.
        batch: examples per step.
        train_size: training examples.

    Returns:
        The largest number of steps that does not exceed the budget.

    Raises:
        UsageError: if that is none.

    Example:
        >>> steps_for(60, cost=3.0, batch=50, train_size=1000)
        400
    """
    steps = int(forwards * train_size / (cost * batch) * (1 + 1e-12))
    if steps < 1:
        raise UsageError(
            f"forwards {forwards:g} is less than one step, which costs {cost:g} passes of a batch of "
            f"{batch}: give at least {cost * batch / train_size:.3g}"
        )
    return steps


def cost_of_step(subject: Subject, recipe: Recipe, data: DataSet) -> float:
    """Return the cost of a training step in forward equivalents of its batch, by the ledger of some steps.

    A locality may train other objectives later in the run; the cost is then the mean over moments of it. An
    update rule may look at the loss again, which counts.

    Args:
        subject: the network under the method's locality, and the estimator; at the end they are as before.
        recipe: what to train with.
        data: the examples of the run.

    Returns:
        The cost.

    Raises:
        MethodFailed: if the code of the method raises.

    Cost: two steps, more where their prices differ, and a copy of the network.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> subject = workload.task(registry.method("BP"), seed=0)
        >>> cost_of_step(subject, Recipe(epochs=1, batch=16, lr=0.1), workload.data)
        3.0
    """
    chain = subject.task.chain
    before = {name: value.detach().clone() for name, value in chain.state_dict().items()}
    try:
        with at_work(subject.estimator, *subject.task.parts, begun=False):
            return TrainingRun(subject.task, subject.estimator, recipe, subject.noise, data).cost()
    finally:
        chain.load_state_dict(before)


def fitted(recipe: Recipe, steps: int, per_epoch: int) -> Recipe:
    """Return a recipe for a run of a number of steps: its epochs, and a warm-up of at most a quarter.

    Args:
        recipe: what to train with.
        steps: of the run.
        per_epoch: steps per epoch.

    Returns:
        The recipe.

    Example:
        >>> from fgbench.training.recipe import Recipe
        >>> fitted(Recipe(epochs=8, batch=64, lr=0.1, warmup_epochs=1), 6, per_epoch=4).epochs
        2
    """
    epochs = ceil(steps / per_epoch)
    warmup = min(recipe.warmup_epochs, LONGEST_WARMUP * steps / per_epoch)
    return recipe.but(epochs=epochs, warmup_epochs=warmup)


def steps_in(seconds: float, subject: Subject, recipe: Recipe, data: DataSet) -> int:
    """Return how many training steps this machine takes in a time, by timing some steps.

    Args:
        seconds: of training.
        subject: network and estimator, which are trained a little: build them anew for the run.
        recipe: what to train with.
        data: the examples of the run.

    Returns:
        A number of steps, at least 1.

    Cost: up to a twentieth of the time.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> subject = workload.task(registry.method("BP"), seed=0)
        >>> steps_in(1.0, subject, Recipe(epochs=99, batch=16, lr=0.1), workload.data) > 10
        True
    """
    run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, data)
    return max(1, int(seconds / time_of_step(run, seconds / 20)))


def time_of_step(run: TrainingRun, most: float) -> float:
    """Return the median time of a training step.

    Args:
        run: a training, which takes some steps.
        most: seconds after which no further step is timed.

    Returns:
        Seconds per step.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> task, estimator, noise = workload.task(registry.method("BP"), seed=0)
        >>> run = TrainingRun(task, estimator, Recipe(epochs=99, batch=16, lr=0.1), noise, workload.data)
        >>> time_of_step(run, most=1.0) > 0
        True
    """
    begun, times = perf_counter(), []
    for at in range(min(UNTIMED + TIMED, run.steps)):
        start = perf_counter()
        run.take()
        run.look()  # waits for the accelerator
        if at >= UNTIMED or at + 1 == run.steps:
            times.append(perf_counter() - start)
        if times and perf_counter() - begun > most:
            break
    return median(times)
