"""A function of a few parameters in place of a network: what weight-space estimators ask of a view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.clock import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fgbench.core.clock import Clock


class FunctionView:
    """Slopes and credit of a function, exact or by differences, in float64.

    Args:
        loss: from parameters by name to a scalar.
        params: where it is taken.
        clock: of the training.
    """

    def __init__(
        self, loss: Callable[[Any], Tensor], params: dict[str, Tensor], clock: Clock = START
    ) -> None:
        self._loss = loss
        self.params = {name: p.double() for name, p in params.items()}
        self.shapes = {name: tuple(p.shape) for name, p in params.items()}
        self.clock, self.start = clock, torch.zeros(1)
        leaves = {name: p.clone().requires_grad_() for name, p in self.params.items()}
        grads = torch.autograd.grad(loss(leaves), list(leaves.values()))
        self.gradient = dict(zip(leaves, grads, strict=True))

    def price(self, operations: float) -> None:
        """Price nothing."""

    def slopes(self, u: Any, step: float | None = None) -> Tensor:
        """Return ``[n, 1]``: one score, of a batch of one."""
        found = []
        for row in range(u.n):
            v = {name: u.rows(name, row, row + 1)[0] for name in u.names}
            if step is None:
                found.append(sum((self.gradient[name] * t).sum() for name, t in v.items()))
            else:
                moved = {**self.params, **{n: self.params[n] + step * t for n, t in v.items()}}
                found.append((self._loss(moved) - self._loss(self.params)) / step)
        return torch.stack(found).unsqueeze(1)  # type: ignore[arg-type]

    def credit(self, slopes: Tensor, u: Any, combine: str = "mean") -> dict[str, Tensor]:
        """Return the mean of slope times direction."""
        assert combine == "mean"
        return {
            name: torch.tensordot(slopes[:, 0], u.rows(name, 0, u.n), dims=1) / u.n
            for name in u.names
        }
