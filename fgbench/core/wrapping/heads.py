"""Readouts of a wrapped network: its own output, and linear heads on the outputs of segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import functional as F

from fgbench.core.autodiff.dual import value
from fgbench.core.network import Readout, untouched
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from fgbench.core.network import Tap


class Output(Readout):
    """Predictions by a head, or those that the network makes itself, under a loss per example.

    Args:
        loss: from predictions and targets to one loss per example, ``[b]``.
        head: from the output of a segment to predictions; None where that is the prediction.

    Example:
        >>> import torch
        >>> readout = Output(lambda prediction, target: (prediction - target).square().mean(1))
        >>> readout.losses(torch.ones(2, 3), torch.zeros(2, 3))
        tensor([1., 1.])
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor], head: nn.Module | None = None) -> None:
        super().__init__()
        self.criterion = loss
        self.head = head

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute predictions ``[b, ...]``."""
        if self.head is None:
            return f
        prediction: Tensor = tap("op", "head", self.head(f))
        return prediction

    def losses(self, prediction: Tensor, labels: Any, held: Tensor | None = None) -> Tensor:
        """Compute one loss per example, ``[b]``.

        Args:
            prediction: ``[b, ...]``.
            labels: the targets.
            held: has no effect.

        Returns:
            The losses.

        Raises:
            UsageError: if the loss has another shape.
        """
        losses = self.criterion(prediction, labels)
        shape = getattr(value(losses), "shape", None)
        if shape is None or tuple(shape) != (len(prediction),):
            what = f"a tensor {list(shape)}" if shape is not None else type(losses).__name__
            raise UsageError(
                f"the loss returned {what}, expected one loss per example [{len(prediction)}]; a loss of "
                "torch needs reduction='none', and a mean over all axes but the first"
            )
        return losses


class LocalHead(nn.Module):
    """A linear head on features averaged over the axes that the prediction lacks.

    Args:
        features: axis of the features, and their number.
        outputs: size of the last axis of the prediction, or of its channel axis where it is dense.
        each: whether every position has a prediction of its own, such as every token.
        size: height and width of a dense prediction, which is interpolated; () for none.

    Example:
        >>> import torch
        >>> LocalHead((1, 4), outputs=3, each=False)(torch.ones(2, 4, 5, 5)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, features: tuple[int, int], outputs: int, each: bool, size: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self._axis, self._each, self._size = features[0], each, size
        self.linear = nn.Linear(features[1], outputs)

    def forward(self, f: Tensor) -> Tensor:
        """Compute predictions."""
        f = f.movedim(self._axis, -1)
        if self._size:
            dense = self.linear(f).movedim(-1, 1)
            return F.interpolate(dense, self._size, mode="bilinear", align_corners=False)
        over = list(range(1, f.dim() - 1))
        prediction: Tensor = self.linear(f if self._each or not over else f.mean(over))
        return prediction


def local_head(output: Sequence[int], prediction: Sequence[int], axis: int) -> LocalHead:
    """Build a head from a segment's output to predictions of the network's shape.

    Args:
        output: shape of the segment's output, the example axis left out.
        prediction: shape of the network's prediction, alike.
        axis: of the features in the output, the example axis counted.

    Returns:
        The head: of every token where the prediction has one per token, of every pixel where it is dense,
        of the average over all other axes else.

    Raises:
        UsageError: for a prediction of several axes that the output lacks.

    Example:
        >>> local_head((16, 8), (16, 65), axis=2).linear
        Linear(in_features=8, out_features=65, bias=True)
    """
    features = axis, output[axis - 1]
    rest = [size for i, size in enumerate(output, 1) if i != axis]
    if len(prediction) == 3 and len(output) == 3:
        return LocalHead(features, prediction[0], each=False, size=tuple(prediction[1:]))
    each = len(prediction) > 1 and rest == list(prediction[:-1])
    if len(prediction) > 1 and not each:
        raise UsageError(
            f"a local loss needs a prediction {list(prediction)} per example from an output {list(output)}, "
            "and no head makes one: cut where outputs have the prediction's axes, or use the locality end"
        )
    return LocalHead(features, prediction[-1], each=each)
