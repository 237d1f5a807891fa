"""Measure gradient estimates: efficiency, variance, bias, scale and cosine, with intervals.

A *point* is (init, moment of a trajectory, batch); a *draw* is one independent repetition of the whole
estimate at a point. Along the shared trajectory every method is measured at the same points. Efficiency,
bias and scale are judged against the gradient of the scheme's own objectives; usefulness (cosine, the
``end`` block) against the end-to-end gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.clock import Clock
from fgbench.core.estimator import why_not
from fgbench.core.gradients import complete
from fgbench.core.noise.keyed import Noise
from fgbench.errors import MethodFailed, at_work
from fgbench.measurement import summary
from fgbench.measurement.budget import fitted
from fgbench.measurement.design import TRAJECTORIES
from fgbench.measurement.draw_statistics.places import (
    ALL,
    distances,
    predictions,
    products,
    whole_truth,
)
from fgbench.measurement.draws import Point, by_forward_mode, draw, try_cotangents
from fgbench.measurement.engine.cotangent_view import Refused
from fgbench.measurement.result import MethodResult, Plan, PointResult
from fgbench.measurement.time_allowance import TimeAllowance
from fgbench.measurement.trajectories import Trajectory, Waypoint, default_moments, point_batch
from fgbench.stats import blocks, variance, variance_split
from fgbench.training.recipe import default_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.estimator import Claims, Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.task import Task
    from fgbench.measurement.design import Design
    from fgbench.measurement.draw_statistics.places import Place, PlaceMoments
    from fgbench.registry import Method
    from fgbench.workload import Workload

PILOT = 64
NOTHING = "its objectives update no module: there is no gradient to measure"
RULE = "a training rule, compared by train and speed: no bias is measured, because {}"
MOST_DRAWS = 1 << 16


def measure(
    workload: Workload,
    methods: Sequence[Method],
    design: Design,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    finished: Callable[[int, dict[str, Any], float], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure methods at the same points.

    Args:
        workload: data and architecture.
        methods: what to measure.
        design: which points, and with how many draws.
        progress: called with a line before every method at every point.
        timeout: seconds that each method may take in all; None is no limit. One that takes longer has
            failed, and the others are measured.
        finished: called with the number of a method, its dict and its seconds as soon as it is measured; a
            signal that comes later loses only what is not.

    Returns:
        One dict per method with the names of the record: a measured number is
        ``{"value", "low", "high", "n"}``. ``claims`` are the fields of the method's
        :class:`fgbench.core.estimator.Claims`, None where they were not read. A method that raises has
        the status ``failed`` and its reason; the others are measured to the end.

    Raises:
        UsageError: for names or options that do not exist or fit, before anything is measured.

    Cost: ``draws`` estimates and two reverse passes per point and method, and a network built per init.

    Example:
        >>> from fgbench.measurement.design import Design
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> (record,) = measure(workload, [method("BP")], Design(batches=1, batch=8))
        >>> record["status"], record["relative_variance"]["value"]
        ('ok', 0.0)
    """
    results = [
        MethodResult(design, Plan(method.estimator.thing, design.engine)) for method in methods
    ]
    moments, told = design.moments, dict[int, dict[str, Any]]()
    spent = [0.0] * len(methods)
    allowances = [TimeAllowance(timeout) for _ in methods]
    for init in range(design.inits):
        seed = design.seed + init
        start = workload.chain(seed)
        moments = default_moments(start) if moments is None else moments
        setups = [
            None if result.ended else _set_up(method, start, seed, workload, allowance)
            for method, result, allowance in zip(methods, results, allowances, strict=True)
        ]
        results = [
            result if setup is None else result.with_claims(setup.claims, setup.failed)
            for result, setup in zip(results, setups, strict=True)
        ]
        trajectory = Trajectory(workload, start, seed, moments)
        routes = _routes(trajectory, setups, design.along)
        for at, moment in enumerate(sorted(moments)):
            network = _Network(workload, init, moment, design)
            last = (init, at) == (design.inits - 1, len(moments) - 1)
            for i, result, seconds in _measure_network(network, setups, routes, results, progress):
                results = [*results[:i], result, *results[i + 1 :]]
                spent[i] += seconds
                if last or result.ended:
                    told[i] = _record(result, moments)
                    if finished is not None:
                        finished(i, told[i], spent[i])
            if all(result.ended for result in results):  # the next moment may take long to reach
                break
        if all(result.ended for result in results):
            break
    for i, result in enumerate(results):
        if i not in told:  # ended before its first point
            told[i] = _record(result, moments or (0.0,))
            if finished is not None:
                finished(i, told[i], spent[i])
    return [told[i] for i in range(len(results))]


