"""Named axes, declared mixing, and the one credit rule.

Axis letters, the same everywhere: ``v`` view, ``b`` example, ``p`` patch, ``g`` group, ``d`` unit in
group, ``c`` channel, ``t`` time or token, ``k`` class, ``n`` direction; ``i`` and ``o`` are the input and
output axes of a weight that no score keeps apart; ``m q r s u`` are axes without a name. Axes are written as
in einops: ``"b p (g d)"`` is a tensor of three dimensions whose last one runs over groups and, within a
group, over units.

The credit rule. An objective yields slopes with some axes *kept* apart, ``s[n, kept...]``. A place (an
activity site or a parameter) can tell two of those scores apart along an axis only if it has that axis
itself and nothing between the place and the objective mixes it. Summing the slopes over every other kept
axis gives one number per *cell* of the place; that number times the direction is the credit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

NAMED = frozenset("vbpgdckionhwt")
LETTERS = NAMED | frozenset("mqrsu")
Dims = tuple[tuple[str, ...], ...]


@lru_cache(maxsize=4096)
def parse(axes: str) -> Dims:
    """Parse ``"b p (g d)"`` into ``(("b",), ("p",), ("g", "d"))``.

    Args:
        axes: letters separated by spaces; letters in parentheses share a dimension, slowest first.

    Returns:
        One tuple of letters per dimension.

    Raises:
        UsageError: if a letter is unknown or appears twice, or a parenthesis does not close.

    Example:
        >>> parse("b p (g d)")
        (('b',), ('p',), ('g', 'd'))
    """
    dims: list[tuple[str, ...]] = []
    rest = axes.strip()
    while rest:
        match = re.match(r"\(([^()]*)\)\s*|([^\s()]+)\s*", rest)
        if match is None:
            raise UsageError(f"axes {axes!r}: expected letters and closed parentheses at {rest!r}")
        dims.append(tuple(match[1].split()) if match[1] is not None else (match[2],))
        rest = rest[match.end() :]
    names = [letter for dim in dims for letter in dim]
    for letter in names:
        if letter not in LETTERS:
            raise UsageError(
                f"axes {axes!r}: unknown axis {letter!r}; valid: {' '.join(sorted(NAMED))}"
            )
        if names.count(letter) > 1:
            raise UsageError(f"axes {axes!r}: axis {letter!r} appears twice")
    return tuple(dims)


@lru_cache(maxsize=4096)
def names(axes: str) -> tuple[str, ...]:
    """Return the axis letters in order.

    Example:
        >>> names("b p (g d)")
        ('b', 'p', 'g', 'd')
    """
    return tuple(letter for dim in parse(axes) for letter in dim)


def check_named(axes: str) -> None:
    """Refuse letters of axes that have no name, which no score can be kept apart along.

    Raises:
        UsageError: for the first.

    Example:
        >>> check_named("b p g")
    """
    for letter in names(axes):
        if letter not in NAMED:
            valid = " ".join(sorted(NAMED))
            raise UsageError(f"axes {axes!r}: unknown axis {letter!r}; valid: {valid}")


def dims_within(axes: str, letters: str) -> list[int]:
    """Return the dimensions of ``axes`` all of whose letters are among ``letters``.

    Example:
        >>> dims_within("b p (g d)", "p g")
        [1]
    """
    return [i for i, dim in enumerate(parse(axes)) if set(dim) <= set(names(letters))]


def union(*axes: str) -> str:
    """Return the letters that occur in any of the given axis strings, in order of appearance.

    Example:
        >>> union("b p", "(g p)")
        'b p g'
    """
    return " ".join(dict.fromkeys(letter for one in axes for letter in names(one)))


def keep_existing(keep: str, have: str) -> str:
    """Return the axes of ``keep`` that ``have`` has, in the order of ``have``.

    Args:
        keep: axes a score should stay separate along.
        have: axes of the tensor the score is read from.

    Returns:
        The axes left; the example axis ``b`` always is among them.

    Example:
        >>> keep_existing("g k", "b p g d")
        'b g'
    """
    wanted = names(keep)
    return " ".join(letter for letter in names(have) if letter in wanted or letter == "b")


@dataclass(frozen=True, eq=False)
class Reach:
    """Which scores along a kept axis each index of a place can move.

    Args:
        kept: the axis of the scores.
        place: the axis of the place, "" where all its indices move the same scores (m is then 1).
        matrix: whether index m of the place moves score t: booleans ``[m, t]``.

    Example:
        >>> causal = Reach("t", "m", torch.ones(3, 3).triu().bool())
        >>> causal.summed(torch.tensor([[1.0, 2.0, 3.0]]), 1)
        tensor([[6., 5., 3.]])
    """

    kept: str
    place: str
    matrix: Tensor

    def summed(self, slopes: Tensor, axis: int) -> Tensor:
        """Return at every index of the place the sum of the scores it moves, in place of the scores."""
        rows = self.matrix.to(slopes)
        sums: Tensor = torch.tensordot(slopes, rows, dims=([axis], [1]))
        return sums.movedim(-1, axis)


@dataclass(frozen=True)
class Cells:
    """How the scores of one objective meet one place.

    Args:
        kept: axes of the slopes after ``n``, such as ``"b p g"``.
        place: axes of the place, such as ``"b p (g d)"``; empty for a parameter without named axes.
        mixed: axes mixed anywhere between the place and the objective's readout.
        reach: axes along which an index of the place moves some of the scores and not all.

    Example:
        >>> Cells(kept="b p g", place="b p (g d)", mixed="p").shared
        ('b', 'g')
    """

    kept: str
    place: str
    mixed: str
    reach: tuple[Reach, ...] = ()

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The axes along which the place has cells of its own, in the order of ``kept``."""
        own = (self.cell_axis(a) for a in names(self.kept))
        return tuple(a for a in own if a)

    @cached_property
    def apart(self) -> tuple[str, ...]:
        """Those shared axes along which a score depends on the place's cell of its own index alone."""
        reached = {reach.place for reach in self.reach}
        return tuple(a for a in self.shared if a not in reached)

    def cell_axis(self, kept: str) -> str:
        """Return the axis of the place whose cells the scores along a kept axis credit, "" for none."""
        if kept in names(self.place):
            return "" if kept in names(self.mixed) else kept
        return next((r.place for r in self.reach if r.kept == kept), "")

    def _split(self, shape: Iterable[int], sizes: dict[str, int]) -> tuple[list[int], list[str]]:
        """Split composed dimensions: the finer shape, and one letter ('' for none) per dimension."""
        return self._fine(tuple(shape), tuple(sizes.items()))

    @lru_cache(maxsize=4096)  # noqa: B019
    def _fine(
        self, shape: tuple[int, ...], known_sizes: tuple[tuple[str, int], ...]
    ) -> tuple[list[int], list[str]]:
        """Split composed dimensions, see :meth:`_split`; cached by shape."""
        dims, sizes = parse(self.place), dict(known_sizes)
        if not dims:
            return list(shape), [""] * len(shape)
        if len(dims) != len(shape):
            raise UsageError(f"a place with axes {self.place!r} came with shape {shape}")
        fine: list[int] = []
        letters: list[str] = []
        for dim, size in zip(dims, shape, strict=True):
            known = [sizes.get(letter, 0) if letter in self.shared else 0 for letter in dim]
            if not any(known):
                fine.append(size)
                letters.append("")
                continue
            rest = size // prod(k for k in known if k)
            if known.count(0) > 1 or rest * prod(k for k in known if k) != size:
                raise UsageError(f"axes {self.place!r} do not divide shape {shape} by {sizes}")
            fine += [k or rest for k in known]
            letters += [letter if k else "" for letter, k in zip(dim, known, strict=True)]
        return fine, letters


