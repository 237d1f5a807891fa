"""The engine that runs a scheme: it walks the objectives on a batch, and owns the exact gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core import gradients
from fgbench.core.along import Along, Streamed
from fgbench.core.autodiff import no_reverse
from fgbench.core.clock import START, Clock
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import Claims, Estimate
from fgbench.core.gradients import Grads
from fgbench.core.scheme import Scheme
from fgbench.core.view import View
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fgbench.core.compiled.passes import CompiledPasses
    from fgbench.core.estimator import Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Locality, Objective
    from fgbench.core.oracles import Listener

COUPLED = (
    "losses couple the examples and views share their noise: the score of an example holds the slopes of its "
    "other views, along the noise that credits it"
)


@dataclass
class Step:
    """The result of one estimate over all objectives.

    Attributes:
        body: estimated gradient by body parameter name; of a sum of directions each is formed when it is
            asked for.
        readouts: exact gradient by readout parameter name.
        loss: mean over the batch of the end readout's loss, None where no objective reads it.
        ledger: the cost.
        state_grads: per objective, gradients of learned state.
        new_state: per objective, replaced state.
        losses: per objective, its weight and the loss of each example; empty unless all are known.

    Example:
        >>> Step().ledger.forward_equivalents
        0.0
    """

    body: Mapping[str, Tensor] = field(default_factory=dict)
    readouts: Grads = field(default_factory=dict)
    loss: Tensor | None = None
    ledger: CostCounter = field(default_factory=CostCounter)
    state_grads: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    new_state: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    losses: dict[str, tuple[float, Tensor]] = field(default_factory=dict)


class Task:
    """A scheme to be run: it walks the objectives on a batch and owns the exact gradients.

    Args:
        scheme: the chain under its locality.
        clock: how far the training has come.
        compiled: runs passes as compiled programs where they can be; None runs none.

    Attributes:
        programs: what runs compiled passes.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.noise.keyed import Noise
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> noise = Noise(0)
        >>> task = Task.build(chain, registry.make("localities", "local").thing, noise)
        >>> x, labels = noise.normal("x", (5, 1, 2, 2)), torch.tensor([0, 1, 2, 0, 1])
        >>> step = task.estimate(x, labels, registry.make("estimators", "fg_a").thing, noise)
        >>> step.body.keys() == task.scheme_truth(x, labels).keys()
        True
    """

    def __init__(
        self, scheme: Scheme, clock: Clock = START, compiled: CompiledPasses | None = None
    ) -> None:
        self.scheme, self.clock, self.programs = scheme, clock, compiled
        self._active = scheme.active(clock)
        self._starts = frozenset(o.window[0] for o in scheme.objectives if o.window[0] > 0)

    def at(self, clock: Clock) -> Task:
        """Return the same task at another moment of the training.

        Args:
            clock: that moment.
        """
        return Task(self.scheme, clock, self.programs)

    def compiled(self, passes: CompiledPasses) -> Task:
        """Return the same task, whose estimates run passes as compiled programs where they can be.

        Args:
            passes: the programs; they are kept there for later steps.
        """
        return Task(self.scheme, self.clock, passes)

    @classmethod
    def build(cls, chain: Chain, locality: Locality, noise: Noise) -> Task:
        """Attach the heads that a locality needs and return the task, see :meth:`Scheme.build`.

        Args:
            chain: the network; heads are added to it.
            locality: where losses are read.
            noise: seeds the heads: the same seed gives the same heads.

        Returns:
            The task.
        """
        return cls(Scheme.build(chain, locality, noise))

    @property
    def chain(self) -> Chain:
        """The network."""
        return self.scheme.chain

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The losses of one step, in chain order; of all stages where a locality trains in stages."""
        return self.scheme.objectives

    @property
    def active(self) -> tuple[Objective, ...]:
        """The objectives that run at this moment of the training."""
        return self._active

    @property
    def parts(self) -> tuple[object, ...]:
        """The locality, the modules and the readouts: what an estimator calls, for errors."""
        chain = self.chain
        return (self.scheme.locality, *chain.pieces, *chain.readouts.values())

    @property
    def end(self) -> Objective | None:
        """The objective whose gradient is :meth:`end_truth`; None where the scheme has none."""
        return self.scheme.end

    def claims(self, estimator: Estimator) -> Claims:
        """Return the promises of an estimator, as far as they can hold under this scheme.

        Where an objective couples the examples, the credit of an example sums the scores of all, because its
        activity moves all losses. That has the right mean where every example has noise of its own. Where the
        views of an example share their noise, the slopes along the other views are credited too, which is a
        bias that no step size removes: an estimator that returns credit (claim ``segment``) is biased there.

        A training rule (:attr:`Scheme.rule`) estimates no gradient of the final loss, by whatever estimator.

        Args:
            estimator: the estimator.

        Returns:
            Its claims; with the bias ``some`` and the reason where coupled examples make it biased, and of
            the kind ``rule`` with the reason under a training rule.
        """
        claims = estimator.claims(self.scheme)
        if not isinstance(claims, Claims):
            raise TypeError(f"claims returned {_kind(claims)}, expected Claims")
        if self.scheme.rule:
            return replace(claims, kind="rule", bias="some", why=self.scheme.rule)
        promises = claims.backward == "segment" and claims.bias != "some"
        return (
            replace(claims, bias="some", why=COUPLED) if promises and self.views_share else claims
        )

    @property
    def views_share(self) -> bool:
        """Whether losses couple the examples while views of an example share their activity noise."""
        return any(o.repeats > 1 and o.coupled(self.chain) for o in self.objectives)

    def init_state(self, estimator: Estimator, noise: Noise) -> dict[str, State]:
        """Return the state of each objective at the start of training.

        Args:
            estimator: gives the state.
            noise: of the run; the state draws from a purpose of its own, ``state``.

        Returns:
            Objective name to state.

        Raises:
            UsageError: if it is not a dictionary of tensors for objectives of this scheme.
        """
        found = estimator.init_state(self.scheme, noise.child("state"))
        who, names = type(estimator).__name__, [o.name for o in self.objectives]
        whole = isinstance(found, Mapping) and all(
            isinstance(own, Mapping) and all(isinstance(t, torch.Tensor) for t in own.values())
            for own in found.values()
        )
        if not whole:
            raise UsageError(
                f"init_state of {who} returned {type(found).__name__}, expected a dictionary from the name "
                "of an objective to a dictionary of tensors"
            )
        device = next(self.chain.parameters()).device
        for name, own in found.items():
            if name not in names:
                raise unknown(f"objective in the state of {who}", str(name), names)
            for label, t in own.items():
                if t.device.type != device.type:
                    raise UsageError(
                        f"init_state of {who}: {label!r} of {name} is on {t.device.type}, the network on "
                        f"{device.type}"
                    )
        return found

    def views(
        self, x: Tensor, labels: Tensor, ledger: CostCounter, listen: Listener | None = None
    ) -> Iterator[View]:
        """Yield the view of each objective in chain order, each window from the clean activity.

        A window starts from the output that an earlier window recorded there. Where no window has passed,
        the modules before it are run once.

        Args:
            x: the batch ``[b, ...]``.
            labels: ``[b]``.
            ledger: where the views price their calls.
            listen: called with the directions and slopes of every exact call, for measuring.

        Yields:
            One view per objective.
        """
        starts: dict[int, Any] = {0: self.chain.start(x)}
        for i, objective in enumerate(self._active):
            first = objective.window[0]
            if first not in starts:
                near = max(k for k in starts if k < first)
                starts[first] = self._advanced(starts[near], near, first, x, labels)
                ledger.forwards += sum(self.chain.shares()[near:first])
            view = View(
                self.chain,
                objective,
                self.scheme.start(first, starts[first], x, labels),
                labels,
                ledger,
                boundaries=self._starts,
                listen=listen,
                clock=self.clock,
                compiled=self.programs,
            )
            yield view
            starts |= view.window.outputs
            if all(o.window[0] > first for o in self._active[i + 1 :]):
                starts = {k: v for k, v in starts.items() if k > first} or starts

    def _advanced(self, f: Any, first: int, stop: int, x: Any, labels: Any) -> Any:
        """Run modules without gradients, each from where a window would begin; return what arrives."""
        if not self.scheme.moves:
            return self.chain.advance(f, first, stop)
        for k in range(first, stop):
            f = self.chain.advance(self.scheme.start(k, f, x, labels), k, k + 1)
        return f

    def estimate(
        self,
        x: Tensor,
        labels: Tensor,
        estimator: Estimator,
        noise: Noise,
        state: Mapping[str, State] | None = None,
        listen: Listener | None = None,
    ) -> Step:
        """Estimate the gradient of every objective on one batch.

        Walking in chain order and freeing each graph before the next window keeps the peak memory that
        of the largest window.

        Args:
            x: the batch.
            labels: ``[b]``.
            estimator: the estimator.
            noise: this step's noise; objectives share it, so a site meets the same direction in all.
            state: objective name to the estimator's state.
            listen: called with the directions and slopes of every exact call, for measuring.

        Returns:
            Body estimate and exact readout gradients, with the cost.

        Raises:
            UsageError: if the estimator returns no estimate, or one that does not fit sites or parameters.
        """
        step = Step(ledger=self.chain.counter())
        body: Grads = {}
        streams: list[Along] = []
        known = True
        claims = self.claims(estimator)
        who = f"{type(estimator).__name__} claims backward={claims.backward!r}"
        for view in self.views(x, labels, step.ledger, listen):
            objective = view.objective
            head_grads: Mapping[str, Tensor] | None = None
            if objective.updates:
                objective_state = (state or {}).get(objective.name, {})
                with no_reverse.closed(who) if claims.gated else nullcontext():
                    estimate = estimator(view, noise, objective_state)
                _check(estimator, estimate, view)
                _check_state(estimator, estimate, objective_state)
                grads = estimate.grads
                if estimate.along is not None:
                    streams.append(estimate.along)
                    view.window.pass_values()  # what is read at the end needs no graph
                if estimate.credit is not None:
                    grads = view.pull({place: c.detach() for place, c in estimate.credit.items()})
                gradients.add(body, {name: g.detach() for name, g in (grads or {}).items()})
                head_grads = estimate.readouts
                if estimate.state_grads:
                    step.state_grads[objective.name] = estimate.state_grads
                if estimate.new_state is not None:
                    step.new_state[objective.name] = estimate.new_state
            if objective.head:
                gradients.add(step.readouts, head_grads or view.readout_grads())
            if self.end is not None and objective.readout == self.end.readout:
                step.loss = view.losses().mean()
            losses = view.window.losses_read
            known = known and losses is not None
            if losses is not None:
                step.losses[objective.name] = (objective.weight, losses)
        step.body = Streamed([body, *streams]) if streams else body
        step.losses = step.losses if known else {}
        step.ledger = step.ledger.times(self.scheme.copies)
        return step

    def loss(self, x: Tensor, labels: Tensor, ledger: CostCounter) -> Tensor:
        """Return the scheme's loss on a batch at the present parameters: the weighted sum of its objectives.

        Args:
            x: the batch.
            labels: ``[b]``.
            ledger: where the passes are priced.

        Returns:
            A number; of examples the mean.
        """
        counter = self.chain.counter()
        means = [
            view.objective.weight * view.window.values().mean()
            for view in self.views(x, labels, counter)
        ]
        ledger.add(counter.times(self.scheme.copies))
        return torch.stack(means).sum()

    def scheme_truth(self, x: Tensor, labels: Tensor) -> Grads:
        """Return the exact gradient of the scheme's own objectives, summed; bias is measured against it.

        Args:
            x: the batch.
            labels: ``[b]``.

        Returns:
            Exact gradient by body parameter name.
        """
        total: Grads = {}
        for view in self.views(x, labels, CostCounter()):
            if view.objective.updates:
                gradients.add(total, view.reverse())
        return total

    def expected(
        self, x: Tensor, labels: Tensor, estimator: Estimator, state: Mapping[str, State]
    ) -> Grads | None:
        """Return the mean that an estimator documents where it is another than the gradient.

        Args:
            x: the batch.
            labels: ``[b]``.
            estimator: the estimator.
            state: state of each objective.

        Returns:
            The mean by body parameter name, summed over objectives; None where it documents none.

        Raises:
            UsageError: if it does not fit the parameters.
        """
        documented, who = getattr(estimator, "expected", None), type(estimator).__name__
        if documented is None:
            return None
        total: Grads = {}
        for view in self.views(x, labels, CostCounter()):
            if view.objective.updates:
                found = documented(view, state.get(view.objective.name, {}))
                if found is None:
                    return None
                if not isinstance(found, Mapping):
                    raise UsageError(
                        f"expected of {who} returned {_kind(found)}, expected a mapping from parameters to "
                        "tensors"
                    )
                _check_shapes(who, "documented mean", "parameter", found, view.shapes)
                gradients.add(total, {name: g.detach() for name, g in found.items()})
            view.output()
        return total

    def end_truth(self, x: Tensor, labels: Tensor) -> Grads:
        """Return the exact gradient of the end objective; usefulness is measured against it.

        Raises:
            UsageError: where the scheme has no end objective.
        """
        if self.end is None:
            raise UsageError(
                f"{type(self.scheme.locality).__name__} has no loss at the end of the network"
            )
        start = self.chain.start(x)
        return View(self.chain, self.end, start, labels, CostCounter(), clock=self.clock).reverse()


