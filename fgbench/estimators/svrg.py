"""A snapshot of the weights as control variate around any estimator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.scheme import Alone
from fgbench.registry import Nested, register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "svrg")
@dataclass(frozen=True)
class SnapshotVarianceReduction(Defaults):
    """Variance reduction by a snapshot w of the weights: e = b(θ; z₁) − b(w; z₂) + G.

    b is the estimate of the base on the batch of this step, at the weights θ and at the snapshot. Every
    ``period`` steps w becomes θ, G the mean of ``full`` estimates of the base on that batch, and e = G. In
    between, G goes on averaging the estimates at w, over their batches, because no estimator sees the
    whole data set: it is an estimate too, and e is biased by its error. Given the state an unbiased base has
    the mean g(θ) − g(w) + G.

    In first-order training the snapshot takes away the noise of batches. Here the noise of directions is
    larger. With one direction for both (``share=z``), gaussian on d weights, the variance given the state is
    (d + 1)|g(θ) − g(w)|². With directions of their own, as released, it is (d + 1)(|g(θ)|² + |g(w)|²), about
    twice that of the base alone.

    Also known as: MeZO-SVRG (``base=mezo`` or ``wp[sided=central]``).

    Not to be confused with: ``cv``, whose forward gradient of what the base misses makes it unbiased; the
    control variate by which ``fgbench measure`` sharpens its intervals.

    Args:
        base: an estimator with its options.
        period: steps from one snapshot to the next; 1 is the base.
        share: ``z``: the base draws the same noise at both weights; ``none``: other noise, as released.
        full: estimates of the base averaged when a snapshot is taken.
        mean: whether G goes on averaging the estimates at the snapshot.

    Cost: twice the base, and ``full`` times the base at a snapshot. State: twice the weights.

    References: Gautam, Park, Zhou, Raman, Ha, Variance-reduced Zeroth-Order Methods for Fine-Tuning Language
    Models, ICML 2024 (arXiv 2404.08080); code: amazon-science/mezo_svrg.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="svrg[base=fg_w]", **case)
        >>> record["claimed"]["why"]
        "the snapshot's gradient is itself an estimate"
    """

    recipe = ({"set": {"lr": 3e-4}},)

    base: Nested = Nested("wp")
    period: Annotated[int, Field(ge=1)] = 2
    share: Literal["z", "none"] = "z"
    full: Annotated[int, Field(ge=1)] = 1
    mean: bool = True

    def claims(self, scheme: Scheme) -> Claims:
        """Biased between snapshots, because G is an estimate; it goes back as far as the base does."""
        inner: Claims = self.base.estimator.claims(scheme)
        if self.period == 1 and inner.bias == "none":
            return replace(inner, slopes_only=False)
        why = "the snapshot's gradient is itself an estimate" if self.period > 1 else inner.why
        return replace(inner, bias="some", slopes_only=False, why=why)

    def supports(self, scheme: Scheme) -> str:
        """Need what the base needs, and a base whose state has no optimiser of its own."""
        if getattr(self.base.estimator, "state_optimizer", None) is not None:
            return "its base learns by an optimiser of its own"
        reason: str = self.base.estimator.supports(scheme)
        return reason

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return age, snapshot and G of every objective, and the state of the base."""
        inner = self.base.estimator.init_state(scheme, noise.child("base"))
        age = next(scheme.chain.parameters()).detach().new_zeros(())
        found: dict[str, State] = {}
        for o in scheme.objectives:
            own = scheme.chain.body_parameters(o.updates)
            weights = {name: p.detach().clone() for name, p in own.items()}
            found[o.name] = {
                "age": age,
                **_named("snapshot", weights),
                **_named("mean", {name: torch.zeros_like(w) for name, w in weights.items()}),
                **_named("base", inner.get(o.name, {})),
            }
        return found

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the difference to the snapshot and its mean, or a new snapshot's mean."""
        base, inner = self.base.estimator, _part("base", state)
        age = int(state["age"]) % self.period
        found: Estimate = base(view, noise.child("base"), inner)
        grads = view.gradients(found)
        if age == 0:
            snapshot = {name: p.detach().clone() for name, p in view.params.items()}
            for k in range(1, self.full):
                more = view.gradients(base(view, noise.child(f"full{k}"), inner))
                grads = {name: g + (more[name] - g) / (k + 1) for name, g in grads.items()}
            mean = grads
        else:
            snapshot, mean = _part("snapshot", state), _part("mean", state)
            # copies: a base that moves the weights in place puts them back up to rounding
            there = view.with_(params={name: w.clone() for name, w in snapshot.items()})
            other = noise.child("base" if self.share == "z" else "snapshot")
            then = there.gradients(base(there, other, inner))
            grads = {name: g - then[name] + mean[name] for name, g in grads.items()}
            if self.mean:
                weight = 1 / (self.full + age)
                mean = {name: g + weight * (then[name] - g) for name, g in mean.items()}
        new = {
            "age": torch.full_like(state["age"], age + 1),
            **_named("snapshot", snapshot),
            **_named("mean", mean),
            **_named("base", inner if found.new_state is None else found.new_state),
        }
        return replace(found, credit=None, along=None, grads=grads, new_state=new)

    def expected(self, view: View, state: State) -> Grads | None:
        """Return g(θ) − g(w) + G around a base without bias; g(θ) at a snapshot."""
        claims: Claims = self.base.estimator.claims(Alone(view))
        if claims.bias != "none":
            return None
        here = view.reverse()
        if int(state["age"]) % self.period == 0:
            return here
        then, mean = view.with_(params=_part("snapshot", state)).reverse(), _part("mean", state)
        return {name: g - then[name] + mean[name] for name, g in here.items()}


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under names with a prefix."""
    return {f"{prefix}:{name}": t for name, t in tensors.items()}


def _part(prefix: str, state: State) -> dict[str, Any]:
    """Return the tensors of a state that have a prefix, without it."""
    return {name.partition(":")[2]: t for name, t in state.items() if name.startswith(f"{prefix}:")}
