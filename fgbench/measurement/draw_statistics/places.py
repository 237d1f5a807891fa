"""Aggregate per-parameter draw statistics to body, module and site.

A *place* is the body, a module, a site or a parameter. Inner products and squared norms add up over the
parameters of a place and are then divided by the squared norm of the true gradient there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from fgbench.core.cost import CostCounter
from fgbench.core.gradients import complete
from fgbench.errors import UsageError, unknown
from fgbench.measurement.draw_statistics.from_gradients import Array, flat, square

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.gradients import Grads
    from fgbench.core.task import Task
    from fgbench.measurement.draw_statistics.control_variate import Control

Place = tuple[str, str]  # kind and name
ALL: Place = ("all", "")
NOT_UPDATED = "no objective updates it"


class ParameterMoments(Protocol):
    """Moments of draws by parameter.

    See :mod:`fgbench.measurement.draw_statistics.from_gradients`.

    Attributes:
        signs: signs of the truth, 0 where it is rounding.

    Example:
        >>> class OneExactDraw:
        ...     signs = {"w": torch.ones(3)}
        ...     def rows(self):
        ...         return {"w": np.array([[1.0], [1.0], [0.0], [1.0]])}
        ...     def agreed(self):
        ...         return {"w": np.array([3.0])}
        ...     def grams(self):
        ...         return {"w": np.zeros((1, 1))}
        >>> moments: ParameterMoments = OneExactDraw()
        >>> moments.agreed()["w"] == moments.signs["w"].numel()
        array([ True])
    """

    signs: dict[str, Tensor]

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per draw."""

    def agreed(self) -> dict[str, Array]:
        """Return Σ sign(e) sign(g) per draw, of the first draws."""

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g."""


@dataclass(frozen=True)
class PlaceMoments:
    """Moments of the draws at one point and one place: the body, a module, a site or a parameter.

    Args:
        x: ⟨e, g⟩/|g|² per draw.
        y: |e|²/|g|² per draw.
        d2: |e − g|²/|g|² per draw.
        gram: ⟨D_i, D_j⟩/|g|² of the block sums of e − g.
        end_x: ⟨e, G⟩/|G|² per draw, G the end-to-end gradient.
        end_y: |e|²/|G|² per draw.
        gap: |g − G|²/|G|².
        predicted: relative variance by its closed form, or None.
        g2: |g|².
        end2: |G|².
        agreement: share of the entries of g that are not 0 whose sign e has, entries of e that are 0
            counted half: (1 + mean sign(e) sign(g))/2 per draw, of the first draws.
        elements: numbers in g.
        control: control variate per draw, or None.
        reason: why nothing can be measured here, or "".

    Example:
        >>> one = np.ones(2)
        >>> PlaceMoments(one, one, one, np.eye(2), one, one, 0.0, None, 1.0, 1.0, one, 3).reason
        ''
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


def modules(task: Task) -> dict[str, list[str]]:
    """Group the names of body parameters by module.

    Args:
        task: the chain under its locality.

    Returns:
        Module to the names of its parameters.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> modules(workload.task(method("BP"), 0)[0])
        {'body.0': ['body.0.l0.weight', 'body.0.l0.bias']}
    """
    grouped: dict[str, list[str]] = {}
    for name in task.chain.body_parameters():
        grouped.setdefault(_module(task, name), []).append(name)
    return grouped


def sites(task: Task) -> dict[str, list[str]]:
    """Group the names of body parameters by site.

    Args:
        task: the chain under its locality.

    Returns:
        Site to the parameters of its weight operation. Parameters of no site stand under their module.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> sites(workload.task(method("BP"), 0)[0])
        {'body.0.l0': ['body.0.l0.weight', 'body.0.l0.bias']}
    """
    grouped: dict[str, list[str]] = {}
    for name in task.chain.body_parameters():
        place = task.chain.site_of(name) or _module(task, name)
        grouped.setdefault(place, []).append(name)
    return grouped


def _module(task: Task, parameter: str) -> str:
    """Return the module of a parameter, such as ``body.0``."""
    return f"body.{task.chain.home(parameter)}"


