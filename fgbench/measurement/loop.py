"""Efficiency, variance, bias, scale and cosine of gradient estimates, with intervals.

A *point* is (init, moment of a shared backprop trajectory, batch); a *draw* is one independent
repetition of the whole estimate at a point. Every method is measured at the same points. Efficiency,
bias and scale are judged against the gradient of the scheme's own objectives; usefulness (cosine, the
``end`` block) against the end-to-end gradient.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.errors import MethodFailed, UsageError, at_work, unknown
from fgbench.measurement import summary
from fgbench.measurement.budget import fitted
from fgbench.measurement.draw_statistics.places import ALL, distances, predictions, products
from fgbench.measurement.draws import MethodResult, Point, draw
from fgbench.measurement.engine.cotangent_view import Refused
from fgbench.measurement.trajectories import TRAJECTORIES, Trajectory
from fgbench.measurement.trajectory import default_moments, picked
from fgbench.stats import blocks, variance, variance_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.network import Chain
    from fgbench.measurement.draw_statistics.places import PlaceMoments
    from fgbench.registry import Method
    from fgbench.workload import Workload

PILOT = 64
ENGINES = ("auto", "dual", "cotangent")
MOST_DRAWS = 1 << 16


@dataclass(frozen=True)
class Design:
    """What is repeated.

    Args:
        draws: draws per point.
        inits: networks drawn; ``inits=1`` says "this init" and nothing more.
        batches: batches per init and moment, fresh for every one.
        batch: examples per batch.
        moments: epochs of the trajectory; None: the start, or after one epoch where the final readout
            starts at zero and every global truth with it.
        along: the trajectory: ``backprop`` of the end loss, with at most 200 steps an epoch, where all
            methods meet the same points, or each method's ``own`` training by its recipe.
        precision: relative standard error asked of the relative variance of a point; a pilot of 64 draws
            at the first one fixes the number of draws of all, at least 64 and at most 65,536.
        seed: of everything.
        cost: forward equivalents that one estimate may cost: every method has the most directions that
            fit; None leaves each the number it has.
        engine: how slopes are made: ``dual``, batched forward mode; ``cotangent``, inner products with
            cotangents that are computed once, for methods of exact slopes only; ``auto``, the latter
            where it is exact and pays, else the former.
    """

    draws: int = 64
    inits: int = 1
    batches: int = 4
    batch: int = 128
    moments: tuple[float, ...] | None = None
    along: str = "backprop"
    precision: float | None = None
    cost: float | None = None
    seed: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        for name, least in (("draws", 2), ("inits", 1), ("batches", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"measure needs {name} of at least {least}, got {getattr(self, name)}"
                )
        when = self.moments
        if when is not None and (
            not when or len(set(when)) < len(when) or not all(0 <= m < inf for m in when)
        ):
            raise UsageError(
                f"moments are different numbers of epochs from 0 up, such as 0,1; got {when}"
            )
        if self.precision is not None and not 0 < self.precision < 1:
            raise UsageError(f"precision must lie between 0 and 1, got {self.precision}")
        if self.cost is not None and not 0 < self.cost < inf:
            raise UsageError(f"cost is a number of forward equivalents above 0, got {self.cost}")
        if self.along not in TRAJECTORIES:
            raise unknown("trajectory", self.along, TRAJECTORIES)
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)


def measure(
    workload: Workload,
    methods: Sequence[Method],
    design: Design,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure methods at the same points.

    Args:
        workload: data and architecture.
        methods: what to measure.
        design: what is repeated.
        progress: called with a line before every method at every point.

    Returns:
        One dict per method with the names of the design: a measured number is
        ``{"value", "low", "high", "n"}``. A method that raises has the status ``failed`` and its reason;
        the others are measured to the end.

    Raises:
        UsageError: for names or options that do not exist or fit, before anything is measured.
    """
    found = [MethodResult(engine=design.engine) for _ in methods]
    moments = design.moments
    for init in range(design.inits):
        seed = design.seed + init
        base = workload.chain(seed)
        moments = default_moments(base) if moments is None else moments
        with Noise(seed).child("heads").seeded():
            base.attach()
        base.to(device=workload.device, dtype=workload.dtype)
        tasks = [
            _prepared(method, base, seed, workload, result)
            for method, result in zip(methods, found, strict=True)
        ]
        walk = Trajectory(workload, base, seed, moments)
        for moment, stands in walk.stands(methods, found, design.along):
            where = _Where(workload, seed, moment, design)
            for b in range(design.batches):
                each = zip(tasks, stands, methods, found, strict=True)
                for (task, state), stand, method, result in each:
                    if result.ended or stand is None:  # its numbers need every point
                        continue
                    result.steps[moment] = stand.steps
                    task.chain.load_state_dict(stand.params, strict=False)
                    x, y = where.batch(task, b)
                    at = f"{method.text}, init {init}, moment {moment:g}, batch {b}"
                    tell = partial(result.tell, progress, at)
                    tell()
                    try:
                        with at_work(method.estimator.thing):
                            own = {**state, **stand.state}
                            noise = where.noise(b)
                            _measure_point(task, method, own, x, y, noise, design, result, tell)
                    except MethodFailed as failed:
                        result.failed = str(failed)
                    result.where.append((init, moment))
            for (task, _), result in zip(tasks, found, strict=True):
                if not result.ended:
                    result.between.append(products(task, where.batches(task)))
            if all(result.ended for result in found):  # the way to the next point may be long
                return [_record(r, design, moments) for r in found]
    return [_record(r, design, moments or (0.0,)) for r in found]


