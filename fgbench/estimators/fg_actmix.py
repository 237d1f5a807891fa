"""Forward gradient along mixtures of the batch's own activities."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import PerExample, law
from fgbench.core.theory.site_gradients import site_gradients
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fg_actmix")
@dataclass(frozen=True)
class ActivationMixing(Defaults):
    """Forward gradient along y = D Σ_b c_b h_b: random mixtures of the activities h of the batch.

    Gradient descent writes sums of δ hᵀ into the next layer's weights, so what comes back through them lies
    near the span of the activities h of this layer. The guess at a layer, for each example, is a random
    mixture of the activities of all examples there, c_b independent with variance 1/B for a batch of B,
    through the derivative D of the nonlinearity. One slope s per example serves all layers, and the credit
    is s y. Its mean is D Hᵀ H D δ/B, H holding the activities in its rows: biased, and 0 outside their
    span. The paper's own scale of c is not known to us; another one only changes the learning rate.

    Also known as: activation mixing.

    Not to be confused with: activation-guided perturbation (``agzo``), whose weight directions are mixtures
    of the inputs of a layer and have no bias.

    Args:
        directions: guesses averaged per estimate.
        law: law of c: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: two forward passes, and per direction B products per unit, one pull through the nonlinearities and
    one activity slope; one pull more.

    References: Singhal, Cheung, Chandra, Ragan-Kelley, Tenenbaum, Poggio, Yu, How to Guess a Gradient, 2023.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="fg_actmix", **case)["claimed"]["why"]
        'its mean is 0 outside the span of the activities of the batch'
    """

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.003}

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased towards the activities; one segment back."""
        why = "its mean is 0 outside the span of the activities of the batch"
        return Claims(bias="some", backward="segment", why=why)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times guess at every site."""
        sites, acts = view.sites, view.activities()
        b = next(iter(sites.values()))[0]
        mixed = PerExample(dict.fromkeys(sites, (b, b)), sites.repeats)
        c = noise.directions(mixed, self.directions, self.law)
        guesses: dict[str, list[Tensor]] = {name: [] for name in sites}
        for row in range(c.n):
            with view.counted():
                sent = {n: c.rows(n, row, row + 1)[0] @ acts[n].flatten(1) / sqrt(b) for n in sites}
            back = _through(view, sent)
            for name in sites:
                guesses[name].append(back[name])
        y = FixedDirections({name: torch.stack(rows) for name, rows in guesses.items()})
        return Estimate(credit=view.credit(view.slopes(y), y))

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the mean, D Hᵀ H D δ/B pulled back, where scores stay separate by example alone."""
        if view.kept != "b" or view.objective.coupled(view.chain):
            return None
        acts = view.activities()
        sent = {}
        for name, delta in site_gradients(view).items():  # one by one: residuals would add others
            own = FixedDirections({name: delta.unsqueeze(0)})
            ahead = view.site_tangents(own, one_layer=True)
            h, t = acts[name].flatten(1), ahead["out", name][0].flatten(1)
            sent[name] = t @ h.mT @ h / len(h)
        return view.pull(_through(view, sent))


def _through(view: View, sent: Grads) -> Grads:
    """Pull cotangents ``[b, units]`` at the outputs of layers back through their nonlinearities."""
    acts = view.activities()
    places = {("out", name): t.reshape(acts[name].shape) for name, t in sent.items()}
    back = view.pull(places, to="taps")
    return {name: back["site", name] for name in sent}
