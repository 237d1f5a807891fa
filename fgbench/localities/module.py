"""A loss on every module, nothing cut."""

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
    """A loss on every module, each through all modules before it (L- in the paper's method names).

    Also known as: deep supervision.

    Not to be confused with: ``local``, which cuts between modules.

    Args:
        keep: axes along which each loss stays separate.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = Module()
        >>> locality.attach(chain)
        >>> [(o.window, o.updates) for o in locality.objectives(chain) if o.updates]
        [((0, 1), (0,)), ((0, 2), (0, 1))]
    """

    keep: str = "b"

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (0, k + 1)."""
        return per_module(chain, cut=False, keep=self.keep)
