"""Per-draw moments accumulated from credit at the sites instead of from weight gradients.

Where few rows (examples, patches) share a weight, inner products and norms of its gradient follow from pairs
of rows, and the gradient is not formed
(:mod:`fgbench.measurement.draw_statistics.implicit_gradients`). Weights shared along many patches or pixels
have many rows; their gradients are formed, for many draws in one product.
Between a site and the calls that parameters enter by, such as through a norm, credit is pulled back for many
draws at once.
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
BUFFER = (
    1 << 20
)  # bytes of one site's credit, or one call's gradients, for draws processed together


class Unknown(Exception):
    """Raised where moments cannot be computed from credit, with the reason.

    Example:
        >>> str(Unknown("it gives no credit at the sites"))
        'it gives no credit at the sites'
    """


class CreditMoments:
    """Per-draw moments accumulated from credit at the sites.

    Args:
        task: the chain under its locality.
        x: the batch.
        labels: ``[b]``.
        kind: where credit enters, ``site`` or ``op``.
        truth: gradient of the scheme's objectives by parameter name.
        end: end-to-end gradient by parameter name.
        draws: number of draws there will be.

    Attributes:
        together: number of draws that are best processed at once.
        signs: signs of the truth, see :func:`fgbench.measurement.draw_statistics.from_gradients.signs`.

    Raises:
        Unknown: where a parameter enters in a way that is not known, or more than once.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, _, noise = workload.task(method("FG-A"), 0)
        >>> x, labels = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> g = task.scheme_truth(x, labels)
        >>> moments = CreditMoments(task, x, labels, "site", g, g, draws=4)
        >>> moments.add(range(0, 1), {"body.0.l0": torch.zeros(1, 8, 4)})
        >>> moments.rows()["body.0.l0.weight"].shape
        (4, 4)
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
        modules = tuple(range(len(task.chain)))
        readout = "final" if task.end is None else task.end.readout
        objective = Objective("whole", (0, len(modules)), readout, modules)
        view = View(task.chain, objective, x, labels, CostCounter())
        segments = ghost_norms.segments(view, kind == "site", most=inf)
        if segments is None:
            raise Unknown("a parameter enters in a way that is not known")
        self._block = blocks.blocks(draws)
        self._blocks = int(self._block.max()) + 1
        self._segments = segments
        self.signs = signs(truth)
        same = all(torch.equal(g, end[n]) for n, g in truth.items())  # as with one loss at the end
        truths = (truth,) if same else (truth, end)
        self._calls = {
            site: calls(segment.entries, truths, self.signs, self._blocks)
            for site, segment in segments.items()
        }
        self._g2 = {n: square(g) for n, g in truth.items()}
        zero = torch.zeros(draws, dtype=torch.float64, device=x.device)
        self._products = {n: zero.repeat(len(truths) + 1, 1) for n in truth}
        self._agreed = {n: zero[: signed(draws, truth)].clone() for n in truth}
        self._signed = signed(draws, truth)
        numbers = [
            *(call.size for call in self._every),
            *(s.head.numel() for s in segments.values()),
        ]
        buffer = BUFFER if x.device.type == "cpu" else 128 * BUFFER
        self.together = min(self._blocks, max(1, buffer // (max(numbers) * x.element_size())))

    def runs(self) -> Iterator[range]:
        """Yield the draws in runs that are best processed together.

        A run is of one block of draws; of consecutive blocks where a block has fewer draws than fit.
        """
        draws, size = len(self._block), self.together
        if draws >= size * self._blocks:
            for block in range(self._blocks):
                members = range(block, draws, self._blocks)
                yield from (members[k : k + size] for k in range(0, len(members), size))
            return
        for first in range(0, draws, self._blocks):
            members = range(first, min(first + self._blocks, draws))
            yield from (members[k : k + size] for k in range(0, len(members), size))

    @property
    def _every(self) -> list[ImplicitGradients]:
        """Calls before all sites."""
        return [call for calls in self._calls.values() for call in calls]

    def add(self, run: range, credit: Mapping[str, Tensor]) -> None:
        """Add a run of draws.

        Args:
            run: their numbers, one of :meth:`runs`.
            credit: site name to the credit of each draw, ``[draws, *site]``.
        """
        first = len(range(run.start, min(run.stop, self._signed), run.step))
        for site, given in credit.items():
            for call, c in self._pulled(site, given):
                added = call.add(c, int(self._block[run[0]]), run.step == self._blocks)
                for name, one in zip(call.names, added, strict=True):
                    self._products[name][:, run.start : run.stop : run.step] += one
                if first:
                    for name, one in zip(call.names, call.agreed(c[:first]), strict=True):
                        agreed = self._agreed[name][run.start : run.stop : run.step]
                        agreed += one

    def _pulled(self, site: str, credit: Tensor) -> Iterator[tuple[ImplicitGradients, Tensor]]:
        """Pull the credit of many draws back to the calls that parameters enter by."""
        head, calls = self._segments[site].head, self._calls[site]
        outs = {id(call.out): call.out for call in calls}
        if all(out is head for out in outs.values()):
            grads: Sequence[Tensor | None] = [credit] * len(outs)
        else:
            grads = torch.autograd.grad(
                head, list(outs.values()), credit,
                retain_graph=True, allow_unused=True, is_grads_batched=True,
            )  # fmt: skip
        pulled = dict(zip(outs, grads, strict=True))
        for call in calls:
            c = pulled[id(call.out)]
            if c is not None:
                yield call, c

    def rows(self) -> dict[str, Array]:
        """Return ⟨e, g⟩, |e|², |e − g|² and ⟨e, G⟩ per parameter and draw: ``[draws, 4]``."""
        rows = {}
        for n, products in self._products.items():
            along, norms = products[0], products[-1]
            d2 = norms - 2 * along + self._g2[n]
            rows[n] = torch.stack([along, norms, d2, products[-2]], 1).cpu().numpy()
        return rows

    def agreed(self) -> dict[str, Array]:
        """Return Σ sign(e) sign(g) per parameter and draw, of the first draws: ``[at most 64]``."""
        return {n: a.cpu().numpy() for n, a in self._agreed.items()}

    def grams(self) -> dict[str, Array]:
        """Return the inner products of the block sums of e − g per parameter: ``[blocks, blocks]``."""
        counts = np.bincount(self._block)
        sizes = torch.from_numpy(counts).double()
        # where nothing reaches a parameter e = 0
        grams = {n: np.outer(counts, counts) * square for n, square in self._g2.items()}
        for call in self._every:
            of_call = call.grams(sizes.to(call.out.device))
            grams |= {n: gram.cpu().numpy() for n, gram in of_call.items()}
        return grams
