"""Localities with readouts of their own, as a user's plug-in would bring them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fgbench.core.network import Chain, Readout, Tap, untouched
from fgbench.core.objective import Objective, per_module


class Auxiliary(Readout):
    """A head with a hidden layer."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, hidden), nn.Linear(hidden, classes)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        return self.last(self.first(f.flatten(1)).relu())  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Greedy:
    """A loss per module, each read by an auxiliary network, as in decoupled greedy learning.

    Args:
        hidden: units of its hidden layer.
        name: of the readouts, the number of the module follows.
    """

    hidden: int = 512
    name: str = "local"

    def attach(self, chain: Chain) -> None:
        for k in range(len(chain) - 1):
            chain.put(
                f"{self.name}{k}", k, lambda have, n: Auxiliary(n, self.hidden, chain.classes)
            )

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        own = [f"{self.name}{k}" for k in range(len(chain) - 1)]
        return per_module(chain, cut=True, readouts=[*own, "final"])
