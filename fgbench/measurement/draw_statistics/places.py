"""From what was kept of draws, parameter by parameter, to the series of every place."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from fgbench.core.cost import CostCounter
from fgbench.measurement.draw_statistics.from_gradients import Array, flat, modules, places, square

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator
    from fgbench.core.task import Task
    from fgbench.measurement.draw_statistics.from_gradients import Control

Place = tuple[str, str]  # kind and name
ALL: Place = ("all", "")


class Kept(Protocol):
    """Moments of draws, parameter by parameter.

    See :mod:`fgbench.measurement.draw_statistics.from_gradients`.

    Attributes:
        signs: of the truth, 0 where it is rounding.
    """

    signs: dict[str, Tensor]

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per draw."""

    def agreed(self) -> dict[str, Array]:
        """Return Σ sign(e) sign(g) per draw, of the first draws."""

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g."""


@dataclass
class PlaceMoments:
    """What the draws at one point say about one place: the body, a module, a site or a parameter.

    Attributes:
        x: ⟨e, g⟩/|g|² per draw.
        y: |e|²/|g|² per draw.
        d2: |e − g|²/|g|² per draw.
        gram: ⟨D_i, D_j⟩/|g|² of the block sums of e − g.
        end_x: ⟨e, G⟩/|G|² per draw, G the end-to-end gradient.
        end_y: |e|²/|G|² per draw.
        gap: |g − G|²/|G|².
        predicted: closed-form relative variance, or None.
        g2: |g|².
        end2: |G|².
        agreement: share of the entries of g that are not 0 whose sign e has, entries of e that are 0
            counted half: (1 + mean sign(e) sign(g))/2 per draw, of the first draws.
        elements: numbers in g.
        control: the law's control per draw, or None.
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
    g2: float
    end2: float
    agreement: Array
    elements: int
    control: Array | None = None
    reason: str = ""


def everywhere(task: Task) -> dict[Place, list[str]]:
    """Name the places where numbers are reported.

    Args:
        task: the chain under its locality.

    Returns:
        Place to the names of its parameters: the body first, then modules, sites and parameters.
    """
    names = list(task.chain.body_parameters())
    found = {ALL: names}
    found |= {("module", p): some for p, some in modules(task).items()}
    found |= {("site", p): some for p, some in places(task).items()}
    return found | {("parameter", n): [n] for n in names}


def distances(task: Task) -> dict[Place, int]:
    """Count the modules between every module or site and the nearest loss that it learns from.

    Args:
        task: the chain under its locality.

    Returns:
        Place to the number: 0 where a module's own output is read, the chain's later modules for a loss
        at its end. What no objective updates is left out.
    """
    found: dict[Place, int] = {}
    for kind, grouped in (("module", modules(task)), ("site", places(task))):
        for name in grouped:
            k = int(name.split(".")[1])
            between = [o.window[1] - 1 - k for o in task.objectives if k in o.updates]
            if between:
                found[kind, name] = min(between)
    return found


def series_of(
    task: Task,
    truth: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    tally: Kept,
    control: Control,
) -> dict[Place, PlaceMoments]:
    """Add up what was kept over the parameters of every place and divide it by the truths.

    Args:
        task: names the places.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient.
        tally: what was kept of the draws.
        control: the law's control, which has heard them.

    Returns:
        The series of the body and of every place in it.
    """
    facts = {n: _Facts(rows) for n, rows in tally.rows().items()}
    grams, agreed = tally.grams(), tally.agreed()
    for n, fact in facts.items():
        g, big = truth[n], end[n]
        gap = 0.0 if torch.equal(g, big) else square(flat(g) - flat(big))
        fact.gram, fact.agreed = grams[n], agreed[n]
        fact.squares = np.array([square(g), square(big), gap])
        fact.signed, fact.elements = int(tally.signs[n].count_nonzero()), g.numel()
    eps = torch.finfo(next(iter(truth.values())).dtype).eps
    found, floor = {}, 0.0
    for place, names in everywhere(task).items():
        found[place] = _series(_Facts.total([facts[n] for n in names]), floor)
        floor = (10 * eps) ** 2 * found[ALL].g2
    if one_truth(task) and not found[ALL].reason:
        found[ALL].control = control.over(found[ALL].g2)
    return found


