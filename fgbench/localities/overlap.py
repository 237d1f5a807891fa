"""A loss for every pair of neighbouring modules, through both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fgbench.core.objective import APART, Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "overlap", variants=APART)
@dataclass(frozen=True)
class Overlap:
    """Windows of two modules that overlap by one: the loss after module k + 1 updates modules k and k + 1.

    Module k learns from the sum of its own loss (except for k = 0) and the next one's. The released code
    of Ren et al. instead makes two passes, cut after even and after odd modules, and sums every loss of
    both, so each module's own loss counts twice and the next one's once. That is ``losses=every``: the
    pairs, and every module's loss through itself alone, the first one's with weight 2.

    Also known as: the windows of LoCo.

    Not to be confused with: ``interlocking``, where each module learns from one loss only.

    Args:
        keep: axes along which each loss stays separate.
        losses: ``last``: the loss at the end of each window; ``every``: every module's own loss as well.

    References: Xiong, Ren, Urtasun, LoCo: Local Contrastive Representation Learning, NeurIPS 2020.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=3, width=4)
        >>> locality = Overlap()
        >>> locality.attach(chain)
        >>> [(o.window, o.updates) for o in locality.objectives(chain) if o.updates]
        [((0, 2), (0, 1)), ((1, 3), (1, 2))]
    """

    keep: str = "b"
    losses: Literal["last", "every"] = "last"

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 2), with every module's own between them where asked for."""
        last, windows = len(chain), list[Objective]()
        for k in range(last):
            if self.losses == "every" or last == 1:
                readout, weight = chain.local_readout(k), 2.0 if k == 0 and last > 1 else 1.0
                windows.append(Objective(f"own{k}", (k, k + 1), readout, (k,), self.keep, weight))
            if k + 1 < last:
                pair, readout = (k, k + 1), chain.local_readout(k + 1)
                windows.append(Objective(f"pair{k}", (k, k + 2), readout, pair, self.keep))
        return completed(chain, windows)
