"""Forward gradient by weight perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core import axes, projection
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import MatrixLaw, law
from fgbench.core.noise.masks import mask
from fgbench.core.projection import Combine
from fgbench.core.theory import forward_gradient
from fgbench.core.theory.slice_gradients import Slices
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fgbench.core.axes import Cells
    from fgbench.core.estimator import Bias, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.oracles import Oracles
    from fgbench.core.scheme import Scheme


@register("estimators", "fg_w")
@dataclass(frozen=True)
class WeightForwardGradient(Defaults):
    """Forward gradient with noise on the weights (FG-W; LG-FG-W under ``local-pg``).

    For a direction v with E[v vᵀ] = I the estimate ⟨∇L, v⟩ v has mean ∇L. With d weights its relative
    variance is d + 1 for gaussian and d − 1 for rademacher and sphere directions. Where scores stay
    separate along an axis of the weights, each slice of the weights uses its own score. Directions of low
    rank, A Bᵀ/√r for m × n matrices, have mn + 1 + 2 (m + n + 1)/r for a single matrix, above full gaussian
    ones and never below; those within random subspaces of r dimensions each have mn (1 + 2/r²) − 1.

    A mask leaves weights out: their gradient is 0, and the noise is that of the k weights that are kept,
    k + 1 in place of d + 1. With E the share of |g|² that they hold the efficiency is E/(k + 2), higher than
    without mask only where E > k/d.

    Also known as: forward gradient, weight-perturbed forward gradient; with ``combine=project`` multi-tangent
    forward gradient, orthogonal projection (FROG).

    Not to be confused with: weight perturbation, SPSA and MeZO (``wp``), which take finite differences of
    the loss instead of its exact derivative; the Forward-Forward algorithm, which has no end-to-end loss
    to differentiate.

    Args:
        directions: directions averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere``, ``uniform``, ``lowrank[rank=1,every=1]`` or
            ``subspace[rank=1,every=1]``, whose right factor or subspaces live for ``every`` steps.
        credit: ``summed``: scores are summed over every axis mixed between a weight and the loss, which
            keeps the estimate unbiased; ``released``: only over the axes that its own module mixes after
            the site, as the paper's released code does, which is biased where the norm before the site
            or a later module mixes kept axes.
        average: axes such as ``p`` whose losses are averaged instead of summed, as the released code does
            without its patch-wise losses: a factor of 1 over their size.
        share: ``b``: one direction for the whole batch; ``none``: every example has its own directions,
            whose noise is averaged over the batch.
        mask: ``small[keep=0.25]`` or ``large[keep=0.25]``: the weights of smallest or largest size of every
            matrix, a quarter here; ``random[keep=0.25,every=1]``: any, drawn anew every so many steps. Biases
            and gains are always kept.
        combine: ``mean`` of the directions; ``project``: the gradient's projection onto their span, times d
            over their number n, which keeps the mean; the relative variance falls from (d + 1)/n to d/n −
            1, and the estimate is exact from n = d on.

    Cost: ``directions`` weight slopes, times the batch where they are not shared.

    References: Baydin, Pearlmutter, Syme, Wood, Torr, Gradients without Backpropagation, 2022;
    Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023; Fluegel, Coquelin,
    Weiel, Debus, Streit, Goetz, Beyond Backpropagation: Optimization with Multi-Tangent Forward Gradients,
    2024 (the projection); Liu et al., Sparse MeZO, NeurIPS 2025 (masks).

    Example:
        The body below has d = 4 · 4 + 4 = 20 weights, so the relative variance is d + 1:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> round(fgbench.run("measure", method="fg_w", **case)["predicted_variance"], 6)
        21.0
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    credit: Literal["summed", "released"] = "summed"
    average: str = ""
    share: Literal["b", "none"] = "b"
    mask: str = ""
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown law, mask or axis, and what cannot be projected."""
        law(self.law)
        mask(self.mask)
        axes.names(self.average)
        projection.check(self.combine, self.law)
        if self.combine == "project" and (self.share == "none" or self.mask):
            raise UsageError(
                "combine=project takes slopes along all weights and for the batch: expected share=b, no mask"
            )

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased unless an option bites here; nothing goes back."""
        chain, found = scheme.chain, [o for o in scheme.objectives if o.updates]
        apart = self.credit == "released" and any(
            o.mixes_kept(chain, chain.body_parameters(o.updates)) for o in found
        )
        smaller = any(o.count(chain, self.average) > 1 for o in found)
        causes = {
            "credit=released leaves out scores that a norm or a later module mixes in": apart,
            f"average={self.average} divides the gradient by the number of losses": smaller,
            f"mask={self.mask} gives no gradient to the other weights": self._partial(),
        }
        why = "; ".join(cause for cause, bites in causes.items() if bites)
        bias: Bias = "some" if why else "none"
        plain = not self.mask and self.combine == "mean"
        return Claims(bias=bias, backward="none", slopes_only=plain, why=why)

    def __call__(self, view: Oracles, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter."""
        b = 1 if self.share == "b" else next(iter(view.sites.values()))[0]
        v = noise.directions(view.shapes, self.directions * b, self.law)
        if chosen := mask(self.mask):
            v = v.masked(chosen.of(view.params, noise))
        slopes = view.slopes(v) / view.count(self.average)
        if self.share == "none":  # direction k belongs to example k mod b: no other score counts
            own = torch.eye(b, dtype=slopes.dtype, device=slopes.device).repeat(self.directions, 1)
            slopes = slopes * own.reshape(*own.shape, *[1] * (slopes.dim() - 2)) * b
        return Estimate(grads=view.credit(slopes, v, self._cells(view), self.combine))

    def expected(self, view: Oracles, state: State) -> dict[str, Tensor] | None:
        """Return the gradient of the weights that a mask keeps, as often as it keeps them."""
        chosen = mask(self.mask)
        if chosen is None or not self._partial() or self.credit == "released":
            return None
        params = view.params
        g = dict(zip(params, Slices(view).gradients([*params.values()]), strict=True))
        factor = view.count(self.average)
        return {name: g[name] * share / factor for name, share in chosen.shares(params).items()}

    def predicted_variance(self, view: Oracles, state: State) -> dict[str, Tensor] | None:
        """Return the closed form: of each slice of the weights, d |h|² + (κ − 2) |own h|²."""
        chosen, factor = mask(self.mask), view.count(self.average) ** 2
        if self.share == "none":
            if chosen is not None or isinstance(law(self.law), MatrixLaw):
                return None
            found = forward_gradient.example_variance(view, self.law, self.directions)
        else:
            if chosen is not None and chosen.kind == "random":
                return None
            masks = None if chosen is None else chosen.of(view.params, None)
            cells = self._cells(view)
            found = forward_gradient.weight_variance(
                view, self.law, self.directions, cells, self.combine, masks
            )
        return found and {name: v / factor for name, v in found.items()}

    def _partial(self) -> bool:
        """Return whether a mask leaves weights out."""
        chosen = mask(self.mask)
        return chosen is not None and chosen.keep < 1

    def _cells(self, view: Oracles) -> Callable[[str], Cells]:
        """Return which kept scores each weight is credited with, under the chosen rule of credit."""
        return partial(view.cells, summed=self.credit == "summed")
