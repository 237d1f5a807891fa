"""Feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Literal

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fa")
@dataclass(frozen=True)
class FeedbackAlignment(Defaults):
    """Feedback alignment: backprop with fixed random weights on the way back.

    The error e = dL/dlogits comes from the network's own output and travels through fixed random B in
    place of W, with exact nonlinearities and norms; each weight gradient is the outer product of its
    clean input and the error that arrives. Biased; with B = W it is backprop. Each B has the standard
    deviation of its W at construction, 1/√fan_in where that is 0.

    Args:
        scale: factor of every feedback matrix.
        error: ``output``: of the trained readout's predictions; ``own``: of the random readout that the
            error travels through, with the trained bias, as in the paper's released code: the body then
            descends that readout's loss, and the trained weights get the same error.
        heads: ``mean``: readouts learn from their mean loss; ``summed``: from its copies per kept score,
            p·g times that, as the released global FA does, which is
            ``fa[error=own,heads=summed]/module[keep=b p g]``.

    Cost: one forward pass, one with the feedback weights, one backward pass; a fixed copy of each weight.

    References: Lillicrap, Cownden, Tweed, Akerman, Random synaptic feedback weights support error
    backpropagation for deep learning, Nature Communications 7, 2016; Ren, Kornblith, Liao, Hinton,
    Scaling Forward Gradient With Local Losses, ICLR 2023 (the options).
    """

    scale: float = 1.0
    error: Literal["output", "own"] = "output"
    heads: Literal["mean", "summed"] = "mean"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; goes back through the whole window."""
        return Claims(bias="some", backward="network", deterministic=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix per weight of the body and of the readouts that give errors."""
        drawn: dict[str, Tensor] = {}
        states: dict[str, State] = {}
        for objective in scheme.objectives:
            if not objective.updates:
                continue
            weights = {
                **scheme.chain.body_parameters(objective.updates),
                **scheme.chain.readout_parameters(objective.readout),
            }
            states[objective.name] = {}
            for name, w in weights.items():
                if w.dim() < 2:
                    continue
                if name not in drawn:
                    std = float(w.detach().std()) or 1 / sqrt(w[0].numel())
                    b = noise.child("feedback").normal(name, tuple(w.shape))
                    drawn[name] = b * (self.scale * std)
                states[objective.name][name] = drawn[name]
        return states

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradient with the error carried by the feedback weights."""
        error = view.output_error(view.predictions(state)) if self.error == "own" else None
        heads = None
        if self.error == "own" or self.heads == "summed":
            copies = view.count(view.kept) if self.heads == "summed" else 1
            heads = {name: g * copies for name, g in view.readout_grads(error).items()}
        return Estimate(grads=view.reverse(weights=state, error=error), readouts=heads)
