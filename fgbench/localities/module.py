"""A loss on every module, nothing cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fgbench.core.objective import APART, Objective, completed, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "module", variants=APART)
@dataclass(frozen=True)
class Module:
    """A loss on every module, each through all modules before it (L- in the paper's method names).

    Also known as: deep supervision.

    Not to be confused with: ``local``, which cuts between modules.

    With ``one_pass`` the losses are summed and backprop takes the gradient of the sum in one backward pass,
    which is what deep supervision costs: three forward passes and the readouts. Without it every loss is an
    objective of its own, with a pass through all modules before it; any estimator can take part in that.

    Args:
        keep: axes along which each loss stays separate.
        one_pass: whether all losses are one objective, for backprop alone.

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
    one_pass: bool = False

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (0, k + 1), or one window with all readouts."""
        if not self.one_pass:
            return per_module(chain, cut=False, keep=self.keep)
        last = len(chain)
        *aside, end = [chain.local_readout(k) for k in range(last)]
        on_the_way = tuple((name, k) for k, name in enumerate(aside))
        every = Objective("deep", (0, last), end, tuple(range(last)), self.keep, aside=on_the_way)
        return completed(chain, [every])
