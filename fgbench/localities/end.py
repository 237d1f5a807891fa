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

    Its truth is the ordinary gradient, so the locality gap is zero.

    Args:
        keep: axes along which the loss stays separate; more than ``b`` helps only where no module mixes.
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Need no heads."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the one objective."""
        last = len(chain)
        return (Objective("end", (0, last), "final", tuple(range(last)), self.keep),)
