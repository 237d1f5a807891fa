"""How several directions are combined: their mean, or the projection of the gradient onto their span.

With directions V = (v_1 ... v_k) in d dimensions and slopes s = Vᵀ g, the mean is V s/k. The projection
P g = V (VᵀV)⁻¹ s is the vector of the span that is nearest to g, and needs no more than the slopes. For
directions whose coordinates are independent and alike, E P = (k/d) I, so (d/k) P g has the mean g and the
relative variance d/k − 1 in place of (d + 1)/k; it is g itself once k = d. Of dependent directions the span
has r < k dimensions, and d/r takes the place of d/k. A projection does not change where directions are
replaced by others with the same span.

Scores that stay separate are projected each by itself, over all coordinates that the score can depend on:
those of every place at once. Projecting place by place would leave the noise of the other places in.

References: Fluegel, Coquelin, Weiel, Debus, Streit, Goetz, Beyond Backpropagation: Optimization with
Multi-Tangent Forward Gradients, 2024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from fgbench.core import axes
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.axes import Cells
    from fgbench.core.gradients import Grads

Combine = Literal["mean", "project"]
ALIKE = ("gaussian", "rademacher", "uniform")
"""Laws whose coordinates are independent and alike in all places."""
DEPENDENT = 10.0
"""Units of rounding, per direction, below which an eigenvalue of the Gram matrix counts as 0."""


def check(combine: str, law: str) -> None:
    """Refuse a projection along directions of a law that does not fill all dimensions alike.

    Args:
        combine: ``mean`` or ``project``.
        law: name of the law.

    Raises:
        UsageError: for a projection under another law: a sphere is normalised place by place.

    Example:
        >>> check("project", "sphere")
        Traceback (most recent call last):
            ...
        fgbench.errors.UsageError: combine=project needs a law of independent coordinates: gaussian, \
rademacher or uniform; got sphere
    """
    if combine == "project" and law not in ALIKE:
        raise UsageError(
            f"combine=project needs a law of independent coordinates: {', '.join(ALIKE[:-1])} or "
            f"{ALIKE[-1]}; got {law}"
        )


def coefficients(
    slopes: Tensor,
    rows: Callable[[str], Tensor],
    cells: Mapping[str, Cells],
    on: Mapping[str, Tensor],
) -> Grads:
    """Return the numbers c for which Σ_j c_j v_j is the projection, scaled to be unbiased.

    Per cell with scores s, ``c = (d/r) G⁺ s``: G is the Gram matrix of the directions over all coordinates
    that the cell's score can depend on, d their number, and r its rank.

    Args:
        slopes: ``[n, kept...]``.
        rows: from the name of a place to all directions there, ``[n, *place]``.
        cells: by place, which scores credit it.
        on: by place, whether each unit is on; units that are off are no dimensions. All are on where a place
            is left out.

    Returns:
        Place name to ``[n, shared...]``, for :func:`fgbench.core.axes.combined`.

    Cost: n² inner products, and an eigendecomposition of ``[n, n]`` per cell.

    Example:
        >>> g, v = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # a basis, not orthogonal
        >>> at = axes.Cells("b", "", "")
        >>> c = coefficients((v @ g).unsqueeze(1), lambda name: v, {"w": at}, {})["w"]
        >>> torch.allclose(axes.combined(c, v, at), g)
        True
    """
    scores = {name: axes.gather(slopes, at) for name, at in cells.items()}
    sizes = {
        a: size
        for name, at in cells.items()
        for a, size in zip(at.shared, scores[name].shape[1:], strict=True)
    }
    apart = {at.apart for at in cells.values()}
    gram: dict[tuple[str, ...], Tensor] = {}
    dims: dict[tuple[str, ...], Tensor] = {}
    for name, at in cells.items():
        v = rows(name).double()
        units = torch.ones_like(v[:1]) if name not in on else on[name].to(v).unsqueeze(0)
        v = v * units
        for key in apart:
            block, count = _gram(v, at, key, sizes), _count(units, at, key, sizes)
            gram[key] = gram[key] + block if key in gram else block
            dims[key] = dims[key] + count if key in dims else count
    eps = torch.finfo(slopes.dtype).eps
    solved = {key: _inverse(gram[key], dims[key], eps) for key in apart}
    found = {}
    for name, at in cells.items():
        inverse = solved[at.apart]
        shape = [inverse.shape[at.apart.index(a)] if a in at.apart else 1 for a in at.shared]
        own = scores[name].double().movedim(0, -1).unsqueeze(-1)
        c = inverse.reshape(*shape, *inverse.shape[-2:]) @ own
        found[name] = c.squeeze(-1).movedim(-1, 0).to(slopes.dtype)
    return found


def _common(at: Cells, key: tuple[str, ...], sizes: dict[str, int]) -> tuple[list[str], list[int]]:
    """Return the axes of a key that a place has apart too, and the sizes that line up with the key."""
    common = [a for a in key if a in at.apart]
    return common, [sizes[a] if a in common else 1 for a in key]


def _gram(v: Tensor, at: Cells, key: tuple[str, ...], sizes: dict[str, int]) -> Tensor:
    """Return the inner products of a place's directions within the cells of a key: ``[key..., n, n]``."""
    common, shape = _common(at, key, sizes)
    x = axes.by_cell(v, at, common, sizes).movedim(0, -2)
    found: Tensor = (x @ x.mT).reshape(*shape, len(v), len(v))
    return found


def _count(units: Tensor, at: Cells, key: tuple[str, ...], sizes: dict[str, int]) -> Tensor:
    """Return how many units of a place are on within the cells of a key: ``[key...]``."""
    common, shape = _common(at, key, sizes)
    found: Tensor = axes.by_cell(units, at, common, sizes)[0].sum(-1).reshape(shape)
    return found


def _inverse(gram: Tensor, dims: Tensor, eps: float) -> Tensor:
    """Return (d/r) G⁺ of Gram matrices ``[..., n, n]``.

    Directions are scaled to length 1 first, so that their lengths decide nothing.
    """
    square = gram.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(square > 0, square, torch.ones_like(square)).rsqrt() * (square > 0)
    values, vectors = torch.linalg.eigh(gram * scale.unsqueeze(-1) * scale.unsqueeze(-2))
    live = values > DEPENDENT * gram.shape[-1] * eps
    inverse = torch.where(live, values, torch.ones_like(values)).reciprocal() * live
    unit = (vectors * inverse.unsqueeze(-2)) @ vectors.mT
    factor = dims / live.sum(-1).clamp_min(1)
    found: Tensor = factor[..., None, None] * unit * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    return found
