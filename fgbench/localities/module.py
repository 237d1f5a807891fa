"""A loss per module, nothing cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.core.objective import APART, Objective, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "module", variants=APART)
@dataclass(frozen=True)
class Module:
    """A loss on every module, each through all modules before it (the L- of the paper).

    Args:
        keep: axes along which each loss stays separate.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Put a linear readout on every module that brings none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (0, k + 1)."""
        return per_module(chain, cut=False, keep=self.keep)