def _check(estimator: Estimator, estimate: Estimate, view: View) -> None:
    """Refuse a result that is no estimate, or does not fit the view's sites or parameters."""
    who = type(estimator).__name__
    if not isinstance(estimate, Estimate):
        raise UsageError(f"{who} returned {_kind(estimate)}, expected an Estimate")
    for name in ("credit", "grads", "readouts", "state_grads", "new_state"):
        given = getattr(estimate, name)
        if not (given is None or isinstance(given, Mapping)):
            raise UsageError(
                f"{who} returned {name} of type {_kind(given)}, expected a mapping from names to tensors"
            )
    kinds = [n for n in ("credit", "grads", "along") if getattr(estimate, n) is not None]
    if len(kinds) > 1:
        raise UsageError(f"{who} returned both {' and '.join(kinds)}, expected one of them")
    if estimate.along is not None:
        _check_along(who, estimate.along, view)
    elif estimate.grads is not None:
        _check_shapes(who, "gradient", "parameter", estimate.grads, view.shapes, view.sites)
    elif estimate.credit is None:
        raise UsageError(f"{who} returned neither credit nor grads")
    elif all(isinstance(place, str) for place in estimate.credit):
        _check_shapes(who, "credit", "site", estimate.credit, view.sites, view.shapes)
    elif all(place[0] in ("op", "site", "out") for place in estimate.credit):
        given = {name: c for (_, name), c in estimate.credit.items()}
        # an op or out may have another shape than its site, which the pull itself checks
        same = {
            name: tuple(given[name].shape) if name in given else s for name, s in view.sites.items()
        }
        _check_shapes(who, "credit", "site", given, same)
    if estimate.readouts is not None:
        heads = view.chain.readout_parameters(view.objective.readout)
        shapes = {name: tuple(p.shape) for name, p in heads.items()}
        _check_shapes(who, "readout gradient", "parameter", estimate.readouts, shapes)


