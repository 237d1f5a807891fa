"""Forward gradient along the gradient of a local loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from fgbench.core import direct_feedback
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fg_guess")
@dataclass(frozen=True)
class LocalGuess(Defaults):
    """Forward gradient along a local guess: the projection of the gradient onto that of a local loss.

    Every layer has a linear head of its own on its output h, averaged along the axes that share its
    weights, with a local loss. The guess is U, the derivative of the local loss with respect to h; the
    target G is that of the objective. One exact slope ⟨G, U⟩ for each layer gives, per example, the
    projection

        Ĝ = ⟨G, U⟩ U/|U|²,

    which takes the place of the gradient at the layer's output and is pulled back through the layer. There
    is no noise: Ĝ is G times the cosine of the two, turned to U, so it never points uphill and neither sign
    nor length of U matters. It is biased by what G has beside U, and G itself where the local head is the
    network's own.

    The heads are state of the estimator and learn their local losses with Adam.

    Also known as: local guess, activation-space gradient guess; with ``heads=fresh`` and ``fixed`` the NTK
    and fixed-NTK guesses.

    Not to be confused with: local losses (``bp/local``), which descend U itself; direct feedback alignment
    (``dfa[error=own]``), the same U through fixed random heads; ``fg_a``, along random directions.

    Args:
        heads: ``learned``; ``fixed``: as drawn at the start; ``fresh``: drawn anew at every step.

    Cost: one forward pass, a slope and a forward pass for every layer, one pull; 4 k × features operations
    per layer.

    References: Fournier, Rivaud, Belilovsky, Eickenberg, Oyallon, Can Forward Gradient Match
    Backpropagation?, ICML 2023 (activation space; its guesses in weight space are not here).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-2x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="fg_guess", **case)
        >>> record["relative_variance"]["value"], record["cost"]["slopes"]
        (0.0, 2.0)
    """

    recipe: ClassVar[list[dict[str, Any]]] = [{"when": {"arch": "mlp-*"}, "set": {"lr": 0.03}}]
    heads: Literal["learned", "fixed", "fresh"] = "learned"
    state_optimizer: ClassVar[tuple[str, float]] = ("adam", 1e-3)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, without noise given its heads; one segment back."""
        still = self.heads != "fresh"
        why = "it is the projection of the gradient onto that of a local loss"
        return Claims(bias="some", backward="segment", deterministic=still, why=why)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw a head for every layer of every objective, of the deviation 1/√features; biases are 0."""
        if self.heads == "fresh":
            return {}
        found: dict[str, State] = {}
        for o in scheme.objectives:
            if o.updates:
                shapes = direct_feedback.shapes(scheme.chain, o)
                found[o.name] = _drawn(shapes, noise.child(f"heads of {o.name}"))
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer, and the gradients of the heads."""
        if self.heads == "fresh":
            state = _drawn(direct_feedback.shapes(view.chain, view.objective), noise.child("heads"))
        error, credit = view.output_error(), {}
        learned: Grads = {}
        for name in view.sites:
            u, grads = _guess(view, name, state)
            learned |= grads
            view.price(view.share * view.chain.operations())  # values pass beside the tangent
            tangent = view.output_tangent(FixedDirections({name: u.unsqueeze(0)}), at="out")[0]
            slope, square = (tangent * error).flatten(1).sum(1), (u * u).flatten(1).sum(1)
            tiny = torch.finfo(square.dtype).tiny
            factor = torch.where(square > 0, slope / square.clamp_min(tiny), 0.0)
            credit["out", name] = factor.reshape(-1, *[1] * (u.dim() - 1)) * u
        return Estimate(credit=credit, state_grads=learned if self.heads == "learned" else {})


def _drawn(shapes: Mapping[str, tuple[int, ...]], noise: Noise) -> State:
    """Draw heads ``[k, *features]`` with biases."""
    found: State = {}
    for name, shape in shapes.items():
        found[name] = noise.normal(name, shape) / sqrt(prod(shape[1:]))
        found[f"{name}.bias"] = found[name].new_zeros(shape[0])
    return found


def _guess(view: View, name: str, state: State) -> tuple[Tensor, Grads]:
    """Return the derivative of a layer's local loss with respect to its output, and those of its head."""
    b, h = state[name], view.activities()[name]
    predicted = view.predictions().shape[1:-1]
    at = direct_feedback.positions(b.shape, h.shape, predicted)
    averaged = [i for i in range(1, h.dim()) if b.shape[i] < h.shape[i] and i not in at]
    features = h.mean(averaged, keepdim=True) if averaged else h
    features = features.movedim(at, list(range(1, 1 + len(at)))).flatten(1 + len(at))
    with view.counted():
        logits = features @ b.flatten(1).mT + state[f"{name}.bias"]
    if not at and predicted:
        logits = logits.reshape(len(h), *[1] * len(predicted), -1).expand(-1, *predicted, -1)
    error = view.output_error(logits)
    own = error if at or error.dim() == 2 else error.flatten(1, -2).sum(1)
    with view.counted():
        u = direct_feedback.projected(error, b, h.shape)
        grad = own.flatten(0, -2).mT @ features.flatten(0, -2)
    return u, {name: grad.reshape(b.shape), f"{name}.bias": own.flatten(0, -2).sum(0)}