@dataclass(frozen=True)
class _SetUp:
    """A method on the network of one init.

    Args:
        method: the method.
        task: its task, on a network of its own; None where its locality raised.
        state: state of each objective at construction.
        claims: claims of its estimator; None where it cannot run, or raised.
        failed: what its estimator or its locality raised, or "".
        allowance: the time it may take on all networks.
    """

    method: Method
    task: Task | None
    allowance: TimeAllowance
    state: dict[str, State] = field(default_factory=dict)
    claims: Claims | None = None
    failed: str = ""


def _set_up(
    method: Method, start: Chain, seed: int, workload: Workload, allowance: TimeAllowance
) -> _SetUp:
    """Build a method's task on a copy of a network, with its state at construction and its claims."""
    task = None
    try:
        with allowance.used():
            task, estimator, noise = workload.task(method, seed, start)
            with at_work(estimator, *task.parts, begun=False):
                if why_not(estimator, task.scheme):  # its first point has the reason
                    return _SetUp(method, task, allowance)
                state = task.init_state(estimator, noise)
            with at_work(estimator, *task.parts):
                return _SetUp(method, task, allowance, state, task.claims(estimator))
    except MethodFailed as failed:
        return _SetUp(method, task, allowance, failed=str(failed))


def _routes(
    trajectory: Trajectory, setups: Sequence[_SetUp | None], along: str
) -> list[Iterator[Waypoint]]:
    """Return the waypoints of every method: one iterator shared by all, or one for each."""
    if along == "backprop":
        return [trajectory.backprop([None if s is None else s.task for s in setups])]
    return [
        iter(())
        if setup is None or setup.failed
        else trajectory.own(setup.method, setup.claims is not None and setup.claims.noiseless)
        for setup in setups
    ]