def _check_along(who: str, along: Along, view: View) -> None:
    """Refuse directions that do not run along every updated parameter, and other than one number for each."""
    if not isinstance(along, Along):
        raise UsageError(
            f"{who} returned along of type {_kind(along)}, expected Along(directions, coefficients)"
        )
    shapes = along.directions.shapes
    for name in shapes:
        if name not in view.shapes:
            raise unknown(f"parameter in the directions of {who}", str(name), view.shapes)
    for name, shape in view.shapes.items():
        if name not in shapes or tuple(shapes[name]) != shape:
            came = f"shape {tuple(shapes[name])}" if name in shapes else "none"
            raise UsageError(f"{who}: directions along {name}: {came}, expected shape {shape}")
    if tuple(along.coefficients.shape) != (along.directions.n,):
        raise UsageError(
            f"{who}: coefficients have shape {tuple(along.coefficients.shape)}, expected one for each of "
            f"{along.directions.n} directions"
        )


def _no_gradient(value: object) -> str:
    """Describe a value that cannot be a gradient, "" for one that can."""
    if not isinstance(value, torch.Tensor):
        return _kind(value)
    if not value.is_floating_point():
        return f"of type {str(value.dtype).removeprefix('torch.')}"
    if value.layout != torch.strided:
        return f"of layout {str(value.layout).removeprefix('torch.')}"
    return "on the device meta, without values" if value.is_meta else ""


