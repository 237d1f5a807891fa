"""Forward gradient by activity perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgbench import theory
from fgbench.directions import law
from fgbench.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.estimator import State
    from fgbench.noise import Noise
    from fgbench.task import Task
    from fgbench.view import View


@register("estimators", "fg_a")
@dataclass(frozen=True)
class ActivityForwardGradient(Defaults):
    """Forward gradient with noise on the activities (FG-A; LG-FG-A under ``local-pg``).

    For directions u at the sites with E[u uᵀ] = I the credit (slope · u), masked where a unit is off,
    has the true cotangent as its mean; one layer's exact pullback turns it into weight gradients. The
    variance grows with the number of units a score sees, not with the number of weights.

    Args:
        directions: directions averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: ``directions`` activity slopes and one pull.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, task: Task) -> Claims:
        """Unbiased, one segment back at most, exact slopes only."""
        return Claims(bias="none", backward="segment", slopes_only=True)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site."""
        u = noise.directions(view.sites, self.directions, self.law)
        return Estimate(credit=view.credit(view.slopes(u), u))

    def predicted_variance(self, view: View) -> dict[str, Tensor] | None:
        """Return the closed form, for fully connected layers."""
        return theory.activity_variance(view, self.law, self.directions)
