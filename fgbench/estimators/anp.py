"""Activity-based node perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.core.theory.site_gradients import site_gradients, site_jacobian
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

UNITS = 256  # per example, beyond which the mean is not computed
NODES = 256  # of the quadrature, exact for polynomials of degree 511


@register("estimators", "anp")
@dataclass(frozen=True)
class ActivityNodePerturbation(Defaults):
    """Activity-based node perturbation: the change of the loss times the measured change of each activity.

    A noisy pass moves every pre-activation by D = z(noisy) − z(clean), its own noise and what arrives from
    the layers before. The credit is N ΔL D/|D|² per example, N units being on; the noise itself need not be
    known. As ε → 0, D = J u and ΔL = ⟨g, u⟩ for noise u, with J the block triangular matrix that carries
    noise from each layer to the later ones. So the mean points along J g and not along the gradient g: with
    ``normalise=false`` the credit ΔL D/ε² has the mean J g exactly. It is a descent direction where
    gᵀ J g > 0, as in a chain of layers, and unbiased for a single layer. Units that are off get no noise and
    no credit.

    The exact mean of the normalised form, for noise of any law that is alike in all directions, is
    N J Q diag(m) Qᵀ g with Jᵀ J = Q diag(λ) Qᵀ and m_i = E[u_i²/Σ λ_j u_j²], an integral over one variable.

    Also known as: ANP.

    Not to be confused with: node perturbation (``np``), which multiplies by the noise; iterative node
    perturbation (``inp``).

    Args:
        directions: noisy passes averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε, the length of the noise in units of the activity.
        normalise: whether the change is divided by its squared length, or by that of the noise.
        scale: factor of the normalised form: ``n``, the number of units, which makes one layer unbiased; or
            ``sqrt``, its root. The authors' programs have either.

    Cost: one clean pass, one more that notes the pre-activations, ``directions`` noisy passes and one pull.

    References: Dalm, van Gerven, Ahmad, Effective Learning with Node Perturbation, 2023.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-2x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="anp", **case)
        >>> record["claimed"]["why"]
        'its mean is along J g: noise of earlier layers is in the change of later ones'
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.01}}
    ]

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3
    normalise: bool = True
    scale: Literal["n", "sqrt"] = "n"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased by the noise of earlier layers; values only, one segment back for the weights."""
        why = "its mean is along J g: noise of earlier layers is in the change of later ones"
        return Claims(bias="some", backward="segment", why=why)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site from its measured change."""
        clean, on = view.activities("site"), view.masks()
        losses, sites = view.losses(), view.sites
        u = noise.directions(sites, self.directions, self.law).masked(on)
        credit = {name: torch.zeros_like(clean[name]) for name in sites}
        for row in range(u.n):
            noisy = view.perturbed(u, row, self.step)
            moved = noisy.activities("site")
            change = {name: (moved[name] - clean[name]) * on[name] for name in sites}
            score = (noisy.losses - losses) * (view.objective.weight / (len(losses) * u.n))
            score = score * self._factor(change, on)
            for name, d in change.items():
                credit[name] += score.reshape(-1, *[1] * (d.dim() - 1)) * d
        return Estimate(credit=credit)

    def _factor(self, change: Grads, on: Grads) -> Tensor:
        """Return what the score of each example is multiplied with, ``[b]``."""
        square = torch.stack([(d**2).flatten(1).sum(1) for d in change.values()]).sum(0)
        if not self.normalise:
            return torch.full_like(square, self.step**-2)
        n = torch.stack([on[name].flatten(1).sum(1) for name in change]).sum(0).to(square)
        n = n if self.scale == "n" else n.sqrt()
        return torch.where(square > 0, n / square.clamp_min(torch.finfo(square.dtype).tiny), 0.0)

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the mean as the step tends to 0, J g without the division by |D|²."""
        units = sum(prod(shape[1:]) for shape in view.sites.values())
        coupled = view.chain.readout(view.objective.readout).coupled
        if view.kept != "b" or coupled or self.normalise or units > UNITS:
            return None
        return view.pull(self.mean_credit(view))

    def mean_credit(self, view: View) -> Grads:
        """Return the mean credit of every site as the step tends to 0.

        Args:
            view: the objective on the batch, with few units.

        Returns:
            Site name to credit; for the normalised form that of noise that is alike in all directions.
        """
        sites, masks = view.sites, view.masks()
        on = torch.cat([masks[name].flatten(1) for name in sites], 1).double()
        exact = site_gradients(view)
        g = torch.cat([t.flatten(1) for t in exact.values()], 1).double()
        j = site_jacobian(view).double() * on.unsqueeze(2) * on.unsqueeze(1)
        if self.normalise:
            values, q = torch.linalg.eigh(j.mT @ j)
            n = on.sum(1, keepdim=True)
            shares = _shares(values, on.sum(1)) * (n if self.scale == "n" else n.sqrt())
            g = (q @ (shares.unsqueeze(2) * (q.mT @ g.unsqueeze(2)))).squeeze(2)
        mean = (j @ g.unsqueeze(2)).squeeze(2).to(next(iter(exact.values())).dtype)
        parts = mean.split([prod(shape[1:]) for shape in sites.values()], 1)
        return {n: t.reshape(s) for (n, s), t in zip(sites.items(), parts, strict=True)}


def _shares(values: Tensor, units: Tensor) -> Tensor:
    """Return m_i = E[u_i²/Σ_j λ_j u_j²] for gaussian u, over the last axis; units that are off have λ = 0.

    With 1/S = ∫ exp(−t S) dt it is ∫ (1 + 2tλ_i)⁻¹ Π_j (1 + 2tλ_j)^(−1/2) dt over t > 0. With the mean λ̄
    and 1 + 2tλ̄ = y⁻² the integrand is ``y^(N−1)/(λ̄ (y² + r_i (1 − y²)) Π_j (y² + r_j (1 − y²))^(1/2))``,
    r = λ/λ̄: smooth on [0, 1] and a power of y where all λ are equal.

    Args:
        values: λ, ``[b, N]``.
        units: how many are on, ``[b]``.

    Returns:
        ``[b, N]``.
    """
    nodes, weights = (
        torch.from_numpy(part).to(values) for part in np.polynomial.legendre.leggauss(NODES)
    )
    y2 = ((nodes + 1) / 2) ** 2  # [k]
    live = values > 1e-12 * values.amax(1, keepdim=True)
    n = units.to(values).clamp_min(1)
    mean = (values * live).sum(1) / n
    r = values / mean.clamp_min(1e-300).unsqueeze(1)
    base = y2 + r.unsqueeze(2) * (1 - y2)  # [b, N, k]
    logs = (base.log() * live.unsqueeze(2)).sum(1) / 2
    whole = torch.exp((n.unsqueeze(1) - 1) / 2 * y2.log() - logs) / mean.clamp_min(
        1e-300
    ).unsqueeze(1)
    return (whole.unsqueeze(1) / base * live.unsqueeze(2) * (weights / 2)).sum(2)
