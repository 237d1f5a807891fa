"""One-sided differences along signs, divided by the spread of the perturbed losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from fgbench.core.along import Along
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fzoo")
@dataclass(frozen=True)
class FZOO(Defaults):
    """FZOO: forward differences along n signs, normalised by the standard deviation of the n losses.

    With losses L_i at w + ε u_i, L_0 at w, and s² = Σ (L_i − mean L)²/(n − 1), the estimate is

        (1/n) Σ (L_i − L_0)/s · u_i,

    the mean of the slopes times directions, (1/(n ε)) Σ (L_i − L_0) u_i, over s/ε. As ε → 0 the spread s/ε
    has the mean square |g|², so the estimate is a normalised gradient: its direction has the noise of the
    plain mean (relative variance (d − 1)/n), its length does not depend on |g|, nor on the scale of the loss.
    With many weights its mean is k_n g/|g| with

        k_n = (n − 1)/n · c₄(n) + (1/n) √((n − 1)/2) Γ((n − 2)/2)/Γ((n − 1)/2),

    c₄(n) = √(2/(n − 1)) Γ(n/2)/Γ((n − 1)/2): the slope g·u_i of a direction is in its own spread. k_4 =
    1.036, k_8 = 0.985, k_16 = 0.988; below n = 3 there is no finite mean.

    Curvature adds ε tr(H)/2 to every L_i, which shifts L_i − L_0 and not s. It enters as noise along the mean
    direction, and ``baseline=mean``, which takes the mean of the L_i for L_0, leaves it out; the mean is then
    (n − 1)/n times as large or so. Where all losses are equal the estimate is 0.

    Also known as: zeroth-order signs with adaptive steps; the paper divides by s alone, so that its learning
    rate is the one here over ε.

    Not to be confused with: ``wp[law=rademacher]``, the same slopes without the division; ``update=sign``.

    Args:
        directions: n, perturbations per estimate.
        law: ``rademacher``, ``gaussian``, ``sphere`` or ``uniform``.
        step: ε, the length of the perturbation in units of the weights.
        baseline: ``clean``: differences from the loss at w; ``mean``: from the mean of the losses.

    Cost: ``directions`` forward passes and the clean one. Directions are drawn again in place of kept, as in
    ``mezo``: the memory of inference.

    References: Dang, Guo, Zhao, Ye, Zheng, Dai, Tsang, FZOO: Fast zeroth-order optimizer for fine-tuning
    large language models towards Adam-scale speed, ICLR 2026 (arXiv:2506.09034).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="fzoo", **case)
        >>> record["claimed"]["bias"], record["cost"]["forwards"]
        ('some', 9.0)
    """

    directions: Annotated[int, Field(ge=3)] = 8
    law: str = "rademacher"
    step: Annotated[float, Field(gt=0)] = 1e-3
    baseline: Literal["clean", "mean"] = "clean"

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.01, "momentum": 0.0}

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased: its length is not the gradient's; values only, nothing goes back."""
        why = "divided by the spread of the losses, it has lost the gradient's length"
        return Claims(bias="some", backward="none", why=why)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the normalised difference of each direction."""
        u = noise.directions(view.shapes, self.directions, self.law)
        moved = torch.stack([view.losses_along(u, i, (self.step,))[0].mean() for i in range(u.n)])
        spread = moved.std()
        base = (
            moved.mean() if self.baseline == "mean" else view.losses_along(u, 0, (0.0,))[0].mean()
        )
        slopes = torch.where(spread > 0, (moved - base) / spread, torch.zeros_like(moved))
        return Estimate(along=Along(u, slopes / u.n))
