"""A linear head on every module, cut between modules, and the sum of all heads as the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fgbench.core.network import untouched
from fgbench.core.objective import Objective, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain


@register("localities", "mono_forward")
@dataclass(frozen=True)
class MonoForward:
    """A loss on every module through a linear head, cut between modules; the prediction is the sum of heads.

    The projection of a layer's activities, its "goodness" ``G_k = M_k a_k``, is taught by cross entropy,
    and so is the layer, through itself alone. This is training under ``local`` to the last bit. What
    differs is the prediction: the class with the largest sum of G_k over all modules, from the same forward
    pass. A sum of logits is a product of the heads' probabilities, not their mean.

    Also known as: Mono-Forward; with one layer per module the loss ``pred`` of Nokland and Eidnes without
    batch norm, and decoupled greedy learning with linear heads.

    Not to be confused with: the Forward-Forward algorithm, which contrasts positive and negative data;
    there are none here. A layer learns by reverse mode through itself: "one forward pass" leaves that out.

    Args:
        predict: ``sum`` of all heads, or the ``last`` head, which is the final readout.
        keep: axes along which each loss stays separate.

    Cost: that of ``local``; a prediction passes every head.

    References: Gong, Li, Abdulla, Mono-Forward: Backpropagation-Free Algorithm for Efficient Neural Network
    Training Harnessing Local Errors, arXiv 2501.09238, 2025.

    Example:
        >>> import torch
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = MonoForward()
        >>> locality.attach(chain)
        >>> tuple(locality.predictions(chain, torch.ones(5, 1, 2, 2)).shape)
        (5, 3)
    """

    predict: Literal["sum", "last"] = "sum"
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach a linear readout to every module that has none."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1)."""
        return per_module(chain, cut=True, keep=self.keep)

    def predictions(self, chain: Chain, x: Any) -> Tensor:
        """Return the sum of the predictions of all modules' readouts, or the last one."""
        if self.predict == "last":
            last: Tensor = chain(x)
            return last
        each = [
            chain.read(chain.local_readout(k), f)
            for k, f in chain.segments(chain.start(x), 0, len(chain), untouched)
        ]
        total = each[0]
        for prediction in each[1:]:
            total = total + prediction
        return total
