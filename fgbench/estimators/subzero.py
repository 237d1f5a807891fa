"""Zeroth order within random subspaces of rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from fgbench.core import differences
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import Subspace
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "subzero")
@dataclass(frozen=True)
class SubspaceZerothOrder(Defaults):
    """SubZero: central differences along U Z Wᵀ, with orthonormal U and W drawn anew every ``refresh`` steps.

    For every matrix (m × n), U (m × r) and W (n × r) have orthonormal columns, from the QR decompositions
    of gaussian matrices, and stay for ``refresh`` steps; Z (r × r) is gaussian and fresh at every step. The
    direction is (√(mn)/r) U Z Wᵀ, whose mean squared norm mn is that of full gaussian noise; vectors get
    that. One slope of all parameters together is credited to each.

    Over U, W and Z the entries of a direction have identity covariance, so the estimate is unbiased as ε → 0.
    Given U and W its mean is (mn/r²) U Uᵀ G W Wᵀ, and the relative variance about that is r² + 1 for one
    matrix: the low variance that the method is known for. About the gradient itself it is
    mn (1 + 2/r²) − 1, that of full gaussian noise (mn + 1) to first order: a random subspace holds r²/(mn) of
    the energy of gradient and noise alike. Measuring draws U and W anew for every estimate.

    Also known as: SubZO, random subspace zeroth-order optimisation.

    Not to be confused with: ``lozo``, whose left factor is fresh and gaussian; GaLore and other projections
    of backprop's gradient. The released code reshapes low-rank adapters to nearly square matrices first.

    Args:
        directions: perturbations averaged per estimate, each with subspaces of its own.
        rank: r; of smaller matrices their smaller side.
        refresh: steps that the subspaces stay.
        scaled: whether directions have the factor √(mn)/r. Without it matrices get r²/(mn) of their gradient.
        step: ε in units of the weights; 0 takes exact slopes by forward mode.

    Cost: one clean and ``2 directions`` perturbed forward passes. r² random numbers per step and matrix, and
    two QR decompositions, which are made anew at every step from r (m + n) keyed numbers.

    References: Yu, Zhou, Wang, Li, Tian, Huang, Zeroth-Order Fine-Tuning of LLMs in Random Subspaces, ICCV
    2025, arXiv 2410.08989.

    Example:
        A 4 × 4 matrix and 4 biases; of full rank it is the forward gradient, 20 + 1:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> method = "subzero[step=0,rank=4]"
        >>> round(fgbench.run("measure", method=method, **case)["predicted_variance"], 6)
        21.0
    """

    directions: Annotated[int, Field(ge=1)] = 1
    rank: Annotated[int, Field(ge=1)] = 24
    refresh: Annotated[int, Field(ge=1)] = 100
    scaled: bool = True
    step: Annotated[float, Field(ge=0)] = 1e-3

    recipe = (
        {"set": {"lr": 3e-4}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 1e-3}},
    )

    @property
    def law(self) -> str:
        """Law of the directions."""
        return f"subspace[rank={self.rank},every={self.refresh}]"

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased over the subspaces as the step vanishes, if scaled; nothing goes back."""
        if not self.scaled:
            why = "scaled=false gives matrices r²/(mn) of their gradient"
            return Claims(bias="some", backward="none", why=why)
        if self.step == 0:
            return Claims(bias="none", backward="none", slopes_only=True)
        return Claims(bias="vanishing", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter."""
        v = noise.directions(view.shapes, self.directions, self.law)
        if not self.scaled:
            rule = Subspace(self.law, rank=self.rank)
            v = v.masked(
                {
                    name: torch.tensor(
                        1 / rule.scale(shape), dtype=noise.dtype, device=noise.device
                    )
                    for name, shape in view.shapes.items()
                }
            )
        return Estimate(grads=view.credit(differences.central(view, v, self.step), v))

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of exact slopes, over the subspaces."""
        if self.step > 0 or not self.scaled:
            return None
        return forward_gradient.weight_variance(view, self.law, self.directions, view.cells)
