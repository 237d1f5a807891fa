"""Steps that are kept only where the loss on their batch does not rise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.update import Move


@register("updates", "accept")
@dataclass(frozen=True)
class Accept:
    """Keep a step of the optimiser only if the loss on its batch did not rise.

    A refused step leaves no trace: parameters and the optimiser's buffers return to where they were. A loss
    that is not finite refuses the step too. With ``both`` the step against the estimate is tried as well, and
    the lowest of the three losses is taken, the start where it is one of them; readouts follow their exact
    gradient in either. Under local losses it is the sum of all of them that decides.

    Losses of one batch are compared: a step that is kept may raise the loss of all data. The loss of the
    start is that of the estimate's own pass where it made one, which differs by rounding from a pass anew.

    Also known as: conservative zeroth-order descent (ZO-SGD-Cons, with ``both``); a line search of one trial.

    Cost: one pass of values through every window of the scheme, two with ``both``; one more where the
    estimate has not found the loss of the start. A copy of parameters and buffers.

    Args:
        both: try the step against the estimate too.

    References: Zhang et al., Revisiting zeroth-order optimization for memory-efficient LLM fine-tuning: a
    benchmark, ICML 2024 (arXiv:2402.11592).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 16}
        >>> plain = fgbench.run("train", method="FG-W", **case)["cost"]["forwards"]
        >>> fgbench.run("train", method="FG-W", update="accept", **case)["cost"]["forwards"] - plain
        1.0
    """

    both: bool = False

    def start(
        self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def step(self, move: Move, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a step, and take it back where the loss rose."""
        lowest = float(move.before())
        back = move.saved()
        move.take()
        along = float(move.loss())
        if not self.both:
            if not along <= lowest:
                back()
            return state
        back()
        against = {name: -g for name, g in move.grads.items()}
        move.take(against)
        other = float(move.loss())
        if other < lowest and not along <= other:  # also where along is not finite
            return state
        back()
        if along < lowest:
            move.take()
        return state
