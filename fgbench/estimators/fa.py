"""Feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fgbench.core import feedback_weights
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fa")
@dataclass(frozen=True)
class FeedbackAlignment(Defaults):
    """Feedback alignment: backprop with fixed random weights in the backward pass.

    The error e = dL/dlogits of the network's own output travels back through fixed random B in place of
    W, with exact derivatives of nonlinearities and norms. Each weight gradient is the outer product of
    the layer's clean input and the error that arrives. The estimate is biased; with B = W it is backprop.
    Each B has the standard deviation of its W at construction, or 1/√fan_in where that is 0.

    Also known as: FA, random feedback weights.

    Not to be confused with: direct feedback alignment (``dfa``), where the output error reaches every
    layer directly; sign-symmetry, whose feedback has the signs of W; weight mirror and Kolen-Pollack,
    whose feedback weights learn.

    Args:
        scale: factor of every feedback matrix.
        error: ``output``: the error of the trained readout's predictions; ``own``: the error of the
            random readout that it travels through, with the trained bias, as in the paper's released
            code. The body then descends that readout's loss, and the trained readout gets the same error.
        heads: ``mean``: readouts learn from their mean loss; ``summed``: from the sum of its copies per
            kept score, p·g times as much, as the released global FA does, which is
            ``fa[error=own,heads=summed]/module[keep=b p g]``.

    Cost: one forward pass, one with the feedback weights, one backward pass; a fixed copy of each weight.

    References: Lillicrap, Cownden, Tweed, Akerman, Random synaptic feedback weights support error
    backpropagation for deep learning, Nature Communications 7, 2016; Ren, Kornblith, Liao, Hinton,
    Scaling Forward Gradient With Local Losses, ICLR 2023 (the options).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="fa", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    scale: float = 1.0
    error: Literal["output", "own"] = "output"
    heads: Literal["mean", "summed"] = "mean"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; goes back through the whole window."""
        return Claims(bias="some", backward="network", deterministic=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix per weight that an error crosses: of windows and their readouts."""
        return feedback_weights.random(scheme, noise.child("feedback"), self.scale)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradient with the error carried by the feedback weights."""
        error = view.output_error(view.predictions(state)) if self.error == "own" else None
        heads = None
        if self.error == "own" or self.heads == "summed":
            copies = view.count(view.kept) if self.heads == "summed" else 1
            heads = {name: g * copies for name, g in view.readout_grads(error).items()}
        return Estimate(grads=view.reverse(weights=state, error=error), readouts=heads)
