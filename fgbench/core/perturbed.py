"""One noisy pass through a window: its losses, its activities, and pulls at the noisy point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fgbench.core.autodiff import no_reverse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.autodiff.cut_graph import Tape
    from fgbench.core.cost import CostCounter
    from fgbench.core.gradients import Grads


@dataclass
class Perturbed:
    """Result of a pass under noise on the activities: losses, values at the taps, and its graph.

    Args:
        losses: loss of every example, ``[b]``.
        values: (kind, name) of a tap to its value; at a site with the noise that entered there.
        tape: the graph of the pass, cut at every ``out``; None where none was recorded.
        params: parameters that a pull gives gradients of.
        ledger: where pulls are priced.
        share: price of a pull, in passes of the body.

    Example:
        >>> import torch
        >>> noisy = Perturbed(torch.zeros(2), {("site", "l0"): torch.ones(2, 3)})
        >>> sorted(noisy.activities("site")), noisy.activities("out")
        (['l0'], {})
    """

    losses: Tensor
    values: Mapping[tuple[str, str], Tensor]
    tape: Tape | None = None
    params: Mapping[str, Tensor] = field(default_factory=dict)
    ledger: CostCounter | None = None
    share: float = 0.0

    def activities(self, kind: str = "out") -> dict[str, Tensor]:
        """Return the values of one kind of tap by site name: ``op``, ``site`` or ``out``."""
        return {name: z for (k, name), z in self.values.items() if k == kind}

    def pull(self, credit: Mapping[str, Tensor]) -> Grads:
        """Pull the credit of sites back to the parameters, at the activities of this pass.

        Args:
            credit: site name to cotangent.

        Returns:
            Gradient by parameter name: credit times the noisy input of its weight operation.

        Raises:
            RuntimeError: if the pass was made without a graph.
        """
        if self.tape is None or self.ledger is None:
            raise RuntimeError("this pass has no graph: ask for perturbed(..., graph=True)")
        self.ledger.pulls += self.share
        with no_reverse.opened():
            return self.tape.pull({("site", n): c for n, c in credit.items()}, self.params)
