"""A loss some modules ahead for each module, through those between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgbench.core.objective import APART, Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "interlocking", variants=APART)
@dataclass(frozen=True)
class Interlocking:
    """Module k learns from the loss n − 1 modules ahead alone, through the modules between.

    The loss at the end of the chain is the final one, which the last n modules share: their gradient is
    backprop's. n = 1 is a loss per module, cut between modules; n = the number of modules is backprop.
    Readouts that no window reads do not learn.

    Args:
        n: modules per window, fewer at the end of the chain.
        keep: axes along which each loss stays separate.

    References: Gomez, Key, Perlin, Gou, Frosst, Dean, Gal, Interlocking Backpropagation: Improving
    depthwise model-parallelism, JMLR 23, 2022.
    """

    n: Annotated[int, Field(ge=1)] = 2
    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Put a linear readout on every module that brings none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + n), each updating its first module."""
        last, found = len(chain), list[Objective]()
        for k in range(last):
            stop = min(k + self.n, last)
            readout = "final" if stop == last else chain.local_readout(stop - 1)
            found.append(Objective(f"module{k}", (k, stop), readout, (k,), self.keep))
        return completed(chain, found)
