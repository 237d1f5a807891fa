"""One objective on one batch, answered by forward mode: all oracles, each priced in the ledger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core import axes, gradients, microbatch, projection
from fgbench.core.autodiff.dual import Dual, part
from fgbench.core.clock import START, Clock
from fgbench.core.gradients import Grads, complete
from fgbench.core.oracles import Oracles, live, masked
from fgbench.core.window import Place, Window, pulled
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.axes import Cells
    from fgbench.core.compiled.passes import CompiledPasses
    from fgbench.core.cost import CostCounter
    from fgbench.core.left_behind import LeftBehind
    from fgbench.core.network import Chain
    from fgbench.core.noise.directions import Directions
    from fgbench.core.objective import Objective
    from fgbench.core.oracles import Listener
    from fgbench.core.perturbed import Perturbed
    from fgbench.core.projection import Combine
    from fgbench.core.weight_inputs import WeightInput


class View(Oracles):
    """One objective on one batch: what an estimator sees.

    Args:
        chain: the network.
        objective: the window, its readout and what it updates.
        start: the window's input, the recorded clean activity ``[b, ...]``; never moved by an estimator.
        labels: ``[b]``, or :class:`fgbench.core.targets.Targets`.
        ledger: where calls are priced.
        params: parameters by qualified name that replace the chain's own.
        boundaries: numbers of modules whose input another objective starts from.
        listen: called with the directions and slopes of every exact call, for measuring.
        held: predictions that a readout which ``holds`` compares with; its own where None.
        clock: how far the training has come.
        outs: site name to a value that takes the place of its ``out``, see :meth:`with_`.
        again: whether it is made of another view of the same step.
        compiled: runs passes as compiled programs where they can be; None runs none.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.cost import CostCounter
        >>> from fgbench.core.noise.keyed import Noise
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> end = Objective("end", (0, 2), "final", updates=(0, 1))
        >>> x, labels = Noise(0).normal("x", (5, 1, 2, 2)), torch.tensor([0, 1, 2, 0, 1])
        >>> view = View(chain, end, x, labels, CostCounter())
        >>> u = Noise(0).directions(view.sites, n=2)
        >>> slopes = view.slopes(u)
        >>> tuple(slopes.shape)
        (2, 5)
        >>> sorted(view.pull(view.credit(slopes, u)))  # a forward gradient
        ['body.0.l0.bias', 'body.0.l0.weight', 'body.1.l0.bias', 'body.1.l0.weight']
        >>> view.ledger.slopes, view.ledger.pulls
        (2.0, 1.0)
    """

    def __init__(
        self,
        chain: Chain,
        objective: Objective,
        start: Tensor,
        labels: Tensor,
        ledger: CostCounter,
        params: Mapping[str, Tensor] | None = None,
        boundaries: frozenset[int] = frozenset(),
        listen: Listener | None = None,
        held: Tensor | None = None,
        clock: Clock = START,
        outs: Mapping[str, Tensor] | None = None,
        again: bool = False,
        compiled: CompiledPasses | None = None,
    ) -> None:
        self._compiled = compiled
        self.window = Window(
            chain, objective, start, labels, ledger, params, boundaries, held, clock, outs, again
        )
        self._listen = listen

    def slopes(self, directions: Directions, step: float | None = None) -> Tensor:
        """Return directional derivatives, see :meth:`fgbench.core.oracles.Oracles.slopes`.

        Cost: one slope per direction along sites, two along parameters; with a step one forward pass per
        direction.
        """
        on_sites = self.window.along(directions)
        if step is not None:
            return self.window.differences(directions, step, on_sites)
        found = []
        if on_sites and self._compiled is not None:
            self._compiled.usual(self, "slopes along sites are compiled with their pull alone")
        for _, u in directions.chunks(self.window.chunk(on_sites)):
            programs = None if on_sites else self._programs("slopes", repeat(u))
            if programs is None:
                found.append(self.window.slopes(u, on_sites))
            else:
                found.append(microbatch.join([p.slopes[0] for p in programs], 1))
            self.ledger.slopes += (1 if on_sites else 2) * self.share * len(found[-1])
        slopes = microbatch.join(found)
        if self._listen is not None:
            self._listen(self, directions, slopes)
        return slopes

    def slopes_apart(self, each: Callable[[int], Directions], step: float | None = None) -> Tensor:
        """Return the slope of every example along weight directions of its own.

        Args:
            each: from the number of an example to its directions, n for every one, along updated parameters.
            step: None for the exact derivative, otherwise the length of a forward difference, as for
                :meth:`slopes`.

        Returns:
            ``[n, kept...]``: the score of example b is that along the directions of b.

        Cost: that of :meth:`slopes` along n directions: examples pass one after the other.

        Example:
            >>> from fgbench.core.example_view import example_view
            >>> from fgbench.core.noise.keyed import Noise
            >>> view = example_view()
            >>> u = Noise(0).directions(view.shapes, n=2)
            >>> bool(torch.allclose(view.slopes_apart(lambda i: u), view.slopes(u), atol=1e-6))
            True
        """
        first = each(0)
        if self.window.along(first):
            raise UsageError(
                "examples have weight directions of their own, got directions along sites"
            )

        def of(i: int) -> Grads:
            return each(i).chunk(0, first.n)

        if step is not None:
            return self.window.differences_apart(of, first.n, step)
        self.ledger.slopes += 2 * self.share * first.n
        return self.window.slopes_apart(of)

    def output_tangent(self, directions: Directions, at: str = "site") -> Tensor:
        """Return J·u at the predictions: ``[n, b, k]``.

        Args:
            directions: along sites or along body parameters.
            at: where directions along sites are added: at the ``site``, or at its ``out``, after the
                nonlinearity.

        Raises:
            UsageError: for another place, or for parameters, which have no ``out``.
        """
        on_sites = self.window.along(directions)
        if at not in ("site", "out") or (at == "out" and not on_sites):
            raise UsageError(f"directions along sites enter at 'site' or 'out', got {at!r}")
        found = []
        for _, u in directions.chunks(self.window.chunk(on_sites)):
            tangents = microbatch.join(self.window.push(u, on_sites, record=False, enters=at), 1)
            moving: Any = Dual(self.output(), tangents)
            with torch.no_grad(), self.window.in_place():
                dual = self.chain.read(self.objective.readout, moving)
            self.ledger.readouts += (1 + len(tangents)) * self.window.readout_share
            found.append(part(dual))
            self.ledger.slopes += (1 if on_sites else 2) * self.share * len(tangents)
        return torch.cat([t for t in found if t is not None])

    def probe(
        self,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None,
        into: str = "site",
        combine: Combine = "mean",
    ) -> Grads:
        """Return the gradients that directions along sites give: their slopes, credit, and its pull.

        The result is that of :meth:`slopes`, :meth:`credit` and :meth:`pull` in turn. Examples are
        independent, so a run of them is pushed, scored, credited and pulled before the next, and neither
        graph nor directions nor credit is ever held for the full batch. Where a loss compares an example
        with others, held or moving, the three are called for the full batch.

        Args:
            directions: along sites.
            cells: which scores credit a place; :meth:`cells` unless given.
            weigh: from exact slopes ``[n, run, ...]`` to the numbers that are credited, example by
                example; the slopes themselves unless given.
            into: where the credit of a site is pulled from: the ``site``, or the ``op`` before it.
            combine: ``mean`` or ``project``, as of :meth:`credit`.

        Returns:
            Gradient by parameter name.

        Cost: that of the three.
        """
        self.window.along(directions)
        meet, weigh = cells or self.cells, weigh or _same
        readout = self.chain.readout(self.objective.readout)
        compares = readout.holds or readout.coupled  # what it compares with lies in other runs
        if compares or not all("b" in meet(name).shared for name in directions.names):
            credit = self.credit(weigh(self.slopes(directions)), directions, meet, combine)
            return self.pull({(into, name): c for name, c in credit.items()})
        params = self.params
        total: Grads = {}
        every: list[Tensor] = []
        settings = (meet, weigh, into, combine)
        programs = self._programs("probe", directions.runs(self.window.runs), settings)
        if programs is None:
            parts = self._probed(directions, *settings)
        else:
            parts = ((p.slopes[0], p.answer) for p in programs)
        for slopes, grads in parts:
            every.append(slopes)
            gradients.add(total, grads)
        self.ledger.slopes += self.share * directions.n
        self.ledger.pulls += self.share
        if self._listen is not None:
            self._listen(self, directions, microbatch.join(every, 1))
        return complete(params, total)

    def _probed(
        self,
        directions: Directions,
        meet: Callable[[str], Cells],
        weigh: Callable[[Tensor], Tensor],
        into: str,
        combine: Combine,
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor | None]]]:
        """Yield the slopes of every run of examples and the gradients that they give."""
        for u, slopes, seen in self.window.perturbed_runs(directions, into):
            weighed, credit, on = weigh(slopes), Grads(), seen.on or {}
            numbers: Grads = {}
            if combine == "project":
                own = {name: meet(name) for name in u}
                with self.counted():
                    numbers = projection.coefficients(weighed, u.__getitem__, own, on)
            for name in seen.edges:
                v, at = u.pop(name), meet(name)
                if combine == "project":
                    credit[name] = live(axes.combined(numbers[name], v, at), on.get(name))
                else:
                    c = masked(weighed, v, at, on.get(name))
                    credit[name] = c if directions.n == 1 else c.div_(directions.n)
            yield slopes, pulled(seen.edges, credit, self.params)

    def perturbed(
        self, directions: Directions, row: int, step: float, graph: bool = False
    ) -> Perturbed:
        """Return the losses and activities of one pass with noise at the sites.

        Args:
            directions: along sites.
            row: index of the direction.
            step: its factor.
            graph: whether the pass can pull credit at its own, noisy activities.

        Returns:
            What the pass left behind.

        Cost: one forward pass; one pull for each that is asked for.
        """
        return self.window.perturbed(directions, row, step, graph)

    def site_tangents(self, directions: Directions, one_layer: bool = False) -> dict[Place, Tensor]:
        """Return the tangents that directions along sites give at all sites and at the predictions.

        Args:
            directions: along sites.
            one_layer: whether the tangent that arrives at a site ends there, so that each direction goes one
                layer on; it is then noted without the direction of that site itself.

        Returns:
            ("site", name) to ``[n, b, ...]`` where any tangent is; likewise ("out", name), ("output", "") at
            the readout's input and ("readout", name) at its predictions.

        Cost: one forward pass, and the products that the tangents take, counted: one slope per direction, or
            one layer of it.
        """
        self.window.along(directions)
        return self.window.site_tangents(directions.chunk(0, directions.n), one_layer)

    def inputs(self) -> dict[str, WeightInput]:
        """Return what the updated weights are multiplied with, by parameter name.

        Returns:
            The inputs; biases, gains, and weights that enter by a call that is not known are left out.

        Cost: one forward pass.
        """
        return self.window.inputs()

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
                any kind. ``sites``: back to the nearest sites, one weight operation and one nonlinearity
                before.
            weights: replace the weights of the operations crossed, at clean inputs.

        Returns:
            Parameter name to gradient, or (kind, name) to cotangent.

        Raises:
            UsageError: for a place or a weight that the window does not have.
        """
        places: dict[Place, Tensor] = {
            (k if isinstance(k, tuple) else ("site", k)): v for k, v in cotangents.items()
        }
        self.ledger.pulls += self.share
        if any(kind == "readout" for kind, _ in places):
            self.ledger.readouts += self.window.readout_share
        return self.window.pull(places, to, weights)

    def gradients(self, estimate: Any) -> dict[str, Tensor]:
        """Return the gradient that a nested estimator gave, in whichever form it gave it.

        Args:
            estimate: an :class:`fgbench.core.estimator.Estimate` with gradients, with credit, which is pulled
                back, or along directions.

        Returns:
            Gradient by parameter name, without graph.
        """
        if estimate.credit is not None:
            return self.pull({place: c.detach() for place, c in estimate.credit.items()})
        given = estimate.grads if estimate.along is None else estimate.along
        return {name: g.detach() for name, g in (given or {}).items()}

    def reverse(
        self,
        weights: Mapping[str, Tensor] | None = None,
        error: Tensor | None = None,
        *,
        stretches: int = 1,
        parts: int = 1,
    ) -> Grads:
        """Return the full gradient of the objective: claim ``network``.

        Args:
            weights: replace the weights of every operation crossed on the way back, values staying
                clean: the error travels through other weights, each weight's own gradient being the
                outer product of its clean input and the error that arrives.
            error: starts at the predictions in place of :meth:`output_error`, ``[b, k]``.
            stretches: how many stretches of modules the window is cut into; activities between them are
                kept, and those within are computed again.
            parts: how many parts of the batch are gone through one after the other; 0: as many as the runs of
                examples that :meth:`probe` takes.

        Returns:
            Gradient by parameter name, of the updated modules.

        Raises:
            UsageError: for a weight that the window and its readout do not have.
        """
        self.ledger.backwards += self.share
        if weights is not None or error is not None:
            self.ledger.readouts += self.window.readout_share  # the error crosses, no weight learns
            tape, params = self.window.tape("", weights), self.params
            if error is not None:
                return tape.pull({("readout", self.objective.readout): error}, params)
            return tape.pull({("loss", ""): torch.ones_like(tape.loss)}, params)
        parts = parts or len(self.window.runs)
        if stretches > 1 or parts > 1:
            return self.window.reverse_in_parts(stretches, parts)
        programs = self._programs("reverse", [()], runs=[slice(0, len(self.start))])
        if programs is not None:
            return dict(programs[0].answer)
        return self.window.reverse()

    def _programs(
        self,
        what: str,
        given: Iterable[Any],
        settings: tuple[Any, ...] = (),
        runs: Sequence[slice] | None = None,
    ) -> list[LeftBehind] | None:
        """Run a pass of every run of examples as a compiled program, and note what the clean one leaves.

        Args:
            what: which pass, see :meth:`CompiledPasses.run`.
            given: trees of tensors it is asked with, one for each run.
            settings: what else it is asked with.
            runs: the runs, those of the window unless given.

        Returns:
            What each program found; None where a pass is not compiled, and nothing is noted.
        """
        if self._compiled is None:
            return None
        runs = self.window.runs if runs is None else runs
        found = []
        for run, own in zip(runs, given, strict=False):
            one = self._compiled.run(self, what, run, own, settings=settings)
            if one is None:
                return None
            found.append(one)
        self.window.note_programs(what, found, runs)
        return found

    # at other parameters, from another start

    def with_(
        self,
        params: Mapping[str, Tensor] | None = None,
        x: Any = None,
        outs: Mapping[str, Tensor] | None = None,
    ) -> View:
        """Return this view at other parameters, from another start or with given outputs; same ledger.

        Args:
            params: parameters by qualified name, of the body or of readouts; the window's start stays where
                it was.
            x: another start of the window.
            outs: site name to the value that takes the place of its ``out``, ``[b, ...]``: what follows
                the site starts from it, and :meth:`activities` still gives what the site makes of the
                values before it.

        Returns:
            A new view with a clean pass of its own.

        Raises:
            UsageError: for a name that is no parameter of the network or no site of the window, or a
                value of another shape than its site.
        """
        if outs:
            self.window.check_outs(outs)
        if params:
            known = dict(self.chain.named_parameters(remove_duplicate=False))
            for name in params:
                if name not in known:
                    raise unknown("parameter", name, known)
        start = self.start if x is None else x
        moved = {**self.window.moved, **(params or {})}
        held = self.window.clean_held()
        given = {**self.window.outs, **(outs or {})}
        return self._again(held, start=start, moved=moved, outs=given)

    def only(self, modules: Sequence[int]) -> View:
        """Return this view with other modules updated: those that places and pulls are of.

        Args:
            modules: numbers of modules of the window.

        Returns:
            A new view on the same ledger.

        Raises:
            UsageError: for a module outside the window.
        """
        first, stop = self.objective.window
        if outside := [k for k in modules if not first <= k < stop]:
            raise UsageError(
                f"module {outside[0]} is outside the window {self.objective.window} of "
                f"{self.objective.name!r}"
            )
        objective = replace(self.objective, updates=tuple(modules))
        return self._again(self.window.clean_held(), objective)

    def from_module(self, module: int) -> View:
        """Return this view from a later module on: its window begins at the clean activity there.

        What is asked of it runs through those modules alone, at their price and with their memory. It updates
        those of the updated modules that it has. The readout is the same, so that :meth:`reverse` gives
        these modules the gradient that the whole window gives them.

        Args:
            module: number of the module at which it begins, inside the window.

        Returns:
            A new view on the same ledger.

        Raises:
            UsageError: for the first module of the window, or one outside.

        Cost: a pass of values through this view, which is its clean pass where none has run yet.

        Example:
            >>> from fgbench.core.example_view import example_view
            >>> from fgbench.core.noise.keyed import Noise
            >>> view = example_view("mlp-2x4")
            >>> upper = view.from_module(1).reverse()
            >>> list(upper), view.ledger.backwards
            (['body.1.l0.weight', 'body.1.l0.bias'], 0.5)
        """
        first, stop = self.objective.window
        if not first < module < stop:
            raise UsageError(
                f"a view of objective {self.objective.name!r} begins at module {first + 1} to {stop - 1}, "
                f"got {module}"
            )
        updates = tuple(k for k in self.objective.updates if k >= module)
        objective = replace(self.objective, window=(module, stop), updates=updates)
        held = self.window.clean_held()
        return self._again(held, objective, start=self.window.begins_at(module))

    @contextmanager
    def perturb_in_place(self, directions: Directions, row: int, scale: float) -> Iterator[View]:
        """Move the parameters by scale × one direction, yield the view there, and move them back.

        Nothing is copied: memory stays that of one direction. Parameters return to within rounding.

        Args:
            directions: along body parameters.
            row: index of the direction.
            scale: the step.

        Yields:
            The view at the moved parameters.
        """
        if self.window.along(directions):
            raise UsageError("parameters are moved along parameters, got directions along sites")
        self.window.clean_held()  # before anything moves
        self.window.shift(directions, row, scale)
        try:
            yield self.with_()
        finally:
            self.window.shift(directions, row, -scale)

    def losses_along(
        self, directions: Directions, row: int, steps: Sequence[float]
    ) -> list[Tensor]:
        """Return the losses with the parameters moved in place by steps along one direction.

        The parameters go from one point to the next and return to within rounding. Directions are drawn again
        for every move and not kept, and nothing is differentiated: memory is that of inference.

        Args:
            directions: along body parameters.
            row: index of the direction.
            steps: in units of the direction; 0 is the clean point, whose pass is done once.

        Returns:
            For each step the loss of each example, ``[b]``.

        Cost: a forward pass per step that is not 0.
        """
        if self.window.along(directions):
            raise UsageError("parameters are moved along parameters, got directions along sites")
        held, drawn, here = self.window.clean_held(), directions.unkept(), 0.0
        found = []
        try:
            for step in steps:
                if step != here:
                    self.window.shift(drawn, row, step - here)
                    here = step
                if step == 0:
                    self.window.pass_values()
                    found.append(self.losses())
                else:
                    found.append(self._again(held).window.values(held))
        finally:
            if here:
                self.window.shift(drawn, row, -here)
        return found

    def _again(
        self,
        held: Tensor | None,
        objective: Objective | None = None,
        start: Any = None,
        moved: Mapping[str, Tensor] | None = None,
        outs: Mapping[str, Tensor] | None = None,
    ) -> View:
        """Return this view with a clean pass of its own; what is not given stays as it is here."""
        window = self.window
        return View(
            self.chain,
            self.objective if objective is None else objective,
            self.start if start is None else start,
            window.targets,
            self.ledger,
            window.moved if moved is None else moved,
            held=held,
            clock=self.clock,
            outs=window.outs if outs is None else outs,
            again=True,
        )


def _same(slopes: Tensor) -> Tensor:
    """Return slopes as they are."""
    return slopes
