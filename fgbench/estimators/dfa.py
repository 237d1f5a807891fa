"""Direct feedback alignment."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Literal

from fgbench.core import direct_feedback
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
    """Direct feedback alignment: the output error reaches every layer through a fixed random matrix.

    Let e = dL/dlogits at the network's own output, and h_j the output of layer j averaged along the axes
    that share its weights (patches, pixels; channels where a layer mixes patches). Layer j descends
    ⟨e, B_j h_j⟩: its credit is B_jᵀ e divided by the number of averaged places, and one exact pullback
    goes through the layer's own nonlinearity and norm. The estimate is biased; with B_j the Jacobian of
    the logits after layer j it is backprop. Where predictions have positions, such as one per token, the
    error of a position goes to that position of a layer that has it, and the sum of the errors to others.
    B_j is gaussian with standard deviation 1/√(features of h_j), a common initialisation of a readout.

    Also known as: DFA, direct random feedback.

    Not to be confused with: feedback alignment (``fa``), where the error passes through the layers one by
    one (with one hidden layer the two agree); direct random target projection, which projects the label
    instead of the error; sDFA, which projects the sign of the error.

    Args:
        scale: factor of every feedback matrix.
        error: ``output``: the objective's own output error e; ``own``: the error of the logits B_j h_j
            themselves, as in the released code of Ren et al. B_j is then a fixed random readout of layer
            j, which descends a loss of its own, and nothing comes from the network's output.

    Cost: one forward pass and one pull; k × features fixed numbers per layer, where k is the number of
    outputs of the objective's readout.

    References: Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks, NeurIPS
    2016; Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="dfa", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
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
            among = {*o.updates, *scheme.chain.sharing(o.updates, o.window)}
            for name, shape in scheme.chain.features().items():
                if scheme.chain.index[name][0] in among:
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
            view.price(2 * b.numel() * (2 if error is None else 1))
            credit["out", name] = direct_feedback.projected(e, b, shape)
        return Estimate(credit=credit)

    def _own(self, view: View, name: str, state: State) -> Tensor:
        """Return the error ``[b, ..., k]`` of a layer's own random readout."""
        b, h = state[name], view.activities()[name]
        positions = view.predictions().shape[1:-1]
        at = direct_feedback.positions(b.shape, h.shape, positions)
        averaged = [i for i in range(1, h.dim()) if b.shape[i] < h.shape[i] and i not in at]
        features = h.mean(averaged, keepdim=True) if averaged else h
        features = features.movedim(at, list(range(1, 1 + len(at))))
        logits = features.flatten(1 + len(at)) @ b.flatten(1).mT + state[f"{name}.bias"]
        if not at and positions:
            logits = logits.reshape(len(h), *[1] * len(positions), -1).expand(-1, *positions, -1)
        return view.output_error(logits)