def everywhere(task: Task) -> dict[Place, list[str]]:
    """Return all places where numbers are reported.

    Args:
        task: the chain under its locality.

    Returns:
        Place to the names of its parameters: the body first, then modules, sites and parameters.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> [kind for kind, name in everywhere(workload.task(method("BP"), 0)[0])]
        ['all', 'module', 'site', 'parameter', 'parameter']
    """
    names = list(task.chain.body_parameters())
    found = {ALL: names}
    found |= {("module", p): members for p, members in modules(task).items()}
    found |= {("site", p): members for p, members in sites(task).items()}
    return found | {("parameter", n): [n] for n in names}


def distances(task: Task) -> dict[Place, int]:
    """Count the modules between every module or site and the nearest loss that it learns from.

    Args:
        task: the chain under its locality.

    Returns:
        Place to the number: 0 where a module's own output is read, the number of later modules for a loss
        at the end of the chain. Places that no objective updates are left out.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-2x4", "synthetic[size=4,train=64,test=32]")
        >>> task = workload.task(method("BP"), 0)[0]
        >>> [distances(task)["module", f"body.{k}"] for k in (0, 1)]
        [1, 0]
    """
    found: dict[Place, int] = {}
    for kind, grouped in (("module", modules(task)), ("site", sites(task))):
        for name, parameters in grouped.items():
            k = min(task.chain.home(parameter) for parameter in parameters)
            between = [o.window[1] - 1 - k for o in task.objectives if k in o.updates]
            if between:
                found[kind, name] = min(between)
    return found


def whole_truth(task: Task, x: Tensor, labels: Tensor) -> Grads:
    """Return the exact gradient of the scheme's objectives, 0 for parameters that none of them updates.

    Args:
        task: the chain under its locality.
        x: the batch.
        labels: ``[b]``.

    Returns:
        Gradient by body parameter name, of the whole body.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, _, noise = workload.task(method("BP"), 0)
        >>> batch = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> sorted(whole_truth(task, *batch))
        ['body.0.l0.bias', 'body.0.l0.weight']
    """
    return complete(task.chain.body_parameters(), task.scheme_truth(x, labels))


def place_moments(
    task: Task,
    truth: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    tally: ParameterMoments,
    control: Control,
) -> dict[Place, PlaceMoments]:
    """Add the moments of draws up over the parameters of every place and divide them by the truths.

    Args:
        task: the chain under its locality, which defines the places.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient by parameter name.
        tally: moments of the draws by parameter.
        control: control variate of the draws.

    Returns:
        The moments of the body and of every place in it.

    Example:
        >>> from fgbench.measurement.draw_statistics.control_variate import Control
        >>> from fgbench.measurement.draw_statistics.from_gradients import GradientMoments
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task = workload.task(method("BP"), 0)[0]
        >>> g = {n: torch.ones_like(p) for n, p in task.chain.body_parameters().items()}
        >>> moments = GradientMoments(g, g, draws=2)
        >>> for k in range(2):
        ...     moments.add(k, {n: 2 * t for n, t in g.items()})
        >>> place_moments(task, g, g, moments, Control(2, usable=False))[ALL].x.tolist()
        [2.0, 2.0]
    """
    sums = {n: _Sums(rows) for n, rows in tally.rows().items()}
    grams, agreed = tally.grams(), tally.agreed()
    for n, one in sums.items():
        g, big = truth[n], end[n]
        gap = 0.0 if torch.equal(g, big) else square(flat(g) - flat(big))
        one.gram, one.agreed = grams[n], agreed[n]
        one.squares = np.array([square(g), square(big), gap])
        one.signed, one.elements = int(tally.signs[n].count_nonzero()), g.numel()
    eps = torch.finfo(next(iter(truth.values())).dtype).eps
    found: dict[Place, PlaceMoments] = {}
    floor, chain = 0.0, task.chain
    updated = {n for o in task.objectives for n in chain.body_parameters(o.updates)}
    for place, names in everywhere(task).items():
        found[place] = _normalised(_Sums.total([sums[n] for n in names]), floor)
        if not updated.intersection(names):
            found[place] = replace(found[place], reason=NOT_UPDATED)
        floor = (10 * eps) ** 2 * found[ALL].g2
    if one_truth(task) and not found[ALL].reason:
        found[ALL] = replace(found[ALL], control=control.over(found[ALL].g2))
    return found


