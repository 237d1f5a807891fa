"""One loss at the end of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.core.objective import Objective
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "end")
@dataclass(frozen=True)
class End:
    """One loss at the end, through every module: nothing is local.

    Its objective is the final loss, so the locality gap is zero.

    Also known as: end-to-end learning, global loss.

    Args:
        keep: axes along which the loss stays separate; more than ``b`` helps only where no module mixes.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> [(o.name, o.window, o.updates) for o in End().objectives(chain)]
        [('end', (0, 2), (0, 1))]
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Attach nothing: the loss is read by the final readout."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the one objective."""
        last = len(chain)
        return (Objective("end", (0, last), "final", tuple(range(last)), self.keep),)
