"""Control variate: any estimate made unbiased by a forward gradient of what it misses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import LAWS, law
from fgbench.core.scheme import Alone
from fgbench.core.theory import forward_gradient
from fgbench.registry import Nested, register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "cv")
@dataclass(frozen=True)
class ControlVariate(Defaults):
    """Control variate around a base: its estimate b, and a forward gradient of the rest g − b.

    With a direction v that b does not depend on, E[v vᵀ] = I, the estimate

        h = b + ⟨g − b, v⟩ v = ⟨g, v⟩ v − (⟨b, v⟩ v − b)

    has the mean b + (g − b) = g for any base: a biased one becomes unbiased, and one that is unbiased stays
    so. The bracket on the right is the control variate, noise of mean 0 that is known once b is. Given b,
    the total variance is (d − 1)|g − b|² for signs on d weights and (d + 1)|g − b|² for gaussian
    directions, over their number. So it is less noisy than ``fg_w`` only where b is nearer to g than 0 is;
    b = g leaves no noise at all.

    The slope ⟨g, v⟩ is exact, and the base needs one inner product with v. Scores that a locality keeps
    apart are added up, because the base gives one gradient for all of them. The base may be a control
    variate again; each draws directions of its own.

    Also known as: CV-FG, control-variate forward gradient; with a surrogate network as its base the
    gradient estimate of non-intrusive gradient-based meta-solving.

    Not to be confused with: the control variate by which ``fgbench measure`` sharpens its intervals; a
    baseline, which is subtracted from the loss and not from the gradient.

    Args:
        base: an estimator with its options, such as ``dfa`` or ``fa[scale=2]``.
        directions: directions averaged per estimate.
        law: ``rademacher``, ``gaussian``, ``sphere`` or ``uniform``.

    Cost: the base, a forward pass and ``directions`` weight slopes.

    References: Arisaka, Li, Accelerating Legacy Numerical Solvers by Non-intrusive Gradient-based
    Meta-solving, ICML 2024.

    Example:
        Around backprop nothing is left to be estimated:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="cv[base=bp]", **case)
        >>> round(record["relative_variance"]["value"], 6), record["claimed"]["bias"]
        (0.0, 'none')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"set": {"lr": 3e-4}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.001}},
    ]

    base: Nested = Nested("dfa")
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "rademacher"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    @property
    def state_optimizer(self) -> Any:
        """The optimiser of the base's state."""
        return getattr(self.base.estimator, "state_optimizer", ("sgd", 1.0))

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased whatever the base is; it goes back as far as the base does."""
        return Claims(bias="none", backward=self.base.estimator.claims(scheme).backward)

    def supports(self, scheme: Scheme) -> str:
        """Need what the base needs."""
        reason: str = self.base.estimator.supports(scheme)
        return reason

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return the state of the base."""
        found: dict[str, State] = self.base.estimator.init_state(scheme, noise.child("base"))
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the base's gradient and slope times direction of what it misses."""
        found: Estimate = self.base.estimator(view, noise.child("base"), state)
        b = view.gradients(found)
        v = noise.directions(view.shapes, self.directions, self.law)
        view.price(view.share * view.chain.operations())  # values pass again beside the tangents
        slopes = view.slopes(v).flatten(1).sum(1)
        total = {name: t.clone() for name, t in b.items()}
        for row, slope in enumerate(slopes):
            u = {name: v.rows(name, row, row + 1)[0] for name in b}
            known = torch.stack([(t * u[name]).sum() for name, t in b.items()]).sum()
            for name, t in total.items():
                t.addcmul_(u[name], (slope - known) / v.n)
        return replace(found, credit=None, along=None, grads=total)

    def predicted_variance(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return the closed form, where the base has no noise, or no bias and a known variance.

        Per parameter p of d_p weights, with Δ = g − b of which Δ_p is there: ``q d_p |Δ|² + ...`` as for a
        forward gradient of Δ. Where b has noise and no bias, E|Δ_p|² is its variance.
        """
        squares = None if self.law not in LAWS else self._missed(view, state)
        if squares is None:
            return None
        return forward_gradient.slope_variance(squares, view.shapes, self.law, self.directions)

    def _missed(self, view: View, state: State) -> Grads | None:
        """Return E|g − b|² by parameter name, None where it is not known."""
        base, own = self.base.estimator, self._claims_of_base(view)
        if own.deterministic:
            device, dtype = view.start.device, next(iter(view.params.values())).dtype
            found = base(view.with_(), Noise(0, device=device, dtype=dtype), state)
            b = view.gradients(found)
            truth = view.with_().reverse()
            return {n: ((g.double() - b[n].double()) ** 2).sum() for n, g in truth.items()}
        if own.bias != "none":
            return None
        variance: Grads | None = base.predicted_variance(view, state)
        return variance

    def _claims_of_base(self, view: View) -> Claims:
        """Return the claims of the base where its scheme has this view's objective alone."""
        claims: Claims = self.base.estimator.claims(Alone(view))
        return claims
