"""Node perturbation at some sites, and exact derivatives from these to all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "rlr")
@dataclass(frozen=True)
class HalfOrder(Defaults):
    """The score function at the end of each segment of sites, backpropagation inside the segment.

    Every ``length``-th site, from a random one on, is the end of a segment. Noise σu enters at the ends N
    alone, and c_e = (L(noisy) − L(clean))/σ · u_e is the credit of an end, whose mean tends to ∂L/∂z_e as
    σ → 0. A site A between them reaches the loss through the ends, or past all of them:

        ∂L/∂z_A = Σ_(e ∈ N) (∂z_e/∂z_A | other ends held)ᵀ ∂L/∂z_e + (∂L/∂z_A | all ends held).

    The credit c_e takes the place of ∂L/∂z_e here, and the last term is exact: what lies behind the last
    end is differentiated as it is. The equation is linear in c, so the mean is the gradient for every place
    of the ends, in nets with skips too. The clean loss is the baseline: a constant added to the loss
    changes nothing. With ``length=1`` all sites are ends, and this is node perturbation. The published
    method weights its three parts by importance; here every site is covered once in each estimate.

    Also known as: RLR, recursive likelihood ratio; half-order estimation.

    Not to be confused with: node perturbation (``np``), with noise at every site; a likelihood ratio at a
    finite σ, which is unbiased for the smoothed loss; local losses, which stop derivatives at modules.

    Args:
        length: sites per segment.
        directions: noisy passes averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: σ, the length of the perturbation in units of the activity.

    Cost: one clean and ``directions`` noisy forward passes, and a pull for each tap on the longest way
    through a segment, three per layer.

    References: Ren et al., Half-order Fine-Tuning for Diffusion Model: A Recursive Likelihood Ratio
    Optimizer, ICLR 2026, arXiv 2502.00639.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-2x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="rlr", **case)["claimed"]["bias"]
        'vanishing'
    """

    length: Annotated[int, Field(ge=1)] = 2
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3

    recipe: ClassVar[Mapping[str, Any]] = {"lr": 0.01}

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Bias vanishing with the step; with longer segments reverse mode goes through them."""
        return Claims(bias="vanishing", backward="segment" if self.length == 1 else "network")

    def ends(self, view: View, noise: Noise) -> list[str]:
        """Return the sites where segments end, in forward order: every ``length``-th, one at least.

        Args:
            view: whose sites are cut into segments.
            noise: of the estimate.

        Returns:
            Their names.
        """
        names = list(view.sites)
        first = noise.permutation("first", min(self.length, len(names)))[:1]
        return [name for k in first.tolist() for name in names[k :: self.length]]

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of the ends from value differences, and of all other sites from theirs."""
        credit: dict[str, Tensor] = {}
        if ends := self.ends(view, noise):
            masks = view.masks()
            places = {name: view.sites[name] for name in ends}
            u = noise.directions(places, self.directions, self.law)
            u = u.masked({name: masks[name] for name in ends if name in masks})
            credit = view.credit(view.slopes(u, step=self.step), u)
        if self.length > 1:
            credit |= _between(view, credit)
        return Estimate(credit=credit)


def _between(view: View, ends: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the credit of the sites that are no ends.

    Derivatives go back tap by tap, from the ends and from the predictions, and stop at ends. Ways of
    different length to one site arrive one after the other and add up, because each pull is linear.
    """
    found: dict[str, Tensor] = {}
    front: dict[tuple[str, str], Tensor] = {("site", name): c for name, c in ends.items()}
    front["readout", view.objective.readout] = view.output_error()
    while front:
        reached = view.pull(front, to="taps")
        front = {
            place: c for place, c in reached.items() if place[0] != "site" or place[1] not in ends
        }
        for (kind, name), c in front.items():
            if kind == "site" and name in view.sites:
                found[name] = found[name] + c if name in found else c
    return found
