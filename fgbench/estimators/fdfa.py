"""Forward direct feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from fgbench.core import direct_feedback
from fgbench.core.direct_feedback import Maps
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fdfa")
@dataclass(frozen=True)
class ForwardDirectFeedbackAlignment(Defaults):
    """Forward direct feedback alignment: direct feedback that forward mode teaches the Jacobian.

    As in direct feedback alignment the credit of layer l is B_lᵀ e, with e = dL/dlogits, and one exact
    pullback goes through the layer's own nonlinearity and norm. B_l learns: random u_l enter at the outputs
    of all layers in one pass of forward mode, whose tangent at the logits is d = Σ_l J_l u_l with
    J_l = dlogits/dh_l. From E[u_l u_jᵀ] = 0 for l ≠ j and E[u_l u_lᵀ] = 1 follows E[d u_lᵀ] = J_l, and B_l
    is a running mean of it over steps, examples and directions. It starts at 0, and the credit takes B_l as
    it was before this step.

    One matrix serves all inputs: B_l tends to the mean of J_l over them, so the estimate is biased where
    J_l depends on the input, and exact in a linear network. An entry of d uᵀ has the variance
    Σ_k |J_k's row|² + J_l² over all perturbed layers k, divided by the number of examples and directions;
    a moving average has beta/(2 − beta) times that.

    Also known as: FDFA.

    Not to be confused with: direct feedback alignment (``dfa``), whose feedback is fixed; activity-perturbed
    forward gradients (``fg_a``), which multiply the direction with one slope of the loss and are unbiased;
    GrAPE (``grape``), whose feedback learns the direction of the Jacobian alone.

    Args:
        beta: part of a new estimate in the moving average.
        learn: ``average``: the moving average, as in the paper; ``adam``: steps of Adam along
            B_l − d u_lᵀ, as in the released code.
        lr: rate of Adam.
        directions: directions per step.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        maps: ``averaged``: one row of feedback per feature, for the mean over the places that share its
            weights, as in ``dfa``; ``full``: one for each place, as in the paper's convolutions.

    Cost: two forward passes, ``directions`` activity slopes and one pull; k × features numbers per layer,
    where k is the number of outputs of the objective's readout.

    References: Bacho, Chu, Low-Variance Forward Gradients using Direct Feedback Alignment and Momentum,
    Neural Networks 169, 2024 (arXiv 2212.07282); code: Florian-BACHO/FDFA.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "epochs": 1}
        >>> fgbench.run("train", method="fdfa", **case)["status"]
        'ok'
    """

    recipe: ClassVar[list[dict[str, Any]]] = [{"when": {"arch": "mlp-*"}, "set": {"lr": 0.03}}]

    beta: Annotated[float, Field(gt=0, le=1)] = 0.1
    learn: Literal["average", "adam"] = "average"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    maps: Maps = "averaged"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    @property
    def state_optimizer(self) -> tuple[str, float]:
        """The optimiser of the feedback, where it learns by gradients."""
        return ("adam", self.lr) if self.learn == "adam" else ("sgd", 1.0)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, and without noise given its feedback, which its noise teaches; one segment back."""
        return Claims(bias="some", backward="segment", exact=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return a feedback matrix of zeros for every site."""
        zero = next(scheme.chain.parameters()).detach()
        return {
            o.name: {
                name: zero.new_zeros(shape)
                for name, shape in direct_feedback.shapes(scheme.chain, o, self.maps).items()
            }
            for o in scheme.objectives
            if o.updates
        }

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer, and what its feedback learns."""
        u = noise.directions(view.sites, self.directions, self.law)
        tangents, error = view.output_tangent(u, at="out"), view.output_error()
        credit, seen = {}, {}
        for name, shape in view.sites.items():
            b = state[name]
            credit["out", name] = direct_feedback.projected(error, b, shape)
            rows = u.rows(name, 0, u.n)
            seen[name] = direct_feedback.jacobian(tangents, rows, b.shape)
            view.price(2 * b.numel() * (1 + u.n))
        if self.learn == "adam":
            return Estimate(credit=credit, state_grads={n: state[n] - s for n, s in seen.items()})
        moved = {n: state[n] + self.beta * (s - state[n]) for n, s in seen.items()}
        return Estimate(credit=credit, new_state=moved)
