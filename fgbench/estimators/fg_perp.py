"""Forward gradient along guesses in the range of the next layer's transposed weights, without bias."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import law
from fgbench.core.theory import forward_gradient
from fgbench.core.theory.site_gradients import site_gradients, unit_directions
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

UNITS = 1024  # of one example at a site, of which every one takes a tangent


@register("estimators", "fg_perp")
@dataclass(frozen=True)
class OrthogonalGuess(Defaults):
    """Forward gradient along noise that is projected onto the range of the next layer's transposed weights.

    The cotangent of a layer is δ_i = M δ_{i+1} with M = D_i W_{i+1}ᵀ, D_i the derivative of the
    nonlinearity: it lies in the range of M, another one for each example. With P the orthogonal projection
    onto it the guess is y_i = P u for noise u at the site, and the credit is s y_i, with one slope s per
    example for all layers. Its mean is P δ_i = δ_i: no bias. With k_i dimensions in the range of layer i
    the relative variance of one example's credit is Σ k_i + 1 for gaussian noise, where noise on all units
    (``fg_a``) has the number of units that are on, plus 1. The gain is at layers that are wider than the
    next one and at the last, whose k is at most the number of classes; where layers have equal widths there
    is hardly any.

    Nothing here knows a layer: M is the derivative from one site to the next ones, norms and residuals
    included. Where losses stay separate along more than the examples, the last layer's range is that of the
    readout's input.

    With a ``rank`` only the leading directions of each range are kept, and what δ_i has outside them is lost.

    Also known as: W-perp, orthogonalised upstream guess.

    Not to be confused with: the transpose guess (``fg_wt``), y = M ε, whose mean has the squared singular
    values of M as a bias; the projection onto several directions (``combine=project``).

    Args:
        directions: guesses averaged per estimate.
        rank: leading directions of each range that are kept, 0 for all.
        law: law of the noise: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: a tangent through one layer for every unit, a singular value decomposition for every example and
    site, which is not priced, ``directions`` activity slopes and one pull.

    References: Wang, Markou, Campbell, Towards Scalable Backpropagation-Free Gradient Estimation, 2025.

    Example:
        Predictions of 2 classes leave two dimensions at every example:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x8", "data": "synthetic[size=2,classes=2]", "draws": 2}
        >>> case |= {"batches": 1, "batch": 1}
        >>> round(fgbench.run("measure", method="fg_perp", **case)["predicted_variance"], 6)
        3.0
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.01}}
    ]

    directions: Annotated[int, Field(ge=1)] = 1
    rank: Annotated[int, Field(ge=0)] = 0
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased on the whole range; one segment back for the weights."""
        if not self.rank:
            return Claims(bias="none", backward="segment")
        why = f"rank={self.rank} leaves out directions that the gradient of a layer may have"
        return Claims(bias="some", backward="segment", why=why)

    def supports(self, scheme: Scheme) -> str:
        """Need tangents that can be read inside the network, and sites that are not too large."""
        if scheme.chain.by_forward_ad:
            return "tangents inside this network cannot be read"
        for name, shape in scheme.chain.shapes().items():
            if prod(shape) > UNITS:
                return f"{name} has {prod(shape)} units, and each takes a tangent: at most {UNITS}"
        return ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times projected noise at every site."""
        u = noise.directions(view.sites, self.directions, self.law)
        projections = self.projections(view)
        with view.counted():
            y = FixedDirections({name: _projected(u, name, p) for name, p in projections.items()})
        return Estimate(credit=view.credit(view.slopes(y), y))

    def projections(self, view: View) -> Grads:
        """Return the projection onto the range of every site: ``[b, units, units]`` by name."""
        found = {}
        for name in view.sites:
            rows = self._basis(view, name)
            with view.counted():
                found[name] = (rows.mT @ rows).to(next(iter(view.params.values())).dtype)
        return found

    def _basis(self, view: View, name: str) -> Tensor:
        """Return an orthonormal basis of the range at a site, ``[b, rank, units]``, filled up with zeros."""
        last = "readout" if view.kept == "b" else "output"
        ahead = view.site_tangents(unit_directions(view, name), one_layer=True)
        moved = [t.flatten(2) for (kind, _), t in ahead.items() if kind in ("site", last)]
        units, b = prod(view.sites[name][1:]), len(view.start)
        some = next(iter(view.params.values()))
        moved = moved or [some.new_zeros(units, b, 1)]
        j = (
            torch.cat(moved, 2).permute(1, 2, 0).double()
        )  # [b, next, units]: rows are the columns of M
        _, s, rows = torch.linalg.svd(j, full_matrices=False)
        least = torch.finfo(some.dtype).eps * max(j.shape[1:])  # rounding of a zero
        kept = s > least * s.amax(1, keepdim=True)
        found: Tensor = rows * kept.unsqueeze(2)
        return found[:, : self.rank] if self.rank else found

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the mean of the truncated form, P δ pulled back, where only examples stay separate."""
        if not self.rank or view.kept != "b" or view.objective.coupled(view.chain):
            return None
        delta, found = site_gradients(view), {}
        for name, p in self.projections(view).items():
            found[name] = (p @ delta[name].flatten(1).unsqueeze(2)).reshape(delta[name].shape)
        return view.pull(found)

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form for gaussian noise, where units share no weights and no norm is between."""
        plain = view.chain.raw_sites()
        alone = all(n in plain and not view.chain.index[n][1].shared for n in view.sites)
        if self.rank or self.law != "gaussian" or not alone:
            return None
        units = {
            name: p.diagonal(dim1=1, dim2=2).reshape(view.sites[name])
            for name, p in self.projections(view).items()
        }
        return forward_gradient.activity_variance(view, self.law, self.directions, units=units)


def _projected(u: Directions, name: str, p: Tensor) -> Tensor:
    """Return all directions of a site, projected: ``[n, b, ...]``."""
    rows = u.rows(name, 0, u.n)
    return (p @ rows.flatten(2).unsqueeze(3)).reshape(rows.shape)
