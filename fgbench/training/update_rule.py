"""The update rule of a training: the recipe's, or the one that its estimator names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.core.update import Move
from fgbench.errors import UsageError
from fgbench.training import optimizer_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.clock import Clock
    from fgbench.core.estimator import Estimator
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Step
    from fgbench.core.update import Update

NONE = "none"
"""The update of a recipe that takes plain steps of the optimiser whatever the estimator names."""


def named(update: str, estimator: Estimator) -> str:
    """Return the update rule of a recipe, or else of an estimator; "" where there is none.

    Args:
        update: of the recipe.
        estimator: whose attribute ``update`` counts where the recipe has none.

    Returns:
        Name of a rule with its options, or ``path.py:Name``.

    Example:
        >>> named("", object()), named("none", object()), named("sign", object())
        ('', '', 'sign')
    """
    own = getattr(estimator, "update", "")
    if not isinstance(own, str):
        who = type(estimator).__name__
        raise UsageError(
            f"update of {who}: expected the name of an update rule, got {type(own).__name__}"
        )
    found = update or own
    return "" if found == NONE else found


def made(update: str) -> Update | None:
    """Return the rule that a text names, None for "".

    Args:
        update: name of a rule with its options, or ``path.py:Name``.

    Returns:
        The rule.

    Raises:
        UsageError: for an unknown name or option, or what is no rule.

    Example:
        >>> made("sgn")
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown update 'sgn'; did you mean 'sign'?
    """
    if not update or update == NONE:
        return None
    rule: Any = registry.make("updates", update).thing
    for method in ("start", "step"):
        if not callable(getattr(rule, method, None)):
            raise UsageError(
                f"update {update}: expected start(body, readouts) and step(move, state); it has no {method}"
            )
    found: Update = rule
    return found


class RuleSteps:
    """Steps by a rule, and the rule's state.

    Args:
        rule: the rule.
        chain: the network.
        optimizer: of the recipe.

    Attributes:
        rule: the rule.
        state: its state.

    Raises:
        UsageError: if its state is no dictionary of tensors.

    Example:
        >>> from fgbench.workload import Workload
        >>> chain = Workload.of("mlp-1x4", "synthetic[train=64,test=32]").chain(seed=0)
        >>> optimizer = torch.optim.SGD(chain.parameters(), lr=0.1)
        >>> RuleSteps(made("sign"), chain, optimizer).state
        {}
    """

    def __init__(self, rule: Update, chain: Chain, optimizer: torch.optim.Optimizer) -> None:
        self.rule, self._optimizer = rule, optimizer
        self._params: dict[str, Tensor] = dict(chain.named_parameters())
        self._body: dict[str, Tensor] = dict(chain.body_parameters())
        self._readouts: dict[str, Tensor] = {
            name: p
            for readout in chain.readouts
            for name, p in chain.readout_parameters(readout).items()
        }
        self.state = self._sound("start", rule.start(self._body, self._readouts))

    def take(
        self,
        estimate: Step,
        clock: Clock | None = None,
        noise: Noise | None = None,
        loss: Callable[[], Tensor] | None = None,
    ) -> None:
        """Move the parameters along an estimate by the rule.

        Args:
            estimate: gradients of body and readouts.
            clock: the moment of training.
            noise: of this step.
            loss: returns the scheme's loss on the batch at the present parameters.

        Raises:
            UsageError: if the rule asks for a loss that there is not, or returns another kind of state.
        """
        means = [weight * losses.mean() for weight, losses in estimate.losses.values()]
        found = Move(
            body=self._body,
            readouts=self._readouts,
            grads=estimate.body,
            readout_grads=estimate.readouts,
            clock=clock,
            noise=noise,
            step=self._step,
            losses=loss or _no_loss,
            save=lambda: optimizer_steps.saved(self._optimizer, self._params),
            known=torch.stack(means).sum() if means else None,
        )
        before = self.state
        self.state = self._sound("step", self.rule.step(found, before))
        for name, t in before.items():
            new = self.state.get(name)
            if new is None or (new.shape, new.dtype) != (t.shape, t.dtype):
                who, wanted = type(self.rule).__name__, f"{list(t.shape)} {t.dtype}"
                raise UsageError(
                    f"step of {who}: the state needs {name!r} {wanted}, as start gave it"
                )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the state to that of a checkpoint."""
        self.state = {name: t.to(self.state[name].device) for name, t in state.items()}

    def _step(self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]) -> None:
        """Take a step of the optimiser along gradients."""
        optimizer_steps.take(self._optimizer, self._params, body, readouts)

    def _sound(self, method: str, state: Any) -> dict[str, Tensor]:
        """Return a rule's state, or refuse what is no dictionary of tensors."""
        if isinstance(state, dict) and all(isinstance(t, torch.Tensor) for t in state.values()):
            return state
        who = type(self.rule).__name__
        raise UsageError(
            f"{method} of {who} returned {type(state).__name__}, expected a dictionary of tensors"
        )


def _no_loss() -> Tensor:
    """Refuse to evaluate a loss where no batch is at hand."""
    raise UsageError(
        "this update rule evaluates the loss, which is possible in a training run only"
    )
