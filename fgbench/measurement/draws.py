"""Draws of an estimate at one point, and what they say about every place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.measurement.draw_statistics.from_credit import CreditMoments, Unknown
from fgbench.measurement.draw_statistics.from_gradients import Control, GradientMoments, places
from fgbench.measurement.draw_statistics.places import series_of
from fgbench.measurement.engine.cotangent import Engine
from fgbench.measurement.engine.cotangent_view import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task
    from fgbench.measurement.draw_statistics.from_gradients import Array
    from fgbench.measurement.draw_statistics.places import Place, PlaceMoments


@dataclass
class MethodResult:
    """Everything measured of one method.

    Attributes:
        series: point (init, moment) and place to what the draws there say, in order of measuring.
            Places are keyed by (kind, name): ``all``, ``module``, ``site`` and ``parameter``.
        where: (init, moment) of every point.
        estimator: that of the method, or the one with as many directions as a budget allows.
        budget: what was asked of an estimate's cost and why it is not met, if a budget was set.
        distances: module or site to how many modules lie between it and its nearest loss.
        between: of every (init, moment), in order of measuring, products of gradients of batches.
        draws: draws per point.
        asked: those that a precision asks for, 0 where none was asked.
        cost: ledger of one estimate.
        exact: whether the estimator claims to be deterministic.
        reason: why it was skipped, or "".
        failed: what its estimator raised, or "".
        diverged: whether the reason is that its own training did.
        steps: moment to the steps of training before.
        directions: directions of one estimate.
        elements: number of body parameters.
        claimed: the bias that is claimed, and what causes it where an option or the locality does.
        rounding: relative size below which a difference of two gradients is rounding.
        engine: ``auto``, ``dual`` or ``cotangent``, as asked.
        engines: those taken.
        fallback: why the cotangent engine refused, or "".
    """

    series: list[dict[Place, PlaceMoments]] = field(default_factory=list)
    where: list[tuple[int, float]] = field(default_factory=list)
    estimator: Estimator | None = None
    budget: dict[str, Any] | None = None
    distances: dict[Place, int] = field(default_factory=dict)
    between: list[dict[Place, Array]] = field(default_factory=list)
    draws: int = 0
    asked: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    exact: bool = False
    reason: str = ""
    failed: str = ""
    diverged: bool = False
    steps: dict[float, int] = field(default_factory=dict)
    directions: int = 1
    elements: int = 0
    claimed: dict[str, str] = field(default_factory=dict)
    rounding: float = 1e-12
    engine: str = "auto"
    engines: list[str] = field(default_factory=list)
    fallback: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more is measured of it."""
        return bool(self.failed or self.reason)

    def tell(self, progress: Callable[[str], None] | None, at: str) -> None:
        """Say which point is measured, and with how many draws where a precision decides it."""
        if progress is None:
            return
        most = f" of {self.asked} that the precision asks for" * (self.asked > self.draws)
        progress(at + (f", {self.draws} draws{most}" if self.asked else ""))


@dataclass(frozen=True)
class Point:
    """One estimator on one batch, with what it is measured against.

    Args:
        task: the chain under its locality, at some moment.
        estimator: the estimator.
        state: of each objective.
        x: the batch.
        labels: ``[b]``.
        noise: of this point; draw k has its step k.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient.
    """

    task: Task
    estimator: Estimator
    state: Mapping[str, State]
    x: Tensor
    labels: Tensor
    noise: Noise
    truth: dict[str, Tensor]
    end: dict[str, Tensor]

    def price(self, estimator: Estimator) -> float:
        """Return what one estimate of an estimator costs here, in forward equivalents."""
        step = self.task.estimate(self.x, self.labels, estimator, self.noise, self.state)
        return step.ledger.forward_equivalents

    def control(self, draws: int) -> Control:
        """Return a control that has heard nothing."""
        return Control(draws, self.task.claims(self.estimator).slopes_only)


@dataclass
class Drawn:
    """What the draws at one point say.

    Attributes:
        tally: what was kept of them.
        control: the law's control.
        cost: ledger of one estimate.
    """

    tally: GradientMoments | CreditMoments
    control: Control
    cost: dict[str, float]


