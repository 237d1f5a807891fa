"""Parameters on the grid of fixed-point numbers: rounded and clipped after every step."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log2
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.update import Move


@register("updates", "round")
@dataclass(frozen=True)
class Round:
    """Take a step of the optimiser, then round every parameter to a grid of ``bits`` bits and clip it.

    A weight is w = k s with an integer k, −2^(bits−1) ≤ k < 2^(bits−1). The step s of a parameter's grid is
    fixed at the start: the smallest power of two by which the grid reaches ``headroom`` times its largest
    weight. As a power of two it makes all of this exact in floating numbers. Parameters that are 0 at the
    start, such as biases, have the finest grid of the others. All parameters lie on their grid from the start
    on, and saturated ones are clipped; none wraps around.

    Rounded to the nearest, a step below s/2 moves nothing: training by small steps stalls, which is why
    8 bits fail where 16 work. Stochastic rounding, ⌊w/s + U⌋ with U uniform on [0, 1), moves by the step on
    average.

    Only the parameters are quantised. Activities stay floating, as do estimates, and perturbations that an
    estimator makes of the parameters are not rounded.

    Also known as: quantisation-aware updates; fixed-point training (16w: ``bits=16``, 8w: ``bits=8``).

    Args:
        bits: of a parameter.
        headroom: how far the grid reaches at least, in units of the largest weight at the start.
        to: ``nearest`` (ties to even) or ``random``: stochastic rounding.

    Cost: one pass over the parameters.

    References: Feng, Zhuo, Zhang, Ramakrishnan, Yuan, Zou Li, Stepping forward on the last mile, NeurIPS 2024
    (arXiv:2411.04036); Zhao, Li, Young, Zhang, Poor man's training on MCUs, 2024 (arXiv:2411.05873).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 16}
        >>> fgbench.run("train", method="BP", update="round[bits=8]", **case)["status"]
        'ok'
    """

    bits: Annotated[int, Field(ge=2, le=24)] = 16
    headroom: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    to: Literal["nearest", "random"] = "nearest"

    def start(
        self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Put all parameters on their grid, and return the step of each."""
        every = {**body, **readouts}
        largest = {
            name: float(p.detach().abs().max()) if p.numel() else 0.0 for name, p in every.items()
        }
        sound = {name: m for name, m in largest.items() if 0 < m < inf}
        finest = min(sound.values(), default=1.0)
        state = {}
        for name, p in every.items():
            reach = self.headroom * sound.get(name, finest) / (2 ** (self.bits - 1) - 1)
            state[name] = p.detach().new_full((), 2.0 ** ceil(log2(reach)))
        with torch.no_grad():
            for name, p in every.items():
                p.copy_(self._rounded(p, state[name], None))
        return state

    def step(self, move: Move, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a step and round."""
        move.take()
        with torch.no_grad():
            for name, p in {**move.body, **move.readouts}.items():
                uniform = None
                if self.to == "random" and move.noise is not None:
                    uniform = move.noise.draw("uniform", name, 0, tuple(p.shape))
                p.copy_(self._rounded(p, state[name], uniform))
        return state

    def _rounded(self, p: Tensor, step: Tensor, uniform: Tensor | None) -> Tensor:
        """Return the nearest number of the grid, or with uniform numbers one of the two beside it."""
        exact = p / step
        whole = exact.round() if uniform is None else (exact + uniform).floor()
        return whole.clamp(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) * step
