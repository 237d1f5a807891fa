"""Backprop for the last modules, differences along weights for the modules before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.along import Along
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

Parts = tuple[tuple[int, ...], tuple[int, ...]]


@register("estimators", "elasticzo")
@dataclass(frozen=True)
class ElasticZerothOrder(Defaults):
    """ElasticZO: the modules before a cut learn from values of the loss, those after it by backprop.

    With θ the weights of the modules before the cut and a direction v along them alone,

        (L(θ + εv) − L(θ − εv))/2ε · v

    estimates their gradient; all other modules get the exact gradient, from a reverse pass that ends at the
    cut. Unbiased as ε → 0. The noise is that of weight perturbation on the modules before the cut: gaussian
    directions on d weights there have the total variance (d + 1)|g_θ|², and the rest has none. A direction
    along all weights would add the slope of the rest as noise: d |g_rest|² more.

    The readout learns exactly under every method here. Published nets whose last fully connected layer alone
    learns by backprop are therefore ``mezo``.

    Also known as: hybrid zeroth-order and first-order training.

    Not to be confused with: Addax, which splits the batch and not the network; ``agzo`` and ``guided_es``,
    zeroth order throughout.

    Args:
        cut: number of modules before the cut; a negative one is counted from the end, −1 leaves the last
            module to backprop. 0 is backprop.
        directions: directions averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε in units of the weights; 0 takes exact slopes by forward mode.

    Cost: a clean pass, two passes per direction, and a forward and a reverse pass after the cut. Memory: that
    of inference before the cut, a direction, and activities after the cut.

    References: Sugiura, Matsutani, ElasticZO: A Memory-Efficient On-Device Learning with Combined Zeroth- and
    First-Order Optimization, 2025 (arXiv 2501.04287).

    Example:
        The first module has 4 · 4 + 4 = 20 weights, whose share of |g|² decides:

        >>> import fgbench
        >>> case = {"arch": "mlp-2x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="elasticzo[step=0]", **case)
        >>> 0 < record["predicted_variance"] < 21, record["claimed"]["bias"]
        (True, 'none')
    """

    cut: int = -1
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(ge=0)] = 1e-3

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.003}

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Exact after the cut, and unbiased before it as the step vanishes."""
        parts = [self._parts(o, len(scheme.chain)) for o in scheme.objectives if o.updates]
        sampled = any(low for low, _ in parts)
        return Claims(
            bias="vanishing" if sampled and self.step else "none",
            backward="network" if any(high for _, high in parts) else "none",
            deterministic=not sampled,
        )

    def supports(self, scheme: Scheme) -> str:
        """Need modules that can begin at the cut and share no weights across it."""
        chain = scheme.chain
        for o in scheme.objectives:
            low, high = self._parts(o, len(chain))
            if not (low and high):
                continue
            if set(chain.sharing(low, o.window)) & set(high):
                return f"cut={self.cut}: modules before and after the cut share weights"
            if why := chain.unrepeatable():
                return f"cut={self.cut}: {why}"
        return ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return difference times direction before the cut, the gradient after it."""
        low, high = self._parts(view.objective, len(view.chain))
        if not low:
            return Estimate(grads=view.reverse())
        grads, readouts = {}, None
        if high:
            upper = view.from_module(min(high))
            grads = upper.reverse()
            readouts = upper.readout_grads()
        below = view.only(low)
        v = noise.directions(below.shapes, self.directions, self.law)
        slopes = Along(v, self._slopes(below, v) / v.n)
        return Estimate(grads={**slopes, **grads}, readouts=readouts)

    def _slopes(self, view: View, v: Any) -> Tensor:
        """Return the slope along each direction, ``[n]``."""
        if self.step == 0:
            return view.slopes(v).flatten(1).sum(1)
        found = []
        for row in range(v.n):
            up, down = view.losses_along(v, row, (self.step, -self.step))
            found.append((up - down).mean() / (2 * self.step))
        return torch.stack(found) * view.objective.weight

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of exact slopes: that of a forward gradient before the cut, 0 after it."""
        if self.step > 0:
            return None
        low, _ = self._parts(view.objective, len(view.chain))
        below = set(view.only(low).shapes)
        squares = {name: (g.double() ** 2).sum() for name, g in view.with_().reverse().items()}
        none = {name: 0 * square for name, square in squares.items()}
        if not below:
            return none
        own = {name: square for name, square in squares.items() if name in below}
        shapes = {name: shape for name, shape in view.shapes.items() if name in below}
        return none | forward_gradient.slope_variance(own, shapes, self.law, self.directions)

    def _parts(self, objective: Objective, modules: int) -> Parts:
        """Return the updated modules before and after the cut."""
        cut = self.cut if self.cut >= 0 else max(modules + self.cut, 0)
        updates = objective.updates
        return tuple(k for k in updates if k < cut), tuple(k for k in updates if k >= cut)
