"""Weight mirror: feedback weights that learn the weights from noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core import feedback_weights
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

Rate = Annotated[float, Field(ge=0, le=1)]


@register("estimators", "weight_mirror")
@dataclass(frozen=True)
class WeightMirror(Defaults):
    """Weight mirror: random feedback weights that noise turns into copies of the weights.

    The error travels back through B in place of W, as in feedback alignment. A second phase of every step
    teaches B and touches nothing else. Every layer gets noise x of its own at its input, with mean 0 and
    E[x xᵀ] = 1, and answers y = W x + b. Over n examples, with ȳ their mean,

        S = Σ (y − ȳ) xᵀ / (n − 1),   E[S] = W,   B ← (1 − decay) B + rate S,

    so B tends to (rate/decay) W and the estimate to backprop, whatever the gradients are. The noise of an
    entry of S is (|W's row|² + (κ − 2) W²)/n for noise of kurtosis κ. A convolution sums over its
    positions, which multiplies S. Where norms, pooling or further nonlinearities lie between two weight
    operations, x is what they make of the noise, and B tends to W Cov(x). To subtract ȳ removes the bias b
    and a mean of x.

    Also known as: WM, mirroring.

    Not to be confused with: Kolen-Pollack (``kolen_pollack``), whose feedback takes the steps of the weights;
    feedback alignment (``fa``), whose feedback is fixed. The published rule takes y after the nonlinearity,
    whose mean derivative then multiplies each row, and mirrors for an epoch before training begins.

    Args:
        rate: of what a step adds to B.
        decay: part of B that a step forgets.
        law: of the noise: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform`` as in the released code.
        norm: ``start``: S is scaled to the norm of B and B keeps the norm it started with, that of random
            feedback, because S has the direction of W and not its scale; ``free``: the rule as it stands.
        scale: factor of the feedback weights at the start.

    Cost: one forward pass, one with the feedback weights, one backward pass; one forward pass and one pull
    of the mirror; a copy of each weight.

    References: Akrout, Wilson, Humphreys, Lillicrap, Tweed, Deep Learning without Weight Transport, NeurIPS
    2019; code: makrout/Deep-Learning-without-Weight-Transport.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "epochs": 1}
        >>> fgbench.run("train", method="weight_mirror", **case)["status"]
        'ok'
    """

    rate: Rate = 0.1
    decay: Rate = 0.1
    law: str = "gaussian"
    norm: Literal["start", "free"] = "start"
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, and without noise given its feedback, which its noise teaches; goes back all the way."""
        return Claims(bias="some", backward="network", exact=True)

    def supports(self, scheme: Scheme) -> str:
        """Need readouts of one weight operation, whose answer is the prediction."""
        for o in scheme.objectives:
            weights = [
                p for p in scheme.chain.readout_parameters(o.readout).values() if p.dim() > 1
            ]
            if o.updates and len(weights) > 1:
                return (
                    f"mirrors readouts of one weight operation, and {o.readout} has {len(weights)}"
                )
        return ""

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one feedback weight per weight that an error crosses."""
        return feedback_weights.random(scheme, noise.child("feedback"), self.scale)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradient with the error carried by the feedback weights, and what these learn."""
        grads = view.reverse(weights=state)
        seen = self._mirrored(view, noise.child("mirror"))
        return Estimate(
            grads=grads, new_state={n: self._moved(b, seen[n]) for n, b in state.items()}
        )

    def _mirrored(self, view: View, noise: Noise) -> dict[str, Tensor]:
        """Return S of every weight of the window and its readout."""
        whole = view.only(range(*view.objective.window))
        x = noise.directions(whole.sites, 1, self.law)
        noisy = whole.with_(outs={name: x.rows(name, 0, 1)[0] for name in x.names})
        examples = max(len(view.start) - 1, 1)
        answers = noisy.activities("op")
        centred = {
            ("op", name): (answers[name] - answers[name].mean(0)) / examples for name in x.names
        }
        seen = dict(noisy.pull(centred))
        if view.chain.readout_parameters(view.objective.readout):
            y = noisy.predictions()
            error = (y - y.mean(0)) * (view.objective.weight / examples)
            seen |= noisy.readout_grads(error)
        return seen

    def _moved(self, b: Tensor, seen: Tensor) -> Tensor:
        """Return a feedback weight after the mirror."""
        least, fixed = torch.finfo(b.dtype).tiny, self.norm == "start"
        if fixed:
            seen = seen * (b.norm() / seen.norm().clamp_min(least))
        moved: Tensor = (1 - self.decay) * b + self.rate * seen
        return moved.mul_(b.norm() / moved.norm().clamp_min(least)) if fixed else moved
