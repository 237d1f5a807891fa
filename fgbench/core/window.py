"""The window of one objective on one batch: its passes, and what the clean one leaves behind.

Every pass takes the batch in runs of examples (:mod:`fgbench.core.microbatch`), so what it holds for a
moment has the size of a run and not of the batch.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge

from fgbench.core import axes, gradients, microbatch
from fgbench.core.along import piece_of
from fgbench.core.autodiff import forward_ad, no_reverse
from fgbench.core.autodiff.cut_graph import Tape
from fgbench.core.autodiff.dual import Dual, part, plus, swapped, value
from fgbench.core.clock import START, Clock
from fgbench.core.gradients import Grads, complete
from fgbench.core.network import untouched
from fgbench.core.noise.laws import PerExample
from fgbench.core.operation_counter import OperationCounter
from fgbench.core.perturbed import Perturbed
from fgbench.core.readout_losses import Reading, joined, partition, read
from fgbench.core.targets import given_of, labels_of
from fgbench.core.weight_inputs import WeightInput, weight_inputs
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.cost import CostCounter
    from fgbench.core.left_behind import LeftBehind
    from fgbench.core.network import Chain
    from fgbench.core.noise.directions import Directions
    from fgbench.core.objective import Objective

Place = tuple[str, str]
ALL = slice(None)
KINDS = ("op", "site", "out")
READING = 3
"""Passes through a readout that a reading costs: a value and, priced like two, its derivative."""


@dataclass
class Seen:
    """Record of the tap of a perturbed pass on a run of examples.

    Args:
        cut: whether the graph is cut at every site, and its edges are noted there.
        on: site name to whether each unit is on; None where it is not noted.
        edges: edges of the graph at the perturbed sites.

    Example:
        >>> seen = Seen(cut=True, on={})
        >>> seen.on["l0"] = torch.ones(5, 4).bool()
        >>> sorted(seen.on), seen.edges
        (['l0'], {})
    """

    cut: bool
    on: dict[str, Tensor] | None
    edges: dict[str, Any] = field(default_factory=dict)


class Window:
    """The window of one objective on one batch, passed through clean, perturbed, recorded or in reverse.

    It is the machinery of a view (:mod:`fgbench.core.oracles`), and no oracle: of what it does only value
    passes are priced here; slopes, pulls and reverse passes are priced by the view.

    Args:
        chain: the network.
        objective: the window, its readout and what it updates.
        start: the window's input, the recorded clean activity ``[b, ...]``.
        labels: ``[b]``, or :class:`fgbench.core.targets.Targets`.
        ledger: where value passes are priced.
        params: parameters by qualified name that replace the chain's own.
        boundaries: numbers of modules whose input another objective starts from.
        held: predictions that a readout which ``holds`` compares with; its own where None.
        clock: how far the training has come.
        outs: site name to a value that takes the place of its ``out``: what follows starts from it.
        again: whether it is made of another window, perhaps while parameters are moved in place.

    Attributes:
        outs: those values.
        boundaries: those numbers.
        labels: the targets alone.
        targets: the targets, with what the locality gives beside them.
        outputs: clean outputs at the boundaries that a pass has met, by number of the module that starts
            there.
        moved: the parameters that replace the chain's own.
        readout_share: operations of one pass through the readout, in passes of the body.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.cost import CostCounter
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> first = Objective("first", (0, 1), "final", (0,))
        >>> window = Window(chain, first, torch.ones(5, 1, 2, 2), torch.arange(5) % 3, CostCounter())
        >>> tuple(window.output().shape), dict(window.sites)
        ((5, 4), {'body.0.l0': (5, 4)})
    """

    def __init__(
        self,
        chain: Chain,
        objective: Objective,
        start: Any,
        labels: Any,
        ledger: CostCounter,
        params: Mapping[str, Tensor] | None = None,
        boundaries: frozenset[int] = frozenset(),
        held: Tensor | None = None,
        clock: Clock = START,
        outs: Mapping[str, Tensor] | None = None,
        again: bool = False,
    ) -> None:
        self.chain, self.objective, self.clock = chain, objective, clock
        self.outs = dict(outs or {})
        self.start, self.ledger = start, ledger
        self.targets, self.labels = labels, labels_of(labels)
        self.outputs: dict[int, Any] = {}
        leaves = {id(p): p.detach().requires_grad_() for p in (params or {}).values()}
        self.moved = {name: leaves[id(p)] for name, p in (params or {}).items()}  # ties stay tied
        self.boundaries = boundaries
        self._held = held
        self._as_it_is = not (again or self.moved or self.outs)
        self._acts: dict[str, Tensor] = {}
        self._on: dict[str, Tensor] = {}
        self._wanted: dict[
            str, dict[str, Tensor]
        ] = {}  # values at taps of a kind that was asked for
        first, stop = objective.window
        self.readout_share = chain.readout_share(objective.readout, stop - 1)
        self._rectified = frozenset(
            n for n in chain.rectified() if first <= chain.index[n][0] < stop
        )
        self._edges: dict[str, list[Any]] = {}  # one per run of examples
        self._f: Tensor | None = None
        self._read: Reading | None = None
        self._tapes: dict[tuple[str, int], Tape] = {}

    # what there is

    @property
    def share(self) -> float:
        """Share of the body's operations in this window."""
        first, stop = self.objective.window
        return sum(self.chain.shares()[first:stop])

    @property
    def sites(self) -> PerExample:
        """Sites of the updated modules and those that share their parameters: name to shape ``[b, ...]``."""
        shapes, updates = self.chain.shapes(), self.objective.updates
        among = {*updates, *self.chain.sharing(updates, self.objective.window)}
        own = (n for n, (k, _) in self.chain.index.items() if k in among)
        return PerExample(
            ((name, (len(self.start), *shapes[name])) for name in own), self.objective.repeats
        )

    @property
    def params(self) -> dict[str, Tensor]:
        """Parameters of the updated modules by qualified name."""
        own = self.chain.body_parameters(self.objective.updates)
        return {name: self.moved.get(name, p) for name, p in own.items()}

    @property
    def kept(self) -> str:
        """Axes along which this objective's scores stay separate."""
        return self.objective.kept(self.chain)

    def output(self) -> Tensor:
        """Return the clean output of the window, the readout's input."""
        self.clean()
        assert self._f is not None
        return self._f

    def activities(self, kind: str = "out") -> dict[str, Tensor]:
        """Return the clean value at every tap of a kind in the window, by name.

        Those at ``out`` are kept from the clean pass. Others take a pass of their own where that has run.
        """
        if kind != "out":
            return self._values(kind)
        if not self._acts and self._f is not None:
            self.tape("params")
        self.clean()
        return self._acts

    def _values(self, kind: str) -> dict[str, Tensor]:
        """Return the values at taps of a kind, from the clean pass where that has not run yet."""
        if kind not in KINDS:
            raise unknown("kind of tap", kind, KINDS)
        if kind not in self._wanted:
            first = self._f is None
            self._wanted[kind] = {}
            if first:
                self.clean()
            else:
                with torch.no_grad(), self.in_place():
                    self._walk(self._note)
                self.ledger.forwards += self.share
        return self._wanted[kind]

    def masks(self) -> dict[str, Tensor]:
        """Return whether each unit is on: of sites that only a ReLU reads, whether it is not 0."""
        if self._rectified and not self._on and self._f is not None:
            self.tape("params")
        self.clean()
        return self._on

    # names that callers give

    def check_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse names that are no parameters of the window's modules or its readout."""
        if not weights:
            return
        inside = self.chain.body_parameters(range(*self.objective.window))
        for name in weights:
            if name not in inside and name not in self.heads():
                raise unknown(self._of("weight"), name, [*inside, *self.heads()])

    def check_outs(self, outs: Mapping[str, Tensor]) -> None:
        """Refuse values for names that are no sites of the window, or of another shape than the site."""
        first, stop = self.objective.window
        shapes, index = self.chain.shapes(), self.chain.index
        inside = {
            name: (len(self.start), *shapes[name])
            for name, (k, _) in index.items()
            if first <= k < stop
        }
        for name, out in outs.items():
            if name not in inside:
                raise unknown(self._of("site"), name, inside)
            if tuple(out.shape) != inside[name]:
                got, want = list(out.shape), list(inside[name])
                raise UsageError(
                    f"the value for the out of {name} has shape {got}, expected {want}"
                )

    def along(self, directions: Directions) -> bool:
        """Return whether directions run along sites of the window, False for updated parameters.

        Raises:
            UsageError: for a place that is neither, or directions of another shape.
        """
        first, stop = self.objective.window
        if on_sites := all(name in self.chain.index for name in directions.names):
            size, index = len(self.start), self.chain.index
            inside = [name for name, (k, _) in index.items() if first <= k < stop]
            shapes = {name: (size, *self.chain.shapes()[name]) for name in inside}
        else:
            shapes = {name: tuple(p.shape) for name, p in self.params.items()}
        kind = self._of("site" if on_sites else "updated parameter")
        for name, shape in directions.shapes.items():
            if name not in shapes:
                raise unknown(kind, name, shapes)
            if tuple(shape) != shapes[name]:
                want, got = list(shapes[name]), list(shape)
                raise UsageError(f"directions along {name} have shape {got}, expected {want}")
        return on_sites

    def _of(self, kind: str) -> str:
        """Return what was named, for an error."""
        return f"{kind} of objective {self.objective.name!r}"

    # how the batch goes through

    def in_place(self) -> Any:
        """Replace the chain's parameters by the moved ones inside the block, where there are any."""
        return swapped(self.chain, self.moved) if self.moved else nullcontext()

    def _clean_pass(self) -> Any:
        """Return a context for a pass of values as they are, whose writes into buffers may be kept."""
        return self.chain.clean_pass() if self._as_it_is else nullcontext()

    @cached_property
    def runs(self) -> tuple[slice, ...]:
        """Cut the batch into the runs of examples that pass through the window together."""
        first, stop = self.objective.window
        if self.chain.whole:
            return (slice(0, len(self.start)),)
        shapes, index = self.chain.shapes(), self.chain.index
        inside = [torch.Size(shapes[name]) for name, (k, _) in index.items() if first <= k < stop]
        largest = max((shape.numel() for shape in inside), default=0)
        return microbatch.cut(
            len(self.start), largest * self.start.element_size(), self.start.device
        )

    def chunk(self, on_sites: bool) -> int:
        """Return how many directions travel at once: as many as fit the cache, or fill a GPU."""
        if self.start.device.type == "cuda":
            return max(1, 8192 // len(self.start)) if on_sites else 4
        largest = max((torch.Size(shape).numel() for shape in self.sites.values()), default=1)
        size = int(self.start.element_size())
        if on_sites:
            return max(1, (1 << 23) // (largest * size))
        each = largest + sum(p.numel() for p in self.params.values())
        return max(4, (1 << 23) // (each * size))

    def _walk(self, tap: Any, run: slice = ALL, aside: dict[int, Any] | None = None) -> Any:
        """Run examples through the window, recording the outputs that other objectives start from.

        Args:
            tap: of the pass.
            run: of the examples.
            aside: receives the outputs of the modules whose numbers it has; without it, losses that are
                added on the way are refused.

        Returns:
            The output, a tensor or a Dual.
        """
        if aside is None and self.objective.aside:
            raise UsageError(
                f"objective {self.objective.name!r} adds losses on the way, whose sum has no slopes and no "
                "values here: only backprop takes its gradient, in one pass"
            )
        first, stop = self.objective.window
        tap = self._clamping(tap, run)
        x = self.start[run]
        f: Any = self.chain.entry(x) if first == stop else x
        for k, f in self.chain.segments(x, first, stop, tap, self.boundaries):
            if aside is not None and k in aside:
                aside[k] = f
            if k + 1 in self.boundaries and k + 1 < stop:
                left = self.chain.leave(x, k + 1, value(f).detach())
                microbatch.put(self.outputs, k + 1, left, run, len(self.start))
        return f

    def _clamping(self, tap: Any, run: slice = ALL) -> Any:
        """Return a tap after which the given values stand at an ``out``; the tap itself without them."""
        if not self.outs:
            return tap

        def clamped(kind: str, name: str, z: Any, /) -> Any:
            z = tap(kind, name, z)
            return self.outs[name][run] if kind == "out" and name in self.outs else z

        return clamped

    def _arrive(self, f: Tensor) -> None:
        """Record the clean output of the window."""
        self._f, stop = f, self.objective.window[1]
        if stop in self.boundaries:
            self.outputs[stop] = self.chain.leave(self.start, stop, f)

    def _note(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Record the clean value at every ``out``, and which units are on."""
        if kind == "out":
            self._acts[name] = z.detach()
            if name in self._rectified:
                self._on[name] = self._acts[name].bool()  # not 0, and faster than asking so
        if kind in self._wanted:
            self._wanted[kind][name] = z.detach()
        return z

    def clean(self) -> None:
        """Run the clean pass unless it has run; its graph, cut at every ``out``, serves later pulls."""
        if self._f is None and self.objective.updates:
            self.tape("params")
        elif self._f is None:
            with torch.no_grad(), self.in_place(), self._clean_pass():
                self._arrive(self._walk(self._note).detach())
            self.ledger.forwards += self.share

    def pass_values(self) -> None:
        """Run the clean pass for its output alone, unless it has run: no graph and no activities are kept."""
        if self._f is None:
            self._pass_values()

    def _pass_values(self) -> None:
        """Run a clean pass that keeps its output, and where windows of other objectives begin."""
        whole: Grads = {}
        with torch.no_grad(), self.in_place(), self._clean_pass():
            for run in self.runs:
                f = self._walk(untouched, run).detach()
                microbatch.put(whole, "f", f, run, len(self.start))
        self._arrive(whole["f"])
        self.ledger.forwards += self.share

    def begins_at(self, k: int) -> Any:
        """Return where the window begins from module k on, from a pass of values that records it."""
        if k not in self.outputs:
            self.boundaries |= {k}
            self._pass_values()
        return self.outputs[k]

    def values(self, held: Tensor | None = None) -> Tensor:
        """Return the loss of each example from a pass of values, ``[b]``; nothing is differentiated.

        Args:
            held: predictions that a readout which ``holds`` compares with; its own where None.
        """
        self.pass_values()
        f = self.output()
        with torch.no_grad(), self.in_place():
            parts = [self.chain.read(self.objective.readout, f[run]) for run in self.runs]
            self.ledger.readouts += self.readout_share
            return self.losses_of(microbatch.join(parts), held)

    @property
    def losses_read(self) -> Tensor | None:
        """The loss of each example if it is known already, ``[b]``."""
        return None if self._read is None else self._read.losses

    def shift(self, directions: Directions, row: int, scale: float) -> None:
        """Move the parameters in place by scale × one direction, drawn piece by piece."""
        params = self.params
        with torch.no_grad():
            for name in directions.names:
                p = params[name]
                for at, piece in directions.pieces(name, row, piece_of(p)):
                    p[at].add_(piece, alpha=scale)

    def tape(self, cut: str, weights: Mapping[str, Tensor] | None = None) -> Tape:
        """Record the window's graph with these cuts and weights, once."""
        self.check_weights(weights or {})
        key = (cut, id(weights))
        if key not in self._tapes:
            tape = Tape(cut, weights)
            clean = self._clean_pass() if weights is None else nullcontext()
            with torch.enable_grad(), self.in_place(), clean:
                tape.record(self.chain, self.objective, self._noted_walk, self.losses_of)
            self._arrive(tape.output)
            passes = 1 if weights is None else 2
            self.ledger.forwards += self.share * passes
            self.ledger.readouts += self.readout_share * passes
            self._tapes[key] = tape
        return self._tapes[key]

    def _noted_walk(self, tap: Any) -> Tensor:
        """Run the window under a tap, noting the clean ``out`` of every site."""

        def noting(kind: str, name: str, z: Tensor, /) -> Tensor:
            z = tap(kind, name, z)
            return self._note(kind, name, z)

        f: Tensor = self._walk(noting)
        return f

    def push(
        self, u: Mapping[str, Tensor], on_sites: bool, record: bool, enters: str = "site"
    ) -> list[Tensor]:
        """Push directions through the window once; return the tangents at its output by runs.

        Args:
            u: directions by site or parameter, ``[n, ...]``.
            on_sites: whether they are by site.
            record: whether the graph is recorded, cut at every site, for a pull.
            enters: kind of tap at which those by site are added: ``site``, or ``out`` without a record.

        Returns:
            ``[n, run, ...]`` for each run of examples.
        """
        if self.chain.by_forward_ad:
            return self._push_by_forward_ad(u, on_sites, record, enters)
        clean, size = self._f is None, len(self.start)
        moved: dict[str, Any] = dict(self.moved)
        if not on_sites:
            own = self.params
            moved |= {n: Dual(own[n].detach(), t) for n, t in u.items()}
        whole: Grads = {}
        found = []
        with torch.set_grad_enabled(record), swapped(self.chain, moved):
            for run in self.runs:
                here = {n: t[:, run] for n, t in u.items()} if on_sites else {}
                seen = Seen(cut=record, on={} if clean and on_sites else None)
                f = self._walk(self._perturbing(here, seen, enters=enters), run)
                found.append(_tangents(f, u))
                for name, edge in seen.edges.items():
                    self._edges.setdefault(name, []).append(edge)
                if clean:
                    microbatch.put(whole, "f", value(f).detach(), run, size)
                    for name, on in (seen.on or {}).items():
                        microbatch.put(self._on, name, on, run, size)
        if clean:
            self._arrive(whole["f"])
            self.ledger.forwards += self.share
        return found

    def _push_by_forward_ad(
        self, u: Mapping[str, Tensor], on_sites: bool, record: bool, enters: str = "site"
    ) -> list[Tensor]:
        """Push directions through the window by torch's forward mode, after a pass that notes the rest."""
        if self._f is None or record:
            seen = Seen(cut=record, on={} if self._f is None and on_sites else None)
            with torch.set_grad_enabled(record), swapped(self.chain, self.moved):
                f = self._walk(self._perturbing({}, seen, at=u if on_sites else ()))
            for name, edge in seen.edges.items():
                self._edges.setdefault(name, []).append(edge)
            if self._f is None:
                self._on.update(seen.on or {})
                self._arrive(f.detach())
                self.ledger.forwards += self.share
        return [self._tangents_by_forward_ad(u, on_sites, enters)]

    def _tangents_by_forward_ad(
        self, u: Mapping[str, Tensor], on_sites: bool, enters: str = "site"
    ) -> Tensor:
        """Return the tangents at the window's output by torch's forward mode, one pass per direction."""
        with swapped(self.chain, self.moved):
            found: Tensor = forward_ad.tangents(
                lambda tap: self.chain.run(self.start, *self.objective.window, self._clamping(tap)),
                self.chain,
                sites=u if on_sites else None,
                parameters=None if on_sites else u,
                kinds=(enters,),
            )
        return found

    def perturbed_runs(
        self, directions: Directions, into: str
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Seen]]:
        """Push directions along sites through the window, one run of examples after the other.

        Each run has a graph, cut at the sites. Once all runs have passed, the clean output and the reading
        are noted.

        Args:
            directions: along sites.
            into: where edges are noted: at the ``site``, or at the ``op`` before it.

        Yields:
            The run's directions ``[n, run, ...]`` by site, its slopes ``[n, run, ...]``, and what the pass
            noted.
        """
        ends: Grads = {}
        readings = []
        for run, u in zip(self.runs, directions.runs(self.runs), strict=True):
            seen = Seen(cut=True, on={})
            carried = {} if self.chain.by_forward_ad else u
            tap = self._perturbing(carried, seen, into, at=u)
            reading, slopes = self._probed(u, run, tap, ends)
            readings.append(reading)
            yield u, slopes, seen
        self.ledger.forwards += self.share if self._f is None else 0.0
        self.ledger.readouts += READING * self.readout_share
        self._arrive(ends["f"])
        self._read = joined(readings)

    def note_programs(self, what: str, found: Sequence[LeftBehind], runs: Sequence[slice]) -> None:
        """Note what compiled passes of runs of examples left: the clean output, the reading, other starts.

        They are priced as the usual ones: reverse runs forward anew, and slopes use a reading that is there.

        Args:
            what: which pass.
            found: what each left.
            runs: the runs.
        """
        ends: Grads = {}
        for run, one in zip(runs, found, strict=True):
            microbatch.put(ends, "f", one.output, run, len(self.start))
            for k, f in one.outputs.items():
                microbatch.put(self.outputs, k, f, run, len(self.start))
        if self._f is None or what == "reverse":
            self.ledger.forwards += self.share
        if self._read is None or what != "slopes":
            self.ledger.readouts += READING * self.readout_share
        self._arrive(ends["f"])
        self._read = joined([one.reading for one in found])

    def _probed(
        self, u: Mapping[str, Tensor], run: slice, tap: Any, ends: Grads
    ) -> tuple[Reading, Tensor]:
        """Return the reading of a run of examples under a perturbing tap, without df, and its slopes."""

        def losses_of(prediction: Tensor) -> Tensor:
            return self.losses_of(prediction, run=run)

        size = len(self.start)
        with torch.enable_grad(), swapped(self.chain, self.moved):
            f = self._walk(tap, run)
            point = value(f).detach()
            microbatch.put(ends, "f", point, run, size)
            reading = read(self.chain, self.objective, point, losses_of, (ALL,), of=size)
        ad = self.chain.by_forward_ad
        change = self._tangents_by_forward_ad(u, on_sites=True) if ad else _tangents(f, u)
        return replace(reading, df=()), self._scores([change], reading.df)

    def _perturbing(
        self,
        u: Grads,
        seen: Seen,
        into: str = "site",
        at: Collection[str] | None = None,
        enters: str = "site",
    ) -> Any:
        """Return the tap that adds directions to the tangents of the sites, for one run of examples.

        Args:
            u: directions by site.
            seen: where edges and masks are noted.
            into: kind of place whose edges are noted.
            at: sites whose edges are noted; those of the directions where None.
            enters: kind of tap at which directions are added.

        Returns:
            The tap.
        """
        noted = u if at is None else at

        def tap(kind: str, name: str, z: Any, /) -> Any:
            if kind == "out" and seen.on is not None and name in self._rectified:
                seen.on[name] = value(z).detach().bool()  # not 0, and faster than asking so
            if kind == into and name in noted and seen.cut and value(z).requires_grad:
                seen.edges[name] = get_gradient_edge(value(z))
            if kind != enters or (name not in u and not seen.cut):
                return z
            v, t = value(z), plus(part(z), u.get(name))
            return v.detach() if t is None else Dual(v.detach(), t)  # cut: a pull stops at any site

        return tap

    # what is read at the end

    def reading(self) -> Reading:
        """Return predictions, losses and derivatives at the clean output, computed once."""
        if self._read is None:
            f = self.output()
            with self.in_place():
                self._read = read(self.chain, self.objective, f, self.losses_of, self.runs)
            self.ledger.readouts += READING * self.readout_share
        return self._read

    def heads(self) -> dict[str, Tensor]:
        """Return the parameters of the readout by qualified name."""
        own = self.chain.readout_parameters(self.objective.readout)
        return {name: self.moved.get(name, p) for name, p in own.items()}

    def losses_of(self, prediction: Tensor, held: Tensor | None = None, run: slice = ALL) -> Tensor:
        """Return the loss of each example; predictions that the readout holds stay fixed."""
        return self._losses_by(self.objective.readout, prediction, held, run)

    def _losses_by(
        self, name: str, prediction: Tensor, held: Tensor | None = None, run: slice = ALL
    ) -> Tensor:
        """Return the loss of each example by a readout, with the part of the batch that it needs."""
        readout = self.chain.readout(name)
        held = self._held if held is None else held
        labels = microbatch.rows(self.labels, run)
        if not readout.needs and held is None:
            return readout.losses(prediction, labels)
        clean = None if held is None else held[run]
        if not readout.needs:
            return readout.losses(prediction, labels, clean)
        given = given_of(self.targets)
        if readout.needs not in given:
            raise UsageError(
                f"readout {name!r} compares with the {readout.needs} of every example, which batches of this "
                "kind do not bring: use the batches that its locality makes"
            )
        losses: Callable[..., Tensor] = readout.losses
        return losses(prediction, labels, clean, given[readout.needs][run])

    def clean_held(self) -> Tensor | None:
        """Return the predictions that stay fixed while the network moves, None where there are none."""
        if self._held is None and self.chain.readout(self.objective.readout).holds:
            return self.reading().prediction
        return self._held

    def df(self) -> tuple[Tensor, ...]:
        """Return the derivative of weight · mean loss with respect to the readout's input, by runs."""
        if not self.reading().df:
            self._read = None
        return self.reading().df

    def _scores(self, change: Sequence[Tensor], df: Sequence[Tensor] | None = None) -> Tensor:
        """Partition ⟨change, ∂loss/∂f⟩, given by runs, over the kept axes: ``[n, kept...]``."""
        have = self.chain.module(self.objective.window[1] - 1).out_axes
        if self.chain.readout(self.objective.readout).coupled:
            kept = set(axes.names(self.kept)) - {"b"}
            apart = [i + 1 for i, a in enumerate(axes.names(have)) if a in kept]
            return self._coupled(microbatch.join(change, 1), apart)
        return partition(change, self.df() if df is None else df, have, self.kept)

    def _coupled(self, change: Tensor, apart: list[int]) -> Tensor:
        """Compute the slope of every example's loss along the change in one cell of all examples."""
        found = []
        for cell in product(*(range(change.shape[i]) for i in apart)):
            own = change
            for i, at in zip(apart, cell, strict=True):
                one = torch.arange(change.shape[i], device=change.device) == at
                own = own * one.view(-1, *[1] * (change.dim() - 1 - i))
            with torch.no_grad(), self.in_place():
                moving: Any = Dual(self.output(), own)
                losses = self.losses_of(self.chain.read(self.objective.readout, moving))
            self.ledger.readouts += (1 + len(change)) * self.readout_share
            slopes = part(losses)
            assert slopes is not None
            found.append(slopes * (self.objective.weight / slopes.shape[1]))
        rows = torch.stack(found, 2)
        return rows.view(*rows.shape[:2], *(change.shape[i] for i in apart))

    # what an oracle is made of

    def slopes(self, u: Mapping[str, Tensor], on_sites: bool) -> Tensor:
        """Return the exact slopes along directions that travel at once: ``[n, kept...]``.

        A pass along sites records its graph for :meth:`pull`, unless one is recorded.
        """
        return self._scores(self.push(u, on_sites, record=on_sites and not self._edges))

    def differences(self, directions: Directions, step: float, on_sites: bool) -> Tensor:
        """Return forward differences, one direction at a time, from the clamped start: ``[n, kept...]``."""
        clean, held = self.output(), self.clean_held()
        own = {} if on_sites else self.params
        found = []
        for row in range(directions.n):
            u = {name: directions.rows(name, row, row + 1)[0] for name in directions.names}

            def tap(kind: str, name: str, z: Tensor, /, u: Grads = u) -> Tensor:
                return z + step * u[name] if kind == "site" and name in u else z

            moved = dict(self.moved)
            if not on_sites:
                moved |= {name: own[name] + step * u[name] for name in u}
            with torch.no_grad(), swapped(self.chain, moved):
                entering = self._clamping(tap if on_sites else untouched)
                f = self.chain.run(self.start, *self.objective.window, entering)
                self.ledger.forwards += self.share
                found.append(self._change(f, clean, held, step))
        return torch.stack(found)

    def perturbed(self, directions: Directions, row: int, step: float, graph: bool) -> Perturbed:
        """Run one pass with noise at the sites, see :meth:`fgbench.core.view.View.perturbed`."""
        if not self.along(directions):
            raise UsageError("a noisy pass takes noise on sites, got directions along parameters")
        u = {name: directions.rows(name, row, row + 1)[0] for name in directions.names}
        held, readout = self.clean_held(), self.objective.readout
        values: dict[Place, Tensor] = {}
        kept: list[Tensor] = []

        def noisy(tap: Any) -> Any:
            def into(kind: str, name: str, z: Tensor, /) -> Tensor:
                z = tap(kind, name, z)
                if kind == "site" and name in u:
                    z = z + step * u[name]
                values[kind, name] = z.detach()
                return z

            return into

        def walk(tap: Any) -> Tensor:
            entering = self._clamping(noisy(tap))
            return self.chain.run(self.start, *self.objective.window, entering)

        def losses_of(prediction: Tensor) -> Tensor:
            losses = self.losses_of(prediction, held)
            kept.append(losses.detach())
            return losses

        tape = Tape("params", None) if graph else None
        with torch.set_grad_enabled(graph), self.in_place():
            if tape is None:
                losses_of(self.chain.read(readout, walk(untouched)))
            else:
                tape.record(self.chain, self.objective, walk, losses_of)
        self.ledger.forwards += self.share
        self.ledger.readouts += self.readout_share
        return Perturbed(kept[-1], values, tape, self.params, self.ledger, self.share)

    def site_tangents(self, u: Mapping[str, Tensor], one_layer: bool) -> dict[Place, Tensor]:
        """Push directions at sites and note tangents, see :meth:`fgbench.core.view.View.site_tangents`."""
        if self.chain.by_forward_ad:
            raise UsageError(
                "tangents inside this network cannot be read: Duals do not travel through it"
            )
        found: dict[Place, Tensor] = {}

        def tap(kind: str, name: str, z: Any, /) -> Any:
            if kind == "op":
                return z
            t = part(z)
            if kind == "out":
                if t is not None:
                    found[kind, name] = t
                return z
            on = plus(None if one_layer else t, u.get(name))
            if (noted := t if one_layer else on) is not None:
                found[kind, name] = noted
            return value(z) if on is None else Dual(value(z), on)

        with torch.no_grad(), swapped(self.chain, self.moved), OperationCounter() as counter:
            f: Any = self.chain.run(self.start, *self.objective.window, self._clamping(tap))
            if (t := part(f)) is not None:
                found["output", ""] = t
                read = part(self.chain.read(self.objective.readout, f))
                if read is not None:
                    found["readout", self.objective.readout] = read
        body = self.chain.operations() * len(self.start)
        self.ledger.forwards += self.share
        self.ledger.slopes += max(counter.number / body - self.share, 0.0) if body else 0.0
        return found

    def inputs(self) -> dict[str, WeightInput]:
        """Return the inputs of the updated weights, from a pass of its own."""
        self.ledger.forwards += self.share

        def run(x: Any) -> Any:
            return self.chain.run(x, *self.objective.window, self._clamping(untouched))

        with self.in_place():
            return weight_inputs(run, self.start, self.params)

    def push_apart(self, each: Callable[[int], Mapping[str, Tensor]]) -> list[Tensor]:
        """Push every example along weight directions of its own; return the tangents at its output.

        Args:
            each: from the number of an example to its directions ``[n, *place]`` by parameter.

        Returns:
            ``[n, 1, ...]`` for every example.
        """
        clean, size, own = self._f is None, len(self.start), self.params
        whole: Grads = {}
        found = []
        for i in range(size):
            run, u = slice(i, i + 1), each(i)
            moved: dict[str, Any] = dict(self.moved)
            moved |= {n: Dual(own[n].detach(), t) for n, t in u.items()}
            with torch.no_grad(), swapped(self.chain, moved):
                f = self._walk(untouched, run)
            found.append(_tangents(f, u))
            if clean:
                microbatch.put(whole, "f", value(f).detach(), run, size)
        if clean:
            self._arrive(whole["f"])
            self.ledger.forwards += self.share
        return found

    def slopes_apart(self, each: Callable[[int], Mapping[str, Tensor]]) -> Tensor:
        """Return the exact slope of every example along its own weight directions: ``[n, kept...]``."""
        change = self.push_apart(each)
        df = microbatch.join(self.df())
        return self._scores(change, [df[i : i + 1] for i in range(len(df))])

    def differences_apart(
        self, each: Callable[[int], Mapping[str, Tensor]], n: int, step: float
    ) -> Tensor:
        """Return the forward difference of every example along its own weight directions: ``[n, kept...]``.

        Args:
            each: from the number of an example to its directions ``[n, *place]`` by parameter.
            n: number of directions.
            step: length of the difference.
        """
        clean, held, own = self.output(), self.clean_held(), self.params
        ends: list[list[Tensor]] = [[] for _ in range(n)]
        for i in range(len(self.start)):
            run, u = slice(i, i + 1), each(i)
            entering = self._clamping(untouched, run)
            for row, end in enumerate(ends):
                moved = {**self.moved, **{name: own[name] + step * u[name][row] for name in u}}
                with torch.no_grad(), swapped(self.chain, moved):
                    end.append(self.chain.run(self.start[run], *self.objective.window, entering))
        self.ledger.forwards += n * self.share
        with torch.no_grad(), self.in_place():
            found = [self._change(torch.cat(end), clean, held, step) for end in ends]
        return torch.stack(found)

    def _change(self, f: Tensor, clean: Tensor, held: Tensor | None, step: float) -> Tensor:
        """Return the scores of a perturbed output: of the losses, or of the output where more is kept."""
        if self.kept != "b":
            change = ((f - clean) / step).unsqueeze(0)
            return self._scores([change[:, run] for run in self.runs])[0]
        self.ledger.readouts += self.readout_share
        prediction = self.chain.read(self.objective.readout, f)
        change = (self.losses_of(prediction, held) - self.reading().losses) / step
        return change * (self.objective.weight / len(change))

    def pull(
        self,
        places: Mapping[Place, Tensor],
        to: str = "params",
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[Any, Tensor]:
        """Pull cotangents back through one segment, see :meth:`fgbench.core.view.View.pull`.

        The graph that the last pass along sites recorded serves where it can, and is freed.

        Args:
            places: (kind, name) to cotangent.
            to: ``params``, ``taps`` or ``sites``.
            weights: replace the weights of the operations crossed.

        Returns:
            Parameter name to gradient, or (kind, name) to cotangent.
        """
        recorded = all(kind == "site" and name in self._edges for kind, name in places)
        if to == "params" and weights is None and recorded:
            return self._pull_recorded({name: c for (_, name), c in places.items()})
        tape = self.tape(to, weights)
        with no_reverse.opened():
            return tape.pull(places, self.params if to == "params" else None)

    def _pull_recorded(self, credit: Grads) -> Grads:
        """Pull credit back from the sites that the last push recorded, which frees their graphs."""
        params = self.params
        total: Grads = {}
        for i, run in enumerate(self.runs):
            edges = {name: self._edges[name][i] for name in credit}
            gradients.add(total, pulled(edges, {n: c[run] for n, c in credit.items()}, params))
        self._edges = {}
        return complete(params, total)

    def reverse(self) -> Grads:
        """Return the gradient of the objective from one pass in reverse, noting the clean values."""
        params = self.params
        aside, heads = self.objective.aside, self.heads()
        shares = self.readout_share
        for name, k in aside:
            own_params = self.chain.readout_parameters(name)
            heads |= {n: self.moved.get(n, p) for n, p in own_params.items()}
            shares += self.chain.readout_share(name, k)
        with torch.enable_grad(), self.in_place():
            between: dict[int, Any] = dict.fromkeys(k for _, k in aside)
            with self._clean_pass():
                f = self._walk(untouched, aside=between)
            prediction = self.chain.read(self.objective.readout, f)
            losses = self.losses_of(prediction)
            mean = losses.mean()
            for name, k in aside:
                other = self.chain.read(name, between[k])
                mean = mean + self._losses_by(name, other).mean()
            weight = self.objective.weight
            targets = [*params.values(), *heads.values()]
            found: Sequence[Tensor | None] = [None] * len(targets)
            if mean.requires_grad:  # not where all that the readout reads is given
                scaled = mean if weight == 1.0 else mean * weight
                found = torch.autograd.grad(scaled, targets, allow_unused=True)
        self._arrive(f.detach())
        own = found[len(params) :]
        if weight != 1.0:
            own = [None if g is None else g / weight for g in own]
        self._read = Reading(
            prediction.detach(),
            losses.detach(),
            (),
            complete(heads, dict(zip(heads, own, strict=True))),
        )
        self.ledger.forwards += self.share
        self.ledger.readouts += READING * shares
        return complete(params, dict(zip(params, found, strict=False)))

    def reverse_in_parts(self, stretches: int, parts: int) -> Grads:
        """Return the gradient of the objective as :meth:`reverse` does, with fewer activities held at once.

        Losses of a part are summed and divided by the size of the full batch, so that unequal parts add up to
        the gradient of the mean. Of a part, activities are kept between stretches of modules only; a stretch
        is run again before it is gone through in reverse, the last one excepted.

        Args:
            stretches: how many the window is cut into, at most its modules.
            parts: how many the batch is cut into, at most its examples.

        Returns:
            Gradient by parameter name, of the updated modules.
        """
        size, first, stop = len(self.start), *self.objective.window
        params, heads, weight = self.params, self.heads(), self.objective.weight
        runs = [slice(*between) for between in microbatch.even(0, size, parts)]
        whole: Grads = {}
        read: list[Reading] = []
        with _grad_apart([*params.values(), *heads.values()]):  # added up there, layer by layer
            for run in runs:
                f, own = self._reverse_run(stretches, ALL if len(runs) == 1 else run)
                microbatch.put(whole, "f", f, run, size)
                read.append(own)
            total, ends = ({n: p.grad for n, p in each.items()} for each in (params, heads))
        if weight != 1.0:
            ends = {name: None if g is None else g / weight for name, g in ends.items()}
        self._arrive(whole["f"])
        self._read = replace(joined(read), grads=complete(heads, ends))
        again = self.chain.recomputed(first, stop, stretches) if stretches > 1 else 0.0
        self.ledger.forwards += self.share + again
        self.ledger.readouts += READING * self.readout_share
        return complete(params, total)

    def _reverse_run(self, stretches: int, run: slice) -> tuple[Tensor, Reading]:
        """Add some examples' gradients to ``.grad``; return the output and that part of the reading."""
        window, updates = self.objective.window, self.objective.updates
        ends = self.chain.stretches(*window, stretches)
        starts: list[Any] = [self.chain.part(self.start, run)]
        with torch.no_grad(), self.in_place():
            for a, b in ends[:-1]:
                starts.append(self._stretch(starts[-1], a, b, run))
        back: Tensor | None = None
        for k in reversed(range(len(ends))):
            x = starts.pop()
            if k:
                x = x.detach().requires_grad_()
            own = self.params if len(ends) == 1 else self._own(*ends[k])
            with torch.enable_grad(), self.in_place():
                with self.chain.recomputing(*window, stretches), self._clean_pass():
                    f = self._stretch(x, *ends[k], run)
                if k == len(ends) - 1:
                    prediction = self.chain.read(self.objective.readout, f)
                    losses = self.losses_of(prediction, run=run)
                    end = losses.mean() if run == ALL else losses.sum() / len(self.start)
                    last, own = f.detach(), {**own, **self.heads()}
                    f = end if self.objective.weight == 1.0 else end * self.objective.weight
                further = any(m < ends[k][0] for m in updates)
                targets = [*own.values(), *([x] if further else [])]
                if targets and f.requires_grad:
                    torch.autograd.backward(f, back, inputs=targets)
            back = x.grad if further else None
            if back is None:
                break
        return last, Reading(prediction.detach(), losses.detach(), (), {})

    def _own(self, first: int, stop: int) -> dict[str, Tensor]:
        """Return the updated parameters that modules of a stretch have."""
        here = [k for k in self.objective.updates if first <= k < stop]
        return {name: self.params[name] for name in self.chain.body_parameters(tuple(here))}

    def _stretch(self, x: Any, first: int, stop: int, run: slice) -> Any:
        """Run modules on some examples, recording the outputs that other objectives start from."""
        f: Any = self.chain.entry(x) if first == stop else x
        end, tap = self.objective.window[1], self._clamping(untouched, run)
        for k, f in self.chain.segments(x, first, stop, tap, self.boundaries):
            if k + 1 in self.boundaries and k + 1 < end:
                left = self.chain.leave(x, k + 1, f.detach())
                microbatch.put(self.outputs, k + 1, left, run, len(self.start))
        return f


@contextmanager
def _grad_apart(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let ``.grad`` of tensors begin empty inside the block, and be afterwards what it was."""
    held = [t.grad for t in tensors]
    for t in tensors:
        t.grad = None
    try:
        yield
    finally:
        for t, grad in zip(tensors, held, strict=True):
            t.grad = grad


def _tangents(f: Any, u: Mapping[str, Tensor]) -> Tensor:
    """Return the tangents of an output, 0 where no direction reached it."""
    tangents = part(f)
    if tangents is not None:
        return tangents
    return value(f).new_zeros(len(next(iter(u.values()))), *f.shape)


def pulled(
    edges: Mapping[str, Any], credit: Mapping[str, Tensor], params: Grads
) -> dict[str, Tensor | None]:
    """Return what the credit of a run's sites pulls back to, None where not reached; frees the graph.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> pulled({"l0": get_gradient_edge(3 * w)}, {"l0": torch.ones(2)}, {"w": w})
        {'w': tensor([3., 3.])}
    """
    with no_reverse.opened():
        found = torch.autograd.grad(
            [edges[name] for name in credit],
            list(params.values()),
            list(credit.values()),
            allow_unused=True,
        )
    return dict(zip(params, found, strict=True))
