"""A chain under a locality: which objectives are read, and what an estimator may know before it runs.

The scheme is data alone. :class:`fgbench.core.task.Task` runs it: it walks the objectives on a batch and
owns the exact gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fgbench.core import axes
from fgbench.core.objective import Objective
from fgbench.core.targets import Targets
from fgbench.errors import UsageError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fgbench.core.clock import Clock
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Locality


NO_END = "its losses are no loss of the network's predictions"


class Scheme:
    """A chain under a locality: its objectives, and how its batches are made.

    ``claims``, ``supports`` and ``init_state`` of an estimator read it.

    Args:
        chain: the network; auxiliary heads that the locality needs are attached already
            (see :meth:`build`).
        locality: where losses are read.

    Attributes:
        chain: the network.
        locality: where losses are read.
        refused: why the locality cannot be used on this network, "" where it can; it has no objectives then.
        objectives: the losses of one step, in chain order.
        end: the objective whose gradient is the end truth: the final readout's loss through the whole
            chain unless the locality has another; None where it has none.
        rule: why no gradient of the final loss is estimated, "" where one is.
        copies: number of rows of a batch that one example becomes.
        probe: learning rate of the final readout between epochs, 0 where it learns in the step.

    Raises:
        UsageError: if two objectives share a name, or one does not fit the chain.

    Example:
        >>> from fgbench import registry
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> scheme = Scheme(chain, registry.make("localities", "end").thing)
        >>> [(o.name, o.window) for o in scheme.objectives]
        [('end', (0, 2))]
    """

    def __init__(self, chain: Chain, locality: Locality) -> None:
        self.chain = chain
        self.locality = locality
        self.refused = _unsuited(locality, chain)
        self.objectives = () if self.refused else tuple(locality.objectives(chain))
        final = Objective("end", (0, len(chain)), "final", tuple(range(len(chain))))
        self.end: Objective | None = final
        if not self.refused:
            self.end = self._optional("end", lambda chain: final)(chain)
        self.rule: str = self._optional("rule", NO_END if self.end is None else "")
        self.copies: int = self._optional("copies", 1)
        self.probe: float = self._optional("probe", 0.0)
        self._check()
        self.objectives = tuple(_teaching(o, chain) for o in self.objectives)

    @classmethod
    def build(cls, chain: Chain, locality: Locality, noise: Noise) -> Scheme:
        """Attach the heads that a locality needs and return the scheme.

        Args:
            chain: the network; heads are added to it.
            locality: where losses are read.
            noise: seeds the heads: the same seed gives the same heads.

        Returns:
            The scheme.
        """
        if not _unsuited(locality, chain):
            with noise.child("heads").seeded():
                locality.attach(chain)
        return cls(chain, locality)

    def _optional(self, name: str, default: Any) -> Any:
        """Return an optional attribute of the locality, or the default."""
        return getattr(self.locality, name, default)

    def _check(self) -> None:
        """Refuse objectives that do not fit the chain."""
        for o in self.objectives:
            if not isinstance(o, Objective):
                raise UsageError(f"objectives() needs Objectives, got {type(o).__name__}: {o!r}")
        names = [o.name for o in self.objectives]
        if len(set(names)) < len(names):
            raise UsageError(f"objectives need distinct names, got {names}")
        for o in (*self.objectives, *([] if self.end is None else [self.end])):
            axes.check_named(o.keep)  # raises for an unknown letter
            first, stop = o.window
            if not 0 <= first <= stop <= len(self.chain):
                raise UsageError(
                    f"objective {o.name!r}: window {o.window} outside the chain's modules"
                )
            if stop == 0:
                raise UsageError(
                    f"objective {o.name!r}: window {o.window} reads no module's output"
                )
            self.chain.readout(o.readout)  # raises for an unknown name
            if any(not first <= k < stop for k in o.updates):
                raise UsageError(
                    f"objective {o.name!r} updates modules outside its window {o.window}"
                )

    @property
    def staged(self) -> bool:
        """Whether training runs some of the objectives at a time."""
        return self._optional("active", None) is not None

    def active(self, clock: Clock | None) -> tuple[Objective, ...]:
        """Return the objectives that run at a moment of training; all of them where no moment is given.

        Args:
            clock: the moment.

        Raises:
            UsageError: if the locality names one that it has not.
        """
        if clock is None or not self.staged:
            return self.objectives
        found = tuple(self.locality.active(self.objectives, clock))  # type: ignore[attr-defined]
        for o in found:
            if o not in self.objectives:
                raise UsageError(
                    f"active() of {type(self.locality).__name__} returned {o!r}, which objectives() has not"
                )
        return found

    def start(self, k: int, f: Any, x: Any, targets: Any) -> Any:
        """Return where the window from module k begins: the activity there unless the locality moves it.

        Args:
            k: number of the module.
            f: the activity that arrives there.
            x: the network's inputs.
            targets: of the batch, with what the locality gives beside them.
        """
        moved = self._optional("start", None)
        return f if moved is None else moved(self.chain, k, f, x, targets)

    @property
    def moves(self) -> bool:
        """Whether windows begin elsewhere than at the activity that arrives."""
        return self._optional("start", None) is not None

    @property
    def predictions(self) -> Callable[[Any], Tensor] | None:
        """From inputs to the predictions that evaluation takes; None for those of the final readout."""
        own = self._optional("predictions", None)
        return None if own is None else lambda x: own(self.chain, x)

    def batch(self, inputs: Any, targets: Any, data: Any, noise: Noise) -> tuple[Any, Any]:
        """Make a batch: prepared by its data set, or as the locality makes it (two views of every image).

        Args:
            inputs: as stored, ``[b, ...]``; uint8 pixels of images.
            targets: as stored, ``[b, ...]``.
            data: the data set that prepares them.
            noise: noise of this batch; its dtype is that of real numbers in the batch.

        Returns:
            Inputs ``[(v b), ...]`` and targets ``[(v b), ...]``, v running over ``copies``; targets are
            :class:`fgbench.core.targets.Targets` where the locality gives more with them.

        Raises:
            UsageError: if the locality makes another number of rows, which would price them wrongly.
        """
        make = None if self.refused else self._optional("batch", None)
        if make is None:
            x, y = data.prepare(inputs, targets, noise.dtype)
            return x, y
        x, y, *more = make(inputs, targets, data, noise)
        rows = self.copies * len(inputs)
        if (len(x), len(y)) != (rows, rows):
            raise UsageError(
                f"batch() of {type(self.locality).__name__} made {len(x)} rows and {len(y)} labels of "
                f"{len(inputs)} images, expected {rows} of each: copies is {self.copies}"
            )
        return x, Targets(y, more[0]) if more else y


def _teaching(objective: Objective, chain: Chain) -> Objective:
    """Return an objective that updates only modules with parameters, of none its readout alone."""
    own = tuple(k for k in objective.updates if chain.body_parameters((k,)))
    return objective if own == objective.updates else replace(objective, updates=own)


def _unsuited(locality: Locality, chain: Chain) -> str:
    """Return why a locality cannot be used on a network, "" where it can."""
    return refusal(locality, chain) or chain.only_end * bool(getattr(locality, "on_the_way", False))


def refusal(thing: object, place: object) -> str:
    """Return why a locality cannot be used on a network, or an estimator under a scheme, in one line.

    Args:
        thing: the locality or estimator, somebody else's too.
        place: what its ``supports`` is asked about.

    Returns:
        The reason that it gives; "" where it can be used, or has no ``supports``.

    Raises:
        TypeError: if it gives anything but a text.

    Example:
        >>> class Small:
        ...     def supports(self, chain):
        ...         return "" if len(chain) < 3 else f"has {len(chain)} modules"
        >>> refusal(Small(), "abcd"), refusal(Small(), "ab"), refusal(object(), "ab")
        ('has 4 modules', '', '')
    """
    supports = getattr(thing, "supports", None)
    reason = "" if supports is None else supports(place)
    if not isinstance(reason, str):
        raise TypeError(f"supports returned {type(reason).__name__}, expected a text")
    return one_line(reason)


@dataclass(frozen=True)
class Alone:
    """A scheme of one view's objective alone, which the claims of a nested estimator read.

    Args:
        view: the objective.

    Example:
        >>> from types import SimpleNamespace
        >>> scheme = Alone(SimpleNamespace(chain="a chain", objective="an objective"))
        >>> scheme.chain, scheme.objectives
        ('a chain', ('an objective',))
    """

    view: Any

    @property
    def chain(self) -> Chain:
        """The network."""
        chain: Chain = self.view.chain
        return chain

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objective."""
        return (self.view.objective,)