def _kind(value: object) -> str:
    """Return what a value is, for a message."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _check_state(estimator: Estimator, estimate: Estimate, state: State) -> None:
    """Refuse a gradient of state that there is not, and new state that lacks a part of the old."""
    who = type(estimator).__name__
    for name in estimate.state_grads:
        if name not in state:
            raise unknown(f"state in the state_grads of {who}", name, state)
    new = estimate.new_state
    lost = [] if new is None else [name for name in state if name not in new]
    if lost:
        raise UsageError(
            f"the new_state of {who} lacks {lost[0]!r}: it replaces the whole state, so it names every "
            "part of it"
        )


def _check_shapes(
    who: str,
    what: str,
    kind: str,
    given: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    others: Collection[str] = (),
) -> None:
    """Refuse an unknown name, what is no gradient, a wrong shape, or a missing name."""
    for name, value in given.items():
        if name not in shapes and name in others:
            rule = "credit is by site, and {} is a parameter; return grads="
            if what == "gradient":
                rule = "grads are by parameter, and {} is a site; return credit="
            raise UsageError(f"{who}: {rule.format(name)}")
        if name not in shapes:
            raise unknown(f"{kind} in the {what} of {who}", str(name), shapes)
        if wrong := _no_gradient(value):
            raise UsageError(
                f"{who}: {what} of {name} is {wrong}, expected a dense tensor of real numbers"
            )
        if tuple(value.shape) != shapes[name]:
            came = tuple(value.shape)
            raise UsageError(f"{who}: {what} of {name} has shape {came}, expected {shapes[name]}")
    for name in shapes:
        if name not in given:
            raise UsageError(
                f"{who} gave no {what} for {name}: an estimate covers every {kind} that its "
                "objective updates, with zeros where it says nothing"
            )
