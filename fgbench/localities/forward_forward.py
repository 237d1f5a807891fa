"""The Forward-Forward algorithm: right against wrong labels, told apart by the squares of activities."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch.nn import functional as F

from fgbench.core.network import Readout, Tap, untouched
from fgbench.core.objective import Objective
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise

FLOOR = 1e-8  # of the root mean square of an activity


def labelled(x: Tensor, labels: Tensor, classes: int, value: float = 1.0) -> Tensor:
    """Write labels over the first numbers of every example, one-hot.

    Args:
        x: ``[b, ...]``, at least ``classes`` numbers per example.
        labels: int64 ``[b]``.
        classes: number of classes.
        value: what is written for the label; 0 is written for the others.

    Returns:
        A copy of the shape of ``x``.

    Example:
        >>> labelled(torch.full((1, 1, 2, 2), 5.0), torch.tensor([1]), 3)
        tensor([[[[0., 1.],
                  [0., 5.]]]])
    """
    flat = x.flatten(1).clone()
    flat[:, :classes] = value * F.one_hot(labels, classes).to(x.dtype)
    return flat.view(x.shape)


def normalised(f: Tensor) -> Tensor:
    """Scale the activities of every example to a root mean square of 1; their direction is what is left.

    Args:
        f: ``[b, ...]``.

    Returns:
        The same shape.

    Example:
        >>> normalised(torch.tensor([[3.0, 4.0]])).square().mean()
        tensor(1.)
    """
    rms = f.flatten(1).square().mean(1).sqrt() + FLOOR
    return f / rms.view(-1, *[1] * (f.dim() - 1))


class Goodness(Readout):
    """The sum of squares g of a module's output, and the loss that tells positive rows from negative ones.

    A row with label 1 is positive and has the loss ``2 softplus(θ − g)``, one with label 0 is negative and
    has ``2 softplus(g − θ)``: the mean over as many of both is the sum of the two means.

    Args:
        threshold: θ.

    Example:
        >>> readout = Goodness(threshold=2.0)
        >>> g = readout(torch.tensor([[1.0, 1.0]]))
        >>> g, readout.losses(g, torch.tensor([1]))  # 2 log 2
        (tensor([[2.]]), tensor([1.3863]))
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def extra_repr(self) -> str:
        """Return the threshold for ``repr``."""
        return f"threshold={self.threshold}"

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, 1]``."""
        return (f * f).flatten(1).sum(1, keepdim=True)

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per row, ``[(v b)]``.

        Args:
            prediction: ``[(v b), 1]``.
            labels: 1 for positive and 0 for negative rows, ``[(v b)]``.
            held: has no effect.

        Returns:
            The losses.
        """
        sign = 2.0 * labels.to(prediction.dtype) - 1.0
        return 2 * F.softplus(sign * (self.threshold - prediction[:, 0]))


