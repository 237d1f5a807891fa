"""Finite differences coordinate by coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core import differences
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import Coordinates
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "cge")
@dataclass(frozen=True)
class CoordinateWise(Defaults):
    """Coordinate-wise gradient estimation: one difference of the loss per weight.

    The gradient along weight i is (L(w + ε eᵢ) − L(w))/ε = gᵢ + ε Hᵢᵢ/2 + ε² Tᵢᵢᵢ/6 + ..., with Hessian H
    and third derivatives T; the central difference (L(w + ε eᵢ) − L(w − ε eᵢ))/2ε has no odd powers of ε
    and is exact on a quadratic. There are no random directions, and so no variance: d + 1 passes give what
    d averaged random directions give with a relative variance of about (d + 1)/d. Rounding of the loss,
    6e-8 of it in single precision, is divided by ε.

    With ``keep`` below 1 an active set of so many weights of every tensor is drawn, and stays for ``every``
    steps; other weights get 0. The mean over sets is ``keep`` times the gradient: nothing is rescaled.

    Also known as: CGE, finite differences, Kiefer-Wolfowitz stochastic approximation; DeepZero with an
    active set drawn at random, the same share in every layer.

    Not to be confused with: weight perturbation (``wp``, also called RGE), which moves all weights at once
    along random directions. DeepZero's shares per layer by ZO-GraSP scores, and its reuse of features
    before the perturbed layer, are not part of this.

    Args:
        step: ε in units of the weights.
        sided: ``forward`` or ``central``.
        keep: share of the weights of every tensor in the active set, one at least.
        every: steps that an active set stays.

    Cost: one clean forward pass and one per active weight, two for central differences. For small networks.

    References: Kiefer, Wolfowitz, Stochastic Estimation of the Maximum of a Regression Function, 1952; Chen
    et al., DeepZero: Scaling up Zeroth-Order Optimization for Deep Model Training, ICLR 2024, arXiv
    2310.02025.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="cge[sided=central]", **case)
        >>> record["relative_variance"]["value"], record["cost"]["forwards"]  # 20 weights
        (0.0, 41.0)
    """

    step: Annotated[float, Field(gt=0)] = 1e-3
    sided: Literal["forward", "central"] = "forward"
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: Annotated[int, Field(ge=1)] = 1

    def claims(self, scheme: Scheme) -> Claims:
        """Deterministic with a bias vanishing with the step, unless weights are left out."""
        if self.keep < 1:
            why = f"keep={self.keep:g}: weights outside the active set get none, and nothing is rescaled"
            return Claims(bias="some", backward="none", why=why)
        return Claims(bias="vanishing", backward="none", deterministic=True)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return one difference per active weight."""
        return Estimate(grads={name: self._along(view, name, noise) for name in view.shapes})

    def _along(self, view: View, name: str, noise: Noise) -> Tensor:
        """Return the differences along the weights of one parameter."""
        w = view.params[name].detach()
        active = torch.arange(w.numel())
        if self.keep < 1:
            lasting = noise.child("active").held(self.every, view.clock)
            count = max(1, round(self.keep * w.numel()))
            active = lasting.permutation(name, w.numel())[:count]
        u = Coordinates(name, active, w)
        if self.sided == "central":
            slopes = differences.central(view, u, self.step)
        else:
            slopes = view.slopes(u, step=self.step)
        g = w.new_zeros(w.numel())
        g[active.to(w.device)] = slopes.flatten(1).sum(1)
        return g.reshape(w.shape)
