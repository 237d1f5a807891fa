"""Gradients that are sums of directions: formed one place at a time, and never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fgbench.core.noise.laws import block_size

if TYPE_CHECKING:
    from fgbench.core.noise.directions import Directions

PIECE = 1 << 16
"""Most numbers of a direction that are drawn at once on a CPU, where they need not be there as a whole."""


def piece_of(tensor: Tensor) -> int | None:
    """Return how many numbers of a direction along a tensor are drawn at once; None is all of them.

    Args:
        tensor: the parameter. On a GPU a draw in pieces has other values than one in one go.

    Example:
        >>> import torch
        >>> piece_of(torch.ones(2)) == PIECE
        True
    """
    return PIECE if tensor.device.type == "cpu" else None


def weighed(coefficients: Tensor, rows: Tensor) -> Tensor:
    """Return the sum of rows ``[n, ...]`` times coefficients ``[n]``.

    Example:
        >>> import torch
        >>> weighed(torch.tensor([2.0, 3.0]), torch.eye(2))
        tensor([2., 3.])
    """
    if len(rows) == 1:
        return rows[0] * coefficients[0]
    return (rows * coefficients.view(-1, *[1] * (rows.dim() - 1))).sum(0)


class Along(Mapping[str, Tensor]):
    """A gradient Σ_i c_i v_i along directions v_i, by parameter name.

    Directions are drawn when a place is asked for and forgotten afterwards, so that memory stays that of one
    place, or of a piece of it (:meth:`pieces`).

    Args:
        directions: along body parameters.
        coefficients: one number per direction, ``[n]``; an estimate that averages over the directions
            divides by n itself.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> along = Along(FixedDirections({"w": torch.eye(2)}), torch.tensor([3.0, 4.0]))
        >>> along["w"]
        tensor([3., 4.])
    """

    def __init__(self, directions: Directions, coefficients: Tensor) -> None:
        self.directions = directions.unkept()
        self.coefficients = coefficients.detach()

    def __getitem__(self, name: str) -> Tensor:
        """Return the gradient of one parameter."""
        if name not in self.directions.shapes:
            raise KeyError(name)
        u, c = self.directions, self.coefficients
        size = block_size(u.shapes[name])  # what is drawn at once anyway
        total: Tensor | None = None
        for start in range(0, u.n, size):
            rows = u.rows(name, start, min(start + size, u.n))
            part = weighed(c[start : start + len(rows)], rows)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def __iter__(self) -> Iterator[str]:
        return iter(self.directions.shapes)

    def __len__(self) -> int:
        return len(self.directions.shapes)

    def __contains__(self, name: object) -> bool:
        """Return whether a parameter has a gradient, without drawing it."""
        return name in self.directions.shapes

    def pieces(self, name: str, limit: int | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Iterate over the gradient of one parameter in pieces.

        Args:
            name: the parameter.
            limit: most numbers of a piece, as of :meth:`fgbench.core.noise.directions.Directions.pieces`.

        Yields:
            The index of the piece in the parameter, and its values.
        """
        u, c = self.directions, self.coefficients
        limit = (
            None if limit is None else max(1, limit // u.n)
        )  # a piece of every direction is there
        if len(u.cuts(name, limit)) == 1:
            yield ..., self[name]
            return
        for parts in zip(*(u.pieces(name, i, limit) for i in range(u.n)), strict=True):
            total = parts[0][1] * c[0]
            for i, (_, part) in enumerate(parts[1:], 1):
                total += part * c[i]
            yield parts[0][0], total


class Streamed(Mapping[str, Tensor]):
    """A sum of gradients by parameter name, some of them along directions; formed one place at a time.

    Args:
        parts: gradients whose names may differ or meet.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> along = Along(FixedDirections({"w": torch.eye(2)}), torch.tensor([3.0, 4.0]))
        >>> Streamed([{"w": torch.ones(2)}, along])["w"]
        tensor([4., 5.])
    """

    def __init__(self, parts: list[Mapping[str, Tensor]]) -> None:
        self._of: dict[str, list[Mapping[str, Tensor]]] = {}
        for part in parts:
            for name in part:
                self._of.setdefault(name, []).append(part)

    def __getitem__(self, name: str) -> Tensor:
        """Return the gradient of one parameter."""
        first, *rest = self._of[name]
        total = first[name]
        for part in rest:
            total = total + part[name]
        return total

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, name: object) -> bool:
        """Return whether a parameter has a gradient, without drawing it."""
        return name in self._of

    def pieces(self, name: str, limit: int | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Iterate over the gradient of one parameter in pieces, as :meth:`Along.pieces` does."""
        parts = self._of[name]
        alone = parts[0] if len(parts) == 1 else None
        if isinstance(alone, Along):
            yield from alone.pieces(name, limit)
        else:
            yield ..., self[name]


def pass_over(grads: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
    """Form what is along directions once, piece by piece, as a step along it does; keep nothing.

    Args:
        grads: gradients by parameter name; those that are formed already cost nothing.
        params: the parameters.

    Example:
        >>> import torch
        >>> pass_over({"w": torch.ones(2)}, {"w": torch.ones(2)})
    """
    if isinstance(grads, Streamed):
        for name in grads:
            for _ in grads.pieces(name, piece_of(params[name])):
                pass
