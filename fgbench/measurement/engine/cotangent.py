"""The cotangent engine: estimates at one point without forward mode.

Estimators are unchanged: they are handed views whose slopes are inner products
(:mod:`fgbench.measurement.engine.cotangent_view`),
several draws at a time where that gives the same. This is for measuring alone. It needs reverse mode through
the whole window at the clean point, which an estimator that claims less does not have; what an estimate is
said to cost is what it costs in forward mode.

The engine refuses what it would not do exactly, or no faster: the first estimate is made in forward mode as
well, and slopes and gradients are compared.
"""

from __future__ import annotations

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

HELD = 1 << 30  # bytes of cotangents that may be held
Heard = list[tuple["Oracles", "Directions", "Tensor"]]


class Engine:
    """Estimates of one estimator at one point, with slopes by inner products.

    Args:
        task: the chain under its locality.
        estimator: unchanged; it must claim ``slopes_only``.
        state: of each objective.
        x: the batch.
        labels: ``[b]``.

    Attributes:
        kind: the kind of place that credit comes at, see :func:`credited`.
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
        self._together, self._compared = True, False
        self._buffers: list[dict[str, Tensor]] = []
        self._limit = 1e-8 if x.dtype == torch.float64 else 1e-2  # of rounding at kinks of ReLU

    def prepare(self, noise: Noise, draws: int) -> Step:
        """Make one estimate in forward mode, then the cotangents, and compare slopes and gradients.

        Args:
            noise: of the estimate.
            draws: estimates that will follow.

        Returns:
            The estimate in forward mode, with its cost.

        Raises:
            Refused: where cotangents cost more than the draws, or where anything differs.
        """
        heard: Heard = []
        step = self._task.estimate(
            self._x, self._labels, self._estimator, noise, self._state, lambda *a: heard.append(a)
        )
        if not heard:
            raise Refused(OTHER)
        sites = self._task.chain.index.keys()
        on_sites = all(name in sites for _, u, _ in heard for name in u.names)
        for view in self._task.views(self._x, self._labels, CostCounter()):
            if view.objective.updates:
                self._views.append(CotangentView(view, on_sites))
            view.output()
        self._afford(heard, on_sites, draws)
        for served in self._views:
            served.prepare()
        self._compare(heard)
        alone = self(noise)
        self.kind = credited(alone)
        own = self.pull(alone)
        off = max(float((own[name] - g).norm()) for name, g in step.body.items())
        if not off <= self._limit * max(float(g.norm()) for g in step.body.values()):
            raise Refused(f"its gradient differs from forward mode's by {off:.2g}")
        return step

    def _afford(self, heard: Heard, on_sites: bool, draws: int) -> None:
        """Refuse cotangents that take more reverse passes, or more memory, than they are worth."""
        passes = sum(v.passes * v.share for v in self._views)
        slopes = draws * sum(u.n * v.share for v, u, _ in heard)
        if 2 * passes > slopes * (1 if on_sites else 2):
            raise Refused(
                f"its cotangents take {sum(v.passes for v in self._views)} reverse passes, which cost "
                f"more than the slopes of {draws} draws"
            )
        held = sum(v.held for v in self._views)
        if held > HELD:
            raise Refused(f"its cotangents would take {held / 2**30:.1f} GiB")

    def _compare(self, heard: Heard) -> None:
        """Refuse where slopes differ from those of forward mode by more than rounding."""
        served = {v.objective.name: v for v in self._views}
        for view, u, slopes in heard:
            off = float((served[view.objective.name].slopes(u) - slopes).norm())
            if not off <= self._limit * float(slopes.norm()):
                raise Refused(f"its slopes differ from forward mode's by {off:.2g}")

    def listen(self, listener: Listener) -> None:
        """Let somebody hear the directions and slopes of every estimate from now on."""
        for view in self._views:
            view.listened(listener)

    def __call__(self, noise: Any) -> dict[str, Estimate]:
        """Make one estimate, or several of stacked noise: objective to what the estimator returned."""
        found = {}
        for view in self._views:
            name = view.objective.name
            with no_reverse.closed(self._who) if self._gated else nullcontext():
                made = self._estimator(cast("View", view), noise, self._state.get(name, {}))
            probed = made.grads if isinstance(made.grads, Probed) else None
            found[name] = (
                made if probed is None else replace(made, credit=probed.credit, grads=None)
            )
        return found

    def credits(self, noises: Sequence[Noise]) -> dict[str, Tensor]:
        """Make estimates that give credit at sites, in one call where that is the same.

        Whether it is shows in the first call: the first and the last estimate are made alone as well.

        Args:
            noises: of each.

        Returns:
            Site name to the credit of all objectives together, ``[estimates, *site]``, until the next call:
            directions are drawn into the same memory again.
        """
        if self._together and len(noises) > 1:
            try:
                found = total(self(StackedNoise(noises, self._buffers)))
                if self._compared or self._same(found, noises):
                    self._compared = True
                    return found
            except Refused:
                raise
            except Exception:
                pass  # what it raises of many draws says only that it takes them one by one
            self._together = False
        return _stack([total(self(noise)) for noise in noises])

    def _same(self, found: Mapping[str, Tensor], noises: Sequence[Noise]) -> bool:
        """Tell whether the first and last of several estimates are what they are alone."""
        for k in (0, len(noises) - 1):
            for name, c in total(self(noises[k])).items():
                if found[name].shape != (len(noises), *c.shape):
                    return False
                limit = float(c.norm()) * sqrt(torch.finfo(c.dtype).eps) / 100
                if not float((found[name][k] - c).norm()) <= limit:
                    return False
        return True

    def pull(self, estimates: Mapping[str, Estimate]) -> dict[str, Tensor]:
        """Return the gradient of the body that estimates stand for."""
        total: dict[str, Tensor] = {}
        for view in self._views:
            found = estimates[view.objective.name]
            grads = found.grads if found.credit is None else view.pulled(found.credit)
            gradients.add(total, grads or {})
        return total


def credited(estimates: Mapping[str, Estimate]) -> str:
    """Return the kind of place that all credit comes at, ``site`` or ``op``; "" where it does not."""
    kinds = set()
    for found in estimates.values():
        if found.credit is None:
            return ""
        kinds |= {place[0] if isinstance(place, tuple) else "site" for place in found.credit}
    return kinds.pop() if len(kinds) == 1 and kinds <= {"site", "op"} else ""


def total(estimates: Mapping[str, Estimate]) -> dict[str, Tensor]:
    """Add up the credit of all objectives by name of the site: a pull is linear."""
    found: dict[str, Tensor] = {}
    for estimate in estimates.values():
        for place, c in (estimate.credit or {}).items():
            gradients.add(found, {place[1] if isinstance(place, tuple) else place: c})
    return found


def _stack(credits: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the credit of several draws together."""
    return {name: torch.stack([c[name] for c in credits]) for name in credits[0]}
