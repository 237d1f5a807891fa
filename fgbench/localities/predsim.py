"""A loss on every module that predicts labels and compares the similarity of examples with that of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fgbench.core import auxiliary
from fgbench.core.network import Readout, Tap, untouched
from fgbench.core.objective import Objective, per_module
from fgbench.core.similarity import FLOOR, correlations
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain, Pooling

FEW = 3
"""Up to so many features, positions are compared one by one and not by their spread."""


class PredictionAndSimilarity(Readout):
    """A linear prediction and a linear projection, whose examples are compared with each other.

    With z the projection and S(a) the cosines of mean-free rows
    (:func:`fgbench.core.similarity.correlations`), the loss of example i is ``(1 − β) ℓ(prediction_i, y_i)
    + β mean_j (S(z)_ij − S(one-hot y)_ij)²``. Its mean over examples is the mean over all pairs. Where the
    module's output has positions (pixels, patches), the projection is a 3 x 3 convolution of maps, or
    linear at each position, and z is the standard deviation of each feature over the positions. The
    prediction starts at zero: at the first step its gradient for the module is zero.

    Args:
        pooling: takes features from the output, averaged over positions.
        maps: channels of feature maps with height and width; 0 for other outputs.
        classes: number of classes.
        beta: β.

    Example:
        >>> from fgbench.core.network import Pooling
        >>> head = PredictionAndSimilarity(Pooling((), 4), maps=0, classes=3, beta=0.99)
        >>> prediction = head(torch.eye(4))
        >>> tuple(prediction.shape), tuple(head.losses(prediction, torch.tensor([0, 1, 2, 0])).shape)
        ((4, 7), (4,))
    """

    may_start_at_zero = False  # the similarity divides by |z|

    def __init__(self, pooling: Pooling, maps: int, classes: int, beta: float) -> None:
        super().__init__()
        self.pooling, self.classes, self.beta = pooling, classes, beta
        self.coupled = beta > 0
        self.linear = nn.Linear(pooling.size, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.project: nn.Module | None = None
        if maps and beta:
            self.project = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        elif beta:
            self.project = nn.Linear(pooling.size, pooling.size, bias=False)

    def extra_repr(self) -> str:
        """Return the weight of the similarity for ``repr``."""
        return f"beta={self.beta}"

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, classes + features]``: predictions, and what is compared; those alone with β = 0."""
        prediction: Tensor = tap("op", "linear", self.linear(self.pooling(f)))
        if self.project is None:
            return prediction
        over = list(self.pooling.over)
        if isinstance(self.project, nn.Conv2d):
            z = tap("op", "project", self.project(f)).flatten(2).movedim(1, 2)
        elif over:
            positions = f.movedim(over, list(range(1, 1 + len(over)))).flatten(1, len(over))
            z = tap("op", "project", self.project(positions.flatten(2)))
        else:
            return torch.cat([prediction, tap("op", "project", self.project(self.pooling(f)))], 1)
        spread = z.shape[2] > FEW and z.shape[1] > 1
        z = (z.var(1) + FLOOR).sqrt() if spread else z.flatten(1)
        return torch.cat([prediction, z], 1)

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per example, ``[b]``.

        Args:
            prediction: ``[b, classes + features]``.
            labels: int64 ``[b]``.
            held: has no effect.

        Returns:
            The losses.

        Raises:
            UsageError: for targets that are no classes, one per example.
        """
        if self.project is None:
            return self.criterion(prediction, labels)
        if labels.is_floating_point() or labels.dim() != 1:
            raise UsageError(
                "predsim compares examples by their class: it needs one label for each"
            )
        scores, z = prediction[:, : self.classes], prediction[:, self.classes :]
        target = correlations(F.one_hot(labels, self.classes).to(z.dtype))
        off = correlations(z) - target
        similarity = (off * off).mean(1)
        return (1 - self.beta) * self.criterion(scores, labels) + self.beta * similarity


@register("localities", "predsim", variants={"pred": {"beta": 0.0}, "sim": {"beta": 1.0}})
@dataclass(frozen=True)
class PredSim:
    """A loss on every module that predicts labels and matches similarities, cut between modules.

    Every module but the last has a linear prediction and a projection z, and the loss ``(1 − β) · cross
    entropy + β · |S(z) − S(labels)|²``, where S are the cosines between the examples of a batch. Examples
    of one class are to look alike, and examples of other classes different. The loss of an example depends
    on the other examples of its batch: activity noise is credited with the scores of the full batch, which
    keeps its mean and makes it noisier. The last module has the final readout and the final loss.

    ``predsim-pred`` is the prediction alone, ``predsim-sim`` the similarity alone. The paper predicts from
    up to 2048 averages of neighbouring pixels, here from the average over all; it has batch norms, dropout
    and leaky ReLUs inside its layers, which are the architecture's here.

    Also known as: local error signals, similarity matching loss.

    Not to be confused with: ``contrastive``, which needs no labels; ``infopro[head=contrast]``.

    Args:
        beta: β, the weight of the similarity.
        keep: axes along which each loss stays separate.

    Cost: that of ``local`` and of the projection; the products between examples have no price.

    References: Nøkland, Eidnes, Training Neural Networks with Local Error Signals, ICML 2019.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = PredSim()
        >>> locality.attach(chain)
        >>> [(o.window, o.readout, o.coupled(chain)) for o in locality.objectives(chain)]
        [((0, 1), 'aux0', True), ((1, 2), 'final', False)]
    """

    beta: Annotated[float, Field(ge=0, le=1)] = 0.99
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach prediction and projection to every module but the last."""
        for k, name in enumerate(auxiliary.names(chain)[:-1]):
            chain.put(name, k, lambda have, n, k=k: self._head(chain, k, have))  # type: ignore[misc]

    def _head(self, chain: Chain, k: int, out_axes: str) -> PredictionAndSimilarity:
        """Return the readout of one module."""
        pooling = chain.pooling(k)
        if pooling.axis:
            raise UsageError(
                "predsim compares examples by their class, and this network predicts every position"
            )
        maps = chain.out_shape(k)[0] if out_axes == "b c h w" else 0
        return PredictionAndSimilarity(pooling, maps, chain.classes, self.beta)

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), each with its own readout."""
        return per_module(chain, cut=True, keep=self.keep, readouts=auxiliary.names(chain))
