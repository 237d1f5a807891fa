"""What draws say, from credit at the sites: gradients are not formed where pairs of rows are cheaper.

Where few rows share a weight, pairs of them say all that is asked
(:mod:`fgbench.measurement.draw_statistics.implicit_gradients`). Weights shared
along patches or pixels have many rows, and their gradient is formed, for many draws in one product. Between
the site and the calls, such as through a norm, credit is pulled back for many draws at once.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.core.cost import CostCounter
from fgbench.core.objective import Objective
from fgbench.core.theory import ghost_norms
from fgbench.core.view import View
from fgbench.measurement.draw_statistics.from_gradients import signed, signs, square
from fgbench.measurement.draw_statistics.implicit_gradients import ImplicitGradients, calls
from fgbench.stats import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.task import Task
    from fgbench.measurement.draw_statistics.from_gradients import Array

Grads = dict[str, "Tensor"]
BUFFER = 1 << 20  # bytes of one site's credit, or one call's gradients, of draws taken together


class Unknown(Exception):
    """Gradients that cannot be had from credit this way: the reason."""


class CreditMoments:
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
        signs: of the truth, see :func:`fgbench.measurement.draw_statistics.from_gradients.signs`.

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
        view = View(task.chain, whole, x, labels, CostCounter())
        found = ghost_norms.segments(view, kind == "site", most=inf)
        if found is None:
            raise Unknown("a parameter enters in a way that is not known")
        self._which = blocks.blocks(draws)
        self._blocks = int(self._which.max()) + 1
        self._segments = found
        self.signs = signs(truth)
        same = all(torch.equal(g, end[n]) for n, g in truth.items())  # as with one loss at the end
        truths = (truth,) if same else (truth, end)
        self._calls = {
            site: calls(segment.entries, truths, self.signs, self._blocks)
            for site, segment in found.items()
        }
        self._g2 = {n: square(g) for n, g in truth.items()}
        none = torch.zeros(draws, dtype=torch.float64, device=x.device)
        self._met = {n: none.repeat(len(truths) + 1, 1) for n in truth}
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
    def _every(self) -> list[ImplicitGradients]:
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
                for name, one in zip(call.names, found, strict=True):
                    self._met[name][:, run.start : run.stop : run.step] += one
                if first:
                    for name, one in zip(call.names, call.agreed(c[:first]), strict=True):
                        agreed = self._agreed[name][run.start : run.stop : run.step]
                        agreed += one

    def _pulled(self, site: str, credit: Tensor) -> Iterator[tuple[ImplicitGradients, Tensor]]:
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
        for n, met in self._met.items():
            along, norms = met[0], met[-1]
            d2 = norms - 2 * along + self._g2[n]
            found[n] = torch.stack([along, norms, d2, met[-2]], 1).cpu().numpy()
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
            grams = call.grams(sizes.to(call.out.device))
            found |= {n: gram.cpu().numpy() for n, gram in grams.items()}
        return found
