"""Zeroth order with perturbations of low rank whose right factor stays for several steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgbench.core import differences
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "lozo")
@dataclass(frozen=True)
class LowRankZerothOrder(Defaults):
    """LOZO: central differences along U Vᵀ/√r, with V drawn anew every ``lazy`` steps only.

    For every matrix W (m × n), U (m × r) is gaussian and fresh at every step, V (n × r) is gaussian and
    stays for ``lazy`` steps; vectors get full gaussian noise. One slope s = (L(W + ε U Vᵀ/√r) − L(W − ε U
    Vᵀ/√r))/2ε of all parameters together is credited to each: s U Vᵀ/√r.

    Over U and V the entries of U Vᵀ/√r have identity covariance, so the estimate is unbiased as ε → 0. For
    given V its mean is G V Vᵀ/r: all the estimates of one period err alike, and their mean tends to this
    projection and not to the gradient G. Measuring draws V anew for every estimate and averages over it.

    With one matrix E|ĝ|² = (mn + 2 + 2 (m + n + 1)/r)|G|², because four factors that meet in products of rows
    and columns belong to one of the r terms. The relative variance is mn + 1 + 2 (m + n + 1)/r, above the
    mn + 1 of full gaussian noise for every rank. Low rank saves memory, and not variance.

    Also known as: LOZO, low-rank zeroth-order gradient estimator (LGE). LOZO-M adds momentum on U for
    given V; momentum here is the optimiser's.

    Not to be confused with: ``subzero``, whose perturbations also lie in a subspace of rows; ``eggroll``,
    which draws both factors anew and divides by the spread of the losses; low-rank adapters (LoRA), which
    change the network. The released code perturbs along U Vᵀ without 1/√r and divides by r nowhere, so that
    its rates are r times those here, and it updates along another U than it probed whenever V changes.

    Args:
        directions: perturbations averaged per estimate, each with factors of its own.
        rank: r.
        lazy: steps that V stays.
        step: ε in units of the weights; 0 takes exact slopes by forward mode.

    Cost: one clean and ``2 directions`` perturbed forward passes. r (m + n) random numbers per matrix.

    References: Chen, Zhang, Cao, Yuan, Wen, Enhancing Zeroth-order Fine-tuning for Language Models with
    Low-rank Structures, ICLR 2025, arXiv 2410.07698.

    Example:
        A 4 × 4 matrix and 4 biases: 20 + 1 + 2 (4 + 4 + 1)/r times the share of the matrix in |G|²:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> predicted = [
        ...     fgbench.run("measure", method=f"lozo[step=0,rank={r}]", **case)["predicted_variance"]
        ...     for r in (1, 2, 4)
        ... ]
        >>> [round((predicted[0] - 21) / (p - 21), 6) for p in predicted]
        [1.0, 2.0, 4.0]
    """

    directions: Annotated[int, Field(ge=1)] = 1
    rank: Annotated[int, Field(ge=1)] = 2
    lazy: Annotated[int, Field(ge=1)] = 50
    step: Annotated[float, Field(ge=0)] = 1e-3

    recipe = (
        {"set": {"lr": 3e-4}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 1e-3}},
    )

    @property
    def law(self) -> str:
        """Law of the directions."""
        return f"lowrank[rank={self.rank},every={self.lazy}]"

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased over both factors as the step vanishes; nothing goes back."""
        if self.step == 0:
            return Claims(bias="none", backward="none", slopes_only=True)
        return Claims(bias="vanishing", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter."""
        v = noise.directions(view.shapes, self.directions, self.law)
        return Estimate(grads=view.credit(differences.central(view, v, self.step), v))

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of exact slopes, over both factors."""
        if self.step > 0:
            return None
        return forward_gradient.weight_variance(view, self.law, self.directions, view.cells)
