"""A direction of the weights times one bit: the sign of its central difference, by majority of clients."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.along import Along
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "feedsign")
@dataclass(frozen=True)
class FeedSign(Defaults):
    """FeedSign: all clients know one direction v, each votes the sign of its slope, and the majority decides.

    Client k has its own part of the batch, with losses L_k, and votes sign(L_k(w + ε v) − L_k(w − ε v)). The
    estimate is f v with f = sign(Σ votes), 0 for a tie. A step therefore takes one bit of each client and one
    bit back, and a trained model is its start, a seed, and a list of bits.

    The magnitude of the slope is lost: as ε → 0 one client and a gaussian law have the mean √(2/π) g/|g| and
    E|f v|² = d. The direction is kept; the step does not shrink near a minimum unless the rate does, and it
    does not depend on the scale of the loss. A vote that is turned round with probability q scales the mean
    by 1 − 2q. Clients of different data each have one vote, whatever the size of their gradients, so the
    steps come to rest where the votes balance and not where the mean loss is least.

    Also known as: the scalar sign of zeroth-order SGD (ZO-SGD-Sign as released code has it), with one client;
    sign-m-SPSA is the mean of m such estimates (``directions``).

    Not to be confused with: the sign of every entry of an estimate (``update=sign``); signSGD with majority
    vote, where clients send a bit for every weight.

    Args:
        clients: K, parts of the batch of about equal size.
        byzantine: how many of them, the first ones, vote against their slope.
        directions: directions that are voted on and averaged.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        step: ε, the length of the perturbation in units of the weights.

    Cost: 2 ``directions`` forward passes, and the clean one from which the readout learns. The memory is that
    of inference, as in ``mezo``.

    References: Cai, Chen, Zhu, FeedSign: Robust full-parameter federated fine-tuning of large models with
    extremely low communication overhead of one bit, 2025 (arXiv:2501.17610); Feng et al., Stepping forward on
    the last mile, NeurIPS 2024 (arXiv:2411.04036).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="feedsign[clients=5]", **case)["cost"]["forwards"]
        3.0
    """

    clients: Annotated[int, Field(ge=1)] = 1
    byzantine: Annotated[int, Field(ge=0)] = 0
    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    step: Annotated[float, Field(gt=0)] = 1e-3

    recipe: ClassVar[dict[str, Any]] = {"lr": 0.005, "momentum": 0.0}

    def __post_init__(self) -> None:
        """Refuse an unknown law, and more Byzantine clients than clients."""
        law(self.law)
        if self.byzantine > self.clients:
            raise UsageError(f"byzantine={self.byzantine} of clients={self.clients}")

    def claims(self, scheme: Scheme) -> Claims:
        """Biased: its length is not the gradient's; values only, nothing goes back."""
        why = "one bit per direction: the gradient's length is lost"
        return Claims(bias="some", backward="none", why=why)

    def supports(self, scheme: Scheme) -> str:
        """Not where losses compare the examples of several clients."""
        for o in scheme.objectives if self.clients > 1 else ():
            if o.updates and scheme.chain.readout(o.readout).coupled:
                return f"clients={self.clients}: the losses of {o.name!r} compare examples with each other"
        return ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the majority's sign of each direction."""
        v = noise.directions(view.shapes, self.directions, self.law)
        signs = []
        for row in range(v.n):
            up, down = view.losses_along(v, row, (self.step, -self.step))
            signs.append(self.majority(up - down))
        return Estimate(along=Along(v, torch.stack(signs) / v.n))

    def majority(self, change: Tensor) -> Tensor:
        """Return the sign that most clients vote for, 0 for a tie.

        Args:
            change: of the loss of each example, ``[b]``.
        """
        votes = torch.stack([part.sum().sign() for part in change.tensor_split(self.clients)])
        votes[: self.byzantine] *= -1
        return votes.sum().sign()

    def expected(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return √(2/π) g/|g|, the mean of one client with gaussian noise as the step tends to 0."""
        if self.clients > 1 or self.byzantine or self.law != "gaussian":
            return None
        grads = view.reverse()
        norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
        return {name: (2 / pi) ** 0.5 * g / norm for name, g in grads.items()}
