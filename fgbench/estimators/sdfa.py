"""Direct feedback alignment by the sign of the error."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from fgbench.core import direct_feedback
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "sdfa")
@dataclass(frozen=True)
class SignDirectFeedbackAlignment(Defaults):
    """Direct feedback alignment of the sign of the output error (sDFA).

    The credit of layer j is B_jᵀ sign(e)/n, with e = dL/dlogits of an example, n the number of predictions of
    the batch, and a fixed random B_j; one exact pullback goes through the layer's own nonlinearity and norm.
    The factor 1/n makes it a mean over the batch. The size of the error does not count: multiplying e by any
    positive number leaves the credit unchanged, and the updates of hidden layers do not vanish as the
    network learns. With a softmax and cross entropy the sign of e is −1 at the label and +1 at every other
    class, so the credit depends on the label alone: Σ_k B_k − 2 B_label, of which the first part is the same
    for all examples and drives units into saturation, those at least for which it outweighs the label's part.

    So it trains wide nets with tanh, and was nowhere seen to beat the net whose readout alone learns.
    On digits (30 epochs, readout at 0.1, one seed), against that net: 2.2 % against 1.4 % with
    ``mlp-1x512[activation=tanh]`` at rate 0.1; 4.2 against 3.9 with ``mlp-1x64[activation=tanh]`` at
    0.03; 12 against 8 with ``mlp-2x64[activation=tanh]`` at 0.03, and 18, 14, 52 and 19 at 0.1, 0.01,
    0.001 and 0.0001. With ReLU 14 against 15, where hidden layers must learn much more slowly than the
    readout, as in its recipe.

    Also known as: sDFA, error-sign-based direct feedback alignment.

    Not to be confused with: direct feedback alignment (``dfa``), which projects e itself; direct random
    target projection (``drtp``), which projects the one-hot label; sign symmetry (``sign_symmetry``), where
    the signs are those of the weights.

    Args:
        scale: factor of every feedback matrix, gaussian with standard deviation 1/√(features of the layer)
            as in ``dfa``; √2 gives the deviation of the released code, whose law is uniform.

    Cost: one forward pass and one pull; k × features fixed numbers per layer, where k is the number of
    outputs of the objective's readout.

    References: Frenkel, Lefebvre, Bol, Learning Without Feedback: Fixed Random Learning Signals Allow for
    Feedforward Training of Deep Neural Networks, Frontiers in Neuroscience 15, 2021 (arXiv 1909.01311).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="sdfa", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-*"}, "set": {"lr": 0.00001, "final_lr": 10000.0}}
    ]

    scale: float = 1.0

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; one segment back."""
        return Claims(bias="some", backward="segment", deterministic=True, exact=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix ``[k, *features]`` per site; objectives share it."""
        source = noise.child("feedback")
        drawn: dict[tuple[str, int], Tensor] = {}
        found: dict[str, State] = {}
        for o in scheme.objectives:
            if not o.updates:
                continue
            found[o.name] = {}
            for name, shape in direct_feedback.shapes(scheme.chain, o).items():
                if (name, shape[0]) not in drawn:
                    b = source.normal(name, shape) * (self.scale / sqrt(prod(shape[1:])))
                    drawn[name, shape[0]] = b
                found[o.name][name] = drawn[name, shape[0]]
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer."""
        error = view.output_error()
        sign = error.sign() * (view.objective.weight / prod(error.shape[:-1]))
        credit = {}
        for name, shape in view.sites.items():
            view.price(2 * state[name].numel())
            credit["out", name] = direct_feedback.projected(sign, state[name], shape)
        return Estimate(credit=credit)
