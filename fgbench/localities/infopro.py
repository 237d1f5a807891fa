"""A loss on every module that reconstructs the image and predicts its label, cut between modules."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from fgbench.core import auxiliary
from fgbench.core.network import Tap, untouched
from fgbench.core.objective import Objective, per_module
from fgbench.core.similarity import unit
from fgbench.data.images import Images
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain, Pooling
    from fgbench.core.noise.keyed import Noise

Weight = Annotated[float, Field(ge=0)]
IMAGE = "image"
CHANNELS = 12
"""Maps between the two convolutions of a decoder."""
FEATURES = 128
"""Units of the hidden layer of a head, and numbers that are compared."""


def contrasts(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute the supervised contrastive loss of each example, ``[b]``.

    With ``s_ij = ⟨z_i, z_j⟩ / τ`` of rows of norm 1 and P(i) the other examples of the class of i, the loss
    of i is ``log Σ_{j≠i} exp s_ij − mean_{j∈P(i)} s_ij``, and 0 where P(i) is empty.

    Args:
        z: ``[b, k]``, rows of norm 1.
        labels: int64 ``[b]``.
        temperature: τ.

    Returns:
        The losses.

    Example:
        >>> z = torch.tensor([[1.0, 0.0]]).expand(4, 2)
        >>> [round(loss, 4) for loss in contrasts(z, torch.tensor([0, 0, 0, 1]), 0.07).tolist()]  # log 3
        [1.0986, 1.0986, 1.0986, 0.0]
    """
    scores = F.linear(z, z) / temperature
    diagonal = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = ((labels[:, None] == labels) & ~diagonal).to(z.dtype)
    count = alike.sum(1)
    among = scores.masked_fill(diagonal, -torch.inf).logsumexp(1)
    mean = (scores * alike).sum(1) / count.clamp(min=1)
    return (among - mean) * (count > 0).to(z.dtype)


