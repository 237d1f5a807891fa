"""Objectives as data, and localities: how a chain is cut into objectives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Protocol

from fgbench import axes
from fgbench.axes import Cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    def kept(self, chain: Chain) -> str:
        """Return the axes along which the scores stay separate, among those the readout's input has."""
        return axes.keep_existing(self.keep, chain.module(self.window[1] - 1).out_axes)

    def count(self, chain: Chain, letters: str) -> int:
        """Return the number of indices of the readout's input along some axes, 1 for those it lacks."""
        sizes = chain.out_sizes(self.window[1] - 1)
        return prod(sizes.get(letter, 1) for letter in axes.names(letters))

    def cells(self, chain: Chain, name: str, *, summed: bool = True) -> Cells:
        """Say how the scores meet a site or parameter.

        Args:
            chain: the chain.
            name: qualified name of a site or of a body parameter.
            summed: whether scores are summed over every axis mixed on the way to the readout; otherwise
                only over those that the site's own module mixes after it, as in the founding paper's
                released code, which is biased where a later module or, for a parameter, the norm before
                the site mixes kept axes.

        Returns:
            The kept axes, the place's axes and everything mixed in between.
        """
        site_name = name if name in chain.index else name.rpartition(".")[0]
        kept = self.kept(chain)
        if site_name not in chain.index:
            return Cells(kept, "", "")
        k, site = chain.index[site_name]
        later = range(k + 1, self.window[1]) if summed else ()
        mixed = axes.union(site.mixed_after, *(chain.module(j).mixes for j in later))
        if name == site_name:
            return Cells(kept, site.axes, mixed)
        place = chain.module(k).param_axes.get(name.removeprefix(f"body.{k}."), "")
        return Cells(kept, place, axes.union(mixed, site.op_mixes) if summed else mixed)

    def mixes_kept(self, chain: Chain, names: Iterable[str]) -> bool:
        """Whether one of some places has other :meth:`cells` where scores are not summed."""
        return any(
            self.cells(chain, name).shared != self.cells(chain, name, summed=False).shared
            for name in names
        )


class Locality(Protocol):
    """Where losses are read and along which axes they stay separate; a frozen dataclass of options."""

    def attach(self, chain: Chain) -> None:
        """Add the auxiliary heads this locality needs; called once, inside seeded noise."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the objectives of one step, in chain order."""


APART = {
    "p": {"keep": "b p"},
    "pg": {"keep": "b p g"},
}  # endings of a locality's name, such as local-pg


def completed(chain: Chain, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Let every readout learn once, and the final one alone where no objective reads it.

    Args:
        chain: the chain.
        objectives: in chain order, each with a readout of its own or sharing one.

    Returns:
        The objectives; of those that share a readout only the first teaches it.
    """
    last, seen, found = len(chain), set[str](), list[Objective]()
    for objective in objectives:
        found.append(replace(objective, head=objective.readout not in seen))
        seen.add(objective.readout)
    if "final" not in seen:
        found.append(Objective("final", (last, last), "final", ()))
    return tuple(found)


def per_module(chain: Chain, *, cut: bool, keep: str = "b") -> tuple[Objective, ...]:
    """Build one objective per module, and a readout-only one for predictions where they need it.

    Args:
        chain: the chain, with a readout on every module.
        cut: whether each window starts at its own module (True) or at the input (False).
        keep: axes along which scores stay separate.

    Returns:
        The objectives in chain order; the final readout trains alone unless it is the last module's.
    """
    found = [
        Objective(
            name=f"module{k}",
            window=(k if cut else 0, k + 1),
            readout=chain.local_readout(k),
            updates=(k,) if cut else tuple(range(k + 1)),
            keep=keep,
        )
        for k in range(len(chain))
    ]
    return completed(chain, found)