def gather(slopes: Tensor, at: Cells) -> Tensor:
    """Sum slopes to the cells of a place.

    Args:
        slopes: ``[n, kept...]``, loss per unit of direction.
        at: which scores credit the place.

    Returns:
        ``[n, shared...]``.

    Example:
        >>> gather(torch.ones(1, 2, 3), Cells(kept="b p", place="b d", mixed=""))
        tensor([[3., 3.]])
    """
    for reach in at.reach:
        slopes = reach.summed(slopes, 1 + names(at.kept).index(reach.kept))
    drop = [i + 1 for i, a in enumerate(names(at.kept)) if not at.cell_axis(a)]
    return slopes.sum(drop) if drop else slopes


def _aligned(cells: Tensor, shape: Iterable[int], at: Cells) -> tuple[list[int], Tensor]:
    """Return the place's dimensions with shared axes apart, and cells that broadcast over them."""
    shared = at.shared
    shape = list(shape)
    if not shared:
        return shape, cells.reshape(-1, *[1] * len(shape))
    fine, letters = at._split(shape, dict(zip(shared, cells.shape[1:], strict=True)))
    order = [shared.index(letter) + 1 for letter in letters if letter]
    sizes = [size if letter else 1 for size, letter in zip(fine, letters, strict=True)]
    return fine, cells.permute(0, *order).reshape(-1, *sizes)


def spread(cells: Tensor, directions: Tensor, at: Cells) -> Tensor:
    """Multiply directions by one number per cell.

    Args:
        cells: ``[n, shared...]``, as :func:`gather` returns them.
        directions: ``[n, *place]``.
        at: which scores credit the place.

    Returns:
        ``[n, *place]``.

    Example:
        >>> spread(torch.tensor([[2.0, 3.0]]), torch.ones(1, 2, 2), Cells("b", "b d", ""))
        tensor([[[2., 2.],
                 [3., 3.]]])
    """
    fine, factors = _aligned(cells, directions.shape[1:], at)
    return (directions.reshape(-1, *fine) * factors).reshape(directions.shape)


