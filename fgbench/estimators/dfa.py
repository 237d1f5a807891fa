"""Direct feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Literal

import torch

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


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
        error: ``output``: the objective's own output error e; ``own``: that of the logits B_j h_j
            themselves, a fixed random readout on layer j, as in the code of Ren et al.: layer j then
            descends a loss of its own, and nothing comes from the output.

    Cost: one forward pass and one pull; k × features fixed numbers per layer, k those that the readout
    of its objective predicts.

    References: Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks, NeurIPS
    2016; Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
    """

    scale: float = 1.0
    error: Literal["output", "own"] = "output"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; one segment back."""
        return Claims(bias="some", backward="segment", deterministic=True)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix ``[k, *features]`` per site; a readout also has a bias, 0."""
        drawn: dict[tuple[str, int], State] = {}  # windows that share a site share its matrix
        found: dict[str, State] = {}
        for o in scheme.objectives:
            k = scheme.chain.outputs(o.readout, o.window[1] - 1) if o.updates else 0
            for name, shape in scheme.chain.features().items():
                if scheme.chain.index[name][0] in o.updates:
                    if (name, k) not in drawn:
                        drawn[name, k] = self._drawn(name, (k, *shape), noise.child("feedback"))
                    found.setdefault(o.name, {}).update(drawn[name, k])
        return found

    def _drawn(self, name: str, shape: tuple[int, ...], noise: Noise) -> State:
        """Draw one site's matrix, with a bias where it serves as a readout."""
        b = noise.normal(name, shape) * (self.scale / sqrt(prod(shape[1:])))
        return {name: b, **({f"{name}.bias": b.new_zeros(shape[0])} if self.error == "own" else {})}

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer."""
        error = view.output_error() if self.error == "output" else None
        credit = {}
        for name, shape in view.sites.items():
            b = state[name]
            e = self._own(view, name, state) if error is None else error
            averaged = prod(shape[1:]) // prod(b.shape[1:])
            credit["out", name] = (torch.tensordot(e, b, 1) / averaged).expand(shape)
        return Estimate(credit=credit)

    def _own(self, view: View, name: str, state: State) -> Tensor:
        """Return the error ``[b, k]`` of a layer's own random readout."""
        b, h = state[name], view.activities()[name]
        averaged = [i for i in range(1, h.dim()) if b.shape[i] < h.shape[i]]
        features = h.mean(averaged) if averaged else h
        logits = features.flatten(1) @ b.flatten(1).mT + state[f"{name}.bias"]
        return view.output_error(logits)
