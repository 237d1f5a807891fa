"""Localities with readouts of their own, as a user's plug-in would bring them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fgbench.core.network import Chain, Readout, Tap, untouched
from fgbench.core.objective import Objective, completed, per_module


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


@dataclass(frozen=True)
class Twins:
    """A loss per module, read by a copy of the linear readout there, under another name."""

    def attach(self, chain: Chain) -> None:
        chain.attach()
        for k in range(len(chain) - 1):
            own = copy.deepcopy(chain.readout(f"local{k}"))
            chain.put(f"twin{k}", k, lambda have, n, own=own: own)  # type: ignore[misc]

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        own = [f"twin{k}" for k in range(len(chain) - 1)]
        return per_module(chain, cut=True, readouts=[*own, "final"])


@dataclass(frozen=True)
class Partial:
    """The final loss, which updates some of the modules; none with ``()``."""

    updates: tuple[int, ...] = (1,)

    def attach(self, chain: Chain) -> None: ...

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        found = [Objective("some", (0, len(chain)), "final", self.updates)] if self.updates else []
        return completed(chain, found)


class Raising(Auxiliary):
    """A head whose losses raise."""

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        raise ValueError("on purpose")


@dataclass(frozen=True)
class Raises(Greedy):
    """A locality that raises in one of its functions: attach, objectives, batch or losses."""

    where: str = "attach"

    def attach(self, chain: Chain) -> None:
        self._raise("attach")
        super().attach(chain)
        if self.where == "losses":
            chain.put("local0", 0, lambda have, n: Raising(n, 4, chain.classes))

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        self._raise("objectives")
        return super().objectives(chain)

    def batch(self, pixels: Tensor, labels: Tensor, data: Any, noise: Any) -> tuple[Tensor, Tensor]:
        self._raise("batch")
        return data.normalise(pixels, noise.dtype), labels

    def _raise(self, here: str) -> None:
        if here == self.where:
            raise ValueError("on purpose")
