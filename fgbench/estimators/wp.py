"""Weight perturbation by finite differences."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgbench.core import differences, projection
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.core.noise.masks import mask
from fgbench.core.projection import Combine
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "wp")
@dataclass(frozen=True)
class WeightPerturbation(Defaults):
    """Weight perturbation: the change of the loss under noise on the weights, times the noise.

    (L(w + εv) − L(w))/ε tends to the slope along v as ε → 0, so the estimate tends to the weight forward
    gradient (``fg_w``) of the same noise. Under a symmetric law the forward and the central difference
    have the same mean, with a bias of O(ε²) for a smooth net. The forward difference adds the curvature
    vᵀHv ε/2 as noise, the central one does not.

    Two forms lower the bias to O(ε⁴). ``richardson``, (4 D(ε/2) − D(ε))/3 with D the central difference,
    acts on the slope of one direction and leaves its variance as it is, for twice the passes. ``kernel``
    takes one central difference of random length r, uniform on [−1, 1], times K(r) with E[r K] = 1 and E[r³
    K] = 0. Its second moment is E[(r K)²] times that of the slope: 1.8, 6.25 and 13.25 for the orders 1, 3
    and 5, so its relative variance for d weights and gaussian noise is 6.25 (d + 2) − 1 in place of d + 1.

    With ``baseline=mean`` the mean loss of the other directions takes the place of the clean loss (leave one
    out). On a linear loss the estimate is the sample covariance of losses and noise: a relative variance of
    (d + 1)/(n − 1) for gaussian noise, which is what n − 1 directions have with a clean baseline. In return
    the part of the curvature that all directions share, ε tr(H)/2, leaves the noise.

    A mask leaves weights out: their gradient is 0, and the noise is that of the k weights that are kept,
    k + 1 in place of d + 1. With E the share of |g|² that they hold the efficiency is E/(k + 2), higher than
    without mask only where E > k/d.

    Also known as: SPSA (``law=rademacher,sided=central``; SPSA divides by the noise, and 1/v = v there);
    MeZO (``sided=central``, in fgbench without the in-place replay of seeds); evolution strategies with
    antithetic sampling (``sided=central`` with ``directions`` members and no rank shaping); zeroth-order
    or random gradient estimation; KerZOO (``sided=kernel``); RLOO (``baseline=mean``); Sparse-MeZO
    (``sided=central,mask=small[keep=0.25]``).

    Not to be confused with: coordinate-wise finite differences (``cge``), which move one weight at a time;
    one-point estimates, which do not subtract the clean loss; the forward gradient ``fg_w``, whose slope
    is exact.

    Args:
        directions: perturbations averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere``, ``uniform``, ``lowrank[rank=1,every=1]`` or
            ``subspace[rank=1,every=1]``.
        step: ε, the length of the perturbation in units of the weights.
        sided: ``forward``: difference from the clean loss; ``central``: (L(w + εv) − L(w − εv))/2ε;
            ``richardson``; ``kernel``.
        order: of the kernel, 1, 3 or 5: the first power of ε that is left in the bias is one higher.
        baseline: ``clean``: the clean loss; ``mean``: the mean loss of the other directions, for
            ``sided=forward``.
        mask: ``small[keep=0.25]`` or ``large[keep=0.25]``: the weights of smallest or largest size of every
            matrix, a quarter here; ``random[keep=0.25,every=1]``: any, drawn anew every so many steps. Biases
            and gains are always kept.
        combine: ``mean`` of the directions; ``project``: the projection onto their span, scaled to keep the
            mean, with the relative variance d/n − 1 for n directions in d dimensions.

    Cost: one clean and ``directions`` perturbed forward passes, twice as many for ``central`` and
    ``kernel``, four times for ``richardson``.

    References: Jabri, Flower, Weight perturbation, IEEE Transactions on Neural Networks 3, 1992;
    Cauwenberghs, A fast stochastic error-descent algorithm, NIPS 1992; Spall, Multivariate stochastic
    approximation using a simultaneous perturbation gradient approximation, IEEE TAC 37, 1992; Züge,
    Klos, Memmesheimer, Weight versus node perturbation learning in temporally extended tasks, Physical
    Review X 13, 2023; Mi et al., KerZOO, arXiv 2505.18886, 2025; Liu et al., Sparse MeZO, NeurIPS 2025;
    Seung, Lee, Ko, Low-Rank Curvature for Zeroth-Order Optimization, AAAI 2026 (the mean baseline).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="wp[sided=central]", **case)
        >>> record["claimed"]["bias"], record["cost"]["forward_equivalents"]
        ('vanishing', 5.142857143)
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3
    sided: Literal["forward", "central", "richardson", "kernel"] = "forward"
    order: int = 3
    baseline: Literal["clean", "mean"] = "clean"
    mask: str = ""
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown law, mask or order, and a baseline where no clean loss is subtracted."""
        law(self.law)
        mask(self.mask)
        if self.order not in differences.KERNELS:
            raise UsageError(f"order of a kernel is 1, 3 or 5, got {self.order}")
        if self.baseline == "mean" and self.sided != "forward":
            raise UsageError(f"baseline=mean is for sided=forward, got sided={self.sided}")
        projection.check(self.combine, self.law)
        plain = not self.mask and self.sided != "kernel" and self.baseline == "clean"
        if self.combine == "project" and not plain:
            raise UsageError(
                "combine=project takes slopes along all weights: expected no mask or kernel, baseline=clean"
            )

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step unless weights are masked; values only, nothing goes back."""
        chosen = mask(self.mask)
        if chosen is not None and chosen.keep < 1:
            why = f"mask={self.mask} gives no gradient to the other weights"
            return Claims(bias="some", backward="none", why=why)
        return Claims(bias="vanishing", backward="none")

    def supports(self, scheme: Scheme) -> str:
        """Need two directions for a mean over the others."""
        alone = self.baseline == "mean" and self.directions < 2
        return "baseline=mean needs two directions at least: type directions=2" if alone else ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return difference quotient times direction for every parameter."""
        v = noise.directions(view.shapes, self.directions, self.law)
        if chosen := mask(self.mask):
            v = v.masked(chosen.of(view.params, noise))
        slopes = self._slopes(view, v, noise)
        return Estimate(grads=view.credit(slopes, v, combine=self.combine))

    def _slopes(self, view: View, v: Directions, noise: Noise) -> Tensor:
        """Return the difference quotients along the directions."""
        if self.sided == "kernel":
            r = noise.child("lengths").directions({"length": ()}, v.n, "uniform")
            lengths = r.rows("length", 0, v.n) / sqrt(3.0)
            return differences.weighted(view, v, self.step, lengths, self.order)
        if self.sided == "richardson":
            return differences.extrapolated(view, v, self.step)
        if self.sided == "central":
            return differences.central(view, v, self.step)
        slopes = view.slopes(v, step=self.step)
        return slopes if self.baseline == "clean" else differences.leave_one_out(slopes)
