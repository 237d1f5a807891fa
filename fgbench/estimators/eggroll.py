"""Evolution strategies with members of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core import differences
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "eggroll")
@dataclass(frozen=True)
class LowRankEvolution(Defaults):
    """EGGROLL: antithetic pairs of members W ± σ A Bᵀ/√r, weighted by their z-scores.

    For every matrix (m × n) a pair draws A (m × r) and B (n × r), both gaussian and fresh; vectors get full
    gaussian noise. With losses f of the 2N members the estimate is σ (1/2N) Σ z_i (± E_i), z_i = (f_i − mean
    f)/spread f, E_i = A Bᵀ/√r. The mean of the losses cancels in pairs, so this is the central difference
    estimate of the gradient divided by spread f/σ, which tends to |∇L| for many members and small σ: a
    gradient of unit length. Multiplying the loss by a number, or adding one, changes nothing.

    A population's own spread is correlated with its slopes, and low rank has no rotational symmetry, so that
    the mean is not exactly along the gradient. ``scores=raw`` leaves the division out: unbiased as σ → 0 for
    every rank, with the relative variance (mn + 1 + 2 (m + n + 1)/r)/N of one matrix.

    Also known as: evolution guided general optimisation via low-rank learning.

    Not to be confused with: ``lozo``, whose right factor stays for several steps; evolution strategies with
    full noise and raw losses, which are ``wp[sided=central]``; rank shaping, which replaces losses by ranks.
    The released step is √(2N) times this estimate, and its fitness is maximised.

    Args:
        directions: pairs of members N.
        rank: r.
        step: σ in units of the weights; 0 takes exact slopes by forward mode.
        scores: ``z``: losses are divided by their spread over the population; ``raw``: they are not.

    Cost: one clean and ``2 directions`` perturbed forward passes. A member's pass can be made of the clean
    one and two thin products per matrix, which is not done here; r (m + n) random numbers per pair and
    matrix.

    References: Sarkar, Fellows, Duque, et al., Evolution Strategies at the Hyperscale, arXiv 2511.16652,
    2025.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="eggroll", **case)
        >>> record["claimed"]["bias"], record["claimed"]["why"]
        ('some', 'losses are divided by their spread over the population')
    """

    directions: Annotated[int, Field(ge=1)] = 8
    rank: Annotated[int, Field(ge=1)] = 1
    step: Annotated[float, Field(ge=0)] = 1e-3
    scores: Literal["z", "raw"] = "z"

    recipe = (
        {"set": {"lr": 1e-3}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 3e-3}},
    )

    @property
    def law(self) -> str:
        """Law of the directions."""
        return f"lowrank[rank={self.rank}]"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased by the spread of the population; with raw losses unbiased as the step vanishes."""
        if self.scores == "z":
            why = "losses are divided by their spread over the population"
            return Claims(bias="some", backward="none", why=why)
        if self.step == 0:
            return Claims(bias="none", backward="none", slopes_only=True)
        return Claims(bias="vanishing", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter, over the spread of the losses."""
        v = noise.directions(view.shapes, self.directions, self.law)
        ahead, behind = differences.both(view, v, self.step)
        slopes = (ahead + behind) / 2
        if self.scores == "z":
            changes = (
                torch.cat([ahead, -behind]).flatten(1).sum(1)
            )  # of the losses of members, over σ
            spread = changes.std(correction=0)
            slopes = torch.where(spread > 0, slopes / spread, torch.zeros_like(slopes))
        return Estimate(grads=view.credit(slopes, v))

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of raw exact slopes."""
        if self.step > 0 or self.scores == "z":
            return None
        return forward_gradient.weight_variance(view, self.law, self.directions, view.cells)
