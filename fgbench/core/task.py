"""A chain under a locality: walks its objectives, owns the two references."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from fgbench.core import gradients
from fgbench.core.autodiff import no_reverse
from fgbench.core.cost import CostCounter
from fgbench.core.gradients import Grads
from fgbench.core.scheme import Scheme
from fgbench.core.view import View
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from fgbench.core.estimator import Claims, Estimate, Estimator, State
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Locality, Objective
    from fgbench.core.oracles import Listener

COUPLED = (
    "losses couple the examples: an example's activity moves the losses of others, and their scores are "
    "no part of its credit"
)


@dataclass
class Step:
    """What one estimate over all objectives gave.

    Attributes:
        body: estimated gradient by body parameter name.
        readouts: exact gradient by readout parameter name.
        loss: mean over the batch of the end readout's loss, None where no objective reads it.
        ledger: what it cost.
        state_grads: per objective, gradients of learned state.
        new_state: per objective, replaced state.
    """

    body: Grads = field(default_factory=dict)
    readouts: Grads = field(default_factory=dict)
    loss: Tensor | None = None
    ledger: CostCounter = field(default_factory=CostCounter)
    state_grads: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    new_state: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)


class Task:
    """A scheme to be run: it walks the objectives on a batch and owns the exact gradients.

    Args:
        scheme: the chain under its locality.

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

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._starts = frozenset(o.window[0] for o in scheme.objectives if o.window[0] > 0)

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
        """The losses of one step, in chain order."""
        return self.scheme.objectives

    @property
    def end(self) -> Objective:
        """The objective whose gradient is :meth:`end_truth`."""
        return self.scheme.end

    def claims(self, estimator: Estimator) -> Claims:
        """Return what an estimator promises here, as far as it can hold.

        Scores stay apart along examples, and credit is a score times its own example's noise. Where an
        objective couples the examples the losses of all others depend on that noise too: what they say
        is left out, a bias that no step size removes. So whoever returns credit (claim ``segment``)
        promises no mean there. Weights are one noise for all losses, whose scores are summed.

        Args:
            estimator: the estimator.

        Returns:
            Its claims, with the bias ``some`` and the reason where coupled examples take its own away.
        """
        claims = estimator.claims(self.scheme)
        promises = claims.backward == "segment" and claims.bias != "some"
        if not promises or not any(o.coupled(self.chain) for o in self.objectives):
            return claims
        return replace(claims, bias="some", why=COUPLED)

    def views(
        self, x: Tensor, labels: Tensor, ledger: CostCounter, listen: Listener | None = None
    ) -> Iterator[View]:
        """Yield the view of each objective in chain order, each window from the clean activity.

        The window's start is the output recorded when an earlier window passed there; where none did
        the modules before it are run once.

        Args:
            x: the batch ``[b, ...]``.
            labels: ``[b]``.
            ledger: where the views price their calls.
            listen: hears every exact slope call, for measuring.

        Yields:
            One view per objective.
        """
        known: dict[int, Tensor] = {0: x}
        for objective in self.objectives:
            first = objective.window[0]
            if first not in known:
                near = max(k for k in known if k < first)
                with torch.no_grad():
                    known[first] = self.chain.run(known[near], near, first).detach()
                ledger.forwards += sum(self.chain.shares()[near:first])
            view = View(
                self.chain,
                objective,
                known[first],
                labels,
                ledger,
                boundaries=self._starts,
                listen=listen,
            )
            yield view
            known |= view.window.outputs
            if all(o.window[0] > first for o in self._after(objective)):
                known = {k: v for k, v in known.items() if k > first} or known

    def _after(self, objective: Objective) -> tuple[Objective, ...]:
        """Return the objectives that come later."""
        return self.objectives[self.objectives.index(objective) + 1 :]

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
            listen: hears every exact slope call, for measuring.

        Returns:
            Body estimate and exact readout gradients, with the cost.

        Raises:
            UsageError: if the estimate is none, or does not fit the sites or parameters.
        """
        step = Step()
        claims = self.claims(estimator)
        who = f"{type(estimator).__name__} claims backward={claims.backward!r}"
        for view in self.views(x, labels, step.ledger, listen):
            objective = view.objective
            own_heads: Mapping[str, Tensor] | None = None
            if objective.updates:
                own = (state or {}).get(objective.name, {})
                with no_reverse.closed(who) if claims.gated else nullcontext():
                    found = estimator(view, noise, own)
                _check(estimator, found, view)
                grads = found.grads if found.credit is None else view.pull(found.credit)
                gradients.add(step.body, grads or {})
                own_heads = found.readouts
                if found.state_grads:
                    step.state_grads[objective.name] = found.state_grads
                if found.new_state is not None:
                    step.new_state[objective.name] = found.new_state
            if objective.head:
                gradients.add(step.readouts, own_heads or view.readout_grads())
            if objective.readout == self.end.readout:
                step.loss = view.losses().mean()
        return step

    def scheme_truth(self, x: Tensor, labels: Tensor) -> Grads:
        """Return the gradient of the scheme's own objectives, summed: what unbiasedness means.

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

    def end_truth(self, x: Tensor, labels: Tensor) -> Grads:
        """Return the gradient of the end objective: what usefulness means."""
        return View(self.chain, self.end, x, labels, CostCounter()).reverse()


def _check(estimator: Estimator, found: Estimate, view: View) -> None:
    """Refuse what is no estimate, or does not fit the view's sites or parameters."""
    who = type(estimator).__name__
    if not (hasattr(found, "credit") and hasattr(found, "grads")):
        raise UsageError(f"{who} returned {type(found).__name__}, expected an Estimate")
    if found.grads is not None and found.credit is not None:
        raise UsageError(f"{who} returned both credit and grads, expected one of them")
    if found.grads is not None:
        _fits(who, "gradient", "parameter", found.grads, view.shapes)
    elif found.credit is None:
        raise UsageError(f"{who} returned neither credit nor grads")
    elif all(isinstance(place, str) for place in found.credit):
        _fits(who, "credit", "site", found.credit, view.sites)
    elif all(place[0] in ("op", "site", "out") for place in found.credit):
        given = {name: c for (_, name), c in found.credit.items()}
        # an op or out may have another shape than its site, which the pull itself checks
        same = {
            name: tuple(given[name].shape) if name in given else s for name, s in view.sites.items()
        }
        _fits(who, "credit", "site", given, same)
    if found.readouts is not None:
        heads = view.chain.readout_parameters(view.objective.readout)
        shapes = {name: tuple(p.shape) for name, p in heads.items()}
        _fits(who, "readout gradient", "parameter", found.readouts, shapes)


def _fits(
    who: str,
    what: str,
    kind: str,
    given: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Refuse an unknown name, another shape, or a name left out."""
    for name, value in given.items():
        if name not in shapes:
            raise unknown(f"{kind} in the {what} of {who}", name, shapes)
        if tuple(value.shape) != shapes[name]:
            came = tuple(value.shape)
            raise UsageError(f"{who}: {what} of {name} has shape {came}, expected {shapes[name]}")
    for name in shapes:
        if name not in given:
            raise UsageError(
                f"{who} gave no {what} for {name}: an estimate covers every {kind} that its "
                "objective updates, with zeros where it says nothing"
            )
