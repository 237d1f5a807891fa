"""Laws of one direction: gaussian, signs, uniform, on a sphere, of low rank, within a random subspace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch

from fgbench.errors import UsageError, unknown
from fgbench.registry.grammar import split_options

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


def _as_drawn(raw: Tensor, per_example: bool) -> Tensor:
    """Return the primitive itself."""
    return raw


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

    def drawn(self, shape: Shape) -> Shape:
        """Return the shape of the primitive that a direction of this shape is made of."""
        return shape

    def held(self, shape: Shape) -> Shape | None:
        """Return the shape of the part of a direction that may live for several steps; None without one."""
        return None

    def made(self, raw: Tensor, held: Tensor | None, shape: Shape, per_example: bool) -> Tensor:
        """Return directions made of primitives.

        Args:
            raw: ``[m, *drawn(shape)]``.
            held: the part that lives for several steps, of a :class:`MatrixLaw`.
            shape: of one direction.
            per_example: whether its first axis is the example axis.

        Returns:
            ``[m, *shape]``.
        """
        return self.shape(raw, per_example)

    def moments(self, d: int) -> tuple[float, float]:
        """Return E vᵢ² vⱼ² for i ≠ j and E vᵢ⁴ of the d coordinates of one direction.

        Independent coordinates have 1 and κ; of a fixed norm √d on a sphere, d/(d + 2) and three times it.
        """
        if self.normalised:
            return d / (d + 2), 3 * d / (d + 2)
        return 1.0, self.kurtosis

    def variance(self, total: Tensor, square: Tensor, own: Tensor) -> Tensor:
        """Return the variance of score times direction, summed over some coordinates of a place.

        The score is ⟨h, v⟩ over all places. Coordinate i has E[⟨h, v⟩² vᵢ²] − hᵢ² = |h|² + (q − 1)|p|² +
        (k − q − 1) hᵢ², p being the part of h at this place, q and k its :meth:`moments`.

        Args:
            total: |h|² over all places.
            square: hᵢ² at this place, of its shape.
            own: 1 at the coordinates that are credited with the score, 0 elsewhere.

        Returns:
            A scalar.
        """
        pair, fourth = self.moments(own.numel())
        variance = own.sum() * (total + (pair - 1) * square.sum())
        return variance + (fourth - pair - 1) * (square * own).sum()


@dataclass(frozen=True)
class MatrixLaw(Law):
    """A law of matrices V whose moments are those of rows and columns.

    Tensors of more than two axes are matrices of their first axis and all others; vectors follow the
    gaussian law. Fourth moments are sums over the three pairings of four indices, π of the rows and σ of
    the columns,

        E[V_ab V_cd V_ef V_gh] = Σ_πσ w_πσ R_π(a, c, e, g) C_σ(b, d, f, h),

    R_π being 1 where the indices that π pairs are equal; w is x where π = σ and y where not. A gaussian
    matrix has x = 1 and y = 0. So

        E[⟨H, V⟩² V_ij²] = x (|H|² + 2 H_ij²) + 2 y (|row i|² + |column j|² + H_ij²)

    and E|⟨H, V⟩ V|² = [x (mn + 2) + 2 y (m + n + 1)] |H|² for m × n matrices.

    Args:
        name: what the user types.
        kind: the primitive drawn.
        kurtosis: that of a vector.
        shape: not used: a direction is made of two parts, see :meth:`made`.
        normalised: as of :class:`Law`.
        rank: r.
        every: steps that the held part lives.

    Example:
        >>> law("lowrank[rank=2]").pairings(5, 7)
        (1.0, 0.5)
    """

    kind: str = "normal"
    kurtosis: float = 3.0
    shape: Callable[[Tensor, bool], Tensor] = _as_drawn
    rank: int = 1
    every: int = 1

    @property
    def as_drawn(self) -> bool:
        """Return False: directions are products."""
        return False

    def pairings(self, m: int, n: int) -> tuple[float, float]:
        """Return x and y of m × n matrices."""
        raise NotImplementedError

    def moments(self, d: int) -> tuple[float, float]:
        """Refuse: d alone does not decide the moments.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"law {self.name}: its moments are those of rows and columns, and no function of the dimension"
        )

    def variance(self, total: Tensor, square: Tensor, own: Tensor) -> Tensor:
        """Return the variance of score times direction, see :meth:`Law.variance`."""
        if square.dim() < 2:
            return LAWS["gaussian"].variance(total, square, own)
        m, n = sides(tuple(square.shape))
        x, y = self.pairings(m, n)
        s, own = square.reshape(m, n), own.reshape(m, n)
        whole = s.sum()
        second = x * (whole + 2 * s) + 2 * y * (s.sum(1, keepdim=True) + s.sum(0) + s)
        found: Tensor = (own * (total - whole + second - s)).sum()
        return found


@dataclass(frozen=True)
class LowRank(MatrixLaw):
    """Products of two gaussian factors: V = A Bᵀ/√r.

    A (m × r) is drawn for every direction, B (n × r) is held. E[V Vᵀ] = I holds for every rank. Four
    factors pair up freely where rows and columns pair alike; where they do not, all four belong to one of
    the r terms: x = 1 and y = 1/r.

    Example:
        >>> raw, held = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0], [5.0]]])
        >>> law("lowrank").made(raw, held, (2, 3), False)
        tensor([[[ 3.,  4.,  5.],
                 [ 6.,  8., 10.]]])
    """

    def drawn(self, shape: Shape) -> Shape:
        """Return the shape of A; that of the direction itself where it is no matrix."""
        return (shape[0], self.rank) if len(shape) > 1 else shape

    def held(self, shape: Shape) -> Shape | None:
        """Return the shape of B."""
        return (sides(shape)[1], self.rank) if len(shape) > 1 else None

    def made(self, raw: Tensor, held: Tensor | None, shape: Shape, per_example: bool) -> Tensor:
        """Return A Bᵀ/√r in the shape of the directions."""
        if held is None:
            return raw
        v: Tensor = (raw @ held.mT / sqrt(self.rank)).reshape(len(raw), *shape)
        return v

    def pairings(self, m: int, n: int) -> tuple[float, float]:
        """Return 1 and 1/r."""
        return 1.0, 1 / self.rank


