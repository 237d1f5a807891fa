"""A loss a fixed number of modules ahead of each module, through the modules between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from fgbench.core.objective import APART, Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "interlocking", variants=APART)
@dataclass(frozen=True)
class Interlocking:
    """Module k learns only from the loss n − 1 modules ahead, through the modules between.

    The loss at the end of the chain is the final one, which the last n modules share: their gradient is
    backprop's. n = 1 is a loss per module, cut between modules (``local``); with n = the number of modules
    the scheme is backprop. Readouts that no window uses do not learn. No two modules of a window may share a
    parameter: its second use would learn from two losses.

    Also known as: interlocking backpropagation.

    Not to be confused with: ``overlap``, where a module learns from the sum of its own loss and the next
    one's.

    Args:
        n: modules per window, fewer at the end of the chain.
        keep: axes along which each loss stays separate.

    References: Gomez, Key, Perlin, Gou, Frosst, Dean, Gal, Interlocking Backpropagation: Improving
    depthwise model-parallelism, JMLR 23, 2022.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=3, width=4)
        >>> locality = Interlocking(n=2)
        >>> locality.attach(chain)
        >>> [(o.window, o.updates) for o in locality.objectives(chain) if o.updates]
        [((0, 2), (0,)), ((1, 3), (1,)), ((2, 3), (2,))]
    """

    n: Annotated[int, Field(ge=1)] = 2
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def supports(self, chain: Chain) -> str:
        """Refuse windows in which a later module shares parameters: its use would count in two windows."""
        for k in range(len(chain)):
            stop = min(k + self.n, len(chain))
            if shared := sorted(chain.sharing((k,), (k, stop))):
                return (
                    f"a window of interlocking teaches its first module alone, and module {shared[0]} of the "
                    f"window of module {k} shares parameters with it: cut so that both lie in one module, or "
                    "take overlap, local or end"
                )
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + n), each updating its first module."""
        last, windows = len(chain), list[Objective]()
        for k in range(last):
            stop = min(k + self.n, last)
            readout = "final" if stop == last else chain.local_readout(stop - 1)
            windows.append(Objective(f"module{k}", (k, stop), readout, (k,), self.keep))
        return completed(chain, windows)