class ImageAndLabel(auxiliary.Perceptron):
    """A decoder of the image and a head with one hidden layer, each with its weight in the loss.

    Of feature maps the decoder is bilinear upsampling to the size of the image and two 3 x 3 convolutions
    with a ReLU between; of other outputs it is linear. Its numbers are the logits of pixels in [0, 1]. The
    loss is ``λ1 · mean over pixels of the binary cross entropy + λ2 · (cross entropy or supervised
    contrast)``.

    Args:
        pooling: takes features for the head.
        shape: of the module's output for one example.
        maps: whether these are maps with channels, height and width.
        image: channels, height and width of the image.
        outputs: numbers that the head gives.
        weights: λ1 and λ2.
        temperature: of the contrast; 0 for cross entropy.
    """

    needs = IMAGE

    def __init__(
        self,
        pooling: Pooling,
        shape: tuple[int, ...],
        maps: bool,
        image: tuple[int, ...],
        outputs: int,
        weights: tuple[float, float],
        temperature: float,
    ) -> None:
        super().__init__(pooling, (FEATURES,), outputs)
        self.weights, self.temperature, self.outputs = weights, temperature, outputs
        self.coupled = temperature > 0 and weights[1] > 0
        self.size = image[1:] if maps else ()
        if maps:
            self.first: nn.Module = nn.Conv2d(shape[0], CHANNELS, 3, padding=1)
            self.decoder: nn.Module = nn.Conv2d(CHANNELS, image[0], 3, padding=1)
        else:
            self.decoder = nn.Linear(prod(shape), prod(image))

    def extra_repr(self) -> str:
        """Return weights and temperature for ``repr``."""
        return f"weights={self.weights}, temperature={self.temperature}"

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, outputs + pixels]``."""
        head = super().forward(f, tap)
        h = f.flatten(1)
        if self.size:
            h = F.interpolate(f, self.size, mode="bilinear", align_corners=True)
            h = F.relu(tap("op", "first", self.first(h)))
        pixels = tap("op", "decoder", self.decoder(h))
        return torch.cat([head, pixels.flatten(1)], 1)

    def losses(
        self,
        prediction: Tensor,
        labels: Tensor,
        held: Tensor | None = None,
        given: Tensor | None = None,
    ) -> Tensor:
        """Compute one loss per example, ``[b]``.

        Args:
            prediction: ``[b, outputs + pixels]``.
            labels: ``[b]``.
            held: has no effect.
            given: the image, ``[b, pixels]`` from 0 to 1.

        Returns:
            The losses.
        """
        head, pixels = prediction[:, : self.outputs], prediction[:, self.outputs :]
        assert given is not None  # a readout that needs it gets it
        image = F.binary_cross_entropy_with_logits(pixels, given, reduction="none").mean(1)
        if self.temperature:
            task = contrasts(unit(head), labels, self.temperature)
        else:
            task = self.criterion(head, labels)
        return self.weights[0] * image + self.weights[1] * task


@register("localities", "infopro", variants={"contrast": {"head": "contrast"}})
@dataclass(frozen=True)
class InfoPro:
    """A loss per module that keeps what is known of the image as well as of the label, cut between modules.

    A local loss on labels alone lets early modules throw away what later ones could use. Here module k < K
    learns from ``λ1 R + λ2 T``: R reconstructs the image from the module's output (binary cross entropy
    against pixels in [0, 1], whose least value is the mean entropy of the pixels, not 0); T is the cross
    entropy of a head with one hidden layer (``head=softmax``), or the supervised contrast of its outputs
    (``head=contrast``), which couples the examples of a batch. λ1 and λ2 go linearly from the first to the
    last of these modules. The last module has the final readout and the final loss.

    The defaults are the paper's for two modules; for more of them it lets λ1 fall and λ2 rise, such as λ1
    from 5 to 0 and λ2 from 0 to 2 for eight. The paper's heads have three convolutions and its networks
    batch norms; here the head reads averages over the maps.

    Also known as: information propagation loss, locally supervised learning.

    Not to be confused with: ``predsim``, which matches similarities of examples; an autoencoder, which has no
    labels.

    Args:
        lambda1: weight of the reconstruction at the first module.
        lambda1_last: at the last module that has one.
        lambda2: weight of the labels at the first module.
        lambda2_last: at the last module that has one.
        head: ``softmax`` or ``contrast``.
        temperature: of the contrast.
        keep: axes along which each loss stays separate.

    Cost: that of ``local``, and in the column ``readouts`` a decoder as large as the image.

    References: Wang, Ni, Song, Yang, Huang, Revisiting Locally Supervised Learning: an Alternative to
        End-to-end
    Training, ICLR 2021.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=4, width=4)
        >>> locality = InfoPro(lambda1=5.0, lambda1_last=0.0)
        >>> locality.attach(chain)
        >>> [chain.readout(f"aux{k}").weights for k in range(3)]
        [(5.0, 1.0), (2.5, 1.0), (0.0, 1.0)]
    """

    lambda1: Weight = 5.0
    lambda1_last: Weight = 5.0
    lambda2: Weight = 1.0
    lambda2_last: Weight = 1.0
    head: Literal["softmax", "contrast"] = "softmax"
    temperature: Annotated[float, Field(gt=0)] = 0.07
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def supports(self, chain: Chain) -> str:
        """Need one image per example and one label."""
        shapes = _inputs(chain)
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return f"infopro reconstructs images, and inputs have the shape {[*map(list, shapes)]}"
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach a decoder and a head to every module but the last."""
        own = auxiliary.names(chain)[:-1]
        for k, name in enumerate(own):
            chain.put(name, k, lambda have, n, k=k: self._readout(chain, k, have, len(own)))  # type: ignore[misc]

    def _readout(self, chain: Chain, k: int, out_axes: str, count: int) -> ImageAndLabel:
        """Return the readout of module ``k`` of ``count`` that have one."""
        pooling, shape = chain.pooling(k), chain.out_shape(k)
        if pooling.axis:
            raise UsageError(
                "infopro needs one label per image, and this network predicts every position"
            )
        t = k / (count - 1) if count > 1 else 0.0
        weights = (
            self.lambda1 + (self.lambda1_last - self.lambda1) * t,
            self.lambda2 + (self.lambda2_last - self.lambda2) * t,
        )
        contrast = self.head == "contrast"
        outputs = FEATURES if contrast else chain.classes
        temperature = self.temperature if contrast else 0.0
        maps, (image,) = out_axes == "b c h w", _inputs(chain)
        return ImageAndLabel(pooling, shape, maps, image, outputs, weights, temperature)

    def batch(
        self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return normalised images, labels, and the images from 0 to 1, which are reconstructed.

        Args:
            pixels: ``[b, ch, H, W]`` from 0 to the peak of the data.
            labels: ``[b]``.
            data: the data set that normalises the pixels.
            noise: gives the floating type.

        Raises:
            UsageError: for data that are no images.
        """
        if not isinstance(data, Images):
            raise UsageError(f"infopro reconstructs images, and {data.name} has none")
        image = (pixels.to(noise.dtype) / data.peak).flatten(1)
        return data.normalise(pixels, noise.dtype), labels, {IMAGE: image}

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), each with its decoder and head."""
        return per_module(chain, cut=True, keep=self.keep, readouts=auxiliary.names(chain))


def _inputs(chain: Chain) -> list[tuple[int, ...]]:
    """Return the shapes of the inputs of one example."""
    return [tuple(t.shape[1:]) for t in tree_leaves(chain.example())]
