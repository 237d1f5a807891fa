"""Draws of an estimate at one point, and what they say about every place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.activity import Activity, Unknown
from fgbench.cotangent import Engine
from fgbench.served import Refused
from fgbench.tally import Array, Control, Formed, Places, flat, places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.estimator import Estimator, State
    from fgbench.noise import Noise
    from fgbench.task import Task


@dataclass
class Series:
    """What the draws at one point say about one place: the body, or one site.

    Attributes:
        x: ⟨e, g⟩/|g|² per draw.
        y: |e|²/|g|² per draw.
        d2: |e − g|²/|g|² per draw.
        gram: ⟨D_i, D_j⟩/|g|² of the block sums of e − g.
        end_x: ⟨e, G⟩/|G|² per draw, G the end-to-end gradient.
        end_y: |e|²/|G|² per draw.
        gap: |g − G|²/|G|².
        predicted: closed-form relative variance, or None.
        reason: why there is nothing to measure here, or "".
    """

    x: Array
    y: Array
    d2: Array
    gram: Array
    end_x: Array
    end_y: Array
    gap: float | None
    predicted: float | None
    control: Array | None = None
    reason: str = ""


@dataclass
class Found:
    """Everything measured of one method.

    Attributes:
        series: point (init, moment) and place to what the draws there say, in order of measuring.
        where: (init, moment) of every point.
        draws: draws per point.
        cost: ledger of one estimate.
        exact: whether the estimator claims to be deterministic.
        reason: why it was skipped, or "".
        failed: what its estimator raised, or "".
        directions: directions of one estimate.
        elements: number of body parameters.
        claimed: the bias that is claimed, and what causes it where an option or the locality does.
        rounding: relative size below which a difference of two gradients is rounding.
        engine: ``auto``, ``dual`` or ``cotangent``, as asked.
        engines: those taken.
        fallback: why the cotangent engine refused, or "".
    """

    series: list[dict[str, Series]] = field(default_factory=list)
    where: list[tuple[int, float]] = field(default_factory=list)
    draws: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    exact: bool = False
    reason: str = ""
    failed: str = ""
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

    tally: Formed | Activity
    control: Control
    cost: dict[str, float]


def draw(point: Point, draws: int, result: Found) -> dict[str, Series]:
    """Run the estimator ``draws`` times and keep per-draw scalars and block sums per place.

    Args:
        point: the estimator and where.
        draws: how many times.
        result: what is known of the method: the engine to take, and the one taken is noted there.

    Returns:
        The series of the body, ``all``, and of every place.

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
    return _series_of(point, drawn)


def by_forward_mode(point: Point, draws: int) -> Drawn:
    """Draw with slopes by forward mode.

    Args:
        point: the estimator and where.
        draws: how many times.

    Returns:
        What the draws say.
    """
    tally = Formed(places(point.task), point.truth, point.end, draws)
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
        tally: Formed | Activity = _of_credit(point, draws, engine, first.body)
    except Unknown:  # gradients are formed, of the same slopes
        tally = Formed(places(point.task), point.truth, point.end, draws)
        engine.listen(control)
        for k in range(draws):
            control.begin(k)
            tally.add(k, engine.pull(engine(point.noise.at(k))))
    return Drawn(tally, control, first.ledger.as_dict())


def _of_credit(point: Point, draws: int, engine: Engine, first: dict[str, Tensor]) -> Activity:
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
    grouped, truths = places(point.task), (point.truth, point.end)
    tally = Activity(point.task, point.x, point.labels, engine.kind, grouped, *truths, draws)
    for run in tally.runs():
        tally.add(run, engine.credits([point.noise.at(k) for k in run]))
        if run[0] == 0:
            _compare(tally.rows(), first, point, grouped)
    return tally


def _compare(rows: dict[str, Array], first: dict[str, Tensor], point: Point, of: Places) -> None:
    """Compare what was kept of the first draw with its gradient as formed.

    Raises:
        Unknown: where they differ.
    """
    limit = 1e-8 if point.x.dtype == torch.float64 else 1e-2
    for place, names in of.items():
        each = [(first[n], other[n]) for other in (point.truth, first, point.end) for n in names]
        met = torch.stack([(a * b).sum() for a, b in each]).double().cpu().reshape(3, -1).sum(1)
        off = np.abs(rows[place][0, [0, 1, 3]] - met.numpy()).max()
        if not off <= limit * float(met.abs().max()):
            raise Unknown(f"{place} has another gradient than its credit was pulled back to")


def _series_of(point: Point, drawn: Drawn) -> dict[str, Series]:
    """Divide what was kept by the truths."""
    rows, grams = drawn.tally.rows(), drawn.tally.grams()
    grouped = places(point.task)
    g = {p: flat(point.truth, names) for p, names in grouped.items()}
    big = {p: flat(point.end, names) for p, names in grouped.items()}
    squares = {p: (float(v @ v), float(big[p] @ big[p])) for p, v in g.items()}
    gaps = {p: float((v - big[p]) @ (v - big[p])) for p, v in g.items()}
    g2, big2 = (sum(s[i] for s in squares.values()) for i in (0, 1))
    whole = _series(sum(rows.values()), sum(grams.values()), g2, big2, sum(gaps.values()), 0.0)
    if one_truth(point.task) and not whole.reason:
        whole.control = drawn.control.over(g2)
    found = {"all": whole}
    eps = torch.finfo(next(iter(point.truth.values())).dtype).eps
    for p in grouped:
        found[p] = _series(rows[p], grams[p], *squares[p], gaps[p], (10 * eps) ** 2 * g2)
    return found


def one_truth(task: Task) -> bool:
    """Tell whether every body parameter is updated by one objective, so that |g|² adds up."""
    updated = [k for o in task.objectives for k in o.updates]
    return len(updated) == len(set(updated))


def _series(rows: Any, gram: Any, g2: float, big2: float, gap: float, floor: float) -> Series:
    """Normalise sums by the truths; a truth at rounding level leaves nothing to divide by."""
    if g2 <= floor:
        none = np.full(len(rows), np.nan)
        reason = "the truth is zero" if g2 == 0 else "the truth is at rounding level"
        return Series(none, none, none, gram * np.nan, none, none, None, None, reason=reason)
    useful = big2 > floor
    return Series(
        rows[:, 0] / g2,
        rows[:, 1] / g2,
        rows[:, 2] / g2,
        gram / g2,
        rows[:, 3] / big2 if useful else np.full(len(rows), np.nan),
        rows[:, 1] / big2 if useful else np.full(len(rows), np.nan),
        gap / big2 if useful else None,
        None,
    )