def _prepared(
    method: Method, base: Chain, seed: int, workload: Workload, result: MethodResult
) -> tuple[Task, dict[str, State]]:
    """Build a method's task on a copy of the network, with its state at construction."""
    task = Task.build(copy.deepcopy(base), method.locality.thing, Noise(seed))
    task.chain.to(device=workload.device, dtype=workload.dtype)
    estimator: Estimator = method.estimator.thing
    try:
        with at_work(estimator, begun=False):
            if not estimator.supports(task.scheme):
                return task, estimator.init_state(task.scheme, workload.noise(seed).child("state"))
    except MethodFailed as failed:
        result.failed = str(failed)
    return task, {}


@dataclass(frozen=True)
class _Where:
    """A network at a moment.

    Args:
        workload: data and architecture.
        seed: of the network.
        moment: epochs of the shared trajectory.
        design: what is repeated.
    """

    workload: Workload
    seed: int
    moment: float
    design: Design

    def noise(self, b: int) -> Noise:
        """Return the noise of a batch."""
        return self.workload.noise(self.seed).child("measure").child(f"{self.moment}/{b}")

    def batch(self, task: Task, b: int) -> tuple[Tensor, Tensor]:
        """Return a batch as a task sees it."""
        rows = picked(self.workload, self.seed, self.moment, b, self.design.batch)
        return task.scheme.batch(*rows, self.workload.data, self.noise(b).child("views"))

    def batches(self, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches whose truths are compared, those that are drawn on first."""
        for b in range(max(self.design.batches, variance_split.TRUTHS)):
            yield self.batch(task, b)


def _measure_point(
    task: Task,
    method: Method,
    state: dict[str, State],
    x: Tensor,
    y: Tensor,
    noise: Noise,
    design: Design,
    result: MethodResult,
    tell: Callable[[], None],
) -> None:
    """Draw estimates at one point and add what they say."""
    estimator: Estimator = result.estimator or method.estimator.thing
    result.reason = estimator.supports(task.scheme)
    if result.reason:
        return
    truth, end = task.scheme_truth(x, y), task.end_truth(x, y)
    point = Point(task, estimator, state, x, y, noise, truth, end)
    if design.cost is not None and result.estimator is None:
        bought = fitted(estimator, point.price, design.cost)
        result.budget = {"asked": design.cost, "spent": bought.spent, "note": bought.note}
        if bought.estimator is None:
            result.reason = bought.note
            return
        estimator = result.estimator = bought.estimator
        point = replace(point, estimator=estimator)
    claims = task.claims(estimator)
    result.exact, result.claimed = claims.deterministic, {"bias": claims.bias, "why": claims.why}
    result.directions = int(getattr(estimator, "directions", 1))
    result.distances = distances(task)
    result.elements = sum(p.numel() for p in task.chain.body_parameters().values())
    result.rounding = 1e-12 if x.dtype == torch.float64 else 1e-6
    try:
        if not result.draws:
            result.draws = blocks.TESTABLE if result.exact else design.draws
            if design.precision is not None and not result.exact:
                # its draws are few: that an engine does not pay for them says nothing of what follows
                trial = MethodResult(engine="dual" if result.engine == "dual" else "auto")
                pilot = draw(point, PILOT, trial)
                result.asked = _needed(pilot[ALL], design.precision)
                result.draws = min(result.asked, MOST_DRAWS)
                tell()
        series = draw(point, result.draws, result)
    except Refused as refused:
        result.reason = f"engine cotangent: {refused}"
        return
    for place, predicted in predictions(task, estimator, x, y, point.truth).items():
        series[place].predicted = predicted
    result.series.append(series)


def _needed(pilot: PlaceMoments, precision: float) -> int:
    """Return the draws whose relative standard error of the relative variance is the one asked.

    The error falls with the root of the draws; that of the pilot is taken without the quantile of its
    interval, whose degrees of freedom are those of so few draws. It may be more than are made.
    """
    error = variance.relative_error(pilot.d2, pilot.gram, pilot.x, pilot.control)
    return max(ceil(PILOT * (error / precision) ** 2), PILOT)


def _record(result: MethodResult, design: Design, moments: tuple[float, ...]) -> dict[str, Any]:
    """Return the names of the record of one method."""
    ended = "diverged" if result.diverged else "skipped" if result.reason else "ok"
    head: dict[str, Any] = {
        "status": "failed" if result.failed else ended,
        "reason": result.failed or result.reason,
        "directions": result.directions,
        "draws": result.draws,
        "draws_asked": result.asked or None,
        "inits": design.inits,
        "moments": list(moments),
        "batches": design.batches,
        "batch": design.batch,
        "engine": " ".join(result.engines),
        "fallback": result.fallback,
        "truth": "scheme",
        "trajectory": TRAJECTORIES[design.along],
        "moment_steps": [result.steps.get(moment) for moment in moments],
        "budget": result.budget,
    }
    if head["reason"]:
        return head
    along = [
        {"moment": moment, "steps": steps, **summary.of_moment(result, moment, design.batch)}
        for moment, steps in zip(moments, head["moment_steps"], strict=True)
        if len(moments) > 1  # the numbers of the only one are those of the record
    ]
    return {**head, **summary.numbers(result, design.batch), "per_moment": along}