def by_cell(tensor: Tensor, at: Cells, some: Iterable[str], sizes: dict[str, int]) -> Tensor:
    """Return a place's entries sorted by the cell they lie in.

    Args:
        tensor: ``[n, *place]``.
        at: which scores credit the place.
        some: shared axes of the place, in any order.
        sizes: their sizes.

    Returns:
        ``[n, some..., rest]``, rest counting the entries of one cell.

    Example:
        >>> by_cell(torch.ones(5, 2, 3, 4), Cells("b p", "b (p d) c", ""), ["p", "b"], {"b": 2, "p": 3}).shape
        torch.Size([5, 3, 2, 4])
    """
    wanted = [*some]
    fine, letters = at._split(tensor.shape[1:], {a: sizes[a] for a in wanted})
    first = [letters.index(a) + 1 for a in wanted]
    rest = [i + 1 for i, letter in enumerate(letters) if not letter]
    found = tensor.reshape(-1, *fine).permute(0, *first, *rest)
    return found.flatten(1 + len(first)) if rest else found.unsqueeze(-1)


def inner(a: Tensor, b: Tensor, at: Cells, sizes: dict[str, int]) -> Tensor:
    """Compute one inner product per cell of a place.

    Args:
        a: ``[n, *place]``.
        b: ``[*place]`` or ``[n, *place]``.
        at: which scores credit the place.
        sizes: size of every shared axis.

    Returns:
        ``[n, shared...]``.

    Example:
        >>> inner(torch.ones(1, 2, 3), torch.ones(2, 3), Cells("b", "b d", ""), {"b": 2})
        tensor([[3., 3.]])
    """
    fine, letters = at._split(a.shape[1:], sizes)
    product = (a * b).reshape(-1, *fine)
    drop = [i + 1 for i, letter in enumerate(letters) if not letter]
    left = [letter for letter in letters if letter]
    if drop:
        product = product.sum(drop)
    return product.permute(0, *[left.index(letter) + 1 for letter in at.shared])


def inners(a: Tensor, b: Tensor, at: Cells, sizes: dict[str, int]) -> Tensor:
    """Compute one inner product per kept score of a place.

    Along kept axes in which the place has cells of its own, index i of one meets index i of the other;
    along all others the second tensor has an index of its own in front.

    Args:
        a: ``[n, *place]``.
        b: ``[rest..., *place]``, rest being the kept axes that are not shared, in the order of ``kept``.
        at: which scores credit the place.
        sizes: size of every shared axis.

    Returns:
        ``[n, kept...]``.

    Example:
        >>> inners(torch.ones(1, 2, 3), torch.ones(2, 3), Cells("b", "b d", ""), {"b": 2})
        tensor([[3., 3.]])
    """
    kept, shared = names(at.kept), at.shared
    rest = [i for i, letter in enumerate(kept) if letter not in shared]
    fine, letters = at._split(a.shape[1:], {letter: sizes[letter] for letter in shared})
    a, b = a.reshape(-1, *fine), b.reshape(*b.shape[: len(rest)], *fine)
    if not rest and letters[: len(kept)] == [*kept]:  # several times as fast as an einsum
        lead = len(kept)
        return (
            torch.linalg.vecdot(a.flatten(lead + 1), b.flatten(lead)) if lead < len(fine) else a * b
        )
    own = [kept.index(letter) if letter else len(kept) + i for i, letter in enumerate(letters)]
    n = len(kept) + len(letters)
    return torch.einsum(a, [n, *own], b, [*rest, *own], [n, *range(len(kept))])


def credit(slopes: Tensor, directions: Tensor, at: Cells) -> Tensor:
    """Apply the credit rule: gather the slopes to the place's cells and spread them.

    Why it is unbiased: with E[u uᵀ] = I the score of a cell is the sum over all places of
    ⟨gradient of that cell's losses, u⟩; times the place's own u only the place's own term survives in the
    mean, and the losses left out of the cell do not depend on it.

    Args:
        slopes: ``[n, kept...]``.
        directions: ``[n, *place]``.
        at: which scores credit the place.

    Returns:
        ``[*place]``, the sum over n of the credits; divided by n it is their mean.

    Example:
        >>> credit(torch.tensor([[2.0, 3.0]]), torch.ones(1, 2, 2), Cells("b", "b d", ""))
        tensor([[2., 2.],
                [3., 3.]])
    """
    return combined(gather(slopes, at), directions, at)


def combined(cells: Tensor, directions: Tensor, at: Cells) -> Tensor:
    """Multiply directions by one number per cell each, and sum over the directions.

    Args:
        cells: ``[n, shared...]``, as :func:`gather` returns them.
        directions: ``[n, *place]``.
        at: which scores credit the place.

    Returns:
        ``[*place]``.

    Example:
        >>> combined(torch.tensor([[2.0], [3.0]]), torch.ones(2, 1, 2), Cells("b", "b d", ""))
        tensor([[5., 5.]])
    """
    fine, factors = _aligned(cells, directions.shape[1:], at)
    rows = directions.reshape(-1, *fine)
    total = rows[0] * factors[0]
    for row, factor in zip(rows[1:], factors[1:], strict=True):
        # a row at a time: nothing of the size of all directions is made
        total.addcmul_(row, factor)
    return total.reshape(directions.shape[1:])
