"""The oracles: questions that an estimator may ask about one objective on one batch.

:class:`fgbench.core.view.View` answers by forward mode, and has more oracles than these.
:class:`fgbench.measurement.engine.cotangent_view.CotangentView` answers the slopes by inner products with
cotangents that are computed once, for measuring.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from fgbench.core import axes, microbatch, projection
from fgbench.core.autodiff import no_reverse
from fgbench.core.autodiff.dual import swapped
from fgbench.core.autodiff.tracing import tracing
from fgbench.core.gradients import Grads, complete
from fgbench.core.operation_counter import OperationCounter
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from fgbench.core.axes import Cells
    from fgbench.core.clock import Clock
    from fgbench.core.cost import CostCounter
    from fgbench.core.network import Chain
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.laws import PerExample
    from fgbench.core.objective import Objective
    from fgbench.core.projection import Combine
    from fgbench.core.window import Window

Listener = Callable[["Oracles", "Directions", "Tensor"], None]


class Oracles(Protocol):
    """One objective on one batch: values of the clean pass, exact slopes, and the credit made of them.

    This is all that an estimator with the claim ``slopes_only`` uses. The values of the clean pass and the
    credit rule are implemented here, for every implementation alike; how slopes come about is theirs.

    Attributes:
        window: passes the batch through the objective's window; it is no oracle.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> from fgbench.core.noise.keyed import Noise
        >>> class Differences(Oracles):
        ...     def __init__(self, window):
        ...         self.window = window
        ...     def slopes(self, directions, step=None):
        ...         return self.window.differences(directions, step or 1e-3, on_sites=False)
        ...     def probe(self, directions, cells=None, weigh=None, into="site", combine="mean"):
        ...         raise NotImplementedError
        >>> view = Differences(example_view().window)
        >>> u = Noise(0).directions(view.shapes, n=2)
        >>> [tuple(g.shape) for g in view.credit(view.slopes(u), u).values()]
        [(4, 4), (4,)]
    """

    window: Window

    # the objective

    @property
    def chain(self) -> Chain:
        """The network."""
        return self.window.chain

    @property
    def objective(self) -> Objective:
        """The window, its readout and what it updates."""
        return self.window.objective

    @property
    def start(self) -> Any:
        """The window's input, the recorded clean activity ``[b, ...]``, or where a wrapped network begins."""
        return self.window.start

    @property
    def clock(self) -> Clock:
        """How far the training has come, see :class:`fgbench.core.clock.Clock`."""
        return self.window.clock

    @property
    def labels(self) -> Any:
        """Targets, labels ``[b]`` where the task is classification."""
        return self.window.labels

    @property
    def ledger(self) -> CostCounter:
        """Where calls are priced."""
        return self.window.ledger

    @property
    def share(self) -> float:
        """Share of the body's operations in this window."""
        return self.window.share

    @property
    def sites(self) -> PerExample:
        """Sites of the updated modules: name to shape ``[b, ...]``, to draw directions along."""
        return self.window.sites

    @property
    def params(self) -> dict[str, Tensor]:
        """Parameters of the updated modules by qualified name."""
        return self.window.params

    @property
    def kept(self) -> str:
        """Axes along which this objective's scores stay separate."""
        return self.window.kept

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the updated parameters by qualified name, to draw directions along."""
        return {name: tuple(p.shape) for name, p in self.params.items()}

    def count(self, letters: str) -> int:
        """Return the number of indices of the readout's input along some axes, 1 for those it lacks."""
        return self.objective.count(self.chain, letters)

    def cells(self, name: str, *, summed: bool = True) -> Cells:
        """Return which of this objective's scores credit a site or parameter; see :meth:`Objective.cells`."""
        return self.objective.cells(self.chain, name, summed=summed)

    def price(self, operations: float) -> None:
        """Add work of the estimator's own to the ledger, such as products with feedback matrices.

        Args:
            operations: floating point operations per example.
        """
        body = self.chain.operations()
        self.ledger.readouts += operations / body if body else 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add the matrix products that are made inside the block to the price of the estimate."""
        with OperationCounter() as counter:
            yield
        self.price(counter.number / len(self.start))

    # values of the clean pass

    def output(self) -> Tensor:
        """Return the clean output of the window, the readout's input ``[b, ...]``."""
        return self.window.output()

    def losses(self) -> Tensor:
        """Return the loss of each example at the clean point: ``[b]``."""
        return self.window.reading().losses

    def predictions(self, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the readout's predictions at the clean output: ``[b, k]``.

        Args:
            weights: replace the readout's own, by qualified parameter name; those of modules of the
                window have no effect here.

        Raises:
            UsageError: for a name that neither the readout nor a module of the window has.
        """
        self.window.check_weights(weights or {})
        own = self.window.heads()
        moved = {name: w for name, w in (weights or {}).items() if name in own}
        if not moved:
            return self.window.reading().prediction
        f = self.output()
        self.ledger.readouts += self.window.readout_share
        with torch.no_grad(), swapped(self.chain, {**self.window.moved, **moved}):
            return self.chain.read(self.objective.readout, f)

    def output_error(self, predictions: Tensor | None = None) -> Tensor:
        """Return the derivative of weight · mean loss with respect to the predictions: ``[b, k]``.

        Args:
            predictions: where it is taken; the readout's own unless given.
        """
        at = self.window.reading().prediction if predictions is None else predictions
        logits = at.detach().requires_grad_()
        with no_reverse.opened(), torch.enable_grad(), self.window.in_place():
            mean = self.window.losses_of(logits).mean()
            (error,) = torch.autograd.grad(mean * self.objective.weight, logits)
        return error

    def activities(self, kind: str = "out") -> dict[str, Tensor]:
        """Return the clean value at every tap of a kind in the window, by name.

        Args:
            kind: ``out``: after the nonlinearity of every site, from the clean pass; ``op``: the raw output
                of every weight operation, and ``site``, by a pass of their own where the clean one has run.
        """
        return self.window.activities(kind)

    def masks(self) -> dict[str, Tensor]:
        """Return whether each unit of a site is on, by site name.

        A unit is off where its ReLU is 0 in the clean pass: its derivative is 0 there. Where a site reaches
        the loss by anything but a ReLU (of itself, or of its sum with a residual) every unit is on, even one
        whose output happens to be 0.
        """
        first, stop = self.objective.window
        noted, shapes = self.window.masks(), self.chain.shapes()
        inside = [name for name, (k, _) in self.chain.index.items() if first <= k < stop]
        size, device = len(self.start), self.start.device
        return {
            name: noted[name]
            if name in noted
            else torch.ones(size, *shapes[name], dtype=torch.bool, device=device)
            for name in inside
        }

    def df(self) -> Tensor:
        """Return the derivative of weight · mean loss with respect to the readout's input."""
        return microbatch.join(self.window.df())

    def readout_grads(self, error: Tensor | None = None) -> Grads:
        """Return the exact gradient of the readout's own mean loss, by qualified parameter name.

        Args:
            error: at the predictions in place of :meth:`output_error`, ``[b, k]``.
        """
        if error is None:
            return self.window.reading().grads
        f, heads = self.output().detach(), self.window.heads()
        self.ledger.readouts += 3 * self.window.readout_share
        with no_reverse.opened(), torch.enable_grad(), self.window.in_place():
            prediction = self.chain.read(self.objective.readout, f)
            sent = error / self.objective.weight
            found = torch.autograd.grad(prediction, list(heads.values()), sent, allow_unused=True)
        return complete(heads, dict(zip(heads, found, strict=True)))

    # slopes and credit

    @abstractmethod
    def slopes(self, directions: Directions, step: float | None = None) -> Tensor:
        """Return directional derivatives of the objective along site or body directions.

        ``weight · mean over b`` is included, so the scores add up to the objective's slope. Kept scores
        are the partition of ⟨Δf, ∂loss/∂f⟩ over the kept axes of the readout's input f, with Δf the
        tangent, or (perturbed − clean)/step. Where a readout couples examples the score of an example
        is the slope of its own loss, along the Δf of all.

        Args:
            directions: along sites or along body parameters.
            step: None for the exact derivative; otherwise the length of a forward difference from the
                same start, below 0 a backward difference. With only ``b`` kept a difference uses the
                loss itself.

        Returns:
            ``[n, kept...]`` in loss per unit of direction.
        """

    @abstractmethod
    def probe(
        self,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None,
        into: str = "site",
        combine: Combine = "mean",
    ) -> Mapping[str, Tensor]:
        """Return the gradients that directions along sites give: their slopes, credit, and its pull.

        Args:
            directions: along sites.
            cells: which scores credit a place; :meth:`cells` unless given.
            weigh: from exact slopes ``[n, b, ...]`` to the numbers that are credited, example by example;
                the slopes themselves unless given.
            into: where the credit of a site is pulled from: the ``site``, or the ``op`` before it.
            combine: as of :meth:`credit`.

        Returns:
            Gradient by parameter name.
        """

    def credit(
        self,
        slopes: Tensor,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        combine: Combine = "mean",
    ) -> Grads:
        """Return the credit of slopes: per place, the mean over n of (slopes of its cells) × direction.

        Args:
            slopes: ``[n, kept...]``.
            directions: those the slopes were taken along.
            cells: which scores credit a place; :meth:`cells` unless given.
            combine: ``mean``; or ``project``: the projection onto the span of the directions, scaled to be
                unbiased, see :mod:`fgbench.core.projection`.

        Returns:
            Place name to credit of the place's shape, 0 where a site's unit is off.
        """
        kept = axes.names(self.kept)
        if slopes.dim() != 1 + len(kept) or len(slopes) != directions.n:
            expected = ", ".join(["n", *kept])
            raise UsageError(
                f"slopes have shape {tuple(slopes.shape)}, expected [{expected}] with n = {directions.n}"
            )
        meet = cells or self.cells
        on = self.window.masks() if any(n in self.chain.index for n in directions.names) else {}
        if combine == "project":
            return self._projected(slopes, directions, meet, on)
        total: Grads = {}
        for start, u in directions.chunks(self.window.chunk(on_sites=True)):
            for name in list(u):
                s = slopes[start : start + len(u[name])]
                c = self._credit(s, u.pop(name), meet(name), on.get(name))
                total[name] = total[name].add_(c) if name in total else c
        if directions.n > 1:
            for c in total.values():
                c /= directions.n
        return total

    def _projected(
        self,
        slopes: Tensor,
        directions: Directions,
        meet: Callable[[str], Cells],
        on: Mapping[str, Tensor],
    ) -> Grads:
        """Return the credit of slopes as a projection, 0 where a unit is off."""
        cells = {name: meet(name) for name in directions.names}

        def rows(name: str) -> Tensor:
            return directions.rows(name, 0, directions.n)

        with self.counted():
            numbers = projection.coefficients(slopes, rows, cells, on)
        return {
            name: live(axes.combined(numbers[name], rows(name), at), on.get(name))
            for name, at in cells.items()
        }

    def _credit(self, slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
        """Apply the credit rule to one place, 0 where its unit is off; run by run where one may be."""
        if on is None:
            return axes.credit(slopes, u, at)
        apart = "b" in at.shared
        whole: Grads = {}
        for run in self.window.runs:
            part = masked(slopes[:, run] if apart else slopes, u[:, run], at, on[run])
            microbatch.put(whole, "credit", part, run, len(on))
        return whole["credit"]


def masked(slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
    """Return the credit of some examples of a site, 0 where its unit is off.

    Example:
        >>> at = axes.Cells(kept="b", place="b c", mixed="")
        >>> slopes, u, on = torch.tensor([[2.0]]), torch.ones(1, 1, 2), torch.tensor([[True, False]])
        >>> masked(slopes, u, at, on)
        tensor([[2., 0.]])
    """
    return live(axes.credit(slopes, u, at), on)


def live(credit: Tensor, on: Tensor | None) -> Tensor:
    """Return credit, written over with 0 where a unit is off.

    Example:
        >>> live(torch.ones(2), torch.tensor([True, False]))
        tensor([1., 0.])
    """
    if on is None:
        return credit
    if tracing():  # compiled, a choice is faster than bytes
        return torch.where(on, credit, 0.0)
    return credit.mul_(on.view(torch.uint8))  # as bytes: bool is converted by a slow kernel
