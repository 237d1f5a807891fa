"""The last module's own loss alone, nothing cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.core.objective import APART, Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "last", variants=APART)
@dataclass(frozen=True)
class Last:
    """One loss, that of the last module's own readout, through every module.

    What is left of local losses when they are not module by module: the readout of the last module may
    keep scores apart that the final one does not. Where both are the same readout this is ``end``.

    Args:
        keep: axes along which the loss stays separate. Modules that mix them on the way have their
            scores summed, so that only places after the last mixing gain.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023,
    figure 6.
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Put a linear readout on every module that brings none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the one objective, and one for the predictions where they have another readout."""
        last = len(chain)
        readout = chain.local_readout(last - 1)
        return completed(
            chain, [Objective("last", (0, last), readout, tuple(range(last)), self.keep)]
        )
