"""PEPITA: error-driven modulation of the input."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "pepita")
@dataclass(frozen=True)
class Pepita(Defaults):
    """PEPITA: a second forward pass, on the input modulated by the error, in place of the backward pass.

    The clean pass gives the outputs h_l of the layers and the error e = dL/dlogits of every example. The
    second one starts from x′ = x + F e with a fixed random F and gives h′_l and e′. The estimate is

        layers:  (h_l − h′_l) h′_{l−1}ᵀ,   readout:  e′ h′_{L−1}ᵀ,

    averaged over examples: the difference is the credit at the pre-activation, with no derivative of its
    nonlinearity, and meets the inputs of the second pass. Biases get the difference, and a norm between the
    weights and the pre-activation is passed exactly. Where no ReLU switches, h′_l − h_l = D_l W_l ... D_1 W_1
    F e with the masks D: PEPITA is direct feedback with the adaptive matrix −D_l W_l ... D_1 W_1 F, and works
    as far as W_L ... W_1 F becomes negative. The estimate is biased, and the hidden layers' is of the size of
    F, which the readout's is not.

    Also known as: Present the Error to Perturb the Input To modulate Activity, error-driven input modulation.

    Not to be confused with: forward-forward, whose two passes see good and bad data; direct feedback
    alignment (``dfa``), whose feedback is fixed and enters at every layer.

    Args:
        kappa: F is uniform within ±kappa √(6/inputs).
        presynaptic: whose inputs a layer's difference meets: those of the ``second`` pass, as in the paper's
            equations, or of the ``first``.

    Cost: two forward passes and one pull; outputs × inputs fixed numbers per objective.

    References: Dellaferrera, Kreiman, Error-driven Input Modulation: Solving the Credit Assignment Problem
    without a Backward Pass, ICML 2022 (arXiv 2201.11665); code: GiorgiaD/PEPITA.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="pepita", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [{"when": {"arch": "mlp-*"}, "set": {"lr": 0.3}}]

    kappa: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    presynaptic: Literal["second", "first"] = "second"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given F; one segment back."""
        return Claims(bias="some", backward="segment", deterministic=True, exact=True)

    def supports(self, scheme: Scheme) -> str:
        """Need inputs that are real numbers, at which windows begin."""
        if scheme.moves:
            locality = type(scheme.locality).__name__
            return f"adds the error to the input, and {locality} begins its windows at another one"
        for o in scheme.objectives:
            if o.updates and scheme.chain.reads(o.window[0]) is None:
                return "adds the error to the input, which is no single tensor of real numbers here"
        return ""

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw F ``[k, *input]`` for every objective."""
        chain = scheme.chain
        found: dict[str, State] = {}
        for o in scheme.objectives:
            shape = chain.reads(o.window[0]) if o.updates else None
            if shape is not None:
                k = chain.predicted(o.readout, o.window[1] - 1)[-1]
                bound = self.kappa * sqrt(6 / prod(shape))
                drawn = noise.child("modulation").draw("uniform", o.name, 0, (k, *shape))
                found[o.name] = {"F": (2 * drawn - 1) * bound}
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradients that the difference of the two passes gives."""
        f, chain, examples = state["F"], view.chain, len(view.start)
        error = view.output_error() * examples
        error = error.flatten(1, -2).sum(1) if error.dim() > 2 else error
        view.price(2 * f.numel())
        modulated = chain.begins(view.start) + torch.tensordot(error, f, 1)
        second = view.with_(x=chain.beginning(view.start, modulated))
        before, after = view.activities(), second.activities()
        credit = {}
        for name, shape in view.sites.items():
            if tuple(before[name].shape) != shape:
                raise UsageError(
                    f"pepita takes differences of outputs for pre-activations, and the output of {name} has "
                    f"shape {list(before[name].shape)}, its pre-activation {list(shape)}"
                )
            credit["site", name] = (before[name] - after[name]) / examples
        into = second if self.presynaptic == "second" else view
        return Estimate(grads=into.pull(credit), readouts=second.readout_grads())
