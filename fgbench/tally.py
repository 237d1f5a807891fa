"""What is kept of every draw: four inner products per place, and block sums of the error.

For a truth g and the end-to-end gradient G a draw e leaves ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩; of the vectors
only sums over at most 32 blocks of draws stay, as their Gram matrix. Nothing grows with the number of draws
but those four numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench import bias, intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fgbench.directions import Directions
    from fgbench.task import Task
    from fgbench.view import View

Array = np.ndarray[Any, Any]
Places = dict[str, list[str]]


def places(task: Task) -> Places:
    """Group parameters by site: those of a weight operation under its name, others by module."""
    grouped: Places = {}
    for name in task.chain.body_parameters():
        site = name.rpartition(".")[0]
        grouped.setdefault(
            site if site in task.chain.index else ".".join(name.split(".")[:2]), []
        ).append(name)
    return grouped


def flat(grads: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return some gradients as one float64 vector."""
    return torch.cat([grads[n].detach().reshape(-1) for n in names]).double()


class Formed:
    """Keeps what draws say whose gradients are formed.

    Args:
        grouped: place to its parameters.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient.
        draws: how many draws there will be.
    """

    def __init__(
        self, grouped: Places, truth: Mapping[str, Tensor], end: Mapping[str, Tensor], draws: int
    ) -> None:
        self._grouped = grouped
        self._g = {p: flat(truth, names) for p, names in grouped.items()}
        self._big = {p: flat(end, names) for p, names in grouped.items()}
        self._which = bias.blocks(draws)
        count = int(self._which.max()) + 1
        self._sums = {
            p: torch.zeros(count, len(v), dtype=torch.float64, device=v.device)
            for p, v in self._g.items()
        }
        self._rows = {p: torch.zeros(draws, 4, dtype=torch.float64) for p in grouped}

    def add(self, k: int, grads: Mapping[str, Tensor]) -> None:
        """Keep what draw ``k`` says.

        Args:
            k: number of the draw.
            grads: body parameter name to estimated gradient.
        """
        for p, names in self._grouped.items():
            e, g = flat(grads, names), self._g[p]
            d = e - g
            self._sums[p][self._which[k]] += d
            self._rows[p][k] = torch.stack([e @ g, e @ e, d @ d, e @ self._big[p]]).cpu()

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per place and draw: ``[draws, 4]``."""
        return {p: r.numpy() for p, r in self._rows.items()}

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g per place: ``[blocks, blocks]``."""
        return {p: (s @ s.T).cpu().numpy() for p, s in self._sums.items()}


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

    def __call__(self, view: View, directions: Directions, slopes: Tensor) -> None:
        """Note slope² and |v|²/d; a control needs one score per weight direction."""
        if view.kept != "b" or any(n in view.chain.index for n in directions.names):
            self.usable = False
        if not self.usable:
            return
        whole = slopes.double().reshape(len(slopes), -1).sum(1)
        self._squares[self._k] += float((whole**2).mean())
        norm2 = sum(
            float((directions.rows(n, 0, directions.n).double() ** 2).sum())
            for n in directions.names
        )
        elements = sum(int(torch.Size(s).numel()) for s in directions.shapes.values())
        self._norms[self._k].append(norm2 / (elements * directions.n))

    def over(self, g2: float) -> Array | None:
        """Return slope²/|g|² per draw; None where it may not be believed."""
        if not self.usable or not all(self._norms) or g2 <= 0:
            return None
        norms = np.array([np.mean(found) for found in self._norms])
        return self._squares / g2 if intervals.control_valid(norms) else None
