"""Likelihood ratio with noise on the activities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core import gradients
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import PerExample, law
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "lr_node")
@dataclass(frozen=True)
class NodeLikelihoodRatio(Defaults):
    """Likelihood ratio: the loss of a noisy pass times the noise, at the noisy activities.

    Pre-activations get noise, z = W x + σξ. For gaussian ξ the derivative of the logarithm of their density
    is ξ xᵀ/σ, so the estimate L ξ xᵀ/σ has as its mean the exact gradient of the smoothed loss E L,
    whatever the layers after it are; x is the input of the layer in the same noisy pass. Against the loss
    without noise the bias is O(σ²). A single pass leaves the loss itself in the score: per example the
    variance of a linear layer of d units is |x|² (d L²/σ² + (d + 1)|δ|²), and small σ is of no use. A pair
    of passes with ξ and −ξ removes the first term. Where all layers have noise at once their inputs differ
    within a pair, and the loss times that difference is left: it is of order 1, and a baseline makes it
    smaller. With one layer at a time (``layerwise``) nothing of the loss itself is left.

    Also known as: LR, unified likelihood ratio (ULR), REINFORCE with noise on the activities. FLOPS
    allocates the passes of this estimator to the examples of a batch by their losses; here every example
    gets as many.

    Not to be confused with: node perturbation (``np``), which subtracts the clean loss and uses clean
    inputs; weight perturbation, whose noise is on the weights; the optimiser for photonic circuits that is
    also called FLOPS.

    Args:
        directions: passes, or pairs of passes, averaged per estimate.
        step: σ, the standard deviation of the noise in units of the activity.
        antithetic: whether each ξ is used with both signs.
        layerwise: whether noise enters one layer at a time; the inputs are then clean.
        baseline: ``none``; or ``mean``: the mean loss of the other examples is subtracted, which has
            nothing to do with an example's own noise and keeps its mean.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: per direction one noisy pass and a pull, twice as many in pairs, times the number of layers where
    it is layerwise.

    References: Jiang et al., One Forward is Enough for Neural Network Training via Likelihood Ratio Method,
    ICLR 2024; Ren et al., FLOPS: Forward Learning with OPtimal Sampling, ICLR 2025.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="lr_node", **case)
        >>> record["claimed"]["bias"], record["cost"]["pulls"]
        ('vanishing', 2.0)
    """

    directions: Annotated[int, Field(ge=1)] = 1
    step: Annotated[float, Field(gt=0)] = 1e-3
    antithetic: bool = True
    layerwise: bool = False
    baseline: Literal["none", "mean"] = "none"
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the noise; values only, one segment back for the weights."""
        return Claims(bias="vanishing", backward="segment")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the mean over noisy passes of loss times noise, pulled back at each pass's activities."""
        total: Grads = {}
        signs = (1.0, -1.0) if self.antithetic else (1.0,)
        for u in self._drawn(view, noise):
            for row in range(u.n):
                for sign in signs:
                    noisy = view.perturbed(u, row, sign * self.step, graph=True)
                    score = self._scores(noisy.losses) * view.objective.weight
                    score = score * (sign / (self.step * len(signs) * u.n * len(score)))
                    credit = {}
                    for name in u.names:
                        xi = u.rows(name, row, row + 1)[0]
                        credit[name] = score.reshape(-1, *[1] * (xi.dim() - 1)) * xi
                    gradients.add(total, noisy.pull(credit))
        return Estimate(grads=total)

    def _drawn(self, view: View, noise: Noise) -> Iterator[Directions]:
        """Yield the noise of all sites together, or of one after the other."""
        sites = view.sites
        groups = [[name] for name in sites] if self.layerwise else [[*sites]]
        for names in groups:
            places = PerExample({name: sites[name] for name in names}, sites.repeats)
            yield noise.directions(places, self.directions, self.law)

    def _scores(self, losses: Tensor) -> Tensor:
        """Return the losses, less the mean of the others where that is the baseline."""
        if self.baseline == "none" or len(losses) == 1:
            return losses
        return losses - (losses.sum() - losses) / (len(losses) - 1)

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form as the noise tends to 0; None with a baseline, or pairs of several layers.

        Units that are off get noise too. Without pairs the loss over σ is a part of the score that has
        nothing to do with the noise; products of the loss with curvature are left out, smaller by σ².
        """
        together = self.antithetic and not self.layerwise and len(view.sites) > 1
        if view.kept != "b" or self.baseline != "none" or together:
            return None
        units = {
            name: torch.ones(shape, device=view.start.device) for name, shape in view.sites.items()
        }
        losses = view.losses()
        added = (
            None
            if self.antithetic
            else losses * (view.objective.weight / (self.step * len(losses)))
        )
        return forward_gradient.activity_variance(
            view, self.law, self.directions, units=units, alone=self.layerwise, added=added
        )
