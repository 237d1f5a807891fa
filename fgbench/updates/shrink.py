"""Steps that are shortened by as much as the noise of the estimate warrants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.update import Move


@register("updates", "shrink")
@dataclass(frozen=True)
class Shrink:
    """Multiply the estimate e by the number c that brings it nearest to the gradient g on average.

    E|c e − g|² is least at c = ⟨E e, g⟩/E|e|², which is |g|²/E|e|² for an unbiased estimate: 1 without noise,
    and 1/(1 + V) with a relative variance V. For n perturbations of d weights by signs V = (d − 1)/n, so

        c = n/(n + d − 1),

    which ``directions=n`` takes. Otherwise c is found from the estimates themselves. Those of two steps have
    independent noise and nearly one gradient, so ⟨e_t, e_{t−1}⟩ has about the mean |g|², and

        c = mean of ⟨e_t, e_{t−1}⟩ / mean of |e_t|², between 0 and 1,

    both means running over the last ``steps`` steps or so; c = 1 in the first step. Products of two noises
    have a standard deviation of about E|e|²/√d, so a c below 1/√(steps · d) is not found: it is taken
    too large.

    A constant c only rescales the learning rate. A c that is found follows the noise from step to step.

    Also known as: shrinkage of zeroth-order gradients (``dim``: c, ``sqrt_dim``: √c).

    Not to be confused with: gradient clipping, which bounds the length of each estimate whatever its noise.

    Args:
        directions: perturbations by signs that an estimate averages; 0: c is found from the estimates.
        root: take √c in place of c.
        steps: over which c is found.

    Cost: none with ``directions``; otherwise a copy of the estimate and two inner products.

    References: Zhao, Li, Young, Zhang, Poor man's training on MCUs: a memory-efficient quantized
    back-propagation-free approach, 2024 (arXiv:2411.05873).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 16}
        >>> fgbench.run("train", method="FG-W", update="shrink", **case)["status"]
        'ok'
    """

    directions: Annotated[int, Field(ge=0)] = 0
    root: bool = False
    steps: Annotated[int, Field(ge=1)] = 100

    def start(
        self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the estimate before (none yet), and the means of products and squares with their number."""
        if self.directions:
            return {}
        device = next(iter(body.values())).device
        found = {f"last {name}": torch.zeros_like(p.detach()) for name, p in body.items()}
        return {"means": torch.zeros(3, dtype=torch.float64, device=device), **found}

    def step(self, move: Move, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a step along the shortened estimate."""
        grads = dict(move.grads)
        factor: float | Tensor
        if self.directions:
            d = sum(g.numel() for g in grads.values())
            factor = self.directions / (self.directions + d - 1)
        else:
            factor = self._found(grads, state)
        move.take({name: g * (factor**0.5 if self.root else factor) for name, g in grads.items()})
        return state

    def _found(self, grads: Mapping[str, Tensor], state: dict[str, Tensor]) -> Tensor:
        """Return the ratio of the means, and keep this estimate for the next step."""
        means = state["means"]
        lasts = {name: state[f"last {name}"] for name in grads}
        square = _inner(grads, grads)
        if int(means[2]) or any(bool(last.any()) for last in lasts.values()):
            means[2] += 1
            share = 1 / min(int(means[2]), self.steps)
            means[0] += share * (_inner(grads, lasts) - means[0])
            means[1] += share * (square - means[1])
        for name, g in grads.items():
            lasts[name].copy_(g)
        ratio = means[0] / means[1]
        return torch.where(means[1] > 0, ratio.clamp(0.0, 1.0), torch.ones_like(ratio))


def _inner(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
    """Return the inner product of two gradients in float64."""
    return torch.stack(
        [(g * other[name]).sum(dtype=torch.float64) for name, g in one.items()]
    ).sum()
