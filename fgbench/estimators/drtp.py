"""Direct random target projection."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from fgbench.core import direct_feedback
from fgbench.core.direct_feedback import Maps
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.losses import IGNORED, squared_error
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

NO_LABELS = "projects class labels, and the targets of this loss are none"


@register("estimators", "drtp")
@dataclass(frozen=True)
class DirectRandomTargetProjection(Defaults):
    """Direct random target projection (DRTP): the label in place of the error.

    The credit of layer j is B_jᵀ y*/n, with the one-hot label y* of an example, the number n of predictions
    in the batch, and a fixed random B_j; one exact pullback goes through its own nonlinearity and norm.
    So a layer is told one of k vectors, column by label, and can be updated before the layers after it have
    run. For outputs between 0 and 1 the label has, up to sign, the sign of the error y − y*, and the sign is
    immaterial because B_j is drawn from a symmetric law. Only the readout learns from the error itself.

    The estimate is biased, and hidden updates do not end when the network is right: weights drift until
    nonlinearities saturate. tanh and sigmoid are therefore part of the published method: use it on
    ``mlp-2x64[activation=tanh]``, for which its recipe has the rate. With B = 0 the readout alone learns, the
    baseline that the method has to beat: with tanh it does (digits, 30 epochs, rate 0.1, one seed: 2.5 %
    against 8.1 %; 4.2 % with hidden layers at 0.01), with ReLU hardly (14 % against 15 %), and only if hidden
    layers learn much more slowly than the readout, as in its recipe for other multilayer perceptrons.

    Also known as: DRTP.

    Not to be confused with: sDFA (``sdfa``), which projects the sign of the error; direct feedback alignment
    (``dfa``), which projects the error; target propagation, which sends targets through learned inverses.

    Args:
        scale: factor of every B_j, which is uniform within ±√(6/features).
        maps: ``averaged``: one row of feedback per feature, for all places that share its weights, each a
            part of it, as in ``dfa``; ``full``: one for each place, as in the paper's convolutions.

    Cost: one forward pass and one pull, and a look-up per layer; k × features fixed numbers per layer, where
    k is the number of classes.

    References: Frenkel, Lefebvre, Bol, Learning Without Feedback: Fixed Random Learning Signals Allow for
    Feedforward Training of Deep Neural Networks, Frontiers in Neuroscience 15, 2021 (arXiv 1909.01311); code:
    ChFrenkel/DirectRandomTargetProjection.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="drtp", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-*"}, "set": {"lr": 0.00003, "final_lr": 3000.0}},
        {"when": {"arch": "mlp-*tanh*"}, "set": {"lr": 0.1, "final_lr": 1.0}},
    ]

    scale: float = 1.0
    maps: Maps = "averaged"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given its feedback; one segment back."""
        return Claims(bias="some", backward="segment", deterministic=True, exact=True)

    def supports(self, scheme: Scheme) -> str:
        """Need class labels: a loss that compares a prediction with one."""
        chain = scheme.chain
        if chain.classes < 2 or chain.criterion is squared_error:
            return NO_LABELS
        for o in scheme.objectives:
            readout = chain.readout(o.readout)
            if o.updates and (readout.coupled or readout.holds):
                return f"projects class labels, and the loss of {o.readout} compares examples"
            if o.updates and chain.predicted(o.readout, o.window[1] - 1)[-1] < 2:
                return f"projects class labels, and {o.readout} predicts one number"
        return ""

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw one fixed feedback matrix ``[k, *features]`` per site; objectives share it."""
        source = noise.child("feedback")
        drawn: dict[str, Tensor] = {}
        found: dict[str, State] = {}
        for o in scheme.objectives:
            if not o.updates:
                continue
            shapes = direct_feedback.shapes(scheme.chain, o, self.maps)
            for name, shape in shapes.items():
                if name not in drawn:
                    bound = self.scale * sqrt(6 / prod(shape[1:]))
                    drawn[name] = bound * (2 * source.draw("uniform", name, 0, shape) - 1)
            found[o.name] = {name: drawn[name] for name in shapes}
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer."""
        labels = view.labels
        if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64:
            raise UsageError(f"drtp {NO_LABELS}: expected int64, got {_kind(labels)}")
        real = next(iter(state.values())).dtype
        share = (labels != IGNORED).to(real) * (view.objective.weight / labels.numel())
        credit = {}
        for name, shape in view.sites.items():
            b = state[name]
            at = direct_feedback.positions(b.shape, shape, labels.shape[1:])
            rows = (b.squeeze(at) if at else b)[labels.clamp_min(0)]
            own = rows * share.view(*labels.shape, *[1] * (rows.dim() - labels.dim()))
            if labels.dim() > 1 and not at:
                own = own.flatten(1, labels.dim() - 1).sum(1)
            credit["out", name] = direct_feedback.placed(own, b.shape, shape, at)
        return Estimate(credit=credit)


def _kind(labels: object) -> str:
    """Return the type of targets, for a message."""
    if isinstance(labels, torch.Tensor):
        return str(labels.dtype).removeprefix("torch.")
    return type(labels).__name__
