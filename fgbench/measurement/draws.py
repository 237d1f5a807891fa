"""Draws of an estimate at one point, by either engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.measurement.draw_statistics.control_variate import Control
from fgbench.measurement.draw_statistics.from_credit import CreditMoments, Unknown
from fgbench.measurement.draw_statistics.from_gradients import GradientMoments
from fgbench.measurement.draw_statistics.places import ALL, place_moments, sites
from fgbench.measurement.engine.cotangent import Engine
from fgbench.measurement.engine.cotangent_view import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task
    from fgbench.measurement.draw_statistics.from_gradients import Array
    from fgbench.measurement.draw_statistics.places import Place, PlaceMoments


@dataclass(frozen=True)
class Point:
    """One estimator on one batch, with the gradients it is compared with.

    Args:
        task: the chain under its locality, at some moment of its training.
        estimator: the estimator.
        state: state of each objective.
        x: the batch.
        labels: ``[b]``.
        noise: noise of this point at the step of its moment; draw k is ``noise.redrawn(k)``.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient by parameter name.
        documented: the mean that the estimator documents, by parameter name; None where it documents none.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, estimator, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> truth, end = task.scheme_truth(x, labels), task.end_truth(x, labels)
        >>> Point(task, estimator, {}, x, labels, noise, truth, end).price(estimator)
        3.0
    """

    task: Task
    estimator: Estimator
    state: Mapping[str, State]
    x: Tensor
    labels: Tensor
    noise: Noise
    truth: dict[str, Tensor]
    end: dict[str, Tensor]
    documented: dict[str, Tensor] | None = None

    def price(self, estimator: Estimator) -> float:
        """Return what one estimate of an estimator costs here, in forward equivalents."""
        step = self.task.estimate(self.x, self.labels, estimator, self.noise, self.state)
        return step.ledger.forward_equivalents

    def control(self, draws: int) -> Control:
        """Return an empty control variate for a number of draws."""
        return Control(draws, self.task.claims(self.estimator).slopes_only)


@dataclass(frozen=True)
class Drawn:
    """The draws at one point.

    Args:
        tally: their moments by parameter.
        control: the control variate of the law of their directions.
        cost: cost of one estimate.
        beside: their moments against the documented mean, where there is one.
        engine: the engine that made them, ``dual`` or ``cotangent``.

    Example:
        >>> moments = GradientMoments({"w": torch.ones(2)}, {"w": torch.ones(2)}, draws=2)
        >>> Drawn(moments, Control(2, usable=False), {"forward_equivalents": 3.0}, "dual").engine
        'dual'
    """

    tally: GradientMoments | CreditMoments
    control: Control
    cost: dict[str, float]
    engine: str
    beside: GradientMoments | None = None

    def documented(self, point: Point) -> PlaceMoments | None:
        """Return their moments against the documented mean, over the whole body.

        Args:
            point: where they were drawn.
        """
        if self.beside is None or point.documented is None:
            return None
        none = Control(len(self.beside.rows()), usable=False)
        return place_moments(point.task, point.documented, point.end, self.beside, none)[ALL]

    def places(self, point: Point) -> dict[Place, PlaceMoments]:
        """Return their moments at the body and every place in it.

        Args:
            point: where they were drawn.
        """
        return place_moments(point.task, point.truth, point.end, self.tally, self.control)


def draw(point: Point, draws: int, engine: str = "auto") -> Drawn:
    """Run the estimator a number of times and keep per-draw numbers and block sums by parameter.

    Args:
        point: the estimator and where it is measured.
        draws: number of draws.
        engine: ``dual``, ``cotangent``, or ``auto``: the second unless it refuses.

    Returns:
        The draws.

    Raises:
        Refused: by the cotangent engine, where that is asked for.

    Cost: ``draws`` estimates; by cotangents a few reverse passes and inner products instead of forward mode.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, estimator, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> truth, end = task.scheme_truth(x, labels), task.end_truth(x, labels)
        >>> point = Point(task, estimator, {}, x, labels, noise, truth, end)
        >>> draw(point, 4, "dual").places(point)["all", ""].x.shape
        (4,)
    """
    drawn, _ = try_cotangents(point, draws, engine)
    return by_forward_mode(point, draws) if drawn is None else drawn


def try_cotangents(point: Point, draws: int, engine: str) -> tuple[Drawn | None, str]:
    """Draw by the cotangent engine unless forward mode is asked for or the engine refuses.

    Args:
        point: the estimator and where it is measured.
        draws: number of draws.
        engine: ``auto``, ``dual`` or ``cotangent``.

    Returns:
        The draws or None, and why the engine refused or "".

    Raises:
        Refused: by the engine, where ``cotangent`` is asked for.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, estimator, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> truth, end = task.scheme_truth(x, labels), task.end_truth(x, labels)
        >>> point = Point(task, estimator, {}, x, labels, noise, truth, end)
        >>> try_cotangents(point, 2, "dual")
        (None, '')
    """
    if engine == "dual":
        return None, ""
    if point.documented is not None:
        why = "draws are compared with the documented mean too"
        if engine == "cotangent":
            raise Refused(why)
        return None, why
    try:
        return by_cotangents(point, draws), ""
    except Refused as refused:
        if engine == "cotangent":
            raise
        return None, str(refused)


def by_forward_mode(point: Point, draws: int) -> Drawn:
    """Draw with slopes by batched forward mode.

    Args:
        point: the estimator and where it is measured.
        draws: number of draws.

    Returns:
        The draws.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, estimator, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> truth, end = task.scheme_truth(x, labels), task.end_truth(x, labels)
        >>> point = Point(task, estimator, {}, x, labels, noise, truth, end)
        >>> by_forward_mode(point, 2).engine
        'dual'
    """
    tally = GradientMoments(point.truth, point.end, draws)
    beside = point.documented and GradientMoments(point.documented, point.end, draws)
    control, step = point.control(draws), None
    for k in range(draws):
        control.begin(k)
        step = point.task.estimate(
            point.x, point.labels, point.estimator, point.noise.redrawn(k), point.state,
            control if control.usable else None,
        )  # fmt: skip
        tally.add(k, step.body)
        if beside:
            beside.add(k, step.body)
    assert step is not None
    return Drawn(tally, control, step.ledger.as_dict(), "dual", beside or None)


def by_cotangents(point: Point, draws: int) -> Drawn:
    """Draw with slopes by inner products, accumulating moments from credit where that is possible.

    Args:
        point: the estimator and where it is measured.
        draws: number of draws.

    Returns:
        The draws.

    Raises:
        Refused: where that would not be exact, or not faster.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, estimator, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> truth, end = task.scheme_truth(x, labels), task.end_truth(x, labels)
        >>> point = Point(task, estimator, {}, x, labels, noise, truth, end)
        >>> by_cotangents(point, 8).engine
        'cotangent'
    """
    engine = Engine(point.task, point.estimator, point.state, point.x, point.labels)
    first = engine.prepare(point.noise.redrawn(0), draws)
    control = point.control(draws)
    try:
        tally: GradientMoments | CreditMoments = _from_credit(point, draws, engine, first.body)
    except Unknown:  # the gradients of the same slopes are formed
        tally = GradientMoments(point.truth, point.end, draws)
        engine.listen(control)
        for k in range(draws):
            control.begin(k)
            tally.add(k, engine.pull(engine(point.noise.redrawn(k))))
    return Drawn(tally, control, first.ledger.as_dict(), "cotangent")


def _from_credit(
    point: Point, draws: int, engine: Engine, first: Mapping[str, Tensor]
) -> CreditMoments:
    """Accumulate the moments of draws from their credit, and check the first against its gradient.

    Args:
        point: the estimator and where it is measured.
        draws: number of draws.
        engine: makes the estimates.
        first: gradient of the first draw by forward mode.

    Returns:
        The moments.

    Raises:
        Unknown: where credit or parameters enter in a way that is not known.
    """
    truths = point.truth, point.end
    tally = CreditMoments(point.task, point.x, point.labels, engine.kind, *truths, draws)
    for run in tally.runs():
        tally.add(run, engine.credits([point.noise.redrawn(k) for k in run]))
        if run[0] == 0:
            _compare(tally.rows(), first, point)
    return tally


def _compare(rows: dict[str, Array], first: Mapping[str, Tensor], point: Point) -> None:
    """Compare the moments of the first draw with those of its gradient.

    Raises:
        Unknown: where they differ.
    """
    limit = 1e-8 if point.x.dtype == torch.float64 else 1e-2
    for place, names in sites(point.task).items():
        own = {n: first[n] if n in first else torch.zeros_like(point.truth[n]) for n in names}
        each = [(own[n], other[n]) for other in (point.truth, own, point.end) for n in names]
        formed = torch.stack([(a * b).sum() for a, b in each]).double().cpu().reshape(3, -1).sum(1)
        kept = sum(rows[n][0, [0, 1, 3]] for n in names)
        with np.errstate(invalid="ignore"):  # of estimates that are not finite
            off = np.abs(kept - formed.numpy()).max()
        if not off <= limit * float(formed.abs().max()):
            raise Unknown(f"{place} has another gradient than its credit was pulled back to")
