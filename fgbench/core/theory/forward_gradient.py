"""Closed forms of the variance of forward gradients.

Everything rests on one identity. For a score r = ⟨h, v⟩ along v with E[v vᵀ] = I, pair moment
q = E vᵢ² vⱼ² and fourth moment k = E vᵢ⁴,

    Cov(r vᵢ, r vⱼ) = (2q − 1) hᵢ hⱼ  for i ≠ j,      Var(r vᵢ) = q |h|² + (k − q − 1) hᵢ²,

with q = 1 and k = κ where coordinates are independent, and q = d/(d + 2), k = 3q on a sphere of radius √d
in d dimensions. A part of the score that is independent of v adds its own variance to every Var(r vᵢ).
What follows are sums of it over coordinates, over independent scores, and through a linear pullback;
averages over n independent directions divide by n. The mean cosine with the gradient, for isotropic laws,
is :func:`fgbench.stats.intervals.expected_cosine`. The file is longer than others: one identity, taken from a
fixed gradient over Table 1 to the layers of a network.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023, section
5 and its table 1; the exact per-layer forms are derived in the docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.core.noise.laws import law as law_of
from fgbench.core.projection import Combine
from fgbench.core.theory import ghost_norms
from fgbench.core.theory.slice_gradients import Slices
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.core.gradients import Grads
    from fgbench.core.noise.laws import Law
    from fgbench.core.oracles import Oracles
    from fgbench.core.theory.ghost_norms import Segment

PULLS = 64  # reverse passes through a window that a prediction may cost
Share = Literal["b", "none"]


# a fixed gradient


def relative_variance(
    d: int,
    law: str | Law,
    directions: int = 1,
    combine: Combine = "mean",
    active: int | None = None,
) -> float:
    """Relative variance E|e − g|²/|g|² of a forward gradient of one loss.

    E|⟨g, v⟩ v|² = Σᵢⱼ gᵢ² E vᵢ² vⱼ² = (d − 1 + κ)|g|², minus |g|². Coordinates that are off have no gradient
    and give no credit: they leave the sum over j. A projection P on k of d dimensions that is uniform
    (Haar) has E|P g|² = (k/d)|g|²; the estimate (d/k) P g has d/k − 1 whatever the law, 0 at k = d.

    Args:
        d: dimension of what is drawn.
        law: law of the directions.
        directions: how many are combined, k.
        combine: ``mean`` of independent draws, or ``project`` on the span of k orthonormal directions.
        active: coordinates that are on; all unless given.

    Returns:
        (d − 2 + κ)/k for independent coordinates: d + 1 for gaussian and d − 1 for rademacher and, by its
        fixed norm, sphere; d/k − 1 for a projection.

    Raises:
        UsageError: for an unknown law, or a projection on more than d directions or of masked ones.

    Example:
        >>> relative_variance(10, "gaussian"), relative_variance(10, "rademacher", directions=3)
        (11.0, 3.0)
    """
    on = d if active is None else active
    pair, fourth = _law(law).moments(d)
    if combine == "project":
        _fits(directions, d, on)
        return d / directions - 1
    return (pair * on + fourth - pair - 1) / directions


def coordinate_variance(
    g: Tensor,
    law: str | Law,
    directions: int = 1,
    combine: Combine = "mean",
    active: Tensor | None = None,
) -> Tensor:
    """Variance of each coordinate of a forward gradient of one loss.

    ``q |g|² + (k − q − 1) gᵢ²``: |g|² + gᵢ² for gaussian, |g|² − gᵢ² for rademacher directions. A projection
    has E[(P g)ᵢ²] = a |g|² + b gᵢ². Its trace gives a d + b = k/d; the second moment of |P g|²/|g|², which is
    Beta(k/2, (d − k)/2), gives a + b = k (k + 2)/(d (d + 2)).

    Args:
        g: the gradient, any shape.
        law: law of the directions.
        directions: how many are combined, k.
        combine: ``mean`` or ``project``, as for :func:`relative_variance`.
        active: whether a coordinate is on, of the shape of g; g is 0 where it is not.

    Returns:
        Squared units of the gradient, of the shape of g; 0 where a coordinate is off.

    Example:
        >>> coordinate_variance(torch.tensor([1.0, 2.0]), "gaussian")
        tensor([6., 9.])

    Raises:
        UsageError: as for :func:`relative_variance`.
    """
    d, square, total = g.numel(), g**2, (g**2).sum()
    pair, fourth = _law(law).moments(d)
    if combine == "project":
        k = directions
        _fits(k, d, d if active is None else int(active.sum()))
        spread, along = projection_spread(torch.tensor(float(d), dtype=torch.float64), k)
        return spread * total + along * square
    found = (pair * total + (fourth - pair - 1) * square) / directions
    return found if active is None else found * active


def projection_spread(d: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return A and B of Cov((d/k) P g) = A |g|² I + B g gᵀ, P a uniform projection on k of d dimensions.

    By its symmetry E[P g gᵀ P] = a |g|² I + b g gᵀ, with a and b from the two moments that
    :func:`coordinate_variance` names; then A = (d/k)² a and B = (d/k)² b − 1.

    Args:
        d: numbers of dimensions, any shape; 0 counts as 1.
        k: dimensions of the span, where there are as many.

    Returns:
        A and B, of the shape of d; both are 0 for k = d.

    Example:
        >>> projection_spread(torch.tensor([3.0, 4.0]), 3)[0][0]  # P = I
        tensor(0.)
    """
    d = d.clamp_min(1)
    rank = d.clamp_max(k)
    a = rank * (d - rank) / (d * (d - 1).clamp_min(1) * (d + 2))
    b = rank * (rank + 2) / (d * (d + 2)) - a
    return (d / rank) ** 2 * a, (d / rank) ** 2 * b - 1


