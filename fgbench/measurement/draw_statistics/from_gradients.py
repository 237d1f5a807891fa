"""What is kept of every draw: four inner products per parameter, and block sums of the error.

For a truth g and the end-to-end gradient G a draw e leaves ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩; of the vectors
only sums over at most 32 blocks of draws stay, as their Gram matrix. Nothing grows with the number of draws
but those four numbers. All of them add up over parameters to those of a place. The signs of the first draws
are compared with those of g.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.stats import blocks, intervals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.noise.directions import Directions
    from fgbench.core.oracles import Oracles
    from fgbench.core.task import Task

Array = np.ndarray[Any, Any]
Places = dict[str, list[str]]


SIGNED, LEAST_SIGNED = 64, 8  # draws whose signs are compared: their gradients are formed
ENTRIES = 1 << 20  # that are compared at most, beyond the least number of draws


def signs(truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sign of every entry of a truth, 0 where it is rounding.

    Args:
        truth: gradient by parameter name.

    Returns:
        1, -1 or 0, the last for entries of a rounding's size beside the largest of their parameter, and
        for a whole parameter of that size beside the body, such as a bias that a norm takes away.
    """
    found = {}
    squares = {name: square(g) for name, g in truth.items()}
    whole = sum(squares.values())
    for name, g in truth.items():
        rounding = 10 * torch.finfo(g.dtype).eps
        kept = squares[name] > rounding**2 * whole
        on = (g.abs() > rounding * g.abs().amax()) & kept
        found[name] = torch.where(on, g.sign(), 0.0)
    return found


def signed(draws: int, truth: Mapping[str, Tensor]) -> int:
    """Return of how many draws signs are compared; they are shares of many entries and vary little."""
    entries = sum(g.numel() for g in truth.values())
    return min(draws, SIGNED, max(LEAST_SIGNED, ENTRIES // max(entries, 1)))


def places(task: Task) -> Places:
    """Group parameters by site: those of a weight operation under its name, others by module."""
    grouped: Places = {}
    for name in task.chain.body_parameters():
        site = name.rpartition(".")[0]
        grouped.setdefault(
            site if site in task.chain.index else ".".join(name.split(".")[:2]), []
        ).append(name)
    return grouped


def modules(task: Task) -> Places:
    """Group parameters by module."""
    grouped: Places = {}
    for name in task.chain.body_parameters():
        grouped.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return grouped


def flat(grad: Tensor) -> Tensor:
    """Return a gradient as a float64 vector."""
    return grad.detach().reshape(-1).double()


def square(grad: Tensor) -> float:
    """Return the squared norm of a gradient, added up in float64 without a copy in it."""
    return float(torch.linalg.vector_norm(grad.detach(), dtype=torch.float64)) ** 2


class GradientMoments:
    """Keeps what draws say whose gradients are formed.

    Args:
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient.
        draws: how many draws there will be.

    Attributes:
        signs: of the truth, see :func:`signs`.
    """

    def __init__(self, truth: Mapping[str, Tensor], end: Mapping[str, Tensor], draws: int) -> None:
        self._g = {n: flat(g) for n, g in truth.items()}
        self._big = {n: flat(end[n]) for n in truth}
        self.signs = signs(truth)
        self._signs = {n: s.reshape(-1).double() for n, s in self.signs.items()}
        self._which = blocks.blocks(draws)
        count = int(self._which.max()) + 1
        self._sums = {n: g.new_zeros(count, len(g)) for n, g in self._g.items()}
        self._rows = {n: g.new_zeros(draws, 4) for n, g in self._g.items()}
        self._signed = signed(draws, truth)
        self._agreed = {n: g.new_zeros(self._signed) for n, g in self._g.items()}

    def add(self, k: int, grads: Mapping[str, Tensor]) -> None:
        """Keep what draw ``k`` says.

        Args:
            k: number of the draw.
            grads: body parameter name to estimated gradient.
        """
        for n, g in self._g.items():
            e = flat(grads[n])
            d = e - g
            self._sums[n][self._which[k]] += d
            self._rows[n][k] = torch.stack([e @ g, e @ e, d @ d, e @ self._big[n]])
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


class Control:
    """The law's control: what the slopes of every draw are known to average to, where that holds.

    Args:
        draws: how many draws there will be.
        usable: whether the estimator claims to be slope times direction.
    """

    def __init__(self, draws: int, usable: bool) -> None:
        self.usable = usable
        self._squares = np.zeros(draws)
        self._norms: list[list[float]] = [[] for _ in range(draws)]
        self._k = 0

    def begin(self, k: int) -> None:
        """Say which draw is heard next, whatever was heard of it before."""
        self._k, self._squares[k], self._norms[k] = k, 0.0, []

    def __call__(self, view: Oracles, directions: Directions, slopes: Tensor) -> None:
        """Note slope² and |v|²/d; a control needs one score per weight direction."""
        if view.kept != "b" or any(n in view.chain.index for n in directions.names):
            self.usable = False
        if not self.usable:
            return
        whole = slopes.double().reshape(len(slopes), -1).sum(1)
        self._squares[self._k] += float((whole**2).mean())
        norm2 = sum(square(directions.rows(n, 0, directions.n)) for n in directions.names)
        elements = sum(int(torch.Size(s).numel()) for s in directions.shapes.values())
        self._norms[self._k].append(norm2 / (elements * directions.n))

    def over(self, g2: float) -> Array | None:
        """Return slope²/|g|² per draw; None where it may not be believed."""
        if not self.usable or not all(self._norms) or g2 <= 0:
            return None
        norms = np.array([np.mean(found) for found in self._norms])
        return self._squares / g2 if intervals.control_valid(norms) else None
