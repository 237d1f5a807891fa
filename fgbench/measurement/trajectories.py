"""The trajectories of the moments: backprop's, shared by all methods, or each method's own training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.measurement.trajectory import at_moments, epoch_steps
from fgbench.training.recipe import default_recipe
from fgbench.training.run import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.network import Chain
    from fgbench.measurement.draws import MethodResult
    from fgbench.registry import Method
    from fgbench.workload import Workload

TRAJECTORIES = {
    "backprop": "backprop of the end loss, shared by all methods",
    "own": "the method's own training by its recipe",
}


@dataclass(frozen=True)
class Waypoint:
    """A network at a moment.

    Args:
        steps: of training before.
        params: parameters by name.
        state: of each objective, where training changes it.
        reason: why training came to an end before the moment, or "".
    """

    steps: int
    params: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, State] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Trajectory:
    """What is walked from one init.

    Args:
        workload: data and architecture.
        base: the network at the start, which the shared trajectory trains in place.
        seed: of the network and of training.
        moments: epochs.
    """

    workload: Workload
    base: Chain
    seed: int
    moments: tuple[float, ...]

    def stands(
        self, methods: Sequence[Method], found: Sequence[MethodResult], along: str
    ) -> Iterator[tuple[float, list[Waypoint | None]]]:
        """Yield the moments in order of time, with where each method stands.

        Args:
            methods: what is measured.
            found: what is known of each; what its own training raises or why it ends is noted there.
            along: of `TRAJECTORIES`.

        Yields:
            The moment and a stand per method, None for one that has ended.

        Raises:
            UsageError: for a moment after the last epoch of a method's recipe.
        """
        if along != "own":
            epoch = epoch_steps(self.workload)
            for moment, params in at_moments(self.workload, self.base, self.seed, self.moments):
                yield moment, [Waypoint(round(moment * epoch), params)] * len(methods)
            return
        trails = [self.trained(method) for method in methods]
        for moment in sorted(self.moments):
            yield (
                moment,
                [
                    _next(trail, method, result)
                    for trail, method, result in zip(trails, methods, found, strict=True)
                ],
            )

    def trained(self, method: Method) -> Iterator[Waypoint]:
        """Return where a method's own training stands at each moment.

        It is the run of :func:`fgbench.training.loop.train` with this seed, step for step, up to
        the last moment.

        Args:
            method: what trains, by the recipe that ships for it.

        Returns:
            An iterator that trains as it goes on.

        Raises:
            UsageError: for a moment after the recipe's last epoch, or fewer images than a batch.
        """
        task, estimator, noise = self.workload.task(method, self.seed)
        try:
            with at_work(estimator, begun=False):
                exact = task.claims(estimator).deterministic
        except MethodFailed:  # so will its measuring, which says why
            exact = False
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
        return _trained(TrainingRun(task, estimator, recipe, noise, data), sorted(self.moments))


def _trained(run: TrainingRun, moments: list[float]) -> Iterator[Waypoint]:
    """Yield where a training stands at each moment."""
    for moment in moments:
        while run.step < round(moment * run.per_epoch):
            run.take()
            reason = run.look()
            if not reason and run.step % run.per_epoch == 0:
                reason = run.settle()
            if reason:
                yield Waypoint(run.step, reason=f"its own training: {reason}")
                return
        params = {n: p.detach().clone() for n, p in run.task.chain.named_parameters()}
        state: dict[str, State] = {
            objective: {name: t.detach().clone() for name, t in own.items()}
            for objective, own in run.learner.state.items()
        }
        yield Waypoint(run.step, params, state)


def _next(trail: Iterator[Waypoint], method: Method, result: MethodResult) -> Waypoint | None:
    """Train a method up to its next moment; None where it has ended, or ends on the way."""
    if result.ended:
        return None
    try:
        with at_work(method.estimator.thing):
            stand = next(trail)
    except MethodFailed as failed:
        result.failed = str(failed)
        return None
    result.reason, result.diverged = stand.reason, bool(stand.reason)
    return None if stand.reason else stand
