"""Central differences along noise that is shorter where the loss curves more: a learned diagonal Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from fgbench.core.along import Along, weighed
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "hizoo")
@dataclass(frozen=True)
class HiZOO(Defaults):
    """HiZOO: weight noise shaped by an estimate h > 0 of the Hessian's diagonal, learned from the losses.

    With u ~ N(0, I) and losses L₊, L₋ at w ± ε u/√h (element by element), L₀ at w, the estimate is

        e = (L₊ − L₋)/2ε · u/√h,

    whose mean is g/h to O(ε²): a preconditioned gradient. With S = diag(1/h) its second moment is
    tr(S) gᵀS g + 2 gᵀS²g. The second difference gives a sample of the curvature,

        c = (L₊ + L₋ − 2 L₀)/2ε² · h (u² − 1),

    with the mean diag(H), since E[uᵀM u (u² − 1)] = 2 diag(M). The state follows: h ← (1 − s) h + s |c|, from
    1. Its noise per draw is of the order of tr(S H), far above diag(H) with many weights, so s has to be
    small; the absolute value keeps h positive and makes it too large.
    The second difference cancels: in float32 rounding leaves about 6 % of the loss on c at ε = 1e-3.

    ``curvature=released`` is the form of the released code, |L₊ + L₋ − 2 L₀|/2ε² · h u²: without the −1 its
    mean is diag(H) + h tr(S H)/2, so that on a quadratic h settles at (d + 2)/2 times the diagonal. (The
    released code also steps with the new h where it probed with the old one; here both are the old one.)

    With h = 1 and ``smooth=0`` it is ``wp[sided=central]``, to rounding.

    Also known as: diagonal-Hessian preconditioned SPSA; zeroth-order natural or Newton scaling.

    Not to be confused with: Adam on zeroth-order estimates, which scales by the mean square of the
    estimate; second-order SPSA, which estimates the full Hessian.

    Args:
        directions: perturbations averaged per estimate.
        step: ε, the length of the perturbation in units of the weights over √h.
        smooth: s, the share of a new sample in h.
        curvature: ``centred``: with the −1; ``released``.
        unscale: multiply the estimate by h, which leaves the noise shaped and the mean the gradient.

    Cost: 2 ``directions`` forward passes and the clean one; a state of the size of the weights.

    References: Zhao, Dang, Ye, Dai, Qian, Tsang, Second-order fine-tuning without pain for LLMs: a Hessian
    informed zeroth-order optimizer, ICLR 2025 (arXiv:2402.15173).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="hizoo[unscale=true]", **case)
        >>> record["claimed"]["bias"], record["cost"]["forwards"]
        ('vanishing', 3.0)
    """

    directions: Annotated[int, Field(ge=1)] = 1
    step: Annotated[float, Field(gt=0)] = 1e-3
    smooth: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    curvature: Literal["centred", "released"] = "centred"
    unscale: bool = False

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.01, "momentum": 0.0}

    def claims(self, scheme: Scheme) -> Claims:
        """Biased by the preconditioning, vanishing with the step where that is undone; values only."""
        if self.unscale:
            return Claims(bias="vanishing", backward="none")
        why = "preconditioned by its estimate of the curvature"
        return Claims(bias="some", backward="none", why=why)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return h = 1 for every updated weight of every objective."""
        return {
            o.name: {
                name: torch.ones_like(p, requires_grad=False)
                for name, p in scheme.chain.body_parameters(o.updates).items()
            }
            for o in scheme.objectives
            if o.updates
        }

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the difference quotients along the shaped directions, and the next h."""
        u = noise.directions(view.shapes, self.directions)
        raw = {name: u.rows(name, 0, u.n) for name in u.names}
        shaped = FixedDirections({name: t / state[name].sqrt() for name, t in raw.items()})
        slopes, bends = [], []
        for row in range(u.n):
            up, down = (t.mean() for t in view.losses_along(shaped, row, (self.step, -self.step)))
            slopes.append((up - down) / (2 * self.step))
            bends.append(up + down)
        clean = view.losses_along(shaped, 0, (0.0,))[0].mean()
        weight = view.objective.weight
        curved = weight * (torch.stack(bends) - 2 * clean) / (2 * self.step**2)
        back = {n: t * state[n].sqrt() for n, t in raw.items()} if self.unscale else shaped.tensors
        along = Along(FixedDirections(back), torch.stack(slopes) * (weight / u.n))
        s, new = self.smooth, {}
        for name, h in state.items():
            new[name] = (1 - s) * h + s * self.sample(h, raw[name], curved).abs()
        return Estimate(along=along, new_state=new)

    def sample(self, h: Tensor, u: Tensor, curved: Tensor) -> Tensor:
        """Return a sample of the Hessian's diagonal along one weight, averaged over the directions.

        Args:
            h: of the weight.
            u: directions before they were shaped, ``[n, *weight]``.
            curved: (L₊ + L₋ − 2 L₀)/2ε² of each direction, ``[n]``.
        """
        if self.curvature == "released":
            return weighed(curved.abs(), u.square()) * (h / len(u))
        return weighed(curved, u.square() - 1) * (h / len(u))

    def expected(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return g/h, or g where it is unscaled, the mean as the step tends to 0."""
        grads = view.reverse()
        return grads if self.unscale else {name: g / state[name] for name, g in grads.items()}
