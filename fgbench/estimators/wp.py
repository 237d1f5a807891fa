"""Weight perturbation by finite differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgbench.core import projection
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.core.projection import Combine
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
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

    Also known as: SPSA (``law=rademacher,sided=central``; SPSA divides by the noise, and 1/v = v there);
    MeZO (``sided=central``, in fgbench without the in-place replay of seeds); evolution strategies with
    antithetic sampling (``sided=central`` with ``directions`` members and no rank shaping); zeroth-order
    or random gradient estimation.

    Not to be confused with: coordinate-wise finite differences, which move one weight at a time;
    one-point estimates, which do not subtract the clean loss; the forward gradient ``fg_w``, whose slope
    is exact.

    Args:
        directions: perturbations averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε, the length of the perturbation in units of the weights.
        sided: ``forward``: difference from the clean loss; ``central``: (L(w + εv) − L(w − εv))/2ε.
        combine: ``mean`` of the directions; ``project``: the projection onto their span, scaled to keep the
            mean, with the relative variance d/n − 1 for n directions in d dimensions.

    Cost: one clean and ``directions`` perturbed forward passes, twice as many for central differences.

    References: Jabri, Flower, Weight perturbation, IEEE Transactions on Neural Networks 3, 1992;
    Cauwenberghs, A fast stochastic error-descent algorithm, NIPS 1992; Spall, Multivariate stochastic
    approximation using a simultaneous perturbation gradient approximation, IEEE TAC 37, 1992; Züge,
    Klos, Memmesheimer, Weight versus node perturbation learning in temporally extended tasks, Physical
    Review X 13, 2023.

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
    sided: Literal["forward", "central"] = "forward"
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown law, and a projection of a law that does not fill all places alike."""
        law(self.law)
        projection.check(self.combine, self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step; values only, nothing goes back."""
        return Claims(bias="vanishing", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return difference quotient times direction for every parameter."""
        v = noise.directions(view.shapes, self.directions, self.law)
        slopes = view.slopes(v, step=self.step)
        if self.sided == "central":
            slopes = (slopes + view.slopes(v, step=-self.step)) / 2
        return Estimate(grads=view.credit(slopes, v, combine=self.combine))
