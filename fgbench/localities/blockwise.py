"""The final loss, estimated for one block of modules at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgbench.core.objective import Objective
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import Chain


@register("localities", "blockwise")
@dataclass(frozen=True)
class Blockwise:
    """The final loss, with one objective for every block of modules: each is estimated with the others still.

    The objective of a block begins at its clean input and runs to the end of the network, and the sum of
    all objectives' gradients is the gradient of the final loss: nothing is local, the locality gap is zero.
    What changes is the noise. A block's estimate has no slopes of other blocks' noise in it, so that a
    forward gradient with D unknowns in K blocks has in each block the variance of D/K unknowns. It pays
    with a pass from each block to the end: (K + 1)/2 passes in place of one where blocks are alike.

    Also known as: block-wise or layer-wise perturbation; ``np/blockwise`` is iterative node perturbation
    with a module in place of a layer.

    Not to be confused with: ``local``, which has a loss per module; block coordinate descent, which moves one
    block at a time.

    Args:
        size: modules per block, the last one smaller where they do not divide.
        keep: axes along which the loss stays separate.

    Cost: the windows of all blocks; each runs from its block to the end.

    References: Hiratani, Mehta, Lillicrap, Latham, On the stability and scalability of node perturbation
        learning,
    NeurIPS 2022; Dalm, van Gerven, Ahmad, Effective Learning with Node Perturbation in Multi-Layer Neural
    Networks, 2023.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=3, width=4)
        >>> [(o.window, o.updates) for o in Blockwise(size=2).objectives(chain)]
        [((0, 3), (0, 1)), ((2, 3), (2,))]
    """

    size: Annotated[int, Field(ge=1)] = 1
    keep: str = "b"

    def supports(self, chain: Chain) -> str:
        """Refuse blocks that share parameters: the gradient of one use would count in another block too."""
        for start in range(0, len(chain), self.size):
            own = tuple(range(start, min(start + self.size, len(chain))))
            if chain.sharing(own, (0, len(chain))):
                return "blockwise needs blocks with parameters of their own, and modules share some"
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach nothing: the loss is read by the final readout."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return one objective per block, from the block to the end; the first teaches the readout."""
        last, found = len(chain), list[Objective]()
        for start in range(0, last, self.size):
            own = tuple(range(start, min(start + self.size, last)))
            window = (start, last)
            found.append(
                Objective(f"block{start}", window, "final", own, self.keep, head=start == 0)
            )
        return tuple(found)
