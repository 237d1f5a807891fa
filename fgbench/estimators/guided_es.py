"""Evolution strategies guided by a subspace of earlier estimates."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from fgbench.core import differences
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.theory.slice_gradients import Slices
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "guided_es")
@dataclass(frozen=True)
class GuidedEvolution(Defaults):
    """Guided evolution strategies: noise that is longer within a subspace where the gradient is expected.

    Q (d × k) is an orthonormal basis of the last k estimates, random vectors before there are any.
    Directions are v = √α ξ + √((1 − α) d/k) Q ζ with ξ and ζ standard normal, so that their covariance is C
    = α I + (1 − α)(d/k) Q Qᵀ, of trace d. The estimate s v, with s the central difference of the whole loss
    along v, has the mean C g as ε → 0: biased, α g outside the subspace and more within it. Its total
    variance is gᵀC g · d + |C g|²: with a share ρ² of |g|² in the subspace the efficiency grows from 1/(d +
    2) at α = 1, which is plain evolution strategies, up to 1/(k + 2) where ρ = 1 and α = 0.

    Also known as: guided ES.

    Not to be confused with: local guesses (forward gradients along a local gradient alone); control variates,
    which keep the mean. The published form has C/d and a factor β: its estimate is β/d times this one.

    Args:
        directions: antithetic pairs averaged per estimate.
        guides: k, how many earlier estimates span the subspace.
        alpha: share α of the noise's energy that is spread over all dimensions.
        step: ε in units of the weights; 0 takes exact slopes by forward mode.

    Cost: one clean and ``2 directions`` perturbed forward passes; a QR decomposition of d × k numbers, which
    are kept as state.

    References: Maheswaranathan, Metz, Tucker, Choi, Sohl-Dickstein, Guided evolutionary strategies:
    augmenting random search with surrogate gradients, ICML 2019, arXiv 1806.10230.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> method = "guided_es[step=0,alpha=1]"  # the forward gradient of 20 weights
        >>> round(fgbench.run("measure", method=method, **case)["predicted_variance"], 6)
        21.0
    """

    directions: Annotated[int, Field(ge=1)] = 1
    guides: Annotated[int, Field(ge=1)] = 4
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    step: Annotated[float, Field(ge=0)] = 1e-3

    recipe = (
        {"set": {"lr": 3e-4}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 1e-3}},
    )

    def claims(self, scheme: Scheme) -> Claims:
        """Biased towards the subspace; without it unbiased as the step vanishes."""
        if self.alpha < 1:
            why = f"gradients outside the subspace of the guides are multiplied by alpha={self.alpha:g}"
            return Claims(bias="some", backward="none", why=why)
        return Claims(bias="vanishing" if self.step else "none", backward="none")

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw random guides ``[k, *shape]`` of every parameter."""
        found: dict[str, State] = {}
        for o in scheme.objectives:
            own, draws = scheme.chain.body_parameters(o.updates), noise.child(o.name)
            if own:
                found[o.name] = {
                    name: draws.normal(name, (self.guides, *p.shape)) for name, p in own.items()
                }
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction, and the guides with this estimate in place of the oldest."""
        q, shapes = self._basis(state), view.shapes
        n, k = self.directions, len(next(iter(q.values())))
        xi = noise.directions(shapes, n)
        zeta = noise.child("guided").directions({"low": (k,)}, n).rows("low", 0, n)
        longer = sqrt((1 - self.alpha) * self._dimension(q) / k)
        v = {
            name: sqrt(self.alpha) * xi.rows(name, 0, n)
            + longer * torch.tensordot(zeta, q[name], dims=1)
            for name in shapes
        }
        view.price(
            2 * n * (k + 1) * self._dimension(q) / len(view.start)
        )  # the two products with n rows
        slopes = differences.central(view, FixedDirections(v), self.step).flatten(1).sum(1)
        grads = {name: torch.tensordot(slopes, u, dims=1) / n for name, u in v.items()}
        newer = {name: torch.cat([g.unsqueeze(0), state[name][:-1]]) for name, g in grads.items()}
        return Estimate(grads=grads, new_state=newer)

    def expected(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return C g."""
        return self._spread(view, self._basis(state))[1]

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of exact slopes: gᵀC g · tr C of each parameter + its |C g|²."""
        if self.step > 0:
            return None
        q = self._basis(state)
        g, mean = self._spread(view, q)
        energy = torch.stack([(g[name] * mean[name]).sum() for name in g]).sum()
        k, d = len(next(iter(q.values()))), self._dimension(q)
        found = {}
        for name, part in q.items():
            trace = self.alpha * prod(part.shape[1:])
            inside = (1 - self.alpha) * d / k * (part.double() ** 2).sum()
            found[name] = (energy * (trace + inside) + (mean[name] ** 2).sum()) / self.directions
        return found

    def _basis(self, state: State) -> State:
        """Return an orthonormal basis of the guides, ``[k, *shape]`` by parameter; k is at most d."""
        flat = torch.cat([guide.flatten(1) for guide in state.values()], 1)
        rows = torch.linalg.qr(flat.mT).Q.mT
        parts = rows.split([guide[0].numel() for guide in state.values()], 1)
        return {
            name: part.reshape(-1, *guide.shape[1:])
            for (name, guide), part in zip(state.items(), parts, strict=True)
        }

    def _dimension(self, q: State) -> int:
        """Return d."""
        return sum(part[0].numel() for part in q.values())

    def _spread(self, view: View, q: State) -> tuple[State, State]:
        """Return the gradient g and C g in float64, by parameter."""
        params = view.params
        found = zip(params, Slices(view).gradients([*params.values()]), strict=True)
        g = {name: part.double() for name, part in found}
        basis = {name: part.double() for name, part in q.items()}
        k = len(next(iter(basis.values())))
        inner = torch.stack([(basis[n] * g[n]).flatten(1).sum(1) for n in g]).sum(0)
        longer = (1 - self.alpha) * self._dimension(q) / k
        mean = {n: self.alpha * g[n] + longer * torch.tensordot(inner, basis[n], dims=1) for n in g}
        return g, mean
