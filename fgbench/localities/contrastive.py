"""Contrastive losses on two augmented views of every image, and the localities they come in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from fgbench.core.network import LinearReadout
from fgbench.core.objective import Objective, per_module
from fgbench.data.augment import GRAY, JITTER, Policy, augment
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise

FLOOR = 1e-12  # of a squared norm
FIRST = Policy(jitter=JITTER, gray=GRAY, blur=1.0)
SECOND = Policy(jitter=JITTER, gray=GRAY, blur=0.1, solarise=0.2)
VARIANTS = {
    "module": {"base": "module"},
    "local": {"base": "local"},
    "local-p": {"base": "local", "keep": "b p"},
    "local-pg": {"base": "local", "keep": "b p g"},
}


def unit(z: Tensor) -> Tensor:
    """Scale rows to norm 1, squared norms being at least 1e-12."""
    return z * (z * z).sum(1, keepdim=True).clamp(min=FLOOR).rsqrt()


def _enough(rows: int) -> None:
    """Refuse rows that are not two views of at least two images."""
    if rows % 2 or rows < 4:
        raise UsageError(
            "a contrastive loss compares two views of at least 2 images, "
            + (f"got {rows} rows" if rows % 2 else f"got {rows // 2}: no negatives are left")
        )


class Projector(LinearReadout):
    """A linear head on pooled features whose loss compares the two views of a batch (NT-Xent).

    With ẑ = z/|z|, rows 0 to B − 1 the first view and the rest the second, the loss of row n is the
    cross entropy of the logits ẑ_n·ẑ_m/τ over all other rows m, its other view being the target. With
    the keys ẑ_m stopped the gradient enters through the query ẑ_n alone: the loss of a row depends on
    that row's features only, and the scores of rows, patches and groups are a partition of its slope.

    Args:
        out_axes: axes of the module's output; the mean runs over ``p``, ``h`` and ``w``.
        features: numbers per example left after the mean.
        outputs: dimensions that are compared.
        temperature: τ.
        stop: whether keys are stopped.
    """

    def __init__(
        self, out_axes: str, features: int, outputs: int, temperature: float, stop: bool
    ) -> None:
        super().__init__(out_axes, features, outputs)
        self.temperature = temperature
        self.holds, self.coupled = stop, not stop

    def extra_repr(self) -> str:
        """Name the options of the loss."""
        return f"temperature={self.temperature}, stop={self.holds}"

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per row, ``[(v b)]``; labels are not read.

        Args:
            prediction: ``[(v b), k]``, two views of every image.
            labels: ``[(v b)]``.
            held: the predictions that serve as keys; those given, stopped, where None.

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
        own = torch.eye(rows, dtype=torch.bool, device=prediction.device)
        logits = (F.linear(queries, keys) / self.temperature).masked_fill(own, -torch.inf)
        other = torch.arange(rows, device=prediction.device).roll(rows // 2)
        return F.cross_entropy(logits, other, reduction="none")


@register("localities", "contrastive", variants=VARIANTS)
@dataclass(frozen=True)
class Contrastive:
    """Contrastive losses in place of labels: two views of every image tell it from the others.

    A linear projector ``projector{k}`` reads every module (``module``, ``local``), the projector
    ``projector`` the last one; each has its own loss and its exact gradient. No objective reads the
    final readout: it learns from labels between epochs, on frozen features.

    The objective is the mean over the 2B rows. (The released code takes this mean for forward gradients
    and the sum of the two views' means, twice as much, for backprop.)

    With ``stop_keys`` false the loss of a row depends on every row, and the score of a row, being the
    slope of that row's loss, does so too. Times the row's own noise its mean is ∂ℓ_n/∂z_n with noise of
    its own per row, which leaves out what row n does as a key; with ``shared_noise`` the other view's
    ∂ℓ_n/∂z_n′ is added, as if it were the row's own. Both are biased for activity noise, against the
    gradient of the loss that backprop takes there. Weight noise has no rows, and no bias.

    Args:
        base: ``end`` (one loss), ``module`` (a loss per module, nothing cut) or ``local`` (cut between
            modules).
        keep: axes along which each loss stays separate.
        temperature: τ of the logits.
        features: dimensions that a projector gives.
        stop_keys: stop the derivative of a row's loss at the rows that it is compared with.
        shared_noise: draw activity noise once for the two views of an image.
        augment: what makes the views: ``full`` (crops, mirrors, colours, blur, solarising of the second
            view), ``crop`` (crops and mirrors) or ``none`` (two equal views).
        crop: least part of the area that a crop keeps; the paper raises it to 0.3 or 0.5 for networks
            that learn from local losses.
        flip: mirror views with probability ½; digits and letters are better left alone.
        probe: rate of the plain SGD that trains the final readout, one epoch on frozen features of the
            images as they are after every epoch of training.

    References: Chen, Kornblith, Norouzi, Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations, ICML 2020; Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local
    Losses, ICLR 2023.
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
        """Put a projector on every module that has a loss and one at the end, and leave ``final``."""
        for name in [name for name in chain.readouts if name != "final"]:
            del chain.readouts[name]
        last = len(chain) - 1
        on = {} if self.base == "end" else {f"projector{k}": k for k in range(last + 1)}
        for name, k in {**on, "projector": last}.items():
            chain.put(name, k, self._projector)

    def _projector(self, out_axes: str, features: int) -> Projector:
        """Make one projector."""
        return Projector(out_axes, features, self.features, self.temperature, self.stop_keys)

    def batch(
        self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Make two views of every image.

        Args:
            pixels: uint8 ``[b, ch, H, W]``.
            labels: ``[b]``.
            data: the data set that normalises the pixels.
            noise: of this batch.

        Returns:
            Images ``[(v b), ch, H, W]``, the first views first, and labels ``[(v b)]``.

        Raises:
            UsageError: for fewer than two images.
        """
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
        """How many rows share their activity noise."""
        return self.copies if self.shared_noise else 1
