"""One objective on one batch: the oracles an estimator may call, each priced in the ledger.

How a batch passes through the window is :mod:`fgbench.core.window`. The file is longer than
others: there is a
method for every oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core import axes, microbatch
from fgbench.core.autodiff import no_reverse
from fgbench.core.autodiff.dual import Dual, part, swapped
from fgbench.core.axes import Cells
from fgbench.core.readout_losses import Reading, filled, joined
from fgbench.core.window import Passes, Seen, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.noise.directions import Directions

Grads = dict[str, "Tensor"]
Place = tuple[str, str]
Listener = Callable[["View", "Directions", "Tensor"], None]


class View(Passes):
    """One objective on one batch.

    Args:
        chain: the network.
        objective: the window, its readout and what it updates.
        start: the window's input, the recorded clean activity ``[b, ...]``; never moved by an estimator.
        labels: ``[b]``.
        ledger: where calls are priced.
        params: parameters by qualified name that replace the chain's own.
        boundaries: module numbers whose output another objective will start from.
        listen: hears the directions and slopes of every exact call, for measuring.
        held: predictions that a readout which ``holds`` compares with; its own where None.
    """

    # what there is

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the updated parameters by qualified name, to draw directions along."""
        return {name: tuple(p.shape) for name, p in self.params.items()}

    def count(self, letters: str) -> int:
        """Return the number of indices of the readout's input along some axes, 1 for those it lacks."""
        return self.objective.count(self.chain, letters)

    def cells(self, name: str, *, summed: bool = True) -> Cells:
        """Say how this objective's scores meet a site or parameter; see :meth:`Objective.cells`."""
        return self.objective.cells(self.chain, name, summed=summed)

    # values of the clean pass

    def losses(self) -> Tensor:
        """Return the loss of each example at the clean point: ``[b]``."""
        return self._reading().losses

    def predictions(self, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the readout's predictions at the clean output: ``[b, k]``.

        Args:
            weights: replace the readout's own, by qualified parameter name; others are passed over.
        """
        own = self.chain.readout_parameters(self.objective.readout)
        moved = {name: w for name, w in (weights or {}).items() if name in own}
        if not moved:
            return self._reading().prediction
        f = self.output()
        with torch.no_grad(), swapped(self.chain, {**self._moved, **moved}):
            return self.chain.read(self.objective.readout, f)

    def output_error(self, predictions: Tensor | None = None) -> Tensor:
        """Return the derivative of weight · mean loss with respect to the predictions: ``[b, k]``.

        Args:
            predictions: where it is taken; the readout's own unless given.
        """
        at = self._reading().prediction if predictions is None else predictions
        logits = at.detach().requires_grad_()
        with no_reverse.opened(), torch.enable_grad():
            mean = self._losses(logits).mean()
            (error,) = torch.autograd.grad(mean * self.objective.weight, logits)
        return error

    def activities(self) -> dict[str, Tensor]:
        """Return the clean ``out`` of every site of the window, by site name."""
        if not self._acts and self._f is not None:
            self._tape("params")
        self._clean()
        return self._acts

    def masks(self) -> dict[str, Tensor]:
        """Return whether each unit of a site is on: its ``out`` in the clean pass is not exactly 0."""
        if not self._on and self._f is not None:
            self._tape("params")
        self._clean()
        return self._on

    def df(self) -> Tensor:
        """Return the derivative of weight · mean loss with respect to the readout's input."""
        return microbatch.join(self._df())

    def readout_grads(self, error: Tensor | None = None) -> Grads:
        """Return the exact gradient of the readout's own mean loss, by qualified parameter name.

        Args:
            error: at the predictions in place of :meth:`output_error`, ``[b, k]``.
        """
        if error is None:
            return self._reading().grads
        f = self.output().detach()
        heads = self.chain.readout_parameters(self.objective.readout)
        with no_reverse.opened(), torch.enable_grad(), self._in_place_of():
            prediction = self.chain.read(self.objective.readout, f)
            sent = error / self.objective.weight
            found = torch.autograd.grad(prediction, list(heads.values()), sent, allow_unused=True)
        return filled(heads, found)

    # oracles

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
        on_sites = all(name in self.chain.index for name in directions.names)
        if step is not None:
            return self._differences(directions, step, on_sites)
        chunks = directions.chunks(self._chunk(on_sites))
        slopes = microbatch.join([self._exact(u, on_sites) for _, u in chunks])
        if self._listen is not None:
            self._listen(self, directions, slopes)
        return slopes

    def output_tangent(self, directions: Directions) -> Tensor:
        """Return J·u at the predictions: ``[n, b, k]``."""
        on_sites = all(name in self.chain.index for name in directions.names)
        found = []
        for _, u in directions.chunks(self._chunk(on_sites)):
            tangents = microbatch.join(self._push(u, on_sites, record=False), 1)
            with torch.no_grad():
                dual = self.chain.read(self.objective.readout, Dual(self._f, tangents))  # type: ignore[arg-type]
            found.append(part(dual))
            self.ledger.slopes += (1 if on_sites else 2) * self.share * len(tangents)
        return torch.cat([t for t in found if t is not None])

    def credit(
        self,
        slopes: Tensor,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
    ) -> Grads:
        """Turn slopes into credit: per place, the mean over n of (slopes of its cells) × direction.

        Args:
            slopes: ``[n, kept...]``.
            directions: those the slopes were taken along.
            cells: how scores meet a place; :meth:`cells` unless given.

        Returns:
            Place name to credit of the place's shape, 0 where a site's unit is off.
        """
        meet = cells or self.cells
        on = self.masks() if any(n in self.chain.index for n in directions.names) else {}
        total: Grads = {}
        for start, u in directions.chunks(self._chunk(on_sites=True)):
            for name in list(u):
                s = slopes[start : start + len(u[name])]
                c = self._credit(s, u.pop(name), meet(name), on.get(name))
                total[name] = total[name].add_(c) if name in total else c
        if directions.n > 1:
            for c in total.values():
                c /= directions.n
        return total

    def probe(
        self,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None,
        into: str = "site",
    ) -> Grads:
        """Turn site directions into gradients, run by run: slopes, their credit, and its pull.

        Gives what :meth:`slopes`, :meth:`credit` and :meth:`pull` give one after the other. Examples are
        independent, so a run of them can be pushed, scored, credited and pulled before the next: neither
        graph nor directions nor credit is ever there for the batch. Where a loss compares its example
        with others, held or moving, it is those three.

        Args:
            directions: along sites.
            cells: how scores meet a place; :meth:`cells` unless given.
            weigh: from exact slopes ``[n, run, ...]`` to what is credited, example by example; themselves
                unless given.
            into: where the credit of a site is pulled from: the ``site``, or the ``op`` before it.

        Returns:
            Gradient by parameter name.

        Cost: that of the three.
        """
        meet, weigh = cells or self.cells, weigh or _same
        readout = self.chain.readout(self.objective.readout)
        compares = readout.holds or readout.coupled  # what it compares with lies in other runs
        if compares or not all("b" in meet(name).shared for name in directions.names):
            credit = self.credit(weigh(self.slopes(directions)), directions, meet)
            return self.pull({(into, name): c for name, c in credit.items()})
        params = self.params
        total: dict[str, Tensor | None] = dict.fromkeys(params)
        ends: Grads = {}
        said, heard = [], []
        for run, u in zip(self._runs, directions.runs(self._runs), strict=True):
            on: dict[str, Tensor] = {}
            seen = Seen(cut=True, on=on)
            reading, slopes = self._probed(u, run, self._perturbing(u, seen, into), ends)
            said.append(reading)
            heard.append(slopes)
            slopes, credit = weigh(slopes), Grads()
            for name in seen.edges:
                c = _masked(slopes, u.pop(name), meet(name), on.get(name))
                credit[name] = c if directions.n == 1 else c.div_(directions.n)
            microbatch.add(total, _pulled(seen.edges, credit, params))
        self.ledger.forwards += self.share if self._f is None else 0.0
        self.ledger.slopes += self.share * directions.n
        self.ledger.pulls += self.share
        self._arrive(ends["f"])
        self._read = joined(said)
        if self._listen is not None:
            self._listen(self, directions, microbatch.join(heard, 1))
        return filled(params, total.values())

    def pull(
        self,
        cotangents: Mapping[str, Tensor] | Mapping[Place, Tensor],
        to: str = "params",
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[Any, Tensor]:
        """Pull cotangents back through one segment, in one engine call.

        Args:
            cotangents: place to cotangent of the place's shape; a place is ``(kind, name)``, a plain
                name is a site, and ``("readout", name)`` the predictions of a readout.
            to: ``params``: through the weight operation, stopping at the preceding ``out``, so a
                cotangent at an ``out`` passes its own site first. ``taps``: back to the nearest taps of
                any kind.
            weights: replace the weights of the operations crossed, at clean inputs.

        Returns:
            Parameter name to gradient, or (kind, name) to cotangent.
        """
        places: dict[Place, Tensor] = {
            (k if isinstance(k, tuple) else ("site", k)): v for k, v in cotangents.items()
        }
        self.ledger.pulls += self.share
        recorded = all(kind == "site" and name in self._edges for kind, name in places)
        if to == "params" and weights is None and recorded:
            return self._pull_recorded({name: c for (_, name), c in places.items()})
        tape = self._tape(to, weights)
        with no_reverse.opened():
            return tape.pull(places, self.params if to == "params" else None)

    def reverse(
        self, weights: Mapping[str, Tensor] | None = None, error: Tensor | None = None
    ) -> Grads:
        """Return the full gradient of the objective: claim ``network``.

        Args:
            weights: replace the weights of every operation crossed on the way back, values staying
                clean: the error travels through other weights, each weight's own gradient being the
                outer product of its clean input and the error that arrives.
            error: starts at the predictions in place of :meth:`output_error`, ``[b, k]``.

        Returns:
            Gradient by parameter name, of the updated modules.
        """
        params = self.params
        self.ledger.backwards += self.share
        if weights is not None or error is not None:
            tape = self._tape("", weights)
            if error is not None:
                return tape.pull({("readout", self.objective.readout): error}, params)
            return tape.pull({("loss", ""): torch.ones_like(tape.loss)}, params)
        with torch.enable_grad(), self._in_place_of():
            f = self._walk(plain)
            heads = self.chain.readout_parameters(self.objective.readout)
            prediction = self.chain.read(self.objective.readout, f)
            losses = self._losses(prediction)
            mean = losses.mean()
            weight = self.objective.weight
            found = torch.autograd.grad(
                mean if weight == 1.0 else mean * weight,
                [*params.values(), *heads.values()],
                allow_unused=True,
            )
        self._arrive(f.detach())
        own = found[len(params) :]
        if weight != 1.0:
            own = tuple(None if g is None else g / weight for g in own)
        self._read = Reading(prediction.detach(), losses.detach(), (), filled(heads, own))
        self.ledger.forwards += self.share
        return filled(params, found[: len(params)])

    # the same elsewhere

    def with_(self, params: Mapping[str, Tensor] | None = None, x: Tensor | None = None) -> View:
        """Return this view at other parameters or from another start, on the same ledger.

        Args:
            params: parameters by qualified name; the window's start stays where it was.
            x: another start of the window.

        Returns:
            A new view with a clean pass of its own.
        """
        start = self.start if x is None else x
        moved = {**self._moved, **(params or {})}
        held = self._clean_held()
        return View(self.chain, self.objective, start, self.labels, self.ledger, moved, held=held)

    @contextmanager
    def perturb_in_place(self, directions: Directions, row: int, scale: float) -> Iterator[View]:
        """Move the parameters by scale × one direction, give the view there, and move them back.

        Nothing is copied: memory stays that of one direction. Parameters return to within rounding.

        Args:
            directions: along body parameters.
            row: which direction.
            scale: the step.
        """
        params = self.params
        self._clean_held()  # before anything moves
        with torch.no_grad():
            for name in directions.names:
                params[name].add_(directions.rows(name, row, row + 1)[0], alpha=scale)
        try:
            yield self.with_()
        finally:
            with torch.no_grad():
                for name in directions.names:
                    params[name].sub_(directions.rows(name, row, row + 1)[0], alpha=scale)

    # how they are computed

    def _exact(self, u: Mapping[str, Tensor], on_sites: bool) -> Tensor:
        """Take the exact slopes along directions that travel at once."""
        slopes = self._scores(self._push(u, on_sites, record=on_sites and not self._edges))
        self.ledger.slopes += (1 if on_sites else 2) * self.share * len(slopes)
        return slopes

    def _credit(self, slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
        """Apply the credit rule to one place, 0 where its unit is off; run by run at a site."""
        if on is None:
            return axes.credit(slopes, u, at)
        apart = "b" in at.shared
        whole: Grads = {}
        for run in self._runs:
            part = _masked(slopes[:, run] if apart else slopes, u[:, run], at, on[run])
            microbatch.put(whole, "credit", part, run, len(on))
        return whole["credit"]

    def _pull_recorded(self, credit: Grads) -> Grads:
        """Pull credit back from the sites that the last push recorded, which frees their graphs."""
        params = self.params
        total: dict[str, Tensor | None] = dict.fromkeys(params)
        for i, run in enumerate(self._runs):
            edges = {name: self._edges[name][i] for name in credit}
            microbatch.add(total, _pulled(edges, {n: c[run] for n, c in credit.items()}, params))
        self._edges = {}
        return filled(params, total.values())

    def _differences(self, directions: Directions, step: float, on_sites: bool) -> Tensor:
        """Take forward differences, one direction at a time, from the clamped start."""
        clean, held = self.output(), self._clean_held()
        found = []
        for row in range(directions.n):
            u = {name: directions.rows(name, row, row + 1)[0] for name in directions.names}

            def tap(kind: str, name: str, z: Tensor, /, u: Grads = u) -> Tensor:
                return z + step * u[name] if kind == "site" and name in u else z

            moved = dict(self._moved)
            if not on_sites:
                own = self.params
                moved |= {name: own[name] + step * u[name] for name in u}
            with torch.no_grad(), swapped(self.chain, moved):
                f = self.chain.run(self.start, *self.objective.window, tap if on_sites else plain)
                self.ledger.forwards += self.share
                if self.kept == "b":
                    prediction = self.chain.read(self.objective.readout, f)
                    change = (self._losses(prediction, held) - self.losses()) / step
                    found.append(change * (self.objective.weight / len(change)))
                else:
                    change = ((f - clean) / step).unsqueeze(0)
                    found.append(self._scores([change[:, run] for run in self._runs])[0])
        return torch.stack(found)


def _same(slopes: Tensor) -> Tensor:
    """Return slopes as they are."""
    return slopes


def _masked(slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
    """Apply the credit rule to some examples of a site, 0 where its unit is off."""
    credit = axes.credit(slopes, u, at)
    # as bytes: bool is converted by a slow kernel
    return credit if on is None else credit.mul_(on.view(torch.uint8))


def _pulled(
    edges: Mapping[str, Any], credit: Mapping[str, Tensor], params: Grads
) -> Sequence[Tensor | None]:
    """Pull the credit of a run's sites back to the parameters, which frees its graph."""
    with no_reverse.opened():
        return torch.autograd.grad(
            [edges[name] for name in credit],
            list(params.values()),
            list(credit.values()),
            allow_unused=True,
        )
