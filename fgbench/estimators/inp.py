"""Iterative node perturbation: noise on one layer at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import PerExample, law
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "inp")
@dataclass(frozen=True)
class IterativeNodePerturbation(Defaults):
    """Iterative node perturbation: one noisy pass for each layer, with noise in that layer alone.

    For layer l the credit is (L(z + εu) − L(z))/ε · u, with u at this layer and no noise elsewhere. On a
    sphere |u|² is the number of units n_l, so this is n_l ΔL Δz/|Δz|², the normalised form of the paper.
    No other layer's noise is in the score: as ε → 0 the relative variance of one example's credit is n_l − 1,
    where node perturbation (``np``) of all layers at once has N + 1 over the layers together. Units that are
    off in the clean pass get no noise. The bias is O(ε²) for a smooth net.

    Also known as: INP, layer-wise node perturbation.

    Not to be confused with: node perturbation (``np``), whose noise enters all layers in one pass;
    activity-based node perturbation (``anp``), which multiplies by the measured change of each activity.

    Args:
        directions: noisy passes averaged per layer and estimate.
        law: ``sphere``, ``gaussian``, ``rademacher`` or ``uniform``.
        step: ε, the length of the perturbation in units of the activity.

    Cost: one clean pass, ``directions`` noisy passes for every layer, and one pull.

    References: Dalm, van Gerven, Ahmad, Effective Learning with Node Perturbation, 2023.

    Example:
        A clean pass, a noisy one for each of two layers, a pull, and the readout:

        >>> import fgbench
        >>> case = {"arch": "mlp-2x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> cost = fgbench.run("measure", method="inp", **case)["cost"]
        >>> cost["forwards"], cost["pulls"]
        (3.0, 1.0)
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.03}}
    ]

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "sphere"
    step: Annotated[float, Field(gt=0)] = 1e-3

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step; values only, one segment back for the weights."""
        return Claims(bias="vanishing", backward="segment")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site from noise at that site alone."""
        sites, on = view.sites, view.masks()
        credit: Grads = {}
        for name, shape in sites.items():
            place = PerExample({name: shape}, sites.repeats)
            u = noise.directions(place, self.directions, self.law).masked({name: on[name]})
            credit |= view.credit(view.slopes(u, step=self.step), u)
        return Estimate(credit=credit)

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form as the step tends to 0: each site's score has its own noise alone."""
        return forward_gradient.activity_variance(view, self.law, self.directions, alone=True)
