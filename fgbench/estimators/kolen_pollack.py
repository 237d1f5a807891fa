"""The Kolen-Pollack rule: feedback weights that learn like the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fgbench.core import feedback_weights
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "kolen_pollack")
@dataclass(frozen=True)
class KolenPollack(Defaults):
    """Kolen-Pollack feedback: random feedback weights that take the same steps as the weights.

    The error travels back through B in place of W, as in feedback alignment. B has the shape of W, starts as
    an independent gaussian matrix of W's standard deviation, and takes every step that W takes: the same
    gradient, the outer product of the layer's input and the error that arrives, which both ends of a
    connection have, with the same optimiser, rate, schedule, momentum and weight decay. Whatever the
    gradients are, in W − B they cancel. With a rate η and a weight decay δ what is left is

        W_t − B_t = λᵗ (W_0 − B_0),   λ = 1 − η δ,

    under a schedule the product of the λ, and under momentum the solution of the same recursion without a
    gradient, one number for all entries. So B aligns with W and the estimate tends to backprop, as fast as
    weights decay; without decay the two keep their distance, and align only as far as they grow. An
    optimiser that adapts to single entries keeps the law where its decay is decoupled (``adamw``).

    Also known as: KP, Kolen-Pollack learning.

    Not to be confused with: weight mirror (``weight_mirror``), whose feedback learns from noise in a phase of
    its own; feedback alignment (``fa``), whose feedback is fixed; direct Kolen-Pollack, which has a matrix
    from the output to every layer.

    Args:
        scale: factor of the feedback weights at the start.

    Cost: one forward pass, one with the feedback weights, one backward pass; a copy of each weight, with
    its own buffers of the optimiser.

    References: Kolen, Pollack, Backpropagation without weight transport, ICNN 1994; Akrout, Wilson,
    Humphreys, Lillicrap, Tweed, Deep Learning without Weight Transport, NeurIPS 2019.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="kolen_pollack", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    state_optimizer: ClassVar[str] = "like weights"
    recipe: ClassVar[dict[str, Any]] = {"weight_decay": 0.003}

    scale: float = 1.0

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; goes back through the whole window."""
        return Claims(bias="some", backward="network", deterministic=True, exact=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one feedback weight per weight that an error crosses; objectives share it."""
        return feedback_weights.random(scheme, noise.child("feedback"), self.scale)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradient with the error carried by the feedback weights, which have the same."""
        grads = view.reverse(weights=state)
        heads = view.readout_grads() if view.objective.head else {}
        both = {**grads, **heads}
        return Estimate(grads=grads, state_grads={n: both[n] for n in state if n in both})
