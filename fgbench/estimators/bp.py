"""Backprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "bp")
@dataclass(frozen=True)
class Backprop(Defaults):
    """Backprop: the exact gradient of the objective, by reverse mode.

    Under a local scheme this is the gradient of the scheme's own objectives, not of the final loss.

    Also known as: backpropagation, reverse-mode automatic differentiation. ``bp/module`` is deep
    supervision, ``bp/local`` decoupled greedy learning.

    Not to be confused with: the reference step of ``speed``, which is a plain PyTorch step of the same
    model; this one computes the same gradient inside fgbench.

    Cost: one forward and one backward pass.

    References: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, 1986.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="bp", **case)["bias"]["value"]
        0.0
    """

    def claims(self, scheme: Scheme) -> Claims:
        """Exact and deterministic; reverse mode through the whole window."""
        return Claims(bias="none", backward="network", deterministic=True)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the objective's gradient."""
        return Estimate(grads=view.reverse())
