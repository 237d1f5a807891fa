"""One objective on one batch: the oracles an estimator may call, each priced in the ledger.

Passes run over the batch in runs of examples (:mod:`fgbench.tiles`): nothing of what they hold for a
moment is of the size of the batch. The file is longer than others: the oracles share the state of one
clean pass.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge

from fgbench import axes, gate, tiles
from fgbench.axes import Cells
from fgbench.directions import PerExample
from fgbench.dual import Dual, part, plus, swapped, value
from fgbench.reading import Reading, filled, joined, partition, read
from fgbench.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.directions import Directions
    from fgbench.ledger import Ledger
    from fgbench.network import Chain
    from fgbench.objective import Objective

Grads = dict[str, "Tensor"]
Place = tuple[str, str]
ALL = slice(None)
Listener = Callable[["View", "Directions", "Tensor"], None]


@dataclass
class _Seen:
    """What the tap of a perturbed pass sees on a run of examples.

    Args:
        cut: whether the graph is cut at every site, and its edges are noted there.
        on: where a site's units are on; None where nobody asks.
        edges: of the graph, at the perturbed sites.
    """

    cut: bool
    on: dict[str, Tensor] | None
    edges: dict[str, Any] = field(default_factory=dict)


class View:
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

    def __init__(
        self,
        chain: Chain,
        objective: Objective,
        start: Tensor,
        labels: Tensor,
        ledger: Ledger,
        params: Mapping[str, Tensor] | None = None,
        boundaries: frozenset[int] = frozenset(),
        listen: Listener | None = None,
        held: Tensor | None = None,
    ) -> None:
        self.chain, self.objective = chain, objective
        self.start, self.labels, self.ledger = start, labels, ledger
        self.outputs: dict[int, Tensor] = {}
        leaves = {id(p): p.detach().requires_grad_() for p in (params or {}).values()}
        self._moved = {name: leaves[id(p)] for name, p in (params or {}).items()}  # ties stay tied
        self._boundaries = boundaries
        self._listen = listen
        self._held = held
        self._acts: dict[str, Tensor] = {}
        self._on: dict[str, Tensor] = {}
        self._edges: dict[str, list[Any]] = {}  # one per run of examples
        self._f: Tensor | None = None
        self._read: Reading | None = None
        self._tapes: dict[tuple[str, int], Tape] = {}

    # what there is

    @property
    def share(self) -> float:
        """The window's part of the body's operations."""
        first, stop = self.objective.window
        return sum(self.chain.shares()[first:stop])

    @property
    def sites(self) -> PerExample:
        """Sites of the updated modules: name to shape ``[b, ...]``."""
        shapes = self.chain.shapes()
        own = (n for n, (k, _) in self.chain.index.items() if k in self.objective.updates)
        return PerExample(
            ((name, (len(self.start), *shapes[name])) for name in own), self.objective.repeats
        )

    @property
    def params(self) -> dict[str, Tensor]:
        """Parameters of the updated modules by qualified name."""
        own = self.chain.body_parameters(self.objective.updates)
        return {name: self._moved.get(name, p) for name, p in own.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the updated parameters by qualified name, to draw directions along."""
        return {name: tuple(p.shape) for name, p in self.params.items()}

    @property
    def kept(self) -> str:
        """Axes along which this objective's scores stay separate."""
        return self.objective.kept(self.chain)

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
        with gate.opened(), torch.enable_grad():
            mean = self._losses(logits).mean()
            (error,) = torch.autograd.grad(mean * self.objective.weight, logits)
        return error

    def activities(self) -> dict[str, Tensor]:
        """Return the clean ``out`` of every site of the window, by site name."""
        if not self._acts and self._f is not None:
            self._tape("params")
        self._clean()
        return self._acts

    def output(self) -> Tensor:
        """Return the clean output of the window, the readout's input."""
        self._clean()
        assert self._f is not None
        return self._f

    def masks(self) -> dict[str, Tensor]:
        """Return whether each unit of a site is on: its ``out`` in the clean pass is not exactly 0."""
        if not self._on and self._f is not None:
            self._tape("params")
        self._clean()
        return self._on

    def readout_grads(self, error: Tensor | None = None) -> Grads:
        """Return the exact gradient of the readout's own mean loss, by qualified parameter name.

        Args:
            error: at the predictions in place of :meth:`output_error`, ``[b, k]``.
        """
        if error is None:
            return self._reading().grads
        f = self.output().detach()
        heads = self.chain.readout_parameters(self.objective.readout)
        with gate.opened(), torch.enable_grad(), self._in_place_of():
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
        found = []
        for _, u in directions.chunks(self._chunk(on_sites)):
            record = on_sites and not self._edges
            found.append(self._scores(self._push(u, on_sites, record)))
            self.ledger.slopes += (1 if on_sites else 2) * self.share * len(found[-1])
        slopes = torch.cat(found) if len(found) > 1 else found[0]
        if self._listen is not None:
            self._listen(self, directions, slopes)
        return slopes

    def output_tangent(self, directions: Directions) -> Tensor:
        """Return J·u at the predictions: ``[n, b, k]``."""
        on_sites = all(name in self.chain.index for name in directions.names)
        found = []
        for _, u in directions.chunks(self._chunk(on_sites)):
            tangents = tiles.join(self._push(u, on_sites, record=False), 1)
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
            seen = _Seen(cut=True, on=on)
            reading, slopes = self._probed(u, run, self._perturbing(u, seen, into), ends)
            said.append(reading)
            heard.append(slopes)
            slopes, credit = weigh(slopes), Grads()
            for name in seen.edges:
                c = _masked(slopes, u.pop(name), meet(name), on.get(name))
                credit[name] = c if directions.n == 1 else c.div_(directions.n)
            tiles.add(total, _pulled(seen.edges, credit, params))
        self.ledger.forwards += self.share if self._f is None else 0.0
        self.ledger.slopes += self.share * directions.n
        self.ledger.pulls += self.share
        self._arrive(ends["f"])
        self._read = joined(said)
        if self._listen is not None:
            self._listen(self, directions, tiles.join(heard, 1))
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
        with gate.opened():
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
            f = self._walk(_plain)
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

    def _in_place_of(self) -> Any:
        """Swap the moved parameters in, where there are any."""
        return swapped(self.chain, self._moved) if self._moved else nullcontext()

    @cached_property
    def _runs(self) -> tuple[slice, ...]:
        """Cut the batch into the runs of examples that pass through the window together."""
        first, stop = self.objective.window
        shapes, index = self.chain.shapes(), self.chain.index
        inside = [torch.Size(shapes[name]) for name, (k, _) in index.items() if first <= k < stop]
        largest = max((shape.numel() for shape in inside), default=0)
        return tiles.cut(len(self.start), largest * self.start.element_size(), self.start.device)

    def _walk(self, tap: Any, run: slice = ALL) -> Any:
        """Take examples through the window, noting the outputs on the way that others start from."""
        first, stop = self.objective.window
        x = self.start[run]
        f: Any = x
        for k, f in self.chain.segments(x, first, stop, tap):
            if k + 1 in self._boundaries and k + 1 < stop:
                tiles.put(self.outputs, k + 1, value(f).detach(), run, len(self.start))
        return f

    def _arrive(self, f: Tensor) -> None:
        """Note the clean output of the window."""
        self._f = f
        if self.objective.window[1] in self._boundaries:
            self.outputs[self.objective.window[1]] = f

    def _note(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Note the clean value at every ``out``, and where it is on."""
        if kind == "out":
            self._acts[name] = z.detach()
            self._on[name] = self._acts[name].bool()  # not 0, and faster than asking so
        return z

    def _clean(self) -> None:
        """Make sure the clean pass has run; its graph, cut at every ``out``, serves later pulls."""
        if self._f is None and self.objective.updates:
            self._tape("params")
        elif self._f is None:
            with torch.no_grad(), self._in_place_of():
                self._arrive(self._walk(self._note).detach())
            self.ledger.forwards += self.share

    def _reading(self) -> Reading:
        """Read the clean output, once."""
        if self._read is None:
            self._read = read(self.chain, self.objective, self.output(), self._losses, self._runs)
        return self._read

    def _probed(
        self, u: Mapping[str, Tensor], run: slice, tap: Any, ends: Grads
    ) -> tuple[Reading, Tensor]:
        """Take a run under a perturbing tap; return its reading, without df, and its slopes."""

        def losses_of(prediction: Tensor) -> Tensor:
            return self._losses(prediction, run=run)

        size = len(self.start)
        with torch.enable_grad(), swapped(self.chain, self._moved):
            f = self._walk(tap, run)
        point = value(f).detach()
        tiles.put(ends, "f", point, run, size)
        reading = read(self.chain, self.objective, point, losses_of, (ALL,), of=size)
        return replace(reading, df=()), self._scores([_tangents(f, u)], reading.df)

    def _losses(self, prediction: Tensor, held: Tensor | None = None, run: slice = ALL) -> Tensor:
        """Return the loss of each example, what the readout holds being held where it is."""
        readout = self.chain.readout(self.objective.readout)
        held = self._held if held is None else held
        if held is None:
            return readout.losses(prediction, self.labels[run])
        return readout.losses(prediction, self.labels[run], held[run])

    def _clean_held(self) -> Tensor | None:
        """Return the predictions that stay what they are when the network moves, None for none."""
        if self._held is None and self.chain.readout(self.objective.readout).holds:
            return self._reading().prediction
        return self._held

    def df(self) -> Tensor:
        """Return the derivative of weight · mean loss with respect to the readout's input."""
        return tiles.join(self._df())

    def _df(self) -> tuple[Tensor, ...]:
        """Return :meth:`df` by runs of examples."""
        if not self._reading().df:
            self._read = None
        return self._reading().df

    def _push(self, u: Mapping[str, Tensor], on_sites: bool, record: bool) -> list[Tensor]:
        """Push directions through the window once; return the tangents at its output by runs."""
        clean, size = self._f is None, len(self.start)
        moved: dict[str, Any] = dict(self._moved)
        if not on_sites:
            own = self.params
            moved |= {n: Dual(own[n].detach(), t) for n, t in u.items()}
        whole: Grads = {}
        found = []
        with torch.set_grad_enabled(record), swapped(self.chain, moved):
            for run in self._runs:
                here = {n: t[:, run] for n, t in u.items()} if on_sites else {}
                seen = _Seen(cut=record, on={} if clean and on_sites else None)
                f = self._walk(self._perturbing(here, seen), run)
                found.append(_tangents(f, u))
                for name, edge in seen.edges.items():
                    self._edges.setdefault(name, []).append(edge)
                if clean:
                    tiles.put(whole, "f", value(f).detach(), run, size)
                    for name, on in (seen.on or {}).items():
                        tiles.put(self._on, name, on, run, size)
        if clean:
            self._arrive(whole["f"])
            self.ledger.forwards += self.share
        return found

    def _perturbing(self, u: Grads, seen: _Seen, into: str = "site") -> Any:
        """Make the tap that adds directions to the tangents of the sites, for one run of examples."""

        def tap(kind: str, name: str, z: Any, /) -> Any:
            if kind == "out" and seen.on is not None:
                seen.on[name] = value(z).detach().bool()  # not 0, and faster than asking so
            if kind == into and name in u and seen.cut and value(z).requires_grad:
                seen.edges[name] = get_gradient_edge(value(z))
            if kind != "site" or (name not in u and not seen.cut):
                return z
            v, t = value(z), plus(part(z), u.get(name))
            return v.detach() if t is None else Dual(v.detach(), t)  # cut: a pull stops at any site

        return tap

    def _credit(self, slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
        """Apply the credit rule to one place, 0 where its unit is off; run by run at a site."""
        if on is None:
            return axes.credit(slopes, u, at)
        apart = "b" in at.shared
        whole: Grads = {}
        for run in self._runs:
            part = _masked(slopes[:, run] if apart else slopes, u[:, run], at, on[run])
            tiles.put(whole, "credit", part, run, len(on))
        return whole["credit"]

    def _pull_recorded(self, credit: Grads) -> Grads:
        """Pull credit back from the sites that the last push recorded, which frees their graphs."""
        params = self.params
        total: dict[str, Tensor | None] = dict.fromkeys(params)
        for i, run in enumerate(self._runs):
            edges = {name: self._edges[name][i] for name in credit}
            tiles.add(total, _pulled(edges, {n: c[run] for n, c in credit.items()}, params))
        self._edges = {}
        return filled(params, total.values())

    def _scores(self, change: Sequence[Tensor], df: Sequence[Tensor] | None = None) -> Tensor:
        """Partition ⟨change, ∂loss/∂f⟩, given by runs, over the kept axes: ``[n, kept...]``."""
        have = self.chain.module(self.objective.window[1] - 1).out_axes
        if self.chain.readout(self.objective.readout).coupled:
            kept = set(axes.names(self.kept)) - {"b"}
            apart = [i + 1 for i, a in enumerate(axes.names(have)) if a in kept]
            return self._coupled(tiles.join(change, 1), apart)
        return partition(change, self._df() if df is None else df, have, self.kept)

    def _coupled(self, change: Tensor, apart: list[int]) -> Tensor:
        """Take the slope of every example's loss along the change in one cell of all examples."""
        found = []
        for cell in product(*(range(change.shape[i]) for i in apart)):
            own = change
            for i, at in zip(apart, cell, strict=True):
                one = torch.arange(change.shape[i], device=change.device) == at
                own = own * one.view(-1, *[1] * (change.dim() - 1 - i))
            with torch.no_grad():
                moving: Any = Dual(self.output(), own)
                losses = self._losses(self.chain.read(self.objective.readout, moving))
            slopes = part(losses)
            assert slopes is not None
            found.append(slopes * (self.objective.weight / slopes.shape[1]))
        rows = torch.stack(found, 2)
        return rows.view(*rows.shape[:2], *(change.shape[i] for i in apart))

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
                f = self.chain.run(self.start, *self.objective.window, tap if on_sites else _plain)
                self.ledger.forwards += self.share
                if self.kept == "b":
                    prediction = self.chain.read(self.objective.readout, f)
                    change = (self._losses(prediction, held) - self.losses()) / step
                    found.append(change * (self.objective.weight / len(change)))
                else:
                    change = ((f - clean) / step).unsqueeze(0)
                    found.append(self._scores([change[:, run] for run in self._runs])[0])
        return torch.stack(found)

    def _chunk(self, on_sites: bool) -> int:
        """Choose how many directions travel at once: what fits the cache, or fills a GPU."""
        if self.start.device.type == "cuda":
            return max(1, 8192 // len(self.start)) if on_sites else 4
        if not on_sites:
            return 4
        shapes = self.sites
        largest = max((torch.Size(shape).numel() for shape in shapes.values()), default=1)
        return max(1, (1 << 23) // (largest * self.start.element_size()))

    def _tape(self, cut: str, weights: Mapping[str, Tensor] | None = None) -> Tape:
        """Record the window's graph with these cuts and weights, once."""
        key = (cut, id(weights))
        if key not in self._tapes:
            tape = Tape(cut, weights)
            with torch.enable_grad(), self._in_place_of():
                tape.record(self.chain, self.objective, self._noted_walk, self._losses)
            self._arrive(tape.output)
            self.ledger.forwards += self.share * (1 if weights is None else 2)
            self._tapes[key] = tape
        return self._tapes[key]

    def _noted_walk(self, tap: Any) -> Tensor:
        """Run the window under a tap, noting the clean ``out`` of every site."""

        def noting(kind: str, name: str, z: Tensor, /) -> Tensor:
            z = tap(kind, name, z)
            return self._note(kind, name, z)

        f: Tensor = self._walk(noting)
        return f


def _plain(kind: str, name: str, z: Tensor, /) -> Tensor:
    """Return ``z``."""
    return z


def _same(slopes: Tensor) -> Tensor:
    """Return slopes as they are."""
    return slopes


def _tangents(f: Any, u: Mapping[str, Tensor]) -> Tensor:
    """Return the tangents of an output, 0 where no direction reached it."""
    tangents = part(f)
    if tangents is not None:
        return tangents
    return value(f).new_zeros(len(next(iter(u.values()))), *f.shape)


def _masked(slopes: Tensor, u: Tensor, at: Cells, on: Tensor | None) -> Tensor:
    """Apply the credit rule to some examples of a site, 0 where its unit is off."""
    credit = axes.credit(slopes, u, at)
    # as bytes: bool is converted by a slow kernel
    return credit if on is None else credit.mul_(on.view(torch.uint8))


def _pulled(
    edges: Mapping[str, Any], credit: Mapping[str, Tensor], params: Grads
) -> Sequence[Tensor | None]:
    """Pull the credit of a run's sites back to the parameters, which frees its graph."""
    with gate.opened():
        return torch.autograd.grad(
            [edges[name] for name in credit],
            list(params.values()),
            list(credit.values()),
            allow_unused=True,
        )