@dataclass(frozen=True)
class Subspace(MatrixLaw):
    """Gaussian matrices within random subspaces of rows and columns: V = (√(mn)/r) U Z Wᵀ.

    Z (r × r) is gaussian and drawn for every direction. U (m × r) and W (n × r) have orthonormal columns
    that span uniformly distributed subspaces; they are held. The rank is at most m and n. With P = U Uᵀ,
    E[P_ab P_cd] = α_m [a=b][c=d] + β_m ([a=c][b=d] + [a=d][b=c]), which gives x = s⁴ (α_m α_n + 2 β_m β_n)
    and y = s⁴ (α_m β_n + β_m α_n + β_m β_n) with s⁴ = (mn)²/r⁴. The sums make E|⟨H, V⟩ V|² = mn (1 + 2/r²)
    |H|².

    Example:
        >>> x, y = law("subspace[rank=2]").pairings(5, 7)
        >>> round(x * (5 * 7 + 2) + 2 * y * (5 + 7 + 1), 9)  # mn (1 + 2/r²)
        52.5
    """

    def drawn(self, shape: Shape) -> Shape:
        """Return the shape of Z; that of the direction itself where it is no matrix."""
        r = self.within(shape)
        return (r, r) if len(shape) > 1 else shape

    def held(self, shape: Shape) -> Shape | None:
        """Return the shape of what U and W are made of."""
        return (sum(sides(shape)), self.within(shape)) if len(shape) > 1 else None

    def within(self, shape: Shape) -> int:
        """Return the rank of matrices of this shape."""
        return min(self.rank, *sides(shape)) if len(shape) > 1 else self.rank

    def scale(self, shape: Shape) -> float:
        """Return √(mn)/r, 1 for what is no matrix."""
        return sqrt(prod(shape)) / self.within(shape) if len(shape) > 1 else 1.0

    def made(self, raw: Tensor, held: Tensor | None, shape: Shape, per_example: bool) -> Tensor:
        """Return √(mn)/r · U Z Wᵀ in the shape of the directions."""
        if held is None:
            return raw
        u, w = (torch.linalg.qr(part).Q for part in held.split(sides(shape), 1))
        v: Tensor = (self.scale(shape) * u @ raw @ w.mT).reshape(len(raw), *shape)
        return v

    def pairings(self, m: int, n: int) -> tuple[float, float]:
        """Return x and y from the second moments of uniformly distributed projections."""
        r = min(self.rank, m, n)
        (a, b), (c, d) = _projection(r, m), _projection(r, n)
        s4 = (m * n / r**2) ** 2
        return s4 * (a * c + 2 * b * d), s4 * (a * d + b * c + b * d)


def sides(shape: Shape) -> tuple[int, int]:
    """Return m and n of a tensor as a matrix: its first axis, and all others.

    Example:
        >>> sides((8, 3, 5, 5))
        (8, 75)
    """
    return shape[0], prod(shape[1:])


def _projection(r: int, m: int) -> tuple[float, float]:
    """Return α and β of a projection P on r of m dimensions.

    (tr P)² = r² and tr P² = r are α m² + 2 β m and α m + β (m² + m).
    """
    if r == m:
        return 1.0, 0.0
    b = (r - r**2 / m) / ((m + 2) * (m - 1))
    return (r**2 - 2 * b * m) / m**2, b


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
MATRIX_LAWS: dict[str, type[MatrixLaw]] = {"lowrank": LowRank, "subspace": Subspace}
"""Laws along weights alone, with the options ``rank`` and ``every``."""


@lru_cache(maxsize=256)
def law(name: str) -> Law:
    """Return the law of that name.

    Args:
        name: one of ``gaussian``, ``rademacher``, ``sphere``, ``uniform``, or, for weights,
            ``lowrank[rank=1,every=1]`` or ``subspace[rank=1,every=1]``, whose right factor or subspaces live
            for ``every`` steps.

    Returns:
        The law.

    Raises:
        UsageError: for an unknown name, with the nearest valid one, or an option that does not fit.

    Example:
        >>> law("rademacher").moments(10)
        (1.0, 1.0)
    """
    base, options = split_options(name)
    if base not in MATRIX_LAWS:
        if name not in LAWS:
            raise unknown("law of directions", name, [*LAWS, *MATRIX_LAWS])
        return LAWS[name]
    numbers = {"rank": 1, "every": 1}
    for key, value in options.items():
        if key not in numbers:
            raise unknown(f"option of the law {base}", key, numbers)
        if not value.isdecimal() or int(value) < 1:
            raise UsageError(f"law {base}: {key} is a whole number from 1 up, got {key}={value}")
        numbers[key] = int(value)
    return MATRIX_LAWS[base](name, rank=numbers["rank"], every=numbers["every"])


def block_size(shape: Shape) -> int:
    """Return how many directions one draw of this shape makes: 1 from 4,096 elements up, 16 below.

    Small draws are grouped because seeding costs as much as 500 normals; the size depends on the shape
    alone, so that a direction never depends on how many were asked for.

    Example:
        >>> block_size((64, 64)), block_size((64,))
        (1, 16)
    """
    return 1 if prod(shape) >= 4096 else 16
