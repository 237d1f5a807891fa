"""Estimators with every kind of claim, true or planted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fgbench.core.estimator import Claims, Defaults, Estimate


@dataclass(frozen=True)
class Scaled(Defaults):
    """Forward gradient along the weights, times a factor, and another one for one module.

    Args:
        factor: of every gradient.
        odd: of the first module's gradients in addition.
        normalised: divide by |v|²/d, so that no exact mean is to be had.
        bias: that is claimed.
    """

    factor: float = 3.0
    odd: float = 1.0
    normalised: bool = False
    bias: Any = "scale"

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias=self.bias, backward="none")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        rows = {n: v.rows(n, 0, 1)[0] for n in v.names}
        s = self.factor * view.slopes(v).sum()
        if self.normalised:
            s = (
                s
                / sum(float((t * t).sum()) for t in rows.values())
                * sum(t.numel() for t in rows.values())
            )
        own = {n: self.odd if n.startswith("body.0.") else 1.0 for n in rows}
        return Estimate(grads={n: own[n] * s * t for n, t in rows.items()})


@dataclass(frozen=True)
class Documented(Defaults):
    """Forward gradient along the weights, half of it in the first module, which it documents.

    Args:
        half: of the first module's gradients.
        says: what it documents of them; nothing where None.
        step: of a difference; exact slopes where 0.
    """

    half: float = 0.5
    says: float | None = 0.5

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="some", backward="network")

    def slopes(self, view: Any, v: Any) -> Any:
        return view.slopes(v)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        grads = view.credit(self.slopes(view, v), v)
        return Estimate(grads={n: self._part(n, self.half) * g for n, g in grads.items()})

    def expected(self, view: Any, state: Any) -> Any:
        if self.says is None:
            return None
        return {n: self._part(n, self.says) * g for n, g in view.with_().reverse().items()}

    def _part(self, name: str, of: float) -> float:
        return of if name.startswith("body.0.") else 1.0


@dataclass(frozen=True)
class DocumentedLimit(Documented):
    """The same by forward differences: the documented mean is the limit of small steps."""

    step: float = 1e-3

    def slopes(self, view: Any, v: Any) -> Any:
        return view.slopes(v, step=self.step)


@dataclass(frozen=True)
class Kind(Defaults):
    """Backprop that calls itself something else.

    Args:
        kind: that is claimed.
        bias: that is claimed.
    """

    kind: Any = "rule"
    bias: Any = "some"

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias=self.bias, backward="network", deterministic=True, kind=self.kind)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads=view.reverse())


@dataclass(frozen=True)
class Exact(Defaults):
    """Backprop whose state is drawn, and planted, its gradient too.

    Args:
        loud: how much of the noise enters the gradient.
    """

    loud: float = 0.0

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="some", backward="network", exact=True)

    def init_state(self, scheme: Any, noise: Any) -> Any:
        zero = torch.zeros(2, dtype=noise.dtype)
        return {o.name: {"kick": zero.clone()} for o in scheme.objectives if o.updates}

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        kick = noise.normal("kick", (2,))
        grads = {n: g + self.loud * kick[0] for n, g in view.reverse().items()}
        return Estimate(grads=grads, new_state={"kick": kick})


@dataclass(frozen=True)
class Priced(Defaults):
    """Backprop that computes something beside the view, and prices some of it.

    Args:
        passes: forward passes by the chain itself.
        priced: how many of them are priced.
    """

    passes: int = 0
    priced: float = 0.0

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="network", deterministic=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        with torch.no_grad():
            for _ in range(self.passes):
                view.chain.run(view.start, *view.objective.window)
        view.price(self.priced * view.share * view.chain.operations())
        return Estimate(grads=view.reverse())
