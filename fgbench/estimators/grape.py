"""GrAPE: direct feedback whose direction is calibrated by forward mode."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from fgbench.core import direct_feedback
from fgbench.core.direct_feedback import Maps
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "grape")
@dataclass(frozen=True)
class GradientAlignedFeedback(Defaults):
    """GrAPE: direct feedback that turns towards estimates of the Jacobian.

    As in direct feedback alignment the credit of layer l is B_lᵀ e, with e = dL/dlogits, and one exact
    pullback goes through the layer's own nonlinearity and norm. B_l starts random. Directions u_l at the
    outputs of all layers give in one pass of forward mode the tangent d of the logits, and Ĵ_l, the mean of
    d u_lᵀ over the batch, estimates the Jacobian J_l. Before it serves as feedback, B_l takes a step of
    gradient descent on 1 − cos(B_l, Ĵ_l):

        B ← B + rate (Ĵ/(|Ĵ| |B|) − cos(B, Ĵ) B/|B|²).

    With one example and one perturbed layer cos(J u uᵀ, J) = |J u|/(|u| |J|) > 0 at every draw. The steps
    average Ĵ/|Ĵ| and not Ĵ, so B tends to the direction of E[J u uᵀ/(|J u| |u|)] there, in which large
    singular values of J are damped. The estimate is therefore biased even in a linear network; elsewhere one
    B for all inputs adds to that. The size of B is not learned and acts as a rate of the hidden layers.

    Also known as: gradient aligned projected error, Jacobian-aligned direct feedback.

    Not to be confused with: forward direct feedback alignment (``fdfa``), which averages d uᵀ itself;
    Kolen-Pollack (``kolen_pollack``), where alignment comes from weight decay.

    Args:
        rate: of the steps on 1 − cos.
        rule: ``cosine``: those steps; ``rescale``: B ← (1 − rate (1 − cos)) B, the rule of an earlier
            version as its review quotes it, which changes the size of B and can never turn it: a control.
        anchor: every so many steps of training, from the first on, the estimate is backprop's; 0 for never.
        directions: directions per step.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        maps: ``averaged``: one row of feedback per feature, for the mean over the places that share its
            weights, as in ``dfa``; ``full``: one for each place.
        scale: factor of every B_l at the start, gaussian with standard deviation 1/√features.

    Cost: two forward passes, ``directions`` activity slopes and one pull (a backward pass where backprop
    anchors it); k × features numbers per layer, where k is the number of outputs of the objective's readout.

    References: Caillon, Fagnou, Delattre, Allauzen, Scaling Direct Feedback Learning with Jacobian Alignment
    Guarantees, ICLR 2026. The rule follows its abstract; the rates are ours.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "epochs": 1}
        >>> fgbench.run("train", method="grape", **case)["status"]
        'ok'
    """

    recipe: ClassVar[list[dict[str, Any]]] = [{"when": {"arch": "mlp-*"}, "set": {"lr": 0.01}}]

    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    rule: Literal["cosine", "rescale"] = "cosine"
    anchor: Annotated[int, Field(ge=0)] = 0
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    maps: Maps = "averaged"
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, with the noise of the step; one segment back, all the way with an anchor."""
        if self.anchor:
            why = f"backprop every {self.anchor} steps"
            return Claims(bias="some", backward="network", why=why)
        return Claims(bias="some", backward="segment")

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw a feedback matrix for every site of every objective."""
        found: dict[str, State] = {}
        for o in scheme.objectives:
            if o.updates:
                found[o.name] = {
                    name: noise.child("feedback").normal(name, shape)
                    * (self.scale / sqrt(prod(shape[1:])))
                    for name, shape in direct_feedback.shapes(scheme.chain, o, self.maps).items()
                }
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit that the turned feedback gives every layer, or backprop's gradient."""
        u = noise.directions(view.sites, self.directions, self.law)
        tangents, error = view.output_tangent(u, at="out"), view.output_error()
        credit, turned = {}, {}
        for name, shape in view.sites.items():
            b = state[name]
            seen = direct_feedback.jacobian(tangents, u.rows(name, 0, u.n), b.shape)
            turned[name] = self._turned(b, seen)
            credit["out", name] = direct_feedback.projected(error, turned[name], shape)
            view.price(2 * b.numel() * (1 + u.n))
        if self.anchor and view.clock.step % self.anchor == 0:
            return Estimate(grads=view.reverse(), new_state=turned)
        return Estimate(credit=credit, new_state=turned)

    def _turned(self, b: Tensor, seen: Tensor) -> Tensor:
        """Return a feedback matrix after its step."""
        least = torch.finfo(b.dtype).tiny
        size, length = b.norm().clamp_min(least), seen.norm().clamp_min(least)
        cosine = (b * seen).sum() / (size * length)
        turned: Tensor = b + self.rate * (seen / (length * size) - cosine * b / size**2)
        return b * (1 - self.rate * (1 - cosine)) if self.rule == "rescale" else turned
