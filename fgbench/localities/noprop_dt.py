"""NoProp in discrete time: every block learns to take noise off a label, apart from all others."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from fgbench.core.network import Readout, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.targets import given_of, labels_of
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain

NOISE = "noise"


class Denoised(Readout):
    """The squared distance between the label that a block predicts and the true one, with a weight.

    Args:
        classes: length of a label, the first numbers of a block's output.
        weight: factor of the loss.

    Example:
        >>> readout = Denoised(classes=2, weight=3.0)
        >>> prediction = readout(torch.tensor([[0.5, 0.5, 9.0]]))
        >>> readout.losses(prediction, torch.tensor([1]))  # 3 (0.25 + 0.25)
        tensor([1.5000])
    """

    def __init__(self, classes: int, weight: float) -> None:
        super().__init__()
        self.classes, self.weight = classes, weight

    def extra_repr(self) -> str:
        """Return the weight for ``repr``."""
        return f"weight={self.weight:.4g}"

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, classes]``."""
        return f[:, : self.classes]

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per example, ``[b]``.

        Args:
            prediction: the label that the block predicts, ``[b, classes]``.
            labels: ``[b]``.
            held: has no effect.

        Returns:
            The losses.
        """
        off = prediction - F.one_hot(labels, self.classes).to(prediction.dtype)
        return self.weight * (off * off).sum(1)


@register("localities", "noprop_dt")
@dataclass(frozen=True)
class NoPropDiscrete:
    """Every block of the architecture ``noprop`` learns to denoise a label, apart from all other blocks.

    Block t begins at ``z_{t−1} = √ᾱ_{t−1} u_y + √(1 − ᾱ_{t−1}) ε`` with u_y the one-hot label and ε drawn
    for it, and at the image. Its loss is ``T/2 · η · (SNR_t − SNR_{t−1}) · |û_t − u_y|²`` with SNR = ᾱ/(1 −
    ᾱ), its part of a bound on log p(y | x). The final readout learns from ``z_T ~ N(√ᾱ_T u_y, 1 − ᾱ_T)`` by
    cross entropy. Labels are one-hot and fixed, so the bound's remaining term is constant. A prediction
    goes through all blocks, from the mean of z_0 by the mean of every step.

    It is a training rule: no loss of the predictions has the gradient that it follows. All blocks learn
    from each batch; the paper trains one after the other, which is the same for blocks that share nothing.

    Also known as: NoProp-DT.

    Not to be confused with: NoProp-CT and NoProp-FM, in continuous time and by flow matching, which are not
    here; diffusion models, which denoise images.

    Args:
        eta: η.
        inference: ``mean``: predictions without noise, from z_0 = 0; ``sampled``: with noise, as the paper,
            the same for every example.

    Cost: one forward and one backward pass of every block; a prediction is one forward pass.

    References: Li, Teh, Pascanu, NoProp: Training Neural Networks without Back-propagation or
    Forward-propagation, 2025.

    Example:
        >>> from fgbench import registry
        >>> made = registry.make("architectures", "noprop-2x4", shape=(1, 2, 2), classes=3)
        >>> locality = NoPropDiscrete()
        >>> locality.attach(made.thing)
        >>> [(o.window, o.readout) for o in locality.objectives(made.thing)]
        [((0, 1), 'denoised0'), ((1, 2), 'denoised1'), ((2, 2), 'final')]
    """

    eta: Annotated[float, Field(gt=0)] = 0.1
    inference: Literal["mean", "sampled"] = "mean"

    rule = "blocks learn to denoise labels, and the loss of a prediction is no sum of their losses"

    def supports(self, chain: Chain) -> str:
        """Need blocks that denoise labels by a schedule."""
        if chain.whole or not all(hasattr(m, "step") for m in chain.body):
            return "noprop_dt trains blocks that denoise labels: the architecture noprop"
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach the loss of every block; ``final`` stays."""
        for name in [name for name in chain.readouts if name != "final"]:
            del chain.readouts[name]
        for k, step in enumerate(_steps(chain)):
            weight = len(chain) / 2 * self.eta * step.gain
            chain.put(f"denoised{k}", k, lambda have, n, w=weight: Denoised(chain.classes, w))  # type: ignore[misc]

    def batch(
        self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the prepared inputs, their labels, and noise to begin from.

        One draw serves all blocks: no term of a loss has the noise of two.

        Args:
            pixels: inputs as stored, ``[b, ...]``.
            labels: ``[b]``.
            data: the data set that prepares them.
            noise: the keyed noise of this batch.

        Raises:
            UsageError: for data without classes.
        """
        if "error" not in data.metrics or labels.dim() != 1:
            raise UsageError(f"noprop_dt denoises labels, and {data.name} has no classes")
        x, y = data.prepare(pixels, labels, noise.dtype)
        return x, y, {NOISE: noise.normal("starts", (len(y), data.classes))}

    def start(self, chain: Chain, k: int, f: Tensor, x: Tensor, targets: Any) -> Tensor:
        """Return ``[0, z_k, image]``, with z_k the noisy label that block k + 1 begins at.

        Args:
            chain: the network.
            k: number of the block; that of all blocks for the readout at the end.
            f: what arrives there, which is not used.
            x: the images.
            targets: labels, with the noise that was drawn for the batch.
        """
        steps, labels, given = _steps(chain), labels_of(targets), given_of(targets)
        if NOISE not in given:
            raise UsageError("noprop_dt begins at noise that its own batches bring")
        part = steps[k].before if k < len(steps) else steps[-1].after
        u = F.one_hot(labels, chain.classes).to(x.dtype)
        z = sqrt(part) * u + sqrt(1 - part) * given[NOISE]
        return torch.cat([torch.zeros_like(u), z, x.flatten(1)], 1)

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), and the readout at the end."""
        count = len(chain)
        own = (Objective(f"block{k}", (k, k + 1), f"denoised{k}", (k,)) for k in range(count))
        return (*own, Objective("final", (count, count), "final", ()))

    def end(self, chain: Chain) -> None:
        """Return None: the loss at the end is none of the blocks'."""

    def predictions(self, chain: Chain, x: Tensor) -> Tensor:
        """Return the scores of the classes after all blocks, ``[b, classes]``.

        Args:
            chain: the network.
            x: prepared inputs, ``[b, ...]``.
        """
        if self.inference == "mean":
            mean: Tensor = chain(x)
            return mean
        n, image = chain.classes, x.flatten(1)
        noise = Noise(0, ("inference",), device=x.device, dtype=x.dtype)
        z = noise.normal("z0", (1, n)).expand(len(x), n)
        f = torch.cat([torch.zeros_like(z), z, image], 1)
        for k, step in enumerate(_steps(chain)):
            f = chain.run(f, k, k + 1)
            z = f[:, n : 2 * n] + sqrt(step.c) * noise.normal(f"z{k + 1}", (1, n))
            f = torch.cat([f[:, :n], z, image], 1)
        return chain.read("final", f)


def _steps(chain: Chain) -> list[Any]:
    """Return how z moves in every block."""
    return [chain.module(k).step for k in range(len(chain))]
