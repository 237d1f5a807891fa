"""What draws say, from credit at the sites: gradients are not formed where pairs of rows are cheaper.

A weight that enters by ``out = Σ_i input[r, i] · weight[o, i]`` has, for credit c at ``out``, the gradient
``G[o, i] = Σ_r c[r, o] input[r, i]``, where r runs over all that shares the weight: examples, and patches or
pixels. All that is asked about it is known from c and two arrays that are made once,

    |G|² = Σ_rr' (c_r · c_r') (input_r · input_r'),     ⟨G, g⟩ = Σ_r c_r · (g input_r),

which for fewer rows than inputs is less work and less memory than G. Weights shared along patches or pixels
have many rows, and their G is formed, for many draws in one product. Between the site and the calls, such
as through a norm, credit is pulled back for many draws at once.

Reference: Goodfellow, Efficient per-example gradient computations, 2015 (the rows taken apart).
"""

from __future__ import annotations

from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench import bias, pullback
from fgbench.ledger import Ledger
from fgbench.objective import Objective
from fgbench.tally import signed, signs
from fgbench.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.hearing import Entry
    from fgbench.tally import Array
    from fgbench.task import Task

Grads = dict[str, "Tensor"]
BUFFER = 1 << 19  # bytes of one site's credit, or one call's gradients, of draws taken together
HELD = 1 << 16  # numbers of block sums multiplied at a time


class Unknown(Exception):
    """Gradients that cannot be had from credit this way: the reason."""