def predictions(
    task: Task, estimator: Estimator, x: Tensor, labels: Tensor, truth: Mapping[str, Tensor]
) -> dict[Place, float | None]:
    """Return the closed-form relative variance of every place.

    Args:
        task: the chain under its locality.
        estimator: the estimator.
        x: the batch.
        labels: ``[b]``.
        truth: gradient of the scheme's objectives by parameter name.

    Returns:
        Place to the number; None where there is no form.
    """
    grouped = everywhere(task)
    total: dict[str, float] = {}
    for view in task.views(x, labels, CostCounter()):
        if view.objective.updates:
            found = estimator.predicted_variance(view)
            if found is None:
                return dict.fromkeys(grouped)
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + float(value)
        view.output()
    if not one_truth(task):
        return dict.fromkeys(grouped)
    squares = {n: float((v.double() ** 2).sum()) for n, v in truth.items()}
    result: dict[Place, float | None] = {}
    for place, names in grouped.items():
        g2 = sum(squares[n] for n in names)
        result[place] = sum(total[n] for n in names) / g2 if g2 > 0 else None
    return result


def products(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[Place, Array]:
    """Return the inner products of the truths of batches, at one network.

    Args:
        task: the chain under its locality.
        batches: images and labels of each.

    Returns:
        Place to ``[batches, batches]``.

    Cost: a reverse pass for each batch; their gradients are held together.
    """
    kept: dict[str, list[Tensor]] = {}
    for x, labels in batches:
        for name, g in task.scheme_truth(x, labels).items():
            kept.setdefault(name, []).append(g.detach())
    each = {}
    for name, some in kept.items():
        rows = torch.stack([flat(g) for g in some])
        each[name] = (rows @ rows.T).cpu().numpy()
    return {place: np.sum([each[n] for n in names], 0) for place, names in everywhere(task).items()}


def one_truth(task: Task) -> bool:
    """Tell whether every body parameter is updated by one objective, so that |g|² adds up."""
    updated = [k for o in task.objectives for k in o.updates]
    return len(updated) == len(set(updated))


@dataclass
class _Facts:
    """What adds up over parameters.

    Attributes:
        rows: ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per draw.
        gram: of the block sums of e − g.
        squares: |g|², |G|² and |g − G|².
        agreed: Σ sign(e) sign(g) per draw, of the first draws.
        signed: entries of g that are not 0.
        elements: entries of g.
    """

    rows: Array
    gram: Array = field(default_factory=lambda: np.zeros(()))
    squares: Array = field(default_factory=lambda: np.zeros(3))
    agreed: Array = field(default_factory=lambda: np.zeros(()))
    signed: int = 0
    elements: int = 0

    @classmethod
    def total(cls, some: list[_Facts]) -> _Facts:
        """Add some up."""
        first, *others = some
        sums = {f.name: getattr(first, f.name) for f in fields(cls)}
        for other in others:
            sums = {name: value + getattr(other, name) for name, value in sums.items()}
        return cls(**sums)


def _series(of: _Facts, floor: float) -> PlaceMoments:
    """Normalise sums by the truths; a truth at rounding level leaves nothing to divide by."""
    g2, big2, gap = map(float, of.squares)
    rows, none = of.rows, np.full(len(of.rows), np.nan)
    if g2 <= floor:
        reason = "the truth is zero" if g2 == 0 else "the truth is at rounding level"
        unsigned = np.full(len(of.agreed), np.nan)
        return PlaceMoments(
            none, none, none, of.gram * np.nan, none, none, None, None, g2, big2, unsigned, of.elements,
            reason=reason,
        )  # fmt: skip
    useful = big2 > floor
    return PlaceMoments(
        rows[:, 0] / g2,
        rows[:, 1] / g2,
        rows[:, 2] / g2,
        of.gram / g2,
        rows[:, 3] / big2 if useful else none,
        rows[:, 1] / big2 if useful else none,
        gap / big2 if useful else None,
        None,
        g2,
        big2,
        0.5 + 0.5 * of.agreed / max(of.signed, 1),
        of.elements,
    )
