"""One step of training by an update rule, on given parameters, gradients and losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.noise.keyed import Noise
from fgbench.core.update import Move
from fgbench.training import optimizer_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def move(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    lr: float = 1.0,
    loss: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    optimizer: Any = None,
    step: int = 0,
    known: Tensor | None = None,
) -> Move:
    """Make a move of plain SGD; the loss is that of the parameters."""
    rule = optimizer or torch.optim.SGD(list(params.values()), lr=lr)
    return Move(
        body=params,
        readouts={},
        grads=grads,
        readout_grads={},
        clock=None,
        noise=Noise(5, dtype=torch.float64).at(step),
        step=lambda body, readouts: optimizer_steps.take(rule, params, body, readouts),
        losses=lambda: loss(params).detach() if loss is not None else torch.zeros(()),
        save=lambda: optimizer_steps.saved(rule, params),
        known=known,
    )


def weights(*values: float) -> dict[str, Tensor]:
    """Make one parameter in float64."""
    return {"w": torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))}