def draw(point: Point, draws: int, result: MethodResult) -> dict[Place, PlaceMoments]:
    """Run the estimator ``draws`` times and keep per-draw scalars and block sums per place.

    Args:
        point: the estimator and where.
        draws: how many times.
        result: what is known of the method: the engine to take, and the one taken is noted there.

    Returns:
        The series of the body and of every place in it.

    Raises:
        Refused: by the cotangent engine, where no other is allowed.
    """
    drawn = None
    asked = result.engine == "cotangent" or (result.engine == "auto" and not result.exact)
    if asked and not result.fallback:
        try:
            drawn = by_cotangents(point, draws)
        except Refused as refused:
            if result.engine != "auto":
                raise
            result.fallback = str(refused)
    taken = "dual" if drawn is None else "cotangent"
    result.engines = list(dict.fromkeys([*result.engines, taken]))
    drawn = by_forward_mode(point, draws) if drawn is None else drawn
    result.cost = drawn.cost
    return series_of(point.task, point.truth, point.end, drawn.tally, drawn.control)


def by_forward_mode(point: Point, draws: int) -> Drawn:
    """Draw with slopes by forward mode.

    Args:
        point: the estimator and where.
        draws: how many times.

    Returns:
        What the draws say.
    """
    tally = GradientMoments(point.truth, point.end, draws)
    control, step = point.control(draws), None
    for k in range(draws):
        control.begin(k)
        step = point.task.estimate(
            point.x, point.labels, point.estimator, point.noise.at(k), point.state,
            control if control.usable else None,
        )  # fmt: skip
        tally.add(k, step.body)
    assert step is not None
    return Drawn(tally, control, step.ledger.as_dict())


def by_cotangents(point: Point, draws: int) -> Drawn:
    """Draw with slopes by inner products, gradients kept on the activity side where that is known.

    Args:
        point: the estimator and where.
        draws: how many times.

    Returns:
        What the draws say.

    Raises:
        Refused: where that would not be exact, or no faster.
    """
    engine = Engine(point.task, point.estimator, point.state, point.x, point.labels)
    first = engine.prepare(point.noise.at(0), draws)
    control = point.control(draws)
    try:
        tally: GradientMoments | CreditMoments = _of_credit(point, draws, engine, first.body)
    except Unknown:  # gradients are formed, of the same slopes
        tally = GradientMoments(point.truth, point.end, draws)
        engine.listen(control)
        for k in range(draws):
            control.begin(k)
            tally.add(k, engine.pull(engine(point.noise.at(k))))
    return Drawn(tally, control, first.ledger.as_dict())


def _of_credit(point: Point, draws: int, engine: Engine, first: dict[str, Tensor]) -> CreditMoments:
    """Keep the draws on the activity side, the first compared with its gradient as formed.

    Args:
        point: the estimator and where.
        draws: how many times.
        engine: makes the estimates.
        first: the gradient of the first, from forward mode.

    Returns:
        What was kept.

    Raises:
        Unknown: where credit or parameters enter in a way that is not known.
    """
    truths = point.truth, point.end
    tally = CreditMoments(point.task, point.x, point.labels, engine.kind, *truths, draws)
    for run in tally.runs():
        tally.add(run, engine.credits([point.noise.at(k) for k in run]))
        if run[0] == 0:
            _compare(tally.rows(), first, point)
    return tally


def _compare(rows: dict[str, Array], first: dict[str, Tensor], point: Point) -> None:
    """Compare what was kept of the first draw with its gradient as formed.

    Raises:
        Unknown: where they differ.
    """
    limit = 1e-8 if point.x.dtype == torch.float64 else 1e-2
    for place, names in places(point.task).items():
        each = [(first[n], other[n]) for other in (point.truth, first, point.end) for n in names]
        met = torch.stack([(a * b).sum() for a, b in each]).double().cpu().reshape(3, -1).sum(1)
        kept = sum(rows[n][0, [0, 1, 3]] for n in names)
        off = np.abs(kept - met.numpy()).max()
        if not off <= limit * float(met.abs().max()):
            raise Unknown(f"{place} has another gradient than its credit was pulled back to")
