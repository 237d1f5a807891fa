"""The estimator protocol: a frozen dataclass of options that turns one view into one estimate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from fgbench.core.scheme import refusal
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.along import Along
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

Bias = Literal["none", "vanishing", "scale", "some"]
Backward = Literal["none", "segment", "module", "network"]
Kind = Literal["gradient", "step", "rule"]

ONE_PASS = (
    "losses on the way are added in one backward pass, which backprop alone makes; use module"
)


@dataclass(frozen=True)
class Claims:
    """The promises of an estimator, each checked in :mod:`fgbench.conformance`.

    Args:
        bias: ``none``: the mean is the scheme's gradient; ``vanishing``: it tends to it with a step
            size; ``scale``: it is c times that gradient, with some c > 0; ``some``: it is not.
        backward: how far reverse mode reaches. ``none`` and ``segment`` run behind the gate: the task's
            one-layer pullbacks are all they get.
        deterministic: equal inputs give equal estimates whatever the noise.
        slopes_only: nothing but :class:`fgbench.core.oracles.Oracles` at the clean point is used, without
            a step, and the credit is slope times direction. A faster engine may then compute the slopes,
            and measuring may use the known law of the directions to sharpen its intervals.
        why: reason for the bias in this scheme, where an option or the locality causes it; shown in tables.
        kind: ``gradient``: the result estimates a gradient; ``step``: it is a step of another kind, such as
            one of Newton's method; ``rule``: a learning rule that estimates no gradient. Of the last two no
            bias is measured.
        exact: the estimate is free of noise, given the state; it is then trained by the recipe of an exact
            gradient.

    Raises:
        UsageError: for a bias, a reach of reverse mode or a kind that does not exist.

    Example:
        >>> Claims(bias="none", backward="segment").gated
        True
    """

    bias: Bias = "some"
    backward: Backward = "network"
    deterministic: bool = False
    slopes_only: bool = False
    why: str = ""
    kind: Kind = "gradient"
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse a value that does not exist, and list the valid ones; refuse a value of another type."""
        for name, valid in (
            ("bias", get_args(Bias)),
            ("backward", get_args(Backward)),
            ("kind", get_args(Kind)),
        ):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in valid:
                raise unknown(f"claim of {name}", str(value), valid)
        for name, kind in (
            ("deterministic", bool),
            ("slopes_only", bool),
            ("exact", bool),
            ("why", str),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                came = type(value).__name__
                raise UsageError(f"the claim {name} is of type {came}, expected {kind.__name__}")

    @property
    def gated(self) -> bool:
        """Whether reverse mode is refused while the estimator runs."""
        return self.backward in ("none", "segment")

    @property
    def noiseless(self) -> bool:
        """Whether an estimate is free of noise, given the state; the recipe is that of exact gradients."""
        return self.deterministic or self.exact


@dataclass
class Estimate:
    """The result of one call: credit by place, gradients by parameter, or a sum of directions.

    Args:
        credit: site name (or (kind, name)) to estimated cotangent; the task pulls it back.
        grads: body parameter name to estimated gradient.
        state_grads: state name to gradient, for learned state.
        new_state: state that replaces the old one.
        readouts: gradient of the objective's own readout by parameter name, where the rule has one of its
            own; otherwise the task computes the exact one.
        along: the gradient as coefficients of directions along body parameters; it is applied place by place
            and never formed as a whole.

    Example:
        >>> Estimate(credit={}).grads is None
        True
    """

    credit: Mapping[Any, Tensor] | None = None
    grads: Mapping[str, Tensor] | None = None
    state_grads: Mapping[str, Tensor] = field(default_factory=dict)
    new_state: Mapping[str, Tensor] | None = None
    readouts: Mapping[str, Tensor] | None = None
    along: Along | None = None


State = dict[str, "Tensor"]


class Estimator(Protocol):
    """A way to estimate the gradient of an objective. Only ``__call__`` has no default.

    ``claims``, ``supports`` and ``init_state`` read the scheme, such as ``scheme.chain`` and
    ``scheme.objectives``; see :class:`fgbench.core.scheme.Scheme`.
    An estimator that claims ``slopes_only`` may take any :class:`fgbench.core.oracles.Oracles` as its view.

    An estimator with learned state may name the optimiser of that state, one of
    :data:`fgbench.training.optimizers.NAMES`, ``state_optimizer = ("adam", 1e-3)``; without it, learned state
    takes plain gradient steps of rate 1.
    It may name the rule by which its estimates move the parameters, ``update = "sign"``, see
    :class:`fgbench.core.update.Update`; a recipe that names one wins.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> from fgbench.core.noise.keyed import Noise
        >>> class ForwardGradient(Defaults):
        ...     def __call__(self, view, noise, state):
        ...         u = noise.directions(view.shapes)
        ...         return Estimate(grads=view.credit(view.slopes(u), u))
        >>> estimator: Estimator = ForwardGradient()
        >>> list(estimator(example_view(), Noise(0), {}).grads)
        ['body.0.l0.weight', 'body.0.l0.bias']
    """

    def claims(self, scheme: Scheme, /) -> Claims:
        """Return what this estimator promises under this scheme."""

    def supports(self, scheme: Scheme, /) -> str:
        """Return "" where it can run, otherwise the reason why not, which is shown as a skip."""

    def init_state(self, scheme: Scheme, noise: Noise, /) -> dict[str, State]:
        """Return the state of each objective by name, ``{}`` where none is needed.

        The noise is that of the run under the purpose ``state``, so it shares no draw with training.
        """

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Estimate the gradient of one objective on one batch; pure."""

    def expected(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return the documented mean by parameter name where it is another than the gradient, or None."""

    def predicted_variance(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return the closed-form total variance by parameter name (scalars), or None."""


def why_not(estimator: Estimator, scheme: Scheme) -> str:
    """Return why an estimator cannot run under a scheme, in one line; "" where it can.

    Args:
        estimator: any, somebody else's too.
        scheme: the chain under its locality.

    Returns:
        The reason that the locality or the estimator gives, or that the scheme adds losses on the way and the
        estimator is no backprop.

    Raises:
        TypeError: if the estimator gives anything but a text.

    Example:
        >>> why_not(Defaults(), None)
        ''
    """
    if scheme is not None and scheme.refused:
        return scheme.refused
    if scheme is not None and any(o.aside for o in scheme.objectives):
        claims = estimator.claims(scheme)
        if claims.bias != "none" or claims.backward != "network":
            return ONE_PASS
    return refusal(estimator, scheme)


class Defaults:
    """Defaults of the estimator protocol: no promises, no state, no closed form.

    Example:
        >>> Defaults().supports(None), Defaults().init_state(None, None)
        ('', {})
    """

    def claims(self, scheme: Scheme, /) -> Claims:
        """Return no promise: some bias, any use of reverse mode."""
        return Claims()

    def supports(self, scheme: Scheme, /) -> str:
        """Return "": it runs everywhere."""
        return ""

    def init_state(self, scheme: Scheme, noise: Noise, /) -> dict[str, State]:
        """Return no state."""
        return {}

    def expected(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return None: no other mean than the gradient is documented."""
        return None

    def predicted_variance(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return None: there is no closed form."""
        return None
