"""Direct feedback of the error that every training example had at its last visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.nn.functional import one_hot

from fgbench.core import direct_feedback
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.errors import UsageError
from fgbench.registry import Nested, register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

KEYS, ERRORS, COUNT = "kept keys", "kept errors", "kept"
MIX = -0x61C8864680B583EB  # an odd number of 64 bits whose multiples are spread evenly
PARTS = (0, 21, 42)  # a fingerprint is three whole numbers below 2²¹, exact in float32
Info = Literal[
    "delayed_loss", "delayed_error", "delayed_error_softmax", "current_error", "one_hot_target"
]


@register(
    "estimators",
    "f3",
    variants={"error": {"info": "delayed_error"}, "softmax": {"info": "delayed_error_softmax"}},
)
@dataclass(frozen=True)
class DelayedFeedback(Defaults):
    """Feed-forward with delayed feedback (F3): direct feedback alignment of an error that is one epoch old.

    The credit at the output of layer j is B_jᵀ e/n, with a fixed random B_j, n examples in the batch, and
    the error e that each of them had at its last visit: a layer can learn in the forward pass, before the
    present error is known. At the first visit e is minus the target, which is direct random target projection
    up to the sign of B. Unlike there, hidden updates end where the network is right. The estimate is biased
    as that of direct feedback alignment, and by the age of the error: with frozen weights the second visit
    is ``dfa``.

    The released code hands t − o down in place of the error, which is B → −B, and leaves out 1/n there.

    No oracle says which examples a batch holds. They are told by the bits of input and target, so that
    augmented images, which differ at every visit, are refused.

    Also known as: F3.

    Not to be confused with: ``drtp``, whose label stands for the error throughout; pipelines with delayed
    gradients, which take old weights.

    Args:
        info: what is kept of a visit: ``delayed_loss``: the derivative of the example's loss by its
            predictions o; ``delayed_error``: o − t; ``delayed_error_softmax``: softmax(o) − t. Two limits
            keep nothing: ``current_error`` is ``dfa``, ``one_hot_target`` projects the target throughout.
        one_hot: whether only the entry of the target is kept.
        base: where the feedback comes from: ``dfa`` or ``drtp``.
        capacity: examples that can be kept, at least as many as are trained on.

    Cost: one forward pass and one pull, and a product with each feedback matrix; state: 3 + k numbers per
    example that can be kept, for k predictions.

    References: Flügel, Coquelin, Weiel, Debus, Streit, Götz, Feed-Forward Optimization With Delayed Feedback
    for Neural Networks, 2023 (arXiv 2304.13372); code: Helmholtz-AI-Energy/f3.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="f3", **case)
        >>> record["relative_variance"]["value"], record["claimed"]["bias"]
        (0.0, 'some')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-*"}, "set": {"lr": 0.001, "final_lr": 100.0}}
    ]

    info: Info = "delayed_loss"
    one_hot: bool = False
    base: Nested = Nested("dfa")
    capacity: Annotated[int, Field(ge=1)] = 2048

    @property
    def keeps(self) -> bool:
        """Whether errors of earlier visits are kept."""
        return self.info.startswith("delayed")

    def claims(self, scheme: Scheme) -> Claims:
        """Biased, noiseless given feedback and what is kept; one segment back."""
        why = "feedback is random, and the error is that of the example's last visit"
        return Claims(bias="some", backward="segment", deterministic=True, why=why)

    def supports(self, scheme: Scheme) -> str:
        """Need examples that can be told again, and one prediction for each."""
        if scheme.copies > 1:
            return (
                "views of an example differ from visit to visit, and its last error is not theirs"
            )
        if not scheme.chain.input_shape:
            return (
                "examples are told by their inputs, which a network of this kind does not hand over"
            )
        if any(o.window[0] > 0 for o in scheme.objectives if o.updates):
            return "examples are told by the network's inputs, which later local losses do not see"
        if any(len(_predicted(scheme, o)) != 1 for o in scheme.objectives if o.updates):
            return "it keeps one prediction for each example"
        reason: str = self.base.estimator.supports(scheme)
        return reason

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return the feedback of the base, and room for the errors that are kept."""
        found: dict[str, State] = {
            name: dict(own)
            for name, own in self.base.estimator.init_state(scheme, noise.child("base")).items()
        }
        for o in scheme.objectives if self.keeps else ():
            if o.updates:
                own = found[o.name]
                like = next(iter(own.values()))
                own[COUNT] = like.new_zeros(1)
                own[KEYS] = like.new_full((self.capacity, len(PARTS)), -1)
                own[ERRORS] = like.new_zeros(self.capacity, *_predicted(scheme, o))
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit at the output of every layer, and what is kept after this visit."""
        examples, new = len(view.labels), None
        if self.info == "current_error":
            error = view.output_error()
        else:
            error = -_target(view) * (view.objective.weight / examples)
        if self.keeps:
            kept, new = self._exchange(view, state, error * examples)
            error = kept / examples
        credit = {}
        for name, shape in view.sites.items():
            view.price(2 * state[name].numel())
            credit["out", name] = direct_feedback.projected(error, state[name], shape)
        return Estimate(credit=credit, new_state=new)

    def _exchange(self, view: View, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Return the errors of the last visits, ``first`` where there was none, and the state with these."""
        keys, errors, count = state[KEYS], state[ERRORS], int(state[COUNT])
        mine = fingerprints(view.start, view.labels).to(keys)
        same = (mine[:, None] == keys).all(2)
        known, slots = same.any(1), same.int().argmax(1)
        last = torch.where(known[:, None], errors[slots], first)
        slots = torch.where(known, slots, count + (~known).long().cumsum(0) - 1)
        count += int((~known).sum())
        if count > self.capacity:
            raise UsageError(
                f"more than capacity={self.capacity} training examples: raise the option capacity of f3"
            )
        after = {
            KEYS: keys.index_copy(0, slots, mine),
            ERRORS: errors.index_copy(0, slots, self._visit(view)),
            COUNT: torch.full_like(state[COUNT], count),
        }
        return last, {**state, **after}

    def _visit(self, view: View) -> Tensor:
        """Return what is kept of this visit, ``[b, k]``."""
        o, target = view.predictions(), _target(view)
        if self.info == "delayed_loss":
            error = view.output_error() * len(o)
        else:
            seen = o.softmax(1) if self.info == "delayed_error_softmax" else o
            error = (seen - target) * view.objective.weight
        return (error * target if self.one_hot else error).detach()


def fingerprints(*parts: Tensor) -> Tensor:
    """Return three whole numbers for every example that follow from the bits of its tensors.

    Args:
        parts: ``[b, ...]`` each.

    Returns:
        ``[b, 3]``, equal where all bits are, and hardly ever elsewhere.

    Example:
        >>> found = fingerprints(torch.tensor([[0.5], [0.25], [0.5]]), torch.tensor([1, 1, 1]))
        >>> bool((found[0] == found[2]).all()), bool((found[0] == found[1]).any())
        (True, False)
    """
    rows = []
    for part in parts:
        row = part.detach().reshape(len(part), -1).contiguous()
        if row.is_floating_point():
            row = row.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[row.element_size()])
        rows.append(row.long())
    bits = torch.cat(rows, 1)
    weights = torch.arange(1, bits.shape[1] + 1, device=bits.device) * MIX
    weights = ((weights ^ (weights >> 31)) * MIX) | 1
    products = (bits + 1) * weights
    found = (products ^ (products >> 29)).sum(1) * MIX
    found = found ^ (found >> 32)
    return torch.stack([(found >> part) & 0x1FFFFF for part in PARTS], 1)


def _predicted(scheme: Scheme, objective: Objective) -> tuple[int, ...]:
    """Return the shape of what an objective's readout predicts of one example."""
    return scheme.chain.predicted(objective.readout, objective.window[1] - 1)


def _target(view: View) -> Tensor:
    """Return what the predictions ought to be, ``[b, k]``: labels as one-hot rows."""
    o, labels = view.predictions(), view.labels
    if labels.is_floating_point():
        rows: Tensor = labels.reshape(o.shape)
    else:
        rows = one_hot(labels, o.shape[1]).to(o.dtype)
    return rows
