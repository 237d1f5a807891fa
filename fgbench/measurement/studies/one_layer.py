"""One layer whose per-example gradients, their mean and their covariance are known exactly.

A loss that is linear in the output, ℓ_n = ⟨δ_n, W x_n⟩, has the gradient δ_n x_nᵀ whatever W is. Batches are
drawn with replacement from finitely many examples, so that population moments are finite sums. The mean
gradient is not 0.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import nn

from fgbench import registry
from fgbench.core.network import Chain, LocalModule, Readout, Site, Tap, untouched
from fgbench.core.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from fgbench.core.estimator import Estimator
    from fgbench.core.noise.keyed import Noise


class _Linear(LocalModule):
    """One layer without bias and nonlinearity."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c]``."""
        z = tap("op", "l0", self.l0(x))
        return tap("out", "l0", tap("site", "l0", z))


class _Given(Readout):
    """A loss linear in the output, ⟨δ_n, f_n⟩: example n has the cotangent δ_n for any weights."""

    def __init__(self, cotangents: Tensor) -> None:
        super().__init__()
        self.cotangents = cotangents

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Return the output itself."""
        return f

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute ``[b]``; labels are the numbers of the examples."""
        return (prediction * self.cotangents[labels]).sum(1)


class Layer:
    """A layer with its examples.

    x = x̄ ± ξ and δ = δ̄ ± η with |x̄|² = |ξ|² = p and |δ̄|² = |η|² = q, the two signs in every combination: the
    mean gradient is δ̄x̄ᵀ with |μ|² = pq, and the mean of |δ|²|x|² is 4pq. So the paper's S and V are 1 and 3
    whatever the sizes are.

    Args:
        fan_in: p.
        fan_out: q.
        noise: draws the examples, in its dtype.
        pairs: number of (ξ, η); each gives four examples.

    Attributes:
        inputs: x ``[b, p]`` of all examples.
        cotangents: δ ``[b, q]``.
        everything: the numbers of all examples.
        task: the layer under this loss; labels are numbers of examples.

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> layer = Layer(3, 2, Noise(0, dtype=torch.float64))
        >>> layer.gradients(layer.everything).shape
        torch.Size([64, 2, 3])
    """

    name = "body.0.l0.weight"

    def __init__(self, fan_in: int, fan_out: int, noise: Noise, pairs: int = 16) -> None:
        drawn = noise.directions({"x": (fan_in,), "d": (fan_out,)}, pairs + 1, "sphere")
        x, d = (drawn.rows(name, 0, pairs + 1) for name in "xd")
        signs = torch.tensor([*product((1.0, -1.0), repeat=2)], dtype=noise.dtype)
        self.inputs, self.cotangents = (
            (v[0] + sign[:, None, None] * v[1:]).flatten(0, 1)
            for v, sign in zip((x, d), signs.T, strict=True)
        )
        with noise.seeded():
            body: list[LocalModule] = [_Linear(fan_in, fan_out).to(noise.dtype)]
        readouts: dict[str, Readout] = {"final": _Given(self.cotangents)}
        chain = Chain(body, readouts, (fan_in,), len(self.inputs))
        self.task = Task.build(chain, registry.make("localities", "end").thing, noise)
        self.everything = torch.arange(len(self.inputs))

    def gradients(self, rows: Tensor) -> Tensor:
        """Return the exact gradient of each example: ``[b, q, p]``."""
        return torch.einsum("bo,bi->boi", self.cotangents[rows], self.inputs[rows])

    def batch(self, size: int, noise: Noise) -> Tensor:
        """Draw the numbers of a batch's examples, with replacement."""
        return (noise.draw("uniform", "rows", 0, (size,)) * len(self.inputs)).long()

    def estimates(
        self, estimator: Estimator, drawn: Iterable[tuple[Tensor, Noise]]
    ) -> Iterator[Tensor]:
        """Run an estimator.

        Args:
            estimator: the estimator.
            drawn: the examples and the noise of every draw.

        Yields:
            ``[q, p]``.
        """
        for rows, noise in drawn:
            step = self.task.estimate(self.inputs[rows], rows, estimator, noise)
            yield step.body[self.name]
