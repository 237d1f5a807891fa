"""A loss per module, cut between modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.core.objective import APART, Objective, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "local", variants=APART)
@dataclass(frozen=True)
class Local:
    """A loss on every module, each through that module alone (the LG- of the paper, greedy).

    ``keep`` changes the variance of an estimate, never its mean: kept scores are a partition and add up
    to the unsplit loss. Axes that the readout's input lacks are dropped.

    Args:
        keep: axes along which each loss stays separate: ``b``, ``b p`` (per patch, ``local-p``) or
            ``b p g`` (per patch and group, ``local-pg``).

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023;
    Belilovsky, Eickenberg, Oyallon, Decoupled Greedy Learning of CNNs, ICML 2020.
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Put a linear readout on every module that brings none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1)."""
        return per_module(chain, cut=True, keep=self.keep)