@register("localities", "forward_forward")
@dataclass(frozen=True)
class ForwardForward:
    """Every module learns large activities on right labels and small ones on wrong ones, cut between modules.

    An image becomes two rows: with its own label written over its first numbers (positive), and with
    another label, drawn evenly among the wrong ones (negative). The goodness g of a module is the sum of
    its squared activities, and its loss ``softplus(θ − g⁺) + softplus(g⁻ − θ)``, with θ = ``threshold``
    times the number of its activities. The next module begins at the activities scaled to a root mean
    square of 1, so that it cannot read the goodness off them. The prediction is the label whose rows have
    the largest goodness, summed over all modules but the first: one forward pass per class.

    For a layer of ReLUs the gradient is ``∓2 (1 − p) y xᵀ`` with p the probability of the right answer, in
    closed form; any estimator may take its place. It is a training rule: the goodness is no loss of the
    predictions, and no gradient of such a loss is estimated.

    Labels are written after the data are normalised. The paper's unsupervised form (hybrid
    images) and its normalisation over peers are not here.

    Also known as: FF, FFA.

    Not to be confused with: ``contrastive``, which compares images with each other; ``mono_forward``, whose
    goodness is a prediction of labels.

    Args:
        threshold: θ over the number of a module's activities: 1 is a mean square of 1.
        label: what is written for the label, in standard deviations of the data; 0 for the other classes.

    Cost: two rows for every image; a prediction takes as many forward passes as there are classes.

    References: Hinton, The Forward-Forward Algorithm: Some Preliminary Investigations, 2022.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = ForwardForward()
        >>> locality.attach(chain)
        >>> [(o.window, o.readout) for o in locality.objectives(chain)]
        [((0, 1), 'goodness0'), ((1, 2), 'goodness1')]
        >>> tuple(locality.predictions(chain, torch.ones(5, 1, 2, 2)).shape)
        (5, 3)
    """

    threshold: Annotated[float, Field(gt=0)] = 1.0
    label: Annotated[float, Field(gt=0)] = 3.0

    copies = 2  # not an option: the rows of an image
    rule = "goodness is no loss of the predictions, and its gradient none of such a loss"

    def supports(self, chain: Chain) -> str:
        """Need modules with outputs to normalise, and room for the label in an example."""
        if chain.whole:
            return "forward_forward normalises between modules, and an ordinary network has one forward pass"
        if prod(chain.input_shape) <= chain.classes:
            return (
                f"forward_forward writes {chain.classes} numbers over each example, which has "
                f"{prod(chain.input_shape)}"
            )
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach the goodness of every module; ``final`` stays, and learns nothing."""
        for name in [name for name in chain.readouts if name != "final"]:
            del chain.readouts[name]
        for k in range(len(chain)):
            threshold = self.threshold * prod(chain.out_shape(k))
            chain.put(f"goodness{k}", k, lambda have, n, t=threshold: Goodness(t))  # type: ignore[misc]

    def batch(
        self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Return positive rows and then negative ones.

        Args:
            pixels: inputs as stored, ``[b, ...]``.
            labels: ``[b]``.
            data: the data set that prepares them.
            noise: the keyed noise of this batch.

        Returns:
            Rows ``[(v b), ...]``, and 1 for the positive and 0 for the negative ones.

        Raises:
            UsageError: for data without classes.
        """
        if "error" not in data.metrics or labels.dim() != 1:
            raise UsageError(f"forward_forward contrasts labels, and {data.name} has no classes")
        x, y = data.prepare(pixels, labels, noise.dtype)
        wrong = other_labels(y, data.classes, noise)
        rows = torch.cat([labelled(x, each, data.classes, self.label) for each in (y, wrong)])
        return rows, torch.cat([torch.ones_like(y), torch.zeros_like(y)])

    def start(self, chain: Chain, k: int, f: Tensor, x: Tensor, targets: Any) -> Tensor:
        """Return the activities scaled to a root mean square of 1, the input itself at the first module."""
        return f if k == 0 else normalised(f)

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), each with its goodness."""
        return tuple(
            Objective(f"module{k}", (k, k + 1), f"goodness{k}", (k,)) for k in range(len(chain))
        )

    def end(self, chain: Chain) -> None:
        """Return None: there is no loss at the end."""

    def predictions(self, chain: Chain, x: Tensor) -> Tensor:
        """Return the goodness under every label, ``[b, classes]``.

        Args:
            chain: the network.
            x: prepared inputs, ``[b, ...]``.
        """
        depth, found = len(chain), []
        for c in range(chain.classes):
            every = torch.full((len(x),), c, device=x.device)
            f = labelled(x, every, chain.classes, self.label)
            total = f.new_zeros(len(x))
            for k in range(depth):
                f = chain.run(self.start(chain, k, f, x, None), k, k + 1)
                if k > 0 or depth == 1:
                    total = total + f.flatten(1).square().sum(1)
            found.append(total)
        return torch.stack(found, 1)


def other_labels(labels: Tensor, classes: int, noise: Noise) -> Tensor:
    """Draw for every label another one, each of the others as likely.

    Args:
        labels: int64 ``[b]``.
        classes: number of classes.
        noise: of the batch.

    Returns:
        ``[b]``.

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> labels = torch.zeros(200, dtype=torch.int64)
        >>> sorted(set(other_labels(labels, 3, Noise(0)).tolist()))
        [1, 2]
    """
    uniform = noise.draw("uniform", "wrong", 0, (len(labels),))
    step = (uniform * (classes - 1)).long().clamp(max=classes - 2) + 1
    return (labels + step) % classes