def _fits(directions: int, d: int, on: int) -> None:
    """Refuse a projection that has no closed form."""
    if directions > d or on < d:
        raise UsageError(
            f"a projection takes at most as many directions as dimensions, all of them on: "
            f"got {directions} directions, {on} of {d} on"
        )


# a minibatch: Table 1


@dataclass(frozen=True)
class Moments:
    """Mean and spread of the per-example gradients of a batch or a population.

    The paper's S and V are these two divided by the number of weights.

    Args:
        mean: |μ|², μ the mean gradient.
        spread: tr Σ, the mean of |g_n − μ|².

    Example:
        >>> Moments.of(torch.tensor([[1.0], [3.0]]))
        Moments(mean=4.0, spread=1.0)
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, gradients: Tensor) -> Moments:
        """Return the moments of per-example gradients ``[b, ...]``, each example equally likely."""
        flat = gradients.double().flatten(1)
        centre = flat.mean(0)
        return cls(float(centre @ centre), float(((flat - centre) ** 2).sum(1).mean()))


def noise_variance(
    batch: Moments, b: int, units: int, law: str | Law, share: Share, **more: Any
) -> float:
    """Variance of a minibatch estimate that its directions alone cause, the batch being given.

    With F the relative variance of one loss (:func:`relative_variance`) and per-example gradients g_n =
    δ_n x_nᵀ: one direction for all examples makes the estimate linear in the mean gradient, F |mean g_n|²;
    one for each example makes it a mean of b independent ones, F mean|g_n|²/b. Noise on activities is
    credited to the weights through the outer product with x_n, which multiplies both sides by |x_n|²: F is
    that of the units, not of the weights.

    Args:
        batch: moments of the batch's own gradients.
        b: examples in the batch.
        units: what one score sees: all weights of the layer for noise on weights, its output units for
            noise on activities.
        law: law of the directions.
        share: ``b``: one direction for the whole batch; ``none``: one for each example.
        more: ``directions``, ``combine`` and ``active`` of :func:`relative_variance`.

    Returns:
        Squared units of the gradient, summed over the weights of the layer.

    Example:
        >>> noise_variance(Moments(mean=4.0, spread=1.0), b=2, units=9, law="gaussian", share="none")
        25.0
    """
    factor = relative_variance(units, law, **more)
    return factor * (batch.mean if share == "b" else (batch.mean + batch.spread) / b)


def total_variance(
    population: Moments, b: int, units: int, law: str | Law, share: Share, **more: Any
) -> float:
    """Variance of a minibatch estimate over fresh batches and directions: the paper's Table 1.

    The law of total variance: tr Σ/b from the data, and the mean of :func:`noise_variance` over batches,
    where |mean g_n|² has the mean |μ|² + tr Σ/b. For gaussian noise and m units that is
    (m + 2)/b tr Σ + (m + 1)|μ|² with shared and (m + 2)/b tr Σ + (m + 1)/b |μ|² with independent directions.

    Args:
        population: moments of the gradients of all examples; batches are drawn with replacement.
        b: examples in a batch.
        units: as for :func:`noise_variance`.
        law: law of the directions.
        share: as for :func:`noise_variance`.
        more: ``directions``, ``combine`` and ``active`` of :func:`relative_variance`.

    Returns:
        Squared units of the gradient, summed over the weights of the layer; divided by their number it
        is the paper's entry.

    Example:
        >>> total_variance(Moments(mean=4.0, spread=1.0), b=2, units=9, law="gaussian", share="none")
        25.5
    """
    mean, spread = population.mean, population.spread
    expected = Moments(mean + spread / b, spread - spread / b)
    return spread / b + noise_variance(expected, b, units, law, share, **more)


# the layers of a network, given the batch


class Subspace(Protocol):
    """Coordinates of weight gradients in subspaces, one per parameter.

    Attributes:
        live: 1 at coordinates that there are and 0 at those that fill up a tensor, by parameter name.

    Example:
        >>> class Everything:
        ...     live = {"w": torch.ones(2)}
        ...     def coordinates(self, gradients):
        ...         return gradients
        >>> within: Subspace = Everything()
    """

    @property
    def live(self) -> Mapping[str, Tensor]:
        """1 at coordinates that there are and 0 elsewhere, by parameter name."""

    def coordinates(self, gradients: Mapping[str, Tensor]) -> Grads:
        """Return the coordinates of gradients by parameter name."""


def weight_variance(
    view: Oracles,
    law: str | Law,
    directions: int,
    cells: Callable[[str], Cells],
    combine: Combine = "mean",
    masks: Mapping[str, Tensor] | None = None,
    within: Subspace | None = None,
) -> Grads | None:
    """Total variance of a weight-space forward gradient, per parameter, in closed form.

    Slice c of a parameter is credited with its own score, whose gradient over all perturbed weights is h_c,
    of which p_c on this parameter: ``Σ_{i in c} |h_c|² + (q − 1)|p_c|² + (k − q − 1) h_ci²``, or as a law
    of matrices has it (:meth:`fgbench.core.noise.laws.Law.variance`). Scores kept apart along a mixed axis
    change the mean, not this formula. Weights that a mask leaves out enter no score and get no credit.

    A projection of gaussian directions has ``Σ_{i in c} A |h_c|² + B h_ci²``, with A and B of
    :func:`projection_spread` and d the number of weights that the score can depend on.

    Args:
        view: the objective on the batch.
        law: law of the directions.
        directions: how many are averaged.
        cells: which scores credit a parameter.
        combine: how they are combined.
        masks: parameter name to 1 where the directions run along it and 0 elsewhere.
        within: coordinates of a subspace that holds all gradients, where directions are drawn in these;
            they take the place of the weights.

    Returns:
        Parameter name to total variance; None where it would cost more than 64 reverse passes, or for a
        projection of directions that are not gaussian.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> found = weight_variance(view, "gaussian", directions=1, cells=view.cells)
        >>> found.keys() == view.params.keys()
        True
    """
    slices, params = Slices(view), view.params
    by_axes: dict[tuple[str, ...], list[str]] = {}
    for name in params:
        by_axes.setdefault(cells(name).shared, []).append(name)
    if sum(map(slices.count, by_axes)) > PULLS or not _known(law, directions, combine):
        return None
    project = _projects(law, combine)
    found = dict.fromkeys(params, _zero(view))
    for shared, members in by_axes.items():
        for index in product(*(range(slices.sizes[a]) for a in shared)):
            gradients = slices.gradients([*params.values()], shared, index)
            named = dict(zip(params, gradients, strict=True))
            if within is not None:
                named = within.coordinates(named)
            squares = {n: g.double() ** 2 for n, g in named.items()}
            squares |= {n: squares[n] * mask for n, mask in (masks or {}).items()}
            total = torch.stack([s.sum() for s in squares.values()]).sum()
            chosen = torch.zeros([slices.sizes[a] for a in shared]).to(total)
            chosen[index] = 1.0
            for name in members:
                square = squares[name]
                own = _spread(chosen, cells(name), square)
                if masks and name in masks:
                    own = own * masks[name]
                if within is not None:
                    own = own * within.live[name].to(own)
                if project:
                    d = _dimensions(view, cells, cells(name), slices)
                    spread, along = projection_spread(d.to(total), directions)
                    found[name] = found[name] + spread * own.sum() * total
                    found[name] = found[name] + along * (square * own).sum()
                else:
                    found[name] = found[name] + _law(law).variance(total, square, own) / directions
    return found


def example_gradients(view: Oracles) -> list[Grads] | None:
    """Return the gradient of every example's share of the objective, weight · loss/B.

    Args:
        view: the objective on the batch.

    Returns:
        Parameter name to gradient for every example; None where scores are kept apart along further axes,
        losses are coupled, or it would cost more than 64 reverse passes.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> parts, whole = example_gradients(view), view.reverse()
        >>> off = [(sum(p[n] for p in parts) - g).abs().max() for n, g in whole.items()]
        >>> bool(max(off) < 1e-6)
        True
    """
    coupled = view.chain.readout(view.objective.readout).coupled
    if view.kept != "b" or coupled or len(view.start) > PULLS:
        return None
    slices, params = Slices(view), view.params
    found = []
    for i in range(slices.sizes["b"]):
        gradients = slices.gradients([*params.values()], ["b"], [i])
        found.append({n: g.double() for n, g in zip(params, gradients, strict=True)})
    return found


def example_variance(view: Oracles, law: str | Law, directions: int) -> Grads | None:
    """Total variance of a weight-space forward gradient whose examples have directions of their own.

    The estimate is a sum over examples of independent ones, of each example's share of the gradient.

    Args:
        view: the objective on the batch.
        law: law of the directions.
        directions: how many every example has.

    Returns:
        Parameter name to total variance; None where :func:`example_gradients` has none.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view(examples=1)
        >>> one = example_variance(view, "gaussian", directions=1)  # of a single example
        >>> shared = weight_variance(view, "gaussian", 1, view.cells)
        >>> all(bool(torch.isclose(one[name], v)) for name, v in shared.items())
        True
    """
    parts = example_gradients(view)
    if parts is None:
        return None
    found = dict.fromkeys(view.params, _zero(view))
    for own in parts:
        squares = {name: g**2 for name, g in own.items()}
        total = torch.stack([s.sum() for s in squares.values()]).sum()
        for name, square in squares.items():
            variance = _law(law).variance(total, square, torch.ones_like(square))
            found[name] = found[name] + variance / directions
    return found


def slope_variance(
    squares: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    law: str | Law,
    directions: int,
) -> Grads:
    """Total variance of ⟨h, v⟩ v per parameter, v over all weights, from |h_p|² of each parameter.

    ``d_p (|h|² + (q − 1)|h_p|²) + (k − q − 1)|h_p|²`` for a parameter of d_p weights.

    Args:
        squares: parameter name to |h_p|².
        shapes: parameter name to shape.
        law: law of the directions.
        directions: how many are averaged.

    Returns:
        Parameter name to total variance.

    Example:
        >>> slope_variance({"w": torch.tensor(2.0)}, {"w": (3, 3)}, "rademacher", 1)  # (d - 1) |h|²
        {'w': tensor(16.)}
    """
    total = torch.stack([*squares.values()]).sum()
    found = {}
    for name, square in squares.items():
        d = prod(shapes[name])
        pair, fourth = _law(law).moments(d)
        variance = d * (total + (pair - 1) * square) + (fourth - pair - 1) * square
        found[name] = variance / directions
    return found


def activity_variance(
    view: Oracles,
    law: str | Law,
    directions: int,
    norm_grad: bool = True,
    combine: Combine = "mean",
    *,
    units: Mapping[str, Tensor] | None = None,
    alone: bool = False,
    added: Tensor | None = None,
) -> Grads | None:
    """Total variance of an activity-space forward gradient, per parameter, in closed form.

    Cell c of a site is credited with a score of its own, s_c u_c where units are on. With δ_c the gradient of
    that cell's losses there, T_c their squared gradient over all sites, and A_c the linear map from a
    parameter's gradient to credit (the layer's input and the norm's Jacobian, a row for each unit),

        Var = Σ_c [ Σ_{i on} |A_ci|² (T_c + (q − 1)|δ_c|² + (k − 3q) δ_ci²) + (2q − 1)|A_cᵀ δ_c|² ].

    Cells are uncorrelated, as no loss of one depends on the units of another; only on a sphere those of
    one site and example share a norm, which adds (q − 1)(|Σ_c A_cᵀ δ_c|² − Σ_c |A_cᵀ δ_c|²) per example.

    A projection of gaussian directions has ``Σ_c [ Σ_{i on} |A_ci|² A T_c + B |A_cᵀ δ_c|² ]``, with A and B
    of :func:`projection_spread` and d the number of units that are on and that the score can depend on. It
    is known where all sites keep the same scores apart.

    Args:
        view: the objective on the batch.
        law: law of the directions.
        directions: how many are averaged.
        norm_grad: whether credit goes back through what lies between a weight operation and its site.
        combine: how they are combined.
        units: E u_i² of the noise at each unit, by site, where it is not 1 at units that are on and 0 at
            others; of gaussian noise in a subspace that holds δ the diagonal of the projection onto it.
        alone: whether only one site has noise at a time, so that T_c is |δ_c|².
        added: a part of each example's score that does not depend on the noise, ``[b]``: its square is added
            to T_c.

    Returns:
        Parameter name to total variance; None where a parameter enters in a way that is not known, it
        would cost more than 64 reverse passes or touch more than 2^30 numbers, or examples are not
        independent: they share their noise, or a readout couples their losses.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> one, two = (activity_variance(view, "gaussian", n) for n in (1, 2))
        >>> bool(torch.allclose(one["body.0.l0.weight"], 2 * two["body.0.l0.weight"]))
        True
    """
    if view.objective.repeats > 1 or view.chain.readout(view.objective.readout).coupled:
        return None
    if not _known(law, directions, combine):
        return None
    segments = ghost_norms.segments(view, norm_grad)
    if segments is None:
        return None
    cells = {name: view.cells(name) for name in view.sites}
    slices, shares = Slices(view), {cell.shared for cell in cells.values()}
    free = [a for a in axes.names(view.kept) if all(a in shared for shared in shares)]
    if sum(slices.count({*shared} - {*free}) for shared in shares) > PULLS:
        return None
    on: Mapping[str, Tensor] = view.masks() if units is None else units
    totals = {shared: _totals(view, slices, free, shared) for shared in shares}
    project = _projects(law, combine)
    if project and (len(shares) > 1 or any(cell.apart != cell.shared for cell in cells.values())):
        return None
    spread = along = _zero(view)
    if project:
        counts = (_per_cell(on[name].double(), cell, slices) for name, cell in cells.items())
        spread, along = projection_spread(sum(counts, spread), directions)
    deltas = slices.gradients([slices.at[name] for name in cells])
    n = directions
    found = dict.fromkeys(view.params, _zero(view))
    for (name, cell), delta in zip(cells.items(), deltas, strict=True):
        square, credit = delta.double() ** 2, delta * on[name] if units is None else delta
        pair, fourth = _law(law).moments(delta[0].numel())
        total = _per_cell(square, cell, slices) if alone else totals[cell.shared]
        if added is not None:
            total = total + (added.double() ** 2).reshape(-1, *[1] * (total.dim() - 1))
        if project:  # of gaussian directions, whose pair is 1 and fourth 3
            total, n = spread * total, 1
            credit = delta * _spread(along.clamp_min(0).sqrt(), cell, square).to(delta)
        score = total + (pair - 1) * _per_cell(square, cell, slices)
        per_unit = (_spread(score, cell, square) + (fourth - 3 * pair) * square) * on[name]
        apart = _pulled_apart(segments[name], credit, cell, slices)
        whole = segments[name].squares(credit, [0]) if pair != 1 else {}
        for parameter, rows in segments[name].rows().items():
            variance = (rows * per_unit).sum() + (2 * pair - 1) * apart[parameter]
            if whole:
                variance = variance + (pair - 1) * (whole[parameter].sum() - apart[parameter])
            found[parameter] = found[parameter] + variance / n
    return found


def _known(law: str | Law, directions: int, combine: Combine) -> bool:
    """Return whether the variance of each coordinate is known.

    A projection of gaussian directions is uniform, and one of a single direction of signs is the estimate
    itself, because its length is fixed.
    """
    name = _law(law).name
    return combine == "mean" or name == "gaussian" or (name == "rademacher" and directions == 1)


def _projects(law: str | Law, combine: Combine) -> bool:
    """Return whether directions are projected; of a single direction of signs that is their mean."""
    return combine == "project" and _law(law).name == "gaussian"


def _dimensions(view: Oracles, cells: Callable[[str], Cells], at: Cells, slices: Slices) -> Tensor:
    """Return how many weights the score of one cell of a parameter can depend on."""
    count = 0
    for name, parameter in view.params.items():
        common = [a for a in at.apart if a in cells(name).apart]
        count += parameter.numel() // prod(slices.sizes[a] for a in common)
    return torch.tensor(count)


def _totals(view: Oracles, slices: Slices, free: Sequence[str], shared: Sequence[str]) -> Tensor:
    """Return the squared gradient, over all sites, of the losses of each cell: ``[*shared]``.

    Along axes that every site keeps apart, one pass serves all indices: each loss has units of its own.
    """
    rest = [a for a in shared if a not in free]
    total = _zero(view).new_zeros([slices.sizes[a] for a in shared])
    for index in product(*(range(slices.sizes[a]) for a in rest)):
        chosen = dict(zip(rest, index, strict=True))
        at = tuple(chosen.get(a, slice(None)) for a in shared)
        gradients = slices.gradients([slices.at[name] for name in view.sites], rest, index)
        for name, g in zip(view.sites, gradients, strict=True):
            place = view.chain.index[name][1].axes
            total[at] += _per_cell(g.double() ** 2, Cells(" ".join(free), place, ""), slices)
    return total


def _pulled_apart(segment: Segment, credit: Tensor, cell: Cells, slices: Slices) -> Grads:
    """Return Σ_c |A_cᵀ credit_c|² over the cells of a site, per parameter.

    Cells along a dimension that the segment does not mix come apart by themselves; along others one is
    pulled back after the other.
    """
    dims = axes.parse(cell.place)
    alone = [dims.index((a,)) for a in cell.shared if (a,) in dims]
    alone = [d for d in alone if d in segment.apart]
    rest = [a for a in cell.shared if a not in {dims[d][0] for d in alone}]
    found = {e.name: credit.new_zeros((), dtype=torch.float64) for e in segment.entries}
    for index in product(*(range(slices.sizes[a]) for a in rest)):
        chosen = torch.zeros([slices.sizes[a] for a in cell.shared]).to(credit)
        which = dict(zip(rest, index, strict=True))
        chosen[tuple(which.get(a, slice(None)) for a in cell.shared)] = 1.0
        part = credit * _spread(chosen, cell, credit)
        for name, squares in segment.squares(part, alone).items():
            found[name] = found[name] + squares.sum()
    return found


def _per_cell(square: Tensor, cell: Cells, slices: Slices) -> Tensor:
    """Sum over each cell of a place: ``[shared...]``."""
    sizes = {a: slices.sizes[a] for a in cell.shared}
    return axes.inner(square.unsqueeze(0), torch.ones_like(square), cell, sizes)[0]


def _spread(cells: Tensor, cell: Cells, like: Tensor) -> Tensor:
    """Return one number per cell at every unit of a place."""
    return axes.spread(cells.unsqueeze(0), torch.ones_like(like).unsqueeze(0), cell)[0]


def _zero(view: Oracles) -> Tensor:
    """Return a zero in float64 on the view's device."""
    return torch.zeros((), dtype=torch.float64, device=view.start.device)


def _law(law: str | Law) -> Law:
    """Return a law by name, or itself."""
    return law_of(law) if isinstance(law, str) else law
