"""The cotangent engine: estimates at one point without forward mode.

Estimators are unchanged. They are handed oracles whose slopes are inner products
(:mod:`fgbench.measurement.engine.cotangent_view`), and several draws at a time where that gives the same
result. This is for measuring alone: it needs reverse mode through the full window at the clean point, which
an estimator that claims less does not have. The reported cost is that of forward mode.

The engine refuses what it cannot do exactly, or not faster. The first estimate is made in forward mode as
well, and slopes and gradients are compared.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any, cast

import torch

from fgbench.core import gradients
from fgbench.core.autodiff import no_reverse
from fgbench.core.cost import CostCounter
from fgbench.measurement.engine.cotangent_view import OTHER, CotangentView, Probed, Refused
from fgbench.measurement.engine.stacked_draws import StackedNoise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fgbench.core.estimator import Estimate, Estimator, State
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.oracles import Listener, Oracles
    from fgbench.core.task import Step, Task
    from fgbench.core.view import View

_log = logging.getLogger(__name__)
HELD = 1 << 30  # bytes of cotangents that may be held
SlopeCalls = list[tuple["Oracles", "Directions", "Tensor"]]


class Engine:
    """Makes estimates of one estimator at one point, with slopes by inner products.

    Args:
        task: the chain under its locality.
        estimator: the estimator; it must claim ``slopes_only``.
        state: its state by objective.
        x: the batch.
        labels: ``[b]``.

    Attributes:
        kind: kind of place at which credit is given, see :func:`credited`.
        one_by_one: reason why draws are not made in one call, "" while they are.

    Raises:
        Refused: if the estimator does not claim ``slopes_only``, or an objective couples the examples.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.noise.keyed import Noise
        >>> from fgbench.core.task import Task
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> noise, estimator = Noise(0), registry.make("estimators", "fg_a").thing
        >>> task = Task.build(chain, registry.make("localities", "end").thing, noise)
        >>> engine = Engine(task, estimator, {}, noise.normal("x", (5, 1, 2, 2)), torch.arange(5) % 3)
        >>> _ = engine.prepare(noise, draws=100)
        >>> credit = engine.credits([noise.redrawn(k) for k in range(3)])
        >>> tuple(credit["body.0.l0"].shape)
        (3, 5, 4)
    """

    def __init__(
        self,
        task: Task,
        estimator: Estimator,
        state: Mapping[str, State],
        x: Tensor,
        labels: Tensor,
    ) -> None:
        claims = task.claims(estimator)
        if not claims.slopes_only:
            raise Refused("it does not claim slopes_only")
        for o in task.objectives:
            if o.coupled(task.chain):
                raise Refused(f"the losses of {o.name!r} couple the examples")
        self._task, self._estimator, self._state = task, estimator, state
        self._x, self._labels = x, labels
        self._who = f"{type(estimator).__name__} claims backward={claims.backward!r}"
        self._gated = claims.gated
        self._views: list[CotangentView] = []
        self.kind = ""
        self.one_by_one, self._compared = "", False
        self._buffers: list[dict[str, Tensor]] = []
        self._limit = 1e-8 if x.dtype == torch.float64 else 1e-2  # of rounding at kinks of ReLU

    def prepare(self, noise: Noise, draws: int) -> Step:
        """Make one estimate in forward mode, then the cotangents, and compare slopes and gradients.

        Args:
            noise: noise of the estimate.
            draws: number of estimates that will follow.

        Returns:
            The estimate in forward mode, with its cost.

        Raises:
            Refused: if cotangents cost more than the draws, or slopes or gradients differ.
        """
        calls: SlopeCalls = []
        step = self._task.estimate(
            self._x, self._labels, self._estimator, noise, self._state, lambda *a: calls.append(a)
        )
        if not calls:
            raise Refused(OTHER)
        sites = self._task.chain.index.keys()
        on_sites = all(name in sites for _, u, _ in calls for name in u.names)
        for view in self._task.views(self._x, self._labels, CostCounter()):
            if view.objective.updates:
                self._views.append(CotangentView(view, on_sites))
            view.output()
        self._afford(calls, on_sites, draws)
        for served in self._views:
            served.prepare()
        self._compare(calls)
        alone = self(noise)
        self.kind = credited(alone)
        own = self.pull(alone)
        off = max(float((own[name] - g).norm()) for name, g in step.body.items())
        if not off <= self._limit * max(float(g.norm()) for g in step.body.values()):
            raise Refused(f"its gradient differs from forward mode's by {off:.2g}")
        return step

    def _afford(self, calls: SlopeCalls, on_sites: bool, draws: int) -> None:
        """Refuse cotangents that cost more than the slopes of the draws, or take too much memory."""
        passes = sum(v.passes * v.share for v in self._views)
        slopes = draws * sum(u.n * v.share for v, u, _ in calls)
        if 2 * passes > slopes * (1 if on_sites else 2):
            raise Refused(
                f"its cotangents take {sum(v.passes for v in self._views)} reverse passes, which cost "
                f"more than the slopes of {draws} draws"
            )
        held = sum(v.held for v in self._views)
        if held > HELD:
            raise Refused(f"its cotangents would take {held / 2**30:.1f} GiB")

    def _compare(self, calls: SlopeCalls) -> None:
        """Refuse where slopes differ from those of forward mode by more than rounding."""
        served = {v.objective.name: v for v in self._views}
        for view, u, slopes in calls:
            off = float((served[view.objective.name].slopes(u) - slopes).norm())
            if not off <= self._limit * float(slopes.norm()):
                raise Refused(f"its slopes differ from forward mode's by {off:.2g}")

    def listen(self, listener: Listener) -> None:
        """Call a listener with the directions and slopes of every estimate from now on."""
        for view in self._views:
            view.listened(listener)

    def __call__(self, noise: Any) -> dict[str, Estimate]:
        """Return the estimate of every objective by name, or several in one call from stacked noise."""
        found = {}
        for view in self._views:
            name = view.objective.name
            with no_reverse.closed(self._who) if self._gated else nullcontext():
                # the claim slopes_only: nothing of a view is used but these oracles
                made = self._estimator(cast("View", view), noise, self._state.get(name, {}))
            probed = made.grads if isinstance(made.grads, Probed) else None
            found[name] = (
                made if probed is None else replace(made, credit=probed.credit, grads=None)
            )
        return found

    def credits(self, noises: Sequence[Noise]) -> dict[str, Tensor]:
        """Return the credit at the sites of several estimates, made in one call where that gives the same.

        In the first call the first and the last estimate are made alone as well, and compared. An estimator
        that cannot take several draws at once, whatever it raises, is called for one draw after the other,
        where an error of its own is raised again; the reason is kept in ``one_by_one``.

        Args:
            noises: noise of each estimate.

        Returns:
            Site name to the summed credit of all objectives, ``[estimates, *site]``. It is valid until the
            next call, which draws directions into the same memory.
        """
        if not self.one_by_one and len(noises) > 1:
            try:
                found = total(self(StackedNoise(noises, self._buffers)))
                if self._compared or self._same(found, noises):
                    self._compared = True
                    return found
                self.one_by_one = "several draws in one call give other credit than draws alone"
            except Refused:
                raise
            except Exception as error:
                # Draws are made one by one below, where an error of the estimator is raised again.
                self.one_by_one = f"several draws in one call raise {type(error).__name__}: {error}"
            _log.info("%s: draws are made one by one: %s", self._who, self.one_by_one)
        return _stack([total(self(noise)) for noise in noises])

    def _same(self, found: Mapping[str, Tensor], noises: Sequence[Noise]) -> bool:
        """Return whether the first and last of several estimates equal those made alone."""
        for k in (0, len(noises) - 1):
            for name, c in total(self(noises[k])).items():
                if found[name].shape != (len(noises), *c.shape):
                    return False
                limit = float(c.norm()) * sqrt(torch.finfo(c.dtype).eps) / 100
                if not float((found[name][k] - c).norm()) <= limit:
                    return False
        return True

    def pull(self, estimates: Mapping[str, Estimate]) -> dict[str, Tensor]:
        """Return the gradient of the body that the credit of estimates pulls back to."""
        total: dict[str, Tensor] = {}
        for view in self._views:
            found = estimates[view.objective.name]
            grads = found.grads if found.credit is None else view.pulled(found.credit)
            gradients.add(total, grads or {})
        return total


def credited(estimates: Mapping[str, Estimate]) -> str:
    """Return the kind of place at which all credit is given, ``site`` or ``op``; "" where kinds differ.

    Example:
        >>> from fgbench.core.estimator import Estimate
        >>> credited({"end": Estimate(credit={"body.0.l0": torch.ones(2)})})
        'site'
    """
    kinds = set()
    for found in estimates.values():
        if found.credit is None:
            return ""
        kinds |= {place[0] if isinstance(place, tuple) else "site" for place in found.credit}
    return kinds.pop() if len(kinds) == 1 and kinds <= {"site", "op"} else ""


def total(estimates: Mapping[str, Estimate]) -> dict[str, Tensor]:
    """Return the credit of all objectives summed by name of the site; a pull is linear.

    Example:
        >>> from fgbench.core.estimator import Estimate
        >>> both = {name: Estimate(credit={"body.0.l0": torch.ones(2)}) for name in ("a", "b")}
        >>> total(both)
        {'body.0.l0': tensor([2., 2.])}
    """
    found: dict[str, Tensor] = {}
    for estimate in estimates.values():
        for place, c in (estimate.credit or {}).items():
            gradients.add(found, {place[1] if isinstance(place, tuple) else place: c})
    return found


def _stack(credits: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the credit of several draws in one tensor per site."""
    return {name: torch.stack([c[name] for c in credits]) for name in credits[0]}
