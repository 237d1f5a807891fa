"""Central differences along perturbations of the weights in place, at the memory of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

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


@register("estimators", "mezo")
@dataclass(frozen=True)
class MeZO(Defaults):
    """Memory-efficient zeroth order: a central difference, with noise that is drawn again in place of kept.

    The weights are moved by ε v, by −2 ε v and back by ε v, in place. The losses L₊ and L₋ on the way give
    the estimate c v with one number c = (L₊ − L₋)/2ε. Neither v nor the estimate is ever there as a whole:
    v is drawn again from its key for each of the moves, place by place, and once more when the estimate is
    applied. So a step takes the memory of inference. The numbers are those of ``wp[sided=central]``, to
    rounding: bias of O(ε²), and as ε → 0 a relative variance of d + 1 for d weights and a gaussian law.

    The weights return to within rounding. Optimisers with momentum keep buffers of the size of the weights;
    with ``--optimizer sgd --set momentum=0`` a step of training has the memory of inference too.

    Also known as: MeZO; SPSA in place; ZO-SGD with seed replay.

    Not to be confused with: ``wp``, which holds the perturbed weights and the direction; the memory that
    reversible networks or recomputed activities save in backprop (``bp[recompute=]``).

    Args:
        directions: perturbations averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε, the length of the perturbation in units of the weights.

    Cost: 2 ``directions`` forward passes, and the clean one from which the readout learns. Every direction
    is drawn three times, and once more when it is applied.

    References: Malladi, Gao, Nichani, Damian, Lee, Chen, Arora, Fine-tuning language models with just
    forward passes, NeurIPS 2023 (arXiv:2305.17333).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="mezo", **case)
        >>> record["claimed"]["bias"], record["cost"]["forwards"]
        ('vanishing', 3.0)
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.01, "momentum": 0.0}

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step; values only, nothing goes back."""
        return Claims(bias="vanishing", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the difference quotient of each direction."""
        v = noise.directions(view.shapes, self.directions, self.law)
        slopes = []
        for row in range(v.n):
            up, down = view.losses_along(v, row, (self.step, -self.step))
            slopes.append((up - down).mean() / (2 * self.step))
        return Estimate(along=Along(v, torch.stack(slopes) * (view.objective.weight / v.n)))
