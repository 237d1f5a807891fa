"""Rules by which parameters follow an estimate, where that is more than a step of an optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.clock import Clock
    from fgbench.core.noise.keyed import Noise


@dataclass(frozen=True)
class Move:
    """One step of training, as a rule sees it: an estimate, and what can be done with it.

    Args:
        body: estimated parameters by qualified name; a rule may write into them.
        readouts: parameters of readouts, which have exact gradients; a rule may write into them.
        grads: estimated gradient of the body. One along directions is formed place by place, when it is asked
            for.
        readout_grads: exact gradient of the readouts.
        clock: the moment of training; None outside a training run.
        noise: of this step, for rules that draw.
        step: takes a step of the recipe's optimiser along gradients of the body and of the readouts.
        losses: returns the scheme's loss on the batch at the present parameters, and prices it.
        save: copies parameters and the buffers of the optimiser; returns what puts them back.
        known: the scheme's loss at the start of the step, where the estimate has found it.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0])
        >>> def descend(grads, readouts):
        ...     _ = w.sub_(0.5 * grads["w"])
        >>> move = Move({"w": w}, {}, {"w": torch.tensor([2.0])}, {}, None, None, descend, None, None)
        >>> move.take()
        >>> w
        tensor([0.])
    """

    body: Mapping[str, Tensor]
    readouts: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    readout_grads: Mapping[str, Tensor]
    clock: Clock | None
    noise: Noise | None
    step: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]
    losses: Callable[[], Tensor]
    save: Callable[[], Callable[[], None]]
    known: Tensor | None = None

    def take(self, grads: Mapping[str, Tensor] | None = None) -> None:
        """Take one step of the recipe's optimiser; readouts follow their exact gradient.

        Args:
            grads: gradients of the body in place of the estimate.
        """
        self.step(self.grads if grads is None else grads, self.readout_grads)

    def before(self) -> Tensor:
        """Return the scheme's loss on the batch at the start of the step; call it before anything moves."""
        return self.losses() if self.known is None else self.known

    def loss(self) -> Tensor:
        """Return the scheme's loss on the batch at the present parameters, as one number on their device.

        Cost: a forward pass through every window of the scheme.
        """
        return self.losses()

    def saved(self) -> Callable[[], None]:
        """Copy the parameters and the optimiser's buffers.

        Returns:
            A function that puts them back.
        """
        return self.save()


class Update(Protocol):
    """A rule that decides how parameters follow an estimate: a frozen dataclass of options.

    Its state is a dictionary of tensors, which goes into checkpoints. It is the rule alone that may move
    parameters, by :meth:`Move.take` or by writing into them.

    Example:
        >>> class Halved:
        ...     def start(self, body, readouts):
        ...         return {}
        ...     def step(self, move, state):
        ...         move.take({name: g / 2 for name, g in move.grads.items()})
        ...         return state
        >>> rule: Update = Halved()
    """

    def start(
        self, body: Mapping[str, Tensor], readouts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the state at the start of training.

        Args:
            body: estimated parameters by name; a rule may write into them.
            readouts: parameters of readouts.
        """

    def step(self, move: Move, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move the parameters once.

        Args:
            move: the estimate and what can be done with it.
            state: that of the step before; it may be written into.

        Returns:
            The state after the step, of the same names and shapes.
        """
