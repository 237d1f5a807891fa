"""Objectives as data, and localities: how a chain is cut into objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fgbench.network import Chain


@dataclass(frozen=True)
class Objective:
    """One loss, the window it runs through, and the modules it updates.

    Args:
        name: unique within its locality; states are keyed by it.
        window: modules ``first`` to ``stop - 1``; an empty window reads its start. A window starts from
            the recorded clean activity, for values and tangents alike.
        readout: the chain's readout whose loss this is.
        updates: modules whose gradient this objective contributes to; ``()`` for a readout alone.
        keep: axes along which the score stays separate, among those the readout's input has.
        weight: factor of the objective in the scheme's sum.
        head: whether the readout's own parameters learn from this objective.
    """

    name: str
    window: tuple[int, int]
    readout: str
    updates: tuple[int, ...]
    keep: str = "b"
    weight: float = 1.0
    head: bool = True


class Locality(Protocol):
    """Where losses are read and along which axes they stay separate; a frozen dataclass of options."""

    def attach(self, chain: Chain) -> None:
        """Add the auxiliary heads this locality needs; called once, inside seeded noise."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the objectives of one step, in chain order."""


def per_module(chain: Chain, *, cut: bool, keep: str = "b") -> tuple[Objective, ...]:
    """Build one objective per module, and a readout-only one for predictions where they need it.

    Args:
        chain: the chain, with a readout on every module.
        cut: whether each window starts at its own module (True) or at the input (False).
        keep: axes along which scores stay separate.

    Returns:
        The objectives in chain order; the final readout trains alone unless it is the last module's.
    """
    last = len(chain)
    found = tuple(
        Objective(
            name=f"module{k}",
            window=(k if cut else 0, k + 1),
            readout=chain.local_readout(k),
            updates=(k,) if cut else tuple(range(k + 1)),
            keep=keep,
        )
        for k in range(last)
    )
    if chain.local_readout(last - 1) == "final":
        return found
    return (*found, Objective("final", (last, last), "final", ()))
