"""Contrastive losses on two augmented views of every image, at the end, per module or local."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from fgbench.core.network import LinearReadout
from fgbench.core.objective import Objective, per_module
from fgbench.core.similarity import unit
from fgbench.data.augment import GRAY, JITTER, Policy, augment
from fgbench.data.images import Images
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise

FIRST = Policy(jitter=JITTER, gray=GRAY, blur=1.0)
SECOND = Policy(jitter=JITTER, gray=GRAY, blur=0.1, solarise=0.2)
VARIANTS = {
    "module": {"base": "module"},
    "local": {"base": "local"},
    "local-p": {"base": "local", "keep": "b p"},
    "local-pg": {"base": "local", "keep": "b p g"},
}


def _enough(rows: int) -> None:
    """Raise UsageError unless the rows are two views of at least two images."""
    if rows % 2 or rows < 4:
        raise UsageError(
            "a contrastive loss compares two views of at least 2 images, "
            + (f"got {rows} rows" if rows % 2 else f"got {rows // 2}: no negatives are left")
        )


class Projector(LinearReadout):
    """A linear head on pooled features whose loss compares the two views of a batch (NT-Xent).

    With ẑ = z/|z|, rows 0 to B − 1 the first view and the rest the second, the loss of row n is the
    cross entropy of the logits ẑ_n·ẑ_m/τ over all other rows m, with its other view as the target. With
    stopped keys ẑ_m the gradient enters through the query ẑ_n alone: the loss of a row then depends on
    that row's features only, and the scores of rows, patches and groups are a partition of its slope.

    Args:
        out_axes: axes of the module's output; the mean runs over ``p``, ``h`` and ``w``.
        features: numbers per example after the mean.
        outputs: dimensions that are compared.
        temperature: τ.
        stop: whether derivatives stop at the keys.

    Example:
        >>> projector = Projector("b c", features=4, outputs=2, temperature=0.5, stop=True)
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> [round(loss, 4) for loss in projector.losses(z, torch.zeros(4)).tolist()]
        [0.2395, 0.2395, 0.2395, 0.2395]
    """

    may_start_at_zero = False  # the loss divides by |z|

    def __init__(
        self, out_axes: str, features: int, outputs: int, temperature: float, stop: bool
    ) -> None:
        super().__init__(out_axes, features, outputs)
        self.temperature = temperature
        self.holds, self.coupled = stop, not stop

    def extra_repr(self) -> str:
        """Return the options of the loss for ``repr``."""
        return f"temperature={self.temperature}, stop={self.holds}"

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per row, ``[(v b)]``; labels are not read.

        Args:
            prediction: ``[(v b), k]``, two views of every image.
            labels: ``[(v b)]``.
            held: the predictions that serve as keys; if None, those given, with derivatives stopped.

        Returns:
            The losses.

        Raises:
            UsageError: for rows that are not two views of at least two images.
        """
        rows = len(prediction)
        _enough(rows)
        queries = unit(prediction)
        keys = queries
        if self.holds:
            keys = (queries if held is None else unit(held)).detach()
        diagonal = torch.eye(rows, dtype=torch.bool, device=prediction.device)
        logits = (F.linear(queries, keys) / self.temperature).masked_fill(diagonal, -torch.inf)
        other = torch.arange(rows, device=prediction.device).roll(rows // 2)
        return F.cross_entropy(logits, other, reduction="none")


@register("localities", "contrastive", variants=VARIANTS)
@dataclass(frozen=True)
class Contrastive:
    """Contrastive losses instead of labels: each image's two views must be told from all other images.

    Under ``module`` and ``local`` a linear projector ``projector{k}`` reads the output of every module k;
    the projector ``projector`` reads the last one. Each has its own loss and its exact gradient. No
    objective uses the final readout: it learns from labels between epochs, on frozen features.

    The objective is the mean over the 2B rows (two views of B images). The paper's released code takes
    this mean for noise on activities; for noise on weights and for backprop it takes the sum of the two
    views' means, twice as much.

    With ``stop_keys=false`` the loss of a row depends on every row. Activity noise of a row is then
    credited with the scores of all rows, which is right where every row has noise of its own
    (``shared_noise=false``) and noisier the more rows there are. With ``shared_noise`` the derivative for
    the other view is credited as if it were the row's own, which is biased. Noise on weights has no rows,
    and no such bias.

    Also known as: SimCLR, NT-Xent (normalised temperature-scaled cross entropy).

    Not to be confused with: LoCo, contrastive losses on overlapping windows; the Forward-Forward
    algorithm, which contrasts real with negative data inside each layer.

    Args:
        base: ``end`` (one loss), ``module`` (a loss per module, nothing cut) or ``local`` (cut between
            modules).
        keep: axes along which each loss stays separate.
        temperature: τ of the logits.
        features: dimensions of a projector's output.
        stop_keys: stop the derivative of a row's loss at the rows that it is compared with.
        shared_noise: draw activity noise once for the two views of an image.
        augment: how the views are made: ``full`` (crops, mirrors, colours, blur, solarising of the second
            view), ``crop`` (crops and mirrors) or ``none`` (two equal views).
        crop: smallest share of the area that a crop keeps; the paper raises it to 0.3 or 0.5 for networks
            that learn from local losses.
        flip: mirror views with probability ½; better false for digits and letters.
        probe: learning rate of the plain SGD that trains the final readout, one epoch on frozen features
            of the unaugmented images after every epoch of training.

    References: Chen, Kornblith, Norouzi, Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations, ICML 2020; Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local
    Losses, ICLR 2023.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = Contrastive(base="local", features=4)
        >>> locality.attach(chain)
        >>> [(o.window, o.readout) for o in locality.objectives(chain) if o.updates]
        [((0, 1), 'projector0'), ((1, 2), 'projector1')]
    """

    base: Literal["end", "module", "local"] = "end"
    keep: str = "b"
    temperature: Annotated[float, Field(gt=0)] = 0.5
    features: Annotated[int, Field(ge=1)] = 128
    stop_keys: bool = True
    shared_noise: bool = True
    augment: Literal["full", "crop", "none"] = "full"
    crop: Annotated[float, Field(gt=0, le=1)] = 0.08
    flip: bool = True
    probe: Annotated[float, Field(gt=0)] = 0.01

    copies = 2  # not an option: rows of a batch per image

    def attach(self, chain: Chain) -> None:
        """Attach a projector to every module that has a loss and one at the end; ``final`` stays."""
        for name in [name for name in chain.readouts if name != "final"]:
            del chain.readouts[name]
        last = len(chain) - 1
        on = {} if self.base == "end" else {f"projector{k}": k for k in range(last + 1)}
        for name, k in {**on, "projector": last}.items():
            chain.put(name, k, self._projector)

    def _projector(self, out_axes: str, features: int) -> Projector:
        """Return a projector for one module."""
        return Projector(out_axes, features, self.features, self.temperature, self.stop_keys)

    def batch(
        self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Return two augmented views of every image.

        Args:
            pixels: uint8 ``[b, ch, H, W]``.
            labels: ``[b]``.
            data: the data set that normalises the pixels.
            noise: the keyed noise of this batch.

        Returns:
            Images ``[(v b), ch, H, W]``, the first views first, and labels ``[(v b)]``.

        Raises:
            UsageError: for fewer than two images, or data that are no images.
        """
        if not isinstance(data, Images):
            raise UsageError(
                f"a contrastive loss compares views of images, and {data.name} has none"
            )
        _enough(self.copies * len(pixels))
        x = pixels.to(noise.dtype) / data.peak
        if self.augment == "none":
            views = [x, x]
        else:
            both = (FIRST, SECOND) if self.augment == "full" else (Policy(), Policy())
            shape = {"area": self.crop, "flip": 0.5 if self.flip else 0.0}
            views = [
                augment(x, replace(policy, **shape), noise.child(f"view{v}"))
                for v, policy in enumerate(both)
            ]
        return data.normalise(torch.cat(views) * data.peak, noise.dtype), labels.repeat(2)

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the windows of the base, each with its projector."""
        if self.base == "end":
            return (self.end(chain),)
        return per_module(
            chain,
            cut=self.base == "local",
            keep=self.keep,
            repeats=self._repeats,
            readouts=[f"projector{k}" for k in range(len(chain))],
            end="projector",
        )

    def end(self, chain: Chain) -> Objective:
        """Return the loss of the last projector through the whole chain."""
        whole = tuple(range(len(chain)))
        window = (0, len(chain))
        return Objective("end", window, "projector", whole, self.keep, repeats=self._repeats)

    @property
    def _repeats(self) -> int:
        """Number of rows that share their activity noise."""
        return self.copies if self.shared_noise else 1
