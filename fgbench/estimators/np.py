"""Node perturbation by finite differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgbench.core import differences, projection
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.core.projection import Combine
from fgbench.core.theory import forward_gradient
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "np")
@dataclass(frozen=True)
class NodePerturbation(Defaults):
    """Node perturbation: the change of the loss under noise on the activities, times the noise.

    (L(z + εu) − L(z))/ε tends to the slope along u as ε → 0, so the estimate tends to the activity
    forward gradient (``fg_a``) of the same noise. Units that are off in the clean pass get no noise. The
    bias is O(ε²) for a smooth net and gaussian noise. As ε → 0 the relative variance of one example's credit
    is N + 1 for gaussian noise on N units that are on.

    With ``baseline=mean`` the mean loss of the other noisy passes of an example takes the place of its
    clean loss (leave one out): what all passes have in common, such as the curvature ε tr(H)/2, leaves the
    noise. Without curvature the relative variance is then that of one direction less.

    Also known as: NP. All layers are perturbed at once, each example with noise of its own.

    Not to be confused with: iterative node perturbation (INP), which perturbs one layer at a time;
    activity-based node perturbation (ANP), which multiplies by the measured change of each activity,
    noise from earlier layers included; weight perturbation (``wp``).

    Args:
        directions: noisy passes averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε, the length of the perturbation in units of the activity.
        baseline: ``clean``: the loss of the clean pass; ``mean``: the mean loss of the other directions.
        combine: ``mean`` of the noisy passes; ``project``: the projection onto the span of their noise,
            scaled to keep the mean, with the relative variance N/n − 1.

    Cost: one clean and ``directions`` noisy forward passes, one pull.

    References: Werfel, Xie, Seung, Learning curves for stochastic gradient descent in linear feedforward
    networks, 2005; Dalm, van Gerven, Ahmad, Effective Learning with Node Perturbation, 2023.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="np", **case)["claimed"]["bias"]
        'vanishing'
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3
    baseline: Literal["clean", "mean"] = "clean"
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown law, and a projection of a law that does not fill all places alike."""
        law(self.law)
        projection.check(self.combine, self.law)
        if self.combine == "project" and self.baseline == "mean":
            raise UsageError("combine=project takes slopes: expected baseline=clean")

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step; values only, one segment back for the weights."""
        return Claims(bias="vanishing", backward="segment")

    def supports(self, scheme: Scheme) -> str:
        """Need two directions for a mean over the others."""
        alone = self.baseline == "mean" and self.directions < 2
        return "baseline=mean needs two directions at least: type directions=2" if alone else ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site from value differences."""
        u = noise.directions(view.sites, self.directions, self.law).masked(view.masks())
        slopes = view.slopes(u, step=self.step)
        if self.baseline == "mean":
            slopes = differences.leave_one_out(slopes)
        return Estimate(credit=view.credit(slopes, u, combine=self.combine))

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form as the step tends to 0: that of the exact slopes."""
        if self.baseline == "mean":
            return None
        return forward_gradient.activity_variance(
            view, self.law, self.directions, combine=self.combine
        )