class _Call:
    """The gradients of a parameter that enters by one call, never formed where pairs are cheaper.

    Args:
        entry: how it enters.
        truths: the gradients that draws are multiplied by, the scheme's own first.
        sign: of the first truth, whose signs draws are compared with.
        blocks: sums of draws that are kept apart.
    """

    def __init__(self, entry: Entry, truths: Sequence[Tensor], sign: Tensor, blocks: int) -> None:
        self.name, self.out = entry.name, entry.out
        self._credit, self._shape = _equation(entry)
        before, _, after = self._credit.partition("->")
        self._as_it_is = before == after and self._shape[0] == 1
        # [batch, columns, rows], [truths, batch, columns, outer]
        x, g = _columns(entry, (*truths, sign))
        self._inputs, self._sign, g = x, g[-1], g[:-1]
        self._g2 = float((g[0].double() ** 2).sum())
        self.pairs = self._shape[1] < x.shape[1]
        if self.pairs:
            whole = x.double()
            g = torch.stack([whole.mT @ t.double() for t in g])  # [truths, batch, rows, outer]
            x = (whole.mT @ whole).to(x.dtype)  # [batch, rows, rows]
        self._by = x
        self._truths = g.flatten(1).double()  # [truths, numbers]
        self._meeting = self._truths.to(x.dtype)
        self._sums = self._meeting.new_zeros(blocks, self.size)

    @property
    def size(self) -> int:
        """Numbers per draw."""
        return self._truths.shape[1]

    def add(self, credit: Tensor, block: int, alone: bool) -> Tensor:
        """Keep what credit at ``out`` says.

        Args:
            credit: ``[draws, *out]``.
            block: the block of the first draw.
            alone: whether all draws are of this block; else the blocks of the others follow.

        Returns:
            Inner products with the truths, and squared norms last: ``[truths + 1, draws]``.
        """
        if self._as_it_is:
            c = credit.reshape(len(credit), *self._shape[1:])
        else:
            c = torch.einsum(self._credit, credit).reshape(len(credit), *self._shape)
        if self.pairs:
            e = c.flatten(1)
            square = (c @ c.mT).flatten(1) @ self._by.flatten()
        else:
            e = ((self._by[0] if self._as_it_is else self._by) @ c).flatten(1)
            square = torch.linalg.vecdot(e, e)
        if alone:
            self._sums[block] += e.sum(0)
        else:
            self._sums[block : block + len(e)] += e
        return torch.cat([self._meeting @ e.mT, square.unsqueeze(0)])

    def agreed(self, credit: Tensor) -> Tensor:
        """Return Σ sign(e) sign(g) of each draw, whose gradient is formed alone: ``[draws]``."""
        c = torch.einsum(self._credit, credit).reshape(len(credit), *self._shape)
        sign = self._sign.flatten()
        return torch.stack([torch.dot((self._inputs @ own).sign_().flatten(), sign) for own in c])

    def gram(self, counts: Tensor) -> Tensor:
        """Return ⟨D_i, D_j⟩ of D = Σ e − count · g, for blocks of so many draws."""
        outer, blocks = self._shape[2], len(self._sums)
        sums = self._sums.reshape(blocks, self._shape[0], -1, outer)
        truth = self._truths[0].reshape(sums.shape[1:])
        inner, along = truth.new_zeros(blocks, blocks), truth.new_zeros(blocks)
        some = max(1, HELD * outer // sums.numel())
        for part, g in zip(sums.split(some, -1), truth.split(some, -1), strict=True):
            twin = (
                self._by @ part if self.pairs else part
            )  # in the precision of the sums themselves
            own = part.reshape(blocks, -1).double()
            inner += twin.reshape(blocks, -1).double() @ own.mT
            along += own @ g.reshape(-1)
        cross = torch.outer(along, counts)
        return inner - cross - cross.mT + torch.outer(counts, counts) * self._g2


def _letters(entry: Entry) -> tuple[str, str, str, str]:
    """Part the indices of a call.

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
    """Return how credit of many draws becomes ``[draws, batch, rows, outer]``, and these three sizes."""
    size = dict(zip(entry.letters, entry.out.shape, strict=True))
    parts = _letters(entry)[:3]
    b, r, o = (prod(size[a] for a in some) for some in parts)
    return f"K{entry.letters}->K{''.join(parts)}", (b, r, o)


def _columns(entry: Entry, truths: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return inputs ``[batch, columns, rows]`` and truths ``[truths, batch, columns, outer]``."""
    batch, rows, outer, inner = _letters(entry)
    size = dict(zip(entry.letters, entry.out.shape, strict=True))
    size |= dict(zip(entry.within, entry.input.shape, strict=True))
    b, r, o, i = (prod(size[a] for a in some) for some in (batch, rows, outer, inner))
    there = "".join(a for a in rows if a in entry.within)
    x = torch.einsum(f"{entry.within}->{batch}{inner}{there}", entry.input)
    x = x.reshape(b, i, *(size[a] if a in there else 1 for a in rows))
    x = x.expand(b, i, *(size[a] for a in rows)).reshape(b, i, r)
    g = [
        torch.einsum(
            f"{entry.weight}->{batch}{inner}{outer}",
            t.reshape([size[a] for a in entry.weight]),
        ).reshape(b, i, o)
        for t in truths
    ]
    return x, torch.stack(g)


class Activity:
    """Keeps what draws say that give credit at the sites.

    Args:
        task: the chain under its locality.
        x: the batch.
        labels: ``[b]``.
        kind: where credit enters, ``site`` or ``op``.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient.
        draws: how many draws there will be.

    Attributes:
        together: draws that are best taken at once.

    Raises:
        Unknown: where a parameter enters in a way that is not known, or more than once.
    """

    def __init__(
        self,
        task: Task,
        x: Tensor,
        labels: Tensor,
        kind: str,
        truth: Grads,
        end: Grads,
        draws: int,
    ) -> None:
        if kind not in ("site", "op"):
            raise Unknown("it gives no credit at the sites")
        every = tuple(range(len(task.chain)))
        whole = Objective("whole", (0, len(every)), task.end.readout, every)
        view = View(task.chain, whole, x, labels, Ledger())
        found = pullback.segments(view, kind == "site", most=inf)
        if found is None:
            raise Unknown("a parameter enters in a way that is not known")
        self._which = bias.blocks(draws)
        self._blocks = int(self._which.max()) + 1
        self._segments = found
        sign = signs(truth)
        self._calls = {
            site: [
                _Call(e, (truth[e.name], end[e.name]), sign[e.name], self._blocks)
                for e in segment.entries
            ]
            for site, segment in found.items()
        }
        self._g2 = {n: float((g.double() ** 2).sum()) for n, g in truth.items()}
        none = torch.zeros(draws, dtype=torch.float64, device=x.device)
        self._met = {n: none.repeat(3, 1) for n in truth}
        self._agreed = {n: none[: signed(draws, truth)].clone() for n in truth}
        self._signed = signed(draws, truth)
        numbers = [*(call.size for call in self._every), *(s.head.numel() for s in found.values())]
        buffer = BUFFER if x.device.type == "cpu" else 128 * BUFFER
        self.together = min(self._blocks, max(1, buffer // (max(numbers) * x.element_size())))

    def runs(self) -> Iterator[range]:
        """Yield the draws in runs that are best taken together: of one block, of many where few are."""
        draws, some = len(self._which), self.together
        if draws >= some * self._blocks:
            for block in range(self._blocks):
                own = range(block, draws, self._blocks)
                yield from (own[k : k + some] for k in range(0, len(own), some))
            return
        for first in range(0, draws, self._blocks):
            own = range(first, min(first + self._blocks, draws))
            yield from (own[k : k + some] for k in range(0, len(own), some))

    @property
    def _every(self) -> list[_Call]:
        """The calls before all sites."""
        return [call for calls in self._calls.values() for call in calls]

    def add(self, run: range, credit: Mapping[str, Tensor]) -> None:
        """Keep what some draws say.

        Args:
            run: their numbers, one of :meth:`runs`.
            credit: site name to the credit of each, ``[draws, *site]``.
        """
        first = len(range(run.start, min(run.stop, self._signed), run.step))
        for site, given in credit.items():
            for call, c in self._pulled(site, given):
                found = call.add(c, int(self._which[run[0]]), run.step == self._blocks)
                self._met[call.name][:, run.start : run.stop : run.step] += found
                if first:
                    agreed = self._agreed[call.name][run.start : run.stop : run.step]
                    agreed += call.agreed(c[:first])

    def _pulled(self, site: str, credit: Tensor) -> Iterator[tuple[_Call, Tensor]]:
        """Pull the credit of many draws back to where parameters enter."""
        head, calls = self._segments[site].head, self._calls[site]
        outs = {id(call.out): call.out for call in calls}
        if all(out is head for out in outs.values()):
            found: Sequence[Tensor | None] = [credit] * len(outs)
        else:
            found = torch.autograd.grad(
                head, list(outs.values()), credit,
                retain_graph=True, allow_unused=True, is_grads_batched=True,
            )  # fmt: skip
        pulled = dict(zip(outs, found, strict=True))
        for call in calls:
            c = pulled[id(call.out)]
            if c is not None:
                yield call, c

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per parameter and draw: ``[draws, 4]``."""
        found = {}
        for n, (along, end, square) in self._met.items():
            d2 = square - 2 * along + self._g2[n]
            found[n] = torch.stack([along, square, d2, end], 1).cpu().numpy()
        return found

    def agreed(self) -> dict[str, Array]:
        """Return Σ sign(e) sign(g) per parameter and draw, of the first draws: ``[at most 64]``."""
        return {n: a.cpu().numpy() for n, a in self._agreed.items()}

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g per parameter: ``[blocks, blocks]``."""
        counts = np.bincount(self._which)
        sizes = torch.from_numpy(counts).double()
        # where nothing reaches a parameter e = 0
        found = {n: np.outer(counts, counts) * square for n, square in self._g2.items()}
        for call in self._every:
            found[call.name] = call.gram(sizes.to(call.out.device)).cpu().numpy()
        return found
