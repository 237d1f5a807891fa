"""Decorrelation around any estimator: its gradient on decorrelated inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.scheme import Alone
from fgbench.core.weight_inputs import weight_inputs
from fgbench.registry import Nested, register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View
    from fgbench.core.weight_inputs import WeightInput

OWN = "decorrelation of "
"""Begins the names of this wrapper's part of the state; the rest is the base's."""


@register("estimators", "decor")
@dataclass(frozen=True)
class Decorrelation(Defaults):
    """Decorrelation: every weight learns as if its inputs x were the decorrelated R x.

    Each weight operation has a matrix R, at first I, that learns to decorrelate its inputs: R ← R − α (C −
    diag C) R with C the mean of (R x)(R x)ᵀ over the batch and over positions that share the weight. Let
    the network compute W x = V R x with V = W R⁻¹. The gradient of V is G Rᵀ for a gradient G of W, and a
    step along it changes W by G Rᵀ R: that is the estimate, with G the base's. It descends wherever G does,
    because RᵀR is positive definite, and is the gradient itself while R = I.

    The network that is trained and tested computes what it did: R is taken up by W. In the authors'
    programs R is a layer of its own, and a change of R changes the function too.

    Also known as: DNP, DINP, DANP (``base=np``, ``inp``, ``anp``), decorrelated backprop (``base=bp``).

    Not to be confused with: whitening and natural gradients, which also scale the inputs' variances; batch
    norm.

    Args:
        base: an estimator with its options, such as ``np`` or ``anp[directions=4]``.
        rate: α, the rate of the decorrelation.

    Cost: the base and one forward pass; for a weight of n inputs 4 n² operations per example and position,
    and 2 n² (n + rows) per step.

    References: Dalm, van Gerven, Ahmad, Effective Learning with Node Perturbation, 2023; Ahmad, Schrader, van
    Gerven, Constrained Parameter Inference as a Principle for Learning, 2022.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="decor[base=bp]", **case)
        >>> round(record["bias"]["value"], 6), record["claimed"]["why"]  # R = I at first
        (0.0, 'its mean is the gradient times RᵀR')
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.01}}
    ]

    base: Nested = Nested("fg_a")
    rate: Annotated[float, Field(ge=0)] = 1e-3

    @property
    def state_optimizer(self) -> Any:
        """The optimiser of the base's state."""
        return getattr(self.base.estimator, "state_optimizer", ("sgd", 1.0))

    def claims(self, scheme: Scheme) -> Claims:
        """Biased once R has learned; in other respects as the base, which is not asked for slopes alone."""
        own: Claims = self.base.estimator.claims(scheme)
        why = "its mean is the gradient times RᵀR"
        return replace(own, bias="some", slopes_only=False, why=why)

    def supports(self, scheme: Scheme) -> str:
        """Need what the base needs."""
        reason: str = self.base.estimator.supports(scheme)
        return reason

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return the state of the base and R = I for every weight that has inputs."""
        found = {
            name: dict(own)
            for name, own in self.base.estimator.init_state(scheme, noise.child("base")).items()
        }
        for objective in scheme.objectives:
            for name, own in _inputs_of(scheme, objective).items():
                values = own.values
                eye = torch.eye(values.shape[2], dtype=values.dtype, device=values.device)
                r = eye.repeat(values.shape[0], 1, 1)
                found.setdefault(objective.name, {})[OWN + name] = r
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the base's gradient times RᵀR, and the next R."""
        mine, theirs = _apart(state)
        found: Estimate = self.base.estimator(view, noise.child("base"), theirs)
        inputs = view.inputs()
        grads = view.gradients(found)
        with view.counted():
            turned = {
                n: _turned(g, inputs[n], mine[n]) if n in mine else g for n, g in grads.items()
            }
            after = {OWN + n: self._next(inputs[n].values, r) for n, r in mine.items()}
        kept = theirs if found.new_state is None else found.new_state
        after = {**kept, **after}
        return replace(found, credit=None, along=None, grads=turned, new_state=after or None)

    def _next(self, x: Tensor, r: Tensor) -> Tensor:
        """Return the next R ``[blocks, columns, columns]`` from inputs ``[blocks, samples, columns]``."""
        seen = x @ r.mT
        c = seen.mT @ seen / x.shape[1]
        return r - self.rate * ((c - torch.diag_embed(c.diagonal(dim1=1, dim2=2))) @ r)

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the mean: the gradient, or the base's documented mean, times RᵀR."""
        mine, theirs = _apart(state)
        base = self.base.estimator
        mean: Mapping[str, Tensor] | None = base.expected(view, theirs)
        if mean is None and base.claims(Alone(view)).bias != "none":
            return None
        inputs = view.with_().inputs()
        mean = view.with_().reverse() if mean is None else mean
        return {n: _turned(g, inputs[n], mine[n]) if n in mine else g for n, g in mean.items()}


def _turned(g: Tensor, own: WeightInput, r: Tensor) -> Tensor:
    """Return G RᵀR in the weight's shape."""
    return own.weights(own.matrices(g) @ r.mT @ r)


def _apart(state: State) -> tuple[State, State]:
    """Return R by parameter name, and the state of the base."""
    mine = {n.removeprefix(OWN): t for n, t in state.items() if n.startswith(OWN)}
    return mine, {n: t for n, t in state.items() if not n.startswith(OWN)}


def _inputs_of(scheme: Scheme, objective: Objective) -> dict[str, WeightInput]:
    """Return the inputs of an objective's weights on one example of zeros: for their shapes."""
    chain, (first, stop) = scheme.chain, objective.window
    some = next(chain.parameters())
    survey = getattr(chain, "survey", None)
    x = some.new_zeros(1, *chain.input_shape) if survey is None else survey.example
    start = chain.advance(chain.start(x), 0, first)
    params = chain.body_parameters(objective.updates)
    return weight_inputs(lambda z: chain.run(z, first, stop), start, dict(params))
