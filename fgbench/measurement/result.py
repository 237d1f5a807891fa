"""Results of measuring: of one point, and of one method over all its points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fgbench.core.estimator import Claims, Estimator
    from fgbench.measurement.design import Design
    from fgbench.measurement.draw_statistics.from_gradients import Array
    from fgbench.measurement.draw_statistics.places import Place, PlaceMoments
    from fgbench.measurement.trajectories import Waypoint


@dataclass(frozen=True)
class Plan:
    """How a method is measured at a point: settled at its first point and handed on to the next.

    Args:
        estimator: that of the method, or the one with as many directions as a budget allows.
        engine: ``auto``, ``dual`` or ``cotangent``, as asked.
        budget: cost asked of an estimate, what it spends, and why it is not spent on directions; None
            without a budget.
        draws: draws per point; 0 as long as they are not settled.
        asked: draws that a precision asks for; 0 where none is asked.
        fallback: why the cotangent engine refused, or "".
        claims: claims of the estimator at this point; None as long as they are not read.
        learns: whether it has state that training changes.
        directions: directions of one estimate.
        distances: module or site to how many modules lie between it and its nearest loss.
        elements: number of body parameters.
        rounding: relative size below which a difference of two gradients is rounding.

    Example:
        >>> from fgbench.estimators.bp import Backprop
        >>> Plan(Backprop()).exact
        False
    """

    estimator: Estimator
    engine: str = "auto"
    budget: Mapping[str, Any] | None = None
    draws: int = 0
    asked: int = 0
    fallback: str = ""
    claims: Claims | None = None
    learns: bool = False
    directions: int = 1
    distances: Mapping[Place, int] = field(default_factory=dict)
    elements: int = 0
    rounding: float = 1e-12

    @property
    def exact(self) -> bool:
        """Whether the estimator claims to be free of noise, given its state."""
        return self.claims is not None and self.claims.noiseless

    @property
    def next_engine(self) -> str:
        """Engine to draw with: forward mode where few draws suffice, or where the other refused."""
        if self.engine == "auto" and (self.exact or self.fallback):
            return "dual"
        return self.engine


@dataclass(frozen=True)
class PointResult:
    """The result of measuring one method at one point.

    Args:
        plan: how it was measured, as far as measuring came.
        init: seed of the network.
        moment: epochs of training before.
        places: place to the moments of the draws there; empty where there are none.
        engine: the engine that made the draws, ``dual`` or ``cotangent``; "" where none did.
        cost: cost of one estimate, see :class:`fgbench.core.cost.CostCounter`.
        reason: why the method was skipped here, or "".
        documented: moments of the draws against the mean that the estimator documents, over the whole body;
            None where it documents none.
        failed: what the estimator raised, or "".

    Example:
        >>> from fgbench.estimators.bp import Backprop
        >>> PointResult(Plan(Backprop()), init=0, moment=0.0, reason="no such site").engine
        ''
    """

    plan: Plan
    init: int
    moment: float
    places: Mapping[Place, PlaceMoments] = field(default_factory=dict)
    engine: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    documented: PlaceMoments | None = None
    failed: str = ""


@dataclass(frozen=True)
class MethodResult:
    """The results of one method, assembled point by point.

    Args:
        design: the design of the measurement.
        plan: how the next point is measured.
        claims: claims of the method's estimator on its task; None where they were not read.
        points: results of the points, in order of measuring.
        between: of every (init, moment), in order of measuring: place to the inner products of the
            gradients of batches.
        steps: moment to the steps of training before.
        reason: why the method was skipped, or why its own training diverged, or "".
        failed: what the estimator raised, or "".
        diverged: whether its own training diverged.

    Example:
        >>> from fgbench.estimators.bp import Backprop
        >>> from fgbench.measurement.design import Design
        >>> plan = Plan(Backprop())
        >>> result = MethodResult(Design(), plan)
        >>> result.ended
        False
        >>> result.with_point(PointResult(plan, 0, 0.0, reason="no such site")).ended
        True
    """

    design: Design
    plan: Plan
    claims: Claims | None = None
    points: tuple[PointResult, ...] = ()
    between: tuple[Mapping[Place, Array], ...] = ()
    steps: Mapping[float, int | None] = field(default_factory=dict)
    reason: str = ""
    failed: str = ""
    diverged: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is measured: its numbers need every point."""
        return bool(self.failed or self.reason)

    @property
    def engines(self) -> list[str]:
        """Engines that made draws, in order of their first."""
        return list(dict.fromkeys(point.engine for point in self.points if point.engine))

    def with_claims(self, claims: Claims | None, failed: str) -> MethodResult:
        """Return the results with the claims read on another init.

        Args:
            claims: claims of the method's estimator there, None where they were not read.
            failed: what the estimator raised, or "".
        """
        return replace(self, claims=self.claims or claims, failed=failed)

    def with_waypoint(self, waypoint: Waypoint) -> MethodResult:
        """Return the results with the arrival at a moment of the trajectory.

        Args:
            waypoint: the network at that moment, or why training ended before it.
        """
        if waypoint.failed or waypoint.diverged:
            diverged = bool(waypoint.diverged)
            return replace(
                self, failed=waypoint.failed, reason=waypoint.diverged, diverged=diverged
            )
        return replace(self, steps={**self.steps, waypoint.moment: waypoint.steps})

    def with_point(self, point: PointResult) -> MethodResult:
        """Return the results with those of one more point.

        Args:
            point: its result.
        """
        return replace(
            self,
            plan=point.plan,
            points=(*self.points, point),
            reason=point.reason,
            failed=point.failed,
        )

    def with_products(self, products: Mapping[Place, Array]) -> MethodResult:
        """Return the results with the products of the gradients of batches at one network.

        Args:
            products: place to ``[batches, batches]``.
        """
        return replace(self, between=(*self.between, products))

    def at(self, moment: float) -> MethodResult:
        """Return the results at one moment of the trajectory.

        Args:
            moment: epochs of training.
        """
        networks = dict.fromkeys((point.init, point.moment) for point in self.points)
        between = zip(networks, self.between, strict=False)
        return replace(
            self,
            points=tuple(point for point in self.points if point.moment == moment),
            between=tuple(products for (_, when), products in between if when == moment),
        )