def predictions(
    task: Task,
    estimator: Estimator,
    state: Mapping[str, State],
    x: Tensor,
    labels: Tensor,
    truth: Mapping[str, Tensor],
) -> dict[Place, float | None]:
    """Return the relative variance of every place by the estimator's closed form.

    Args:
        task: the chain under its locality.
        estimator: the estimator.
        state: state of each objective.
        x: the batch.
        labels: ``[b]``.
        truth: gradient of the scheme's objectives by parameter name.

    Returns:
        Place to the number; None where there is no closed form.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]", dtype="float64")
        >>> task, estimator, noise = workload.task(method("fg_w[law=rademacher]"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> found = predictions(task, estimator, {}, x, labels, task.scheme_truth(x, labels))
        >>> round(found[ALL], 6)  # elements - 1
        67.0
    """
    grouped, who = everywhere(task), type(estimator).__name__
    own = task.chain.body_parameters()
    total: dict[str, float] = {}
    for view in task.views(x, labels, CostCounter()):
        if view.objective.updates:
            found = estimator.predicted_variance(view, state.get(view.objective.name, {}))
            if found is None:
                return dict.fromkeys(grouped)
            for name, value in found.items():
                if name not in own:
                    raise unknown(f"parameter in predicted_variance of {who}", str(name), own)
                total[name] = total.get(name, 0.0) + float(value)
        view.output()
    updated = [n for o in task.active for n in task.chain.body_parameters(o.updates)]
    lacking = [n for n in updated if n not in total]
    if lacking:
        raise UsageError(
            f"predicted_variance of {who} has no {lacking[0]}; where there is no closed form it returns None"
        )
    if not one_truth(task):
        return dict.fromkeys(grouped)
    squares = {n: float((v.double() ** 2).sum()) for n, v in truth.items()}
    result: dict[Place, float | None] = {}
    for place, names in grouped.items():
        g2 = sum(squares[n] for n in names)
        result[place] = sum(total.get(n, 0.0) for n in names) / g2 if g2 > 0 else None
    return result


def products(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[Place, Array]:
    """Return the inner products of the true gradients of batches, at one network.

    Args:
        task: the chain under its locality.
        batches: images and labels of each.

    Returns:
        Place to ``[batches, batches]``.

    Cost: a reverse pass for each batch; their gradients are held together.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, _, noise = workload.task(method("BP"), 0)
        >>> batch = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> products(task, [batch, batch])[ALL].shape
        (2, 2)
    """
    gradients: dict[str, list[Tensor]] = {}
    for x, labels in batches:
        for name, g in whole_truth(task, x, labels).items():
            gradients.setdefault(name, []).append(g.detach())
    each = {}
    for name, of_batches in gradients.items():
        rows = torch.stack([flat(g) for g in of_batches])
        each[name] = (rows @ rows.T).cpu().numpy()
    return {place: np.sum([each[n] for n in names], 0) for place, names in everywhere(task).items()}


def one_truth(task: Task) -> bool:
    """Check whether every body parameter is updated by one objective, so that |g|² adds up.

    Args:
        task: the chain under its locality.

    Returns:
        False where objectives overlap.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-3x4", "synthetic[size=4,train=64,test=32]")
        >>> [one_truth(workload.task(method(m), 0)[0]) for m in ("bp/local", "bp/overlap")]
        [True, False]
    """
    updated = [k for o in task.objectives for k in o.updates]
    return len(updated) == len(set(updated))


@dataclass
class _Sums:
    """Moments that add up over parameters.

    Attributes:
        rows: ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per draw.
        gram: inner products of the block sums of e − g.
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
    def total(cls, parts: list[_Sums]) -> _Sums:
        """Return the sum of several."""
        first, *others = parts
        sums = {f.name: getattr(first, f.name) for f in fields(cls)}
        for other in others:
            sums = {name: value + getattr(other, name) for name, value in sums.items()}
        return cls(**sums)


def _normalised(of: _Sums, floor: float) -> PlaceMoments:
    """Divide sums by the truths, unless the truth is at rounding level."""
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
