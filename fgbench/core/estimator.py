"""What an estimator is: a frozen dataclass of options that turns one view into one estimate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from fgbench.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

Bias = Literal["none", "vanishing", "some"]
Backward = Literal["none", "segment", "module", "network"]


@dataclass(frozen=True)
class Claims:
    """What an estimator promises; every promise is a check in :mod:`fgbench.conformance`.

    Args:
        bias: ``none``: the mean is the scheme's gradient; ``vanishing``: it tends to it with a step
            size; ``some``: it does not.
        backward: how far reverse mode reaches. ``none`` and ``segment`` run behind the gate: the task's
            one-layer pullbacks are all they get.
        deterministic: equal inputs give equal estimates whatever the noise.
        slopes_only: no oracle but exact slopes at the clean point is used, and the credit is slope
            times direction: a faster engine may serve the slopes, and measuring may use the known law
            of the directions to sharpen its intervals.
        why: what makes it biased here, where an option or the locality does, as a table says it.
    """

    bias: Bias = "some"
    backward: Backward = "network"
    deterministic: bool = False
    slopes_only: bool = False
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse a claim that says nothing, with the valid ones."""
        for name, valid in (("bias", get_args(Bias)), ("backward", get_args(Backward))):
            if getattr(self, name) not in valid:
                raise unknown(f"claim of {name}", str(getattr(self, name)), valid)

    @property
    def gated(self) -> bool:
        """Whether reverse mode is refused while the estimator runs."""
        return self.backward in ("none", "segment")


@dataclass
class Estimate:
    """What one call returns: credit by place, or gradients by parameter.

    Args:
        credit: site name (or (kind, name)) to estimated cotangent; the task pulls it back.
        grads: body parameter name to estimated gradient.
        state_grads: state name to gradient, for learned state.
        new_state: state that replaces the old one.
        readouts: gradient of the objective's own readout by parameter name, where the rule has another
            than the exact one, which the task gives it otherwise.
    """

    credit: Mapping[Any, Tensor] | None = None
    grads: Mapping[str, Tensor] | None = None
    state_grads: Mapping[str, Tensor] = field(default_factory=dict)
    new_state: Mapping[str, Tensor] | None = None
    readouts: Mapping[str, Tensor] | None = None


State = dict[str, "Tensor"]


class Estimator(Protocol):
    """A way to estimate the gradient of an objective. Only ``__call__`` has no default.

    One with learned state may name that state's optimiser, ``state_optimizer = ("adam", 1e-3)``; without,
    learned state takes plain gradient steps of rate 1.
    """

    def claims(self, scheme: Scheme, /) -> Claims:
        """Return what this estimator promises on this task."""

    def supports(self, scheme: Scheme, /) -> str:
        """Return "" where it can run, else the reason, shown as a skip."""

    def init_state(self, scheme: Scheme, noise: Noise, /) -> dict[str, State]:
        """Return the state of each objective by name; ``{}`` unless it needs some."""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Estimate the gradient of one objective on one batch; pure."""

    def predicted_variance(self, view: View) -> Mapping[str, Tensor] | None:
        """Return the closed-form total variance by parameter name (scalars), or None."""


class Defaults:
    """The parts of an estimator that most do not need to write."""

    def claims(self, scheme: Scheme, /) -> Claims:
        """Promise nothing: some bias, any backward."""
        return Claims()

    def supports(self, scheme: Scheme, /) -> str:
        """Run everywhere."""
        return ""

    def init_state(self, scheme: Scheme, noise: Noise, /) -> dict[str, State]:
        """Keep no state."""
        return {}

    def predicted_variance(self, view: View) -> Mapping[str, Tensor] | None:
        """Know no closed form."""
        return None
