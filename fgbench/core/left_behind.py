"""Results of a compiled pass of some examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.readout_losses import Reading


@dataclass(frozen=True)
class LeftBehind:
    """Results of a compiled pass of some examples, which the window of all notes.

    Args:
        answer: of the question that was asked.
        slopes: ``[n, run, ...]`` in a tuple; ``()`` where none were taken.
        output: the clean output.
        reading: predictions, losses, and the readout's gradient as part of that of all examples.
        outputs: clean outputs at which other objectives start, by number of module.

    Example:
        >>> import torch
        >>> from fgbench.core.readout_losses import Reading
        >>> reading = Reading(torch.zeros(2, 3), torch.ones(2), df=(), grads={})
        >>> LeftBehind({}, (), torch.zeros(2, 4), reading, {}).outputs
        {}
    """

    answer: Any
    slopes: tuple[Tensor, ...]
    output: Tensor
    reading: Reading
    outputs: dict[int, Tensor]
