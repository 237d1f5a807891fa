"""One loss, that of the last module's own readout, nothing cut."""

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

    The readout of the last module may keep scores separate that the final readout does not, so this shows
    what kept scores give without a loss per module. Where both are the same readout this is ``end``.

    Not to be confused with: ``end``, whose loss is read by the final readout.

    Args:
        keep: axes along which the loss stays separate. Where later modules mix these axes their scores
            are summed, so only places after the last mixing gain.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023,
    figure 6.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = Last()
        >>> locality.attach(chain)
        >>> [(o.window, o.updates) for o in locality.objectives(chain) if o.updates]
        [((0, 2), (0, 1))]
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the one objective, and one for the predictions where they have another readout."""
        last = len(chain)
        readout = chain.local_readout(last - 1)
        return completed(
            chain, [Objective("last", (0, last), readout, tuple(range(last)), self.keep)]
        )
