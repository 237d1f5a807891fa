"""Objectives as data, and localities: how a chain is cut into objectives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Protocol

from fgbench.core import axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fgbench.core.axes import Cells
    from fgbench.core.network import Chain


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
        repeats: how many times the batch repeats its examples with the same activity noise, ``(v b)``
            with v of this size: two views of every image may share it.
        aside: readouts whose losses are added on the way, each as (name, number of the module it reads);
            backprop takes the gradient of all in one pass, which is the only oracle for such a sum.

    Example:
        >>> Objective("first", window=(0, 1), readout="local0", updates=(0,)).keep
        'b'
    """

    name: str
    window: tuple[int, int]
    readout: str
    updates: tuple[int, ...]
    keep: str = "b"
    weight: float = 1.0
    head: bool = True
    repeats: int = 1
    aside: tuple[tuple[str, int], ...] = ()

    def kept(self, chain: Chain) -> str:
        """Return the axes along which the scores stay separate, among those the readout's input has."""
        return axes.keep_existing(self.keep, chain.module(self.window[1] - 1).out_axes)

    def count(self, chain: Chain, letters: str) -> int:
        """Return the number of indices of the readout's input along some axes, 1 for those it lacks."""
        sizes = chain.out_sizes(self.window[1] - 1)
        return prod(sizes.get(letter, 1) for letter in axes.names(letters))

    def coupled(self, chain: Chain) -> bool:
        """Return whether it updates modules and the loss of an example depends on other examples."""
        return bool(self.updates) and chain.readout(self.readout).coupled

    def cells(self, chain: Chain, name: str, *, summed: bool = True) -> Cells:
        """Return which scores credit a site or parameter.

        Where the loss of an example depends on other examples, its activity moves all scores of the batch:
        the example axis then counts as mixed, and the credit of an example sums the scores of all.

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
        found = chain.cells(self.kept(chain), name, self.window[1], summed=summed)
        if not summed or not self.coupled(chain):
            return found
        return replace(found, mixed=axes.union(found.mixed, "b"))

    def mixes_kept(self, chain: Chain, names: Iterable[str]) -> bool:
        """Return whether any of these places has other :meth:`cells` where scores are not summed."""
        return any(
            self.cells(chain, name).shared != self.cells(chain, name, summed=False).shared
            for name in names
        )


class Locality(Protocol):
    """Where losses are read and along which axes they stay separate; a frozen dataclass of options.

    It may have more, which :class:`fgbench.core.scheme.Scheme` looks up:

    - ``supports(chain)``: why it cannot be used on a network, in one line, "" where it can;
    - ``on_the_way``: whether it reads losses between the modules, which some networks have no place for;
    - ``end(chain)``: the objective whose gradient is the end truth, in place of the final readout's loss
      through the whole chain; None where the scheme has no such loss;
    - ``active(objectives, clock)``: those of the objectives that run at a moment of training;
    - ``start(chain, k, f, x, targets)``: where the window from module k begins, in place of the activity f
      that arrives there; x are the network's inputs;
    - ``copies``: number of rows of a batch that one image becomes;
    - ``batch(pixels, labels, data, noise)``: makes such a batch of uint8 pixels: inputs, labels, and perhaps
      a dictionary of further tensors by name, for ``start`` and for readouts that need them;
    - ``predictions(chain, x)``: what evaluation takes in place of the predictions of the final readout;
    - ``probe``: learning rate of the final readout between epochs, where no objective teaches it;
    - ``rule``: why its methods estimate no gradient of the final loss, for a training rule.

    Example:
        >>> class EndToEnd:
        ...     def attach(self, chain):
        ...         pass  # the chain has the final readout already
        ...     def objectives(self, chain):
        ...         n = len(chain)
        ...         return (Objective("end", (0, n), "final", updates=tuple(range(n))),)
        >>> locality: Locality = EndToEnd()
        >>> [o.updates for o in locality.objectives(range(2))]  # a chain of two modules
        [(0, 1)]
    """

    def attach(self, chain: Chain) -> None:
        """Add the auxiliary heads this locality needs; called once, inside seeded noise."""

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the objectives of one step, in chain order."""


APART = {
    "p": {"keep": "b p"},
    "pg": {"keep": "b p g"},
}  # endings of a locality's name, such as local-pg


def completed(
    chain: Chain, objectives: Sequence[Objective], end: str = "final"
) -> tuple[Objective, ...]:
    """Return objectives that teach every readout once, the one at the end among them.

    Args:
        chain: the chain.
        objectives: in chain order, each with a readout of its own or sharing one.
        end: the readout at the end.

    Returns:
        The objectives; of those that share a readout only the first teaches it. Where none reads the
        readout at the end, an objective for it alone is added.

    Example:
        >>> first = Objective("first", (0, 1), "local0", (0,))
        >>> [o.name for o in completed(range(2), [first])]  # a chain of two modules
        ['first', 'final']
    """
    last, seen, found = len(chain), set[str](), list[Objective]()
    for objective in objectives:
        found.append(replace(objective, head=objective.readout not in seen))
        seen.add(objective.readout)
    if end not in seen:
        found.append(Objective(end, (last, last), end, ()))
    return tuple(found)


def per_module(
    chain: Chain,
    *,
    cut: bool,
    keep: str = "b",
    repeats: int = 1,
    readouts: Sequence[str] | None = None,
    end: str = "final",
) -> tuple[Objective, ...]:
    """Build one objective per module, and a readout-only one at the end where it needs one.

    Args:
        chain: the chain, with a readout on every module.
        cut: whether each window starts at its own module (True) or at the input (False).
        keep: axes along which scores stay separate.
        repeats: as of :class:`Objective`.
        readouts: the readout of each module; the chain's local ones where None.
        end: the readout at the end.

    Returns:
        The objectives in chain order; the readout at the end trains alone unless it is the last module's.

    Example:
        >>> [(o.window, o.updates) for o in per_module(range(2), cut=True, readouts=["local0", "final"])]
        [((0, 1), (0,)), ((1, 2), (1,))]
    """
    names = readouts or [chain.local_readout(k) for k in range(len(chain))]
    found = [
        Objective(
            name=f"module{k}",
            window=(k if cut else 0, k + 1),
            readout=names[k],
            updates=(k,) if cut else tuple(range(k + 1)),
            keep=keep,
            repeats=repeats,
        )
        for k in range(len(chain))
    ]
    return completed(chain, found, end)
