"""Per-draw moments of an estimate accumulated from its gradients.

For a truth g and the end-to-end gradient G every draw e leaves four inner products per parameter: ⟨e, g⟩,
|e|², |e − g|² and ⟨e, G⟩. Of the vectors e − g only sums over at most 32 blocks of draws are kept, and
reported as their Gram matrix, so that memory grows by four numbers per draw and parameter. All of these
add up over the parameters of a place. The signs of the first draws are compared with those of g.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.stats import blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Array = np.ndarray[Any, Any]

SIGNED, LEAST_SIGNED = 64, 8  # draws whose signs are compared: their gradients are formed
ENTRIES = 1 << 20  # most signs compared, beyond the least number of draws


def signs(truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sign of every entry of a gradient, 0 where it is rounding.

    Args:
        truth: gradient by parameter name.

    Returns:
        1, -1 or 0. Entries are 0 where they are of a rounding's size beside the largest of their parameter,
        and all of a parameter where it is of that size beside the body, such as a bias before a norm.

    Example:
        >>> signs({"w": torch.tensor([2.0, -1.0, 1e-9])})["w"].tolist()
        [1.0, -1.0, 0.0]
    """
    found = {}
    squares = {name: square(g) for name, g in truth.items()}
    total = sum(squares.values())
    for name, g in truth.items():
        rounding = 10 * torch.finfo(g.dtype).eps
        relevant = squares[name] > rounding**2 * total
        on = (g.abs() > rounding * g.abs().amax()) & relevant
        found[name] = torch.where(on, g.sign(), 0.0)
    return found


def signed(draws: int, truth: Mapping[str, Tensor]) -> int:
    """Return the number of draws whose signs are compared.

    Few are enough: the agreement of one draw is a share of many entries and varies little.

    Args:
        draws: number of draws.
        truth: gradient by parameter name.

    Example:
        >>> signed(1000, {"w": torch.ones(4)})
        64
    """
    entries = sum(g.numel() for g in truth.values())
    return min(draws, SIGNED, max(LEAST_SIGNED, ENTRIES // max(entries, 1)))


def flat(grad: Tensor) -> Tensor:
    """Return a gradient as a float64 vector.

    Args:
        grad: of any shape.

    Example:
        >>> flat(torch.ones(2, 2)).shape
        torch.Size([4])
    """
    return grad.detach().reshape(-1).double()


def square(grad: Tensor) -> float:
    """Return the squared norm of a gradient, summed in float64 without a copy in it.

    Args:
        grad: of any shape.

    Example:
        >>> square(torch.full((2, 2), 0.5))
        1.0
    """
    return float(torch.linalg.vector_norm(grad.detach(), dtype=torch.float64)) ** 2


class GradientMoments:
    """Per-draw moments accumulated from weight gradients.

    Args:
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient by parameter name.
        draws: number of draws there will be.

    Attributes:
        signs: signs of the truth, see :func:`signs`.

    Example:
        >>> truth = {"w": torch.tensor([1.0, 2.0])}
        >>> moments = GradientMoments(truth, truth, draws=2)
        >>> moments.add(0, {"w": torch.tensor([1.0, 0.0])})
        >>> moments.rows()["w"][0].tolist()
        [1.0, 1.0, 4.0, 1.0]
    """

    def __init__(self, truth: Mapping[str, Tensor], end: Mapping[str, Tensor], draws: int) -> None:
        self._g = {n: flat(g) for n, g in truth.items()}
        self._end = {n: flat(end[n]) for n in truth}
        self.signs = signs(truth)
        self._signs = {n: s.reshape(-1).double() for n, s in self.signs.items()}
        self._block = blocks.blocks(draws)
        count = int(self._block.max()) + 1
        self._sums = {n: g.new_zeros(count, len(g)) for n, g in self._g.items()}
        self._rows = {n: g.new_zeros(draws, 4) for n, g in self._g.items()}
        self._signed = signed(draws, truth)
        self._agreed = {n: g.new_zeros(self._signed) for n, g in self._g.items()}

    def add(self, k: int, grads: Mapping[str, Tensor]) -> None:
        """Add draw ``k``.

        Args:
            k: number of the draw.
            grads: estimated gradient by body parameter name; 0 where nothing is updated.
        """
        for n, g in self._g.items():
            e = flat(grads[n]) if n in grads else torch.zeros_like(g)
            d = e - g
            self._sums[n][self._block[k]] += d
            self._rows[n][k] = torch.stack([e @ g, e @ e, d @ d, e @ self._end[n]])
            if k < self._signed:
                self._agreed[n][k] = e.sign() @ self._signs[n]

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per parameter and draw: ``[draws, 4]``."""
        return {n: r.cpu().numpy() for n, r in self._rows.items()}

    def agreed(self) -> dict[str, Array]:
        """Return Σ sign(e) sign(g) per parameter and draw, of the first draws: ``[at most 64]``."""
        return {n: a.cpu().numpy() for n, a in self._agreed.items()}

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g per parameter: ``[blocks, blocks]``."""
        return {n: (s @ s.T).cpu().numpy() for n, s in self._sums.items()}
