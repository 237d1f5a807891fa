"""Laws of one direction: gaussian, signs, uniform, on a sphere."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch

from fgbench.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor


Shape = tuple[int, ...]


ROUND = 64
"""Numbers made at a time, 16 normals or 64 signs: the last of a draw differ where it is no multiple."""


class PerExample(dict[str, Shape]):
    """Place name to shape, for places whose first axis is the example axis.

    Args:
        places: name to shape ``[b, ...]``.
        repeats: how many times the batch repeats its examples, ``(v b)`` with v of this size; directions
            are drawn for one repetition and are the same in all.

    Example:
        >>> PerExample({"l0": (4, 3)}, repeats=2).drawn
        {'l0': (2, 3)}
    """

    def __init__(
        self, places: Mapping[str, Shape] | Iterable[tuple[str, Shape]] = (), repeats: int = 1
    ) -> None:
        super().__init__(places)
        self.repeats = repeats

    @property
    def drawn(self) -> PerExample:
        """The places of one repetition: the shapes that are drawn before they are repeated."""
        return PerExample({n: (s[0] // self.repeats, *s[1:]) for n, s in self.items()})


def repeated(tensors: Tensor, repeats: int) -> Tensor:
    """Return directions ``[n, b, ...]`` as ``[n, (v b), ...]``, the same for every v.

    Example:
        >>> repeated(torch.tensor([[1.0, 2.0]]), repeats=2)
        tensor([[1., 2., 1., 2.]])
    """
    return torch.cat([tensors] * repeats, 1) if repeats > 1 else tensors


@dataclass(frozen=True)
class Law:
    """A law of directions.

    Args:
        name: what the user types.
        kind: the primitive drawn: ``normal``, ``sign`` or ``uniform`` on [0, 1).
        kurtosis: E vᵢ⁴; for the sphere the value that gives its total variance, 1.
        shape: from primitive values ``[m, *place]`` to directions; ``per_example`` says whether the
            first axis of the place is the example axis.
        normalised: whether each direction of each place is scaled to norm √d.

    Example:
        >>> law("sphere").moments(d=2)
        (0.5, 1.5)
    """

    name: str
    kind: str
    kurtosis: float
    shape: Callable[[Tensor, bool], Tensor]
    normalised: bool = False

    @property
    def as_drawn(self) -> bool:
        """Whether directions are the primitive itself."""
        return self.shape is _as_drawn

    def moments(self, d: int) -> tuple[float, float]:
        """Return E vᵢ² vⱼ² for i ≠ j and E vᵢ⁴ of the d coordinates of one direction.

        Independent coordinates have 1 and κ; of a fixed norm √d on a sphere, d/(d + 2) and three times it.
        """
        if self.normalised:
            return d / (d + 2), 3 * d / (d + 2)
        return 1.0, self.kurtosis


def _as_drawn(raw: Tensor, per_example: bool) -> Tensor:
    """Return the primitive itself."""
    return raw


def _on_sphere(raw: Tensor, per_example: bool) -> Tensor:
    """Scale to norm √d, one norm per direction and, for activities, per example."""
    keep = 2 if per_example else 1
    flat = raw.reshape(*raw.shape[:keep], -1)
    norm: Tensor = flat.norm(dim=-1, keepdim=True)
    return (flat * (sqrt(flat.shape[-1]) / norm)).reshape(raw.shape)


def _centred(raw: Tensor, per_example: bool) -> Tensor:
    """Map [0, 1) to [-√3, √3), which has unit variance."""
    return raw.sub_(0.5).mul_(2 * sqrt(3.0))


LAWS = {
    law.name: law
    for law in (
        Law("gaussian", "normal", 3.0, _as_drawn),
        Law("rademacher", "sign", 1.0, _as_drawn),
        Law("sphere", "normal", 1.0, _on_sphere, normalised=True),
        Law("uniform", "uniform", 9 / 5, _centred),
    )
}


def law(name: str) -> Law:
    """Return the law of that name.

    Args:
        name: one of ``gaussian``, ``rademacher``, ``sphere``, ``uniform``.

    Returns:
        The law.

    Raises:
        UsageError: for an unknown name, with the nearest valid one.

    Example:
        >>> law("rademacher").moments(10)
        (1.0, 1.0)
    """
    if name not in LAWS:
        raise unknown("law of directions", name, LAWS)
    return LAWS[name]


def block_size(shape: Shape) -> int:
    """Return how many directions one draw of this shape makes: 1 from 4,096 elements up, 16 below.

    Small draws are grouped because seeding costs as much as 500 normals; the size depends on the shape
    alone, so that a direction never depends on how many were asked for.

    Example:
        >>> block_size((64, 64)), block_size((64,))
        (1, 16)
    """
    return 1 if prod(shape) >= 4096 else 16