@dataclass(frozen=True)
class _Network:
    """A network at a moment, and the batches it is measured on.

    Args:
        workload: data and architecture.
        init: number of the network.
        moment: epochs of training before.
        design: which points, and with how many draws.
    """

    workload: Workload
    init: int
    moment: float
    design: Design

    @property
    def seed(self) -> int:
        """Seed of the network."""
        return self.design.seed + self.init

    def noise(self, b: int) -> Noise:
        """Return the noise of a batch."""
        return self.workload.noise(self.seed).child("measure").child(f"{self.moment}/{b}")

    def batch(self, task: Task, b: int) -> tuple[Tensor, Tensor]:
        """Return a batch as a task sees it."""
        rows = point_batch(self.workload, self.seed, self.moment, b, self.design.batch)
        return task.scheme.batch(*rows, self.workload.data, self.noise(b).child("views"))

    def batches(self, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches whose truths are compared; the first of them are those with draws."""
        for b in range(max(self.design.batches, variance_split.TRUTHS)):
            yield self.batch(task, b)


def _measure_network(
    network: _Network,
    setups: Sequence[_SetUp | None],
    routes: Sequence[Iterator[Waypoint]],
    results: Sequence[MethodResult],
    progress: Callable[[str], None] | None,
) -> Iterator[tuple[int, MethodResult, float]]:
    """Measure all methods on the batches of one network, one method after the other.

    Args:
        network: init and moment.
        setups: of every method, None for one that had ended before.
        routes: waypoints, shared by all methods or one iterator for each.
        results: results so far.
        progress: called with a line before every method at every point.

    Yields:
        Of each method that had not ended: its number, its results with those of this network, and seconds.
    """
    shared = next(routes[0]) if network.design.along == "backprop" else None
    for i, setup in enumerate(setups):
        result = results[i]
        if setup is None or result.ended:
            continue
        begun = perf_counter()
        waypoint = _reached(routes[i], setup, network.moment) if shared is None else shared.of(i)
        result = result.with_waypoint(waypoint)
        for b in range(network.design.batches):
            if not result.ended:
                point = _measure_point(network, b, setup, waypoint, result.plan, progress)
                result = result.with_point(point)
        if not result.ended:
            result = _with_products(network, setup, waypoint, result)
        yield i, result, perf_counter() - begun


def _reached(route: Iterator[Waypoint], setup: _SetUp, moment: float) -> Waypoint:
    """Return the next waypoint of a method's own training, within its time."""
    try:
        with setup.allowance.used():
            return next(route)
    except MethodFailed as failed:
        return Waypoint(moment, None, failed=str(failed))


def _with_products(
    network: _Network, setup: _SetUp, waypoint: Waypoint, result: MethodResult
) -> MethodResult:
    """Return a result with the products of the gradients of batches, or with what its locality raised."""
    assert setup.task is not None
    try:
        with at_work(*setup.task.parts):
            task = setup.task.at(_clock(network, setup, waypoint))
            return result.with_products(products(task, network.batches(task)))
    except MethodFailed as failed:
        return replace(result, failed=str(failed))


def _measure_point(
    network: _Network,
    b: int,
    setup: _SetUp,
    waypoint: Waypoint,
    plan: Plan,
    progress: Callable[[str], None] | None,
) -> PointResult:
    """Measure one method at one point.

    Args:
        network: init and moment.
        b: number of the batch.
        setup: the method on this init.
        waypoint: parameters and state at this moment.
        plan: how the method is measured; its open parts are settled here.
        progress: called with a line before the draws.

    Returns:
        The result, with the reason where there are no draws.
    """
    assert setup.task is not None
    design, at = network.design, (network.init, network.moment)
    setup.task.chain.load_state_dict(waypoint.params, strict=False)
    line = f"{setup.method.text}, init {network.init}, moment {network.moment:g}, batch {b}"
    _report(progress, line, plan)
    engine = ""
    try:
        with at_work(*setup.task.parts, begun=False):
            task = setup.task.at(_clock(network, setup, waypoint))
            x, y = network.batch(task, b)
        with setup.allowance.used(), at_work(setup.method.estimator.thing, *task.parts):
            if reason := why_not(plan.estimator, task.scheme):
                return PointResult(plan, *at, reason=reason)
            if task.scheme.rule:
                return PointResult(plan, *at, reason=RULE.format(task.scheme.rule))
            if not any(o.updates for o in task.objectives):
                return PointResult(plan, *at, reason=NOTHING)
            truth, end = whole_truth(task, x, y), task.end_truth(x, y)
            state = {**setup.state, **waypoint.state}
            noise = network.noise(b).at(waypoint.steps or 0)
            point = Point(task, plan.estimator, state, x, y, noise, truth, end)
            plan, reason = _with_budget(plan, point, design)
            if reason:
                return PointResult(plan, *at, reason=reason)
            stated = task.expected(x, y, plan.estimator, state)
            documented = stated and complete(task.chain.body_parameters(), stated)
            point = replace(point, estimator=plan.estimator, documented=documented)
            plan = _with_claims(plan, point, design)
            try:
                if design.precision is not None and not (plan.exact or plan.asked):
                    plan = _with_precision(plan, point, design.precision)
                    _report(progress, line, plan)
                drawn, fallback = try_cotangents(point, plan.draws, plan.next_engine)
            except Refused as refused:
                return PointResult(plan, *at, reason=f"engine cotangent: {refused}")
            if drawn is None:
                plan, engine = replace(plan, fallback=plan.fallback or fallback), "dual"
                drawn = by_forward_mode(point, plan.draws)
            engine = drawn.engine
            places = _with_predictions(drawn.places(point), point)
            beside = drawn.documented(point)
            return PointResult(plan, *at, places, engine, drawn.cost, documented=beside)
    except MethodFailed as failed:
        return PointResult(plan, *at, engine=engine, failed=str(failed))


def _clock(network: _Network, setup: _SetUp, waypoint: Waypoint) -> Clock:
    """Return the clock of a moment, in a training by the recipe that ships for the method."""
    workload, method = network.workload, setup.method
    exact = setup.claims is not None and setup.claims.noiseless
    name = f"{method.estimator.text}/{method.locality.text}"
    recipe = default_recipe(workload.arch, workload.data.name, exact, name)
    steps = workload.data.train_size // recipe.batch * recipe.epochs
    return Clock(waypoint.steps or 0, steps, int(network.moment), recipe.epochs)


def _report(progress: Callable[[str], None] | None, line: str, plan: Plan) -> None:
    """Pass on which point is measured, and with how many draws where a precision decides it."""
    if progress is not None:
        wanted = f" of {plan.asked} that the precision asks for" * (plan.asked > plan.draws)
        progress(line + (f", {plan.draws} draws{wanted}" if plan.asked else ""))


def _with_budget(plan: Plan, point: Point, design: Design) -> tuple[Plan, str]:
    """Settle the directions that a budget allows; return also why not even one fits, or ""."""
    if design.cost is None or plan.budget is not None:
        return plan, ""
    bought = fitted(plan.estimator, point.price, design.cost)
    budget = {"asked": design.cost, "spent": bought.spent, "note": bought.note}
    if bought.estimator is None:
        return replace(plan, budget=budget), bought.note
    return replace(plan, budget=budget, estimator=bought.estimator), ""


def _with_claims(plan: Plan, point: Point, design: Design) -> Plan:
    """Read the claims at a point, and settle the draws that they leave to the design."""
    task = point.task
    plan = replace(
        plan,
        claims=task.claims(plan.estimator),
        learns=_learns(point, plan.estimator),
        directions=int(getattr(plan.estimator, "directions", 1)),
        distances=distances(task),
        elements=sum(p.numel() for p in task.chain.body_parameters().values()),
        rounding=1e-12 if point.x.dtype == torch.float64 else 1e-6,
    )
    if plan.draws:
        return plan
    return replace(plan, draws=blocks.TESTABLE if plan.exact else design.draws)


def _learns(point: Point, estimator: Estimator) -> bool:
    """Return whether an estimator has state that training changes, by one estimate where it has state."""
    if not any(point.state.values()):
        return False
    step = point.task.estimate(point.x, point.labels, estimator, point.noise, point.state)
    return any(step.state_grads.values()) or any(step.new_state.values())


def _with_precision(plan: Plan, point: Point, precision: float) -> Plan:
    """Return the plan with the draws that a precision needs, by a pilot.

    The pilot has few draws. An engine that does not pay for them may pay for those that follow, so its
    refusal is not kept.
    """
    pilot = draw(point, PILOT, "dual" if plan.engine == "dual" else "auto").places(point)
    asked = _needed(pilot[ALL], precision)
    return replace(plan, asked=asked, draws=min(asked, MOST_DRAWS))


def _needed(pilot: PlaceMoments, precision: float) -> int:
    """Return the draws at which the relative variance has the relative standard error asked for.

    That of the pilot is taken without the quantile of its interval, whose degrees of freedom are those of
    few draws. The number may exceed `MOST_DRAWS`.
    """
    moments = pilot.d2, pilot.gram, pilot.x, pilot.control
    return max(ceil(variance.draws_needed(precision, *moments)), PILOT)


def _with_predictions(
    places: Mapping[Place, PlaceMoments], point: Point
) -> dict[Place, PlaceMoments]:
    """Add the closed-form relative variance of every place."""
    predicted = predictions(
        point.task, point.estimator, point.state, point.x, point.labels, point.truth
    )
    return {place: replace(m, predicted=predicted[place]) for place, m in places.items()}


def _state(result: MethodResult, moments: tuple[float, ...]) -> str:
    """Return in which state a method that learns one was measured, "" where it learns none."""
    if not result.plan.learns:
        return ""
    return "trained" if result.design.along == "own" and max(moments) > 0 else "initial"


def _record(result: MethodResult, moments: tuple[float, ...]) -> dict[str, Any]:
    """Return the record of one method: its status, how it was measured, and its numbers."""
    design, plan = result.design, result.plan
    ended = "diverged" if result.diverged else "skipped" if result.reason else "ok"
    head: dict[str, Any] = {
        "status": "failed" if result.failed else ended,
        "reason": result.failed or result.reason,
        "directions": plan.directions,
        "draws": plan.draws,
        "draws_asked": plan.asked or None,
        "inits": design.inits,
        "moments": list(moments),
        "batches": design.batches,
        "batch": design.batch,
        "engine": " ".join(result.engines),
        "fallback": plan.fallback,
        "truth": "scheme",
        "trajectory": TRAJECTORIES[design.along],
        "moment_steps": [result.steps.get(moment) for moment in moments],
        "budget": plan.budget,
        "learned_state": _state(result, moments),
        "claims": None if result.claims is None else asdict(result.claims),
    }
    if head["reason"]:
        return head
    along = [
        {"moment": moment, "steps": steps, **summary.of_moment(result, moment)}
        for moment, steps in zip(moments, head["moment_steps"], strict=True)
        if len(moments) > 1  # the numbers of a single moment are those of the record
    ]
    return {**head, **summary.numbers(result), "per_moment": along}
