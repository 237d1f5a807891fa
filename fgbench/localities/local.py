"""A loss on every module, cut between modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fgbench.core.objective import APART, Objective, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "local", variants=APART)
@dataclass(frozen=True)
class Local:
    """A loss on every module, each through that module alone (greedy; LG- in the paper's method names).

    ``keep`` changes the variance of an estimate, never its mean: kept scores are a partition of the loss
    and add up to it. Axes that the readout's input lacks are dropped.

    Also known as: decoupled greedy learning with linear heads, gradient isolation, greedy local learning.

    Not to be confused with: ``dgl``, whose losses are read through auxiliary networks;
    ``greedy_sequential``, which trains one module after the other and freezes it;
    ``module``, whose losses reach all earlier modules; ``overlap`` (LoCo).

    Args:
        keep: axes along which each loss stays separate: ``b``, ``b p`` (per patch, ``local-p``) or
            ``b p g`` (per patch and group, ``local-pg``).

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023;
    Belilovsky, Eickenberg, Oyallon, Decoupled Greedy Learning of CNNs, ICML 2020.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = Local()
        >>> locality.attach(chain)
        >>> [(o.window, o.updates) for o in locality.objectives(chain) if o.updates]
        [((0, 1), (0,)), ((1, 2), (1,))]
    """

    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1)."""
        return per_module(chain, cut=True, keep=self.keep)
