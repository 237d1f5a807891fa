"""Steps along the sign of every entry of the estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.update import Move


@register("updates", "sign")
@dataclass(frozen=True)
class Sign:
    """Step of the optimiser along the sign of every entry of the estimate; 0 stays 0.

    The magnitude of the estimate is lost: all weights move by the learning rate, and the step does not shrink
    near a minimum unless the rate does. Of a forward gradient along a gaussian direction, entry i has the
    mean sign (2/π) arcsin(g_i/|g|), so the mean step points only roughly along the gradient. Momentum of the
    recipe averages the signs.

    Also known as: signSGD; ZO-signSGD with estimates by differences (element by element, as papers write it).

    Not to be confused with: the sign of the one scalar along a direction (``feedsign``), which keeps the
    direction; Signum, the sign of the momentum.

    Cost: none.

    References: Bernstein, Wang, Azizzadenesheli, Anandkumar, signSGD: compressed optimisation for non-convex
    problems, ICML 2018; Liu, Chen, Chen, Hong, signSGD via zeroth-order oracle, ICLR 2019.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 16}
        >>> fgbench.run("train", method="FG-W", update="sign", lr=0.01, **case)["status"]
        'ok'
    """

    def start(
        self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def step(self, move: Move, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a step along the signs."""
        move.take({name: g.sign() for name, g in move.grads.items()})
        return state
