"""Direct feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch

from fgbench.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.estimator import State
    from fgbench.noise import Noise
    from fgbench.task import Task
    from fgbench.view import View


@register("estimators", "dfa")
@dataclass(frozen=True)
class DirectFeedbackAlignment(Defaults):
    """Direct feedback alignment: the output error reaches every layer through a random matrix.

    With e = dL/dlogits of the network's own output, ⟨e, B_j h_j⟩ is what layer j descends, h_j its output
    averaged along the axes that share its weights (patches, pixels; channels where a layer mixes
    patches). Its credit is then B_jᵀ e over the number averaged, and one exact pullback goes through
    the layer's own nonlinearity and norm. Biased; with B_j the Jacobian of the logits after layer j it
    is backprop. B_j is gaussian of deviation 1/√(features of h_j), a readout's usual start.

    Args:
        scale: factor of every feedback matrix.

    Cost: one forward pass and one pull; classes × features fixed numbers per layer.

    References: Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks, NeurIPS
    2016.
    """

    scale: float = 1.0

    def claims(self, task: Task) -> Claims:
        """Biased, noiseless given its feedback; one segment back."""
        return Claims(bias="some", backward="segment", deterministic=True)

    def init_state(self, task: Task, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix ``[k, *features]`` per site."""
        draw, classes = noise.child("feedback"), task.chain.classes
        drawn = {
            name: draw.normal(name, (classes, *shape)) * (self.scale / sqrt(prod(shape)))
            for name, shape in task.chain.features().items()
        }
        index = task.chain.index
        return {
            o.name: {name: b for name, b in drawn.items() if index[name][0] in o.updates}
            for o in task.objectives
            if o.updates
        }

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer."""
        error = view.output_error()
        credit = {}
        for name, shape in view.sites.items():
            b = state[name]
            averaged = prod(shape[1:]) // prod(b.shape[1:])
            sent = torch.tensordot(error, b, 1) / averaged
            credit["out", name] = sent.expand(shape)
        return Estimate(credit=credit)
