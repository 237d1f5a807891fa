"""Inner products and norms of weight gradients from their output cotangents (ghost norms).

A weight that enters by ``out = Σ_i input[r, i] · weight[o, i]`` has, for credit c at ``out``, the gradient
``G[o, i] = Σ_r c[r, o] input[r, i]``, where r runs over all that shares the weight: examples, and patches or
pixels. Its norm and inner products follow from c and two arrays that are computed once, without G,

    |G|² = Σ_rr' (c_r · c_r') (input_r · input_r'),     ⟨G, g⟩ = Σ_r c_r · (g input_r),

which for fewer rows than inputs takes less work and less memory than G. A bias enters the same call with the
input 1, so its pairs of rows are those of the weight.

Reference: Goodfellow, Efficient per-example gradient computations, 2015 (for one row per example).
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.measurement.draw_statistics.from_gradients import square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.autodiff.param_uses import Entry

HELD = 1 << 16  # entries of block sums that are multiplied at a time


def calls(
    entries: Sequence[Entry],
    truths: Sequence[dict[str, Tensor]],
    signs: dict[str, Tensor],
    blocks: int,
) -> list[ImplicitGradients]:
    """Group the parameters whose credit has the same pairs of rows.

    Args:
        entries: uses of parameters before one site.
        truths: gradients that draws are multiplied by, that of the scheme first.
        signs: signs of the first truth.
        blocks: number of blocks whose sums of draws are kept.

    Returns:
        One :class:`ImplicitGradients` per group, in the order of their first parameter.

    Example:
        >>> calls([], [{}], {}, blocks=2)
        []
    """
    alike: dict[tuple[int, str], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((id(entry.out), _equation(entry)[0]), []).append(entry)
    found = []
    for group in alike.values():
        paired = any(_inputs(e).shape[1] > _equation(e)[1][1] for e in group)
        for members in [group] if paired else [[e] for e in group]:
            products = [[t[e.name] for t in (*truths, signs)] for e in members]
            found.append(ImplicitGradients(members, products, blocks, paired))
    return found


class ImplicitGradients:
    """Moments of the gradients of the parameters that enter by one call, from credit at its output.

    Args:
        entries: how the parameters enter; several only with ``paired``, when the same indices of ``out``
            are those of every parameter.
        truths: of each parameter the gradients that draws are multiplied by, that of the scheme first,
            and last the signs of the first.
        blocks: number of blocks whose sums of draws are kept.
        paired: whether pairs of rows are used; otherwise gradients are formed.

    Attributes:
        names: names of the parameters.
        out: output of the call, where credit enters.
        paired: whether pairs of rows are used.

    Example:
        >>> from fgbench.core.autodiff.param_uses import Entry
        >>> x, w = torch.ones(2, 3), torch.ones(1, 3)
        >>> entry = Entry("w", torch.ones(2, 1), "ro", "oi", x, "ri")
        >>> implicit = ImplicitGradients([entry], [[w, w]], blocks=1, paired=True)
        >>> credit = torch.ones(1, 2, 1)  # G = [2, 2, 2], so ⟨G, w⟩ = 6 and |G|² = 12
        >>> implicit.add(credit, block=0, alone=True).flatten().tolist()
        [6.0, 12.0]
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        truths: Sequence[Sequence[Tensor]],
        blocks: int,
        paired: bool,
    ) -> None:
        self.names, self.out = [e.name for e in entries], entries[0].out
        self._credit, self._shape = _equation(entries[0])
        before, _, after = self._credit.partition("->")
        self._as_it_is = before == after and self._shape[0] == 1
        self._inputs = [_inputs(e) for e in entries]  # [batch, columns, rows]
        columns = [_columns(e, t) for e, t in zip(entries, truths, strict=True)]
        self._signs = [g[-1].flatten() for g in columns]
        self._g2 = [square(g[0]) for g in columns]
        self.paired = paired
        rows = [self._inputs[0]]
        met = [g[:-1].double() for g in columns]
        if paired:  # [batch, rows, rows], and [truths, batch, rows, outer]
            whole = [x.double().mT for x in self._inputs]
            rows = [(x @ x.mT).to(self.out.dtype) for x in whole]
            met = [x @ g for x, g in zip(whole, met, strict=True)]
        self._by = torch.stack(rows)
        if paired:  # (r, r') is (r', r): of the pairs between the halves one is taken, twice
            half = self._shape[1] // 2
            upper, lower = self._by[..., :half, :].clone(), self._by[..., half:, half:]
            upper[..., half:] *= 2
            self._upper, self._lower = upper.flatten(1).mT, lower.flatten(1).mT
        self._truths = torch.stack(met).flatten(2)  # [parameters, truths, numbers]
        self._meeting = self._truths.to(self.out.dtype).flatten(0, 1)
        self._sums = self._meeting.new_zeros(blocks, self.size)

    @property
    def size(self) -> int:
        """Number of entries kept per draw."""
        return self._truths.shape[2]

    def _rows(self, credit: Tensor) -> Tensor:
        """Return credit as ``[draws, batch, rows, outer]``."""
        if self._as_it_is:
            return credit.reshape(len(credit), *self._shape)
        return torch.einsum(self._credit, credit).reshape(len(credit), *self._shape)

    def add(self, credit: Tensor, block: int, alone: bool) -> Tensor:
        """Add draws by their credit at ``out``.

        Args:
            credit: ``[draws, *out]``.
            block: block of the first draw.
            alone: whether all draws are of this block; otherwise each next draw is of the next block.

        Returns:
            Inner products with the truths, and squared norms last: ``[parameters, truths + 1, draws]``.
        """
        c = self._rows(credit)
        flat = (
            c[:, 0] if self._as_it_is else c
        )  # a batch of one takes a product of fewer dimensions
        if self.paired:
            e = c.flatten(1)
            squares = self._squares(flat)
        else:
            by = self._by[0, 0] if self._as_it_is else self._by[0]
            e = (by @ flat).flatten(1)
            squares = torch.linalg.vecdot(e, e).unsqueeze(1)
        if alone:
            self._sums[block] += e.sum(0)
        else:
            self._sums[block : block + len(e)] += e
        met = (self._meeting @ e.mT).reshape(len(self.names), -1, len(e))
        return torch.cat([met, squares.mT.unsqueeze(1)], 1)

    def _squares(self, rows: Tensor) -> Tensor:
        """Return the squared norms of the gradients of rows ``[draws, ..., rows, outer]``.

        Pairs of rows fall into four blocks by halves; by symmetry three of them are enough.

        Args:
            rows: credit at ``out``.

        Returns:
            ``[draws, parameters]``.
        """
        half = self._shape[1] // 2
        upper, lower = rows[..., :half, :], rows[..., half:, :]
        squares = (upper @ rows.mT).flatten(1) @ self._upper
        return squares.addmm_((lower @ lower.mT).flatten(1), self._lower)

    def agreed(self, credit: Tensor) -> Tensor:
        """Return Σ sign(e) sign(g) of each draw, forming its gradient: ``[parameters, draws]``."""
        rows = self._rows(credit)
        found = [
            torch.stack([torch.dot((x @ own).sign_().flatten(), sign) for own in rows])
            for x, sign in zip(self._inputs, self._signs, strict=True)
        ]
        return torch.stack(found)

    def grams(self, counts: Tensor) -> dict[str, Tensor]:
        """Return ⟨D_i, D_j⟩ of D = Σ e − count · g of every parameter, over blocks of ``counts`` draws."""
        outer, blocks, many = self._shape[2], len(self._sums), len(self.names)
        sums = self._sums.reshape(blocks, self._shape[0], -1, outer)
        truth = self._truths[:, 0].reshape(many, *sums.shape[1:])
        inner, along = truth.new_zeros(many, blocks, blocks), truth.new_zeros(blocks, many)
        some = max(1, HELD * outer // sums.numel())
        for part, g in zip(sums.split(some, -1), truth.split(some, -1), strict=True):
            own = part.reshape(blocks, -1).double()
            along += own @ g.reshape(many, -1).mT
            for k in range(many):
                inner[k] += self._products(k, part, own)
        cross = along.mT.unsqueeze(2) * counts
        squares = torch.outer(counts, counts) * counts.new_tensor(self._g2)[:, None, None]
        found = inner - cross - cross.mT + squares
        return dict(zip(self.names, found, strict=True))

    def _products(self, k: int, sums: Tensor, own: Tensor) -> Tensor:
        """Return the inner products of the gradients of one parameter, from sums of credit.

        Args:
            k: number of the parameter.
            sums: ``[blocks, batch, rows, outer]`` of some outer indices, in the precision of the draws.
            own: these sums in float64, ``[blocks, numbers]``.

        Returns:
            ``[blocks, blocks]``.
        """
        if not self.paired:
            return own @ own.mT
        x = self._inputs[k]
        if x.shape[1] < x.shape[2]:  # fewer columns than rows
            formed = (x @ sums).reshape(len(sums), -1).double()
            return formed @ formed.mT
        return (self._by[k] @ sums).reshape(len(sums), -1).double() @ own.mT


def _letters(entry: Entry) -> tuple[str, str, str, str]:
    """Split the indices of a call by the tensors that have them.

    Returns:
        Those that cotangent, input and parameter share; those summed over, which the parameter lacks;
        those of cotangent and parameter alone; those of input and parameter alone.
    """
    out, within, weight = entry.letters, entry.within, entry.weight
    return (
        "".join(a for a in out if a in within and a in weight),
        "".join(a for a in out if a not in weight),
        "".join(a for a in out if a in weight and a not in within),
        "".join(a for a in within if a in weight and a not in out),
    )


def _equation(entry: Entry) -> tuple[str, tuple[int, int, int]]:
    """Return the einsum from credit to ``[draws, batch, rows, outer]``, and the last three sizes."""
    size = _sizes(entry)
    parts = _letters(entry)[:3]
    b, r, o = (prod(size[a] for a in some) for some in parts)
    return f"K{entry.letters}->K{''.join(parts)}", (b, r, o)


def _sizes(entry: Entry) -> dict[str, int]:
    """Return the size of every index of a call."""
    size = dict(zip(entry.letters, entry.out.shape, strict=True))
    return size | dict(zip(entry.within, entry.input.shape, strict=True))


def _inputs(entry: Entry) -> Tensor:
    """Return the inputs of a call: ``[batch, columns, rows]``."""
    (batch, rows, _, inner), size = _letters(entry), _sizes(entry)
    b, r, i = (prod(size[a] for a in some) for some in (batch, rows, inner))
    there = "".join(a for a in rows if a in entry.within)
    x = torch.einsum(f"{entry.within}->{batch}{inner}{there}", entry.input)
    x = x.reshape(b, i, *(size[a] if a in there else 1 for a in rows))
    return x.expand(b, i, *(size[a] for a in rows)).reshape(b, i, r)


def _columns(entry: Entry, grads: Sequence[Tensor]) -> Tensor:
    """Return gradients of a parameter as ``[grads, batch, columns, outer]``."""
    (batch, _, outer, inner), size = _letters(entry), _sizes(entry)
    b, o, i = (prod(size[a] for a in some) for some in (batch, outer, inner))
    found = [
        torch.einsum(
            f"{entry.weight}->{batch}{inner}{outer}",
            t.reshape([size[a] for a in entry.weight]),
        ).reshape(b, i, o)
        for t in grads
    ]
    return torch.stack(found)
