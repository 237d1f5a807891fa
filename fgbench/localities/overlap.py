"""A loss per pair of neighbouring modules, each through both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fgbench.core.objective import APART, Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "overlap", variants=APART)
@dataclass(frozen=True)
class Overlap:
    """Windows of two modules that overlap by one: the loss after module k + 1 updates k and k + 1.

    Module k learns from its own loss (but for k = 0) and from the next one's. The founding paper's
    released code instead makes two passes, cut after even and after odd modules, and sums every loss of
    both: each module's own loss counts twice, the next one's once. That is ``losses=every``: the pairs,
    and every module's loss through itself alone, the first one's with weight 2.

    Args:
        keep: axes along which each loss stays separate.
        losses: ``last`` of each window, or ``every`` module's too.

    References: Xiong, Ren, Urtasun, LoCo: Local Contrastive Representation Learning, NeurIPS 2020.
    """

    keep: str = "b"
    losses: Literal["last", "every"] = "last"

    def attach(self, chain: Chain) -> None:
        """Put a linear readout on every module that brings none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 2), with every module's own between them where asked for."""
        last, found = len(chain), list[Objective]()
        for k in range(last):
            if self.losses == "every" or last == 1:
                own, weight = chain.local_readout(k), 2.0 if k == 0 and last > 1 else 1.0
                found.append(Objective(f"own{k}", (k, k + 1), own, (k,), self.keep, weight))
            if k + 1 < last:
                pair, readout = (k, k + 1), chain.local_readout(k + 1)
                found.append(Objective(f"pair{k}", (k, k + 2), readout, pair, self.keep))
        return completed(chain, found)
