"""Watchers of an estimator: they record what it draws and which oracles it calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from fgbench.core.noise.directions import Directions, Draw, along, fixed
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import PerExample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

    from fgbench.core.estimator import Estimate, Estimator
    from fgbench.core.noise.laws import Shape
    from fgbench.core.view import View


@dataclass(frozen=True)
class Request:
    """Arguments of one call of ``noise.directions``.

    Args:
        path: purposes of the noise it was asked of.
        step: step of that noise.
        places: place name and shape as drawn, in order.
        n: number of directions.
        law: their law.
        per_example: whether the first axis of the places is the example axis.
        repeats: how many times the example axis repeats what is drawn.

    Example:
        >>> Request((), 0, (("l0", (2, 4)),), 1, "gaussian", per_example=False).asked
        {'l0': (2, 4)}
    """

    path: tuple[str, ...]
    step: int
    places: tuple[tuple[str, Shape], ...]
    n: int
    law: str
    per_example: bool
    repeats: int = 1

    @property
    def asked(self) -> Mapping[str, Shape]:
        """The places as they were asked for."""
        if not self.per_example:
            return dict(self.places)
        whole = {name: (shape[0] * self.repeats, *shape[1:]) for name, shape in self.places}
        return PerExample(whole, self.repeats)


def _request(noise: Noise, places: Mapping[str, Shape], n: int, law: str) -> Request:
    """Return a call of ``noise.directions`` as a request."""
    if not isinstance(places, PerExample):
        return Request(noise.path, noise.step, tuple(places.items()), n, law, per_example=False)
    drawn = tuple(places.drawn.items())
    return Request(noise.path, noise.step, drawn, n, law, True, places.repeats)


@dataclass
class Log:
    """Record of the draws of an estimator.

    Attributes:
        requests: every distinct call of ``noise.directions``, in order.
        others: every other draw, by name.
        clashes: keys that two different purposes of one estimator call drew.

    Example:
        >>> Log().used
        False
    """

    requests: dict[Request, None] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    _owner_of: dict[int, int] = field(default_factory=dict)
    _owners: int = 0

    def begin(self) -> None:
        """Start a new estimator call; calls may share draws."""
        self._owner_of.clear()

    @property
    def used(self) -> bool:
        """Whether anything has been drawn since the call began."""
        return bool(self._owner_of)

    def owner(self) -> int:
        """Return a number for whoever draws next."""
        self._owners += 1
        return self._owners

    def drawn(self, owner: int, key: int, what: str) -> None:
        """Note that an owner drew a key."""
        if self._owner_of.setdefault(key, owner) != owner and what not in self.clashes:
            self.clashes.append(what)


@dataclass(frozen=True)
class Watched(Noise):
    """Noise that draws as usual and keeps a log.

    Args:
        log: shared by all noise derived from this.

    Example:
        >>> noise = Watched(0)
        >>> noise.directions({"l0": (2, 4)}).n, len(noise.log.requests)
        (1, 1)
    """

    log: Log = field(default_factory=Log)

    def _note(self, owner: int, kind: str, name: str, block: int, shape: Shape) -> None:
        """Note one draw."""
        where = f"path {'/'.join(self.path) or '(root)'}, step {self.step}, {name!r}"
        what = f"{where}, block {block}, {kind} {tuple(shape)}"
        self.log.drawn(owner, self.key(name, block, kind, tuple(shape)), what)

    def directions(
        self, places: Mapping[str, Shape], n: int = 1, law: str = "gaussian"
    ) -> Directions:
        """Return the ordinary directions; one object may redraw its own blocks."""
        request = _request(self, places, n, law)
        self.log.requests[request] = None
        draw = partial(self._directed, self.log.owner())

        def lasting(every: int) -> Draw:
            noise = self.held(every)
            assert isinstance(noise, Watched)
            return partial(noise._directed, self.log.owner())

        return along(places, n, law, draw, held=lasting)

    def _directed(
        self,
        owner: int,
        kind: str,
        name: str,
        block: int,
        shape: Shape,
        out: Tensor | None = None,
        /,
    ) -> Tensor:
        """Draw one block of directions."""
        self._note(owner, kind, name, block, shape)
        return super().draw(kind, name, block, shape, out)

    def again(self, request: Request) -> Directions:
        """Return the directions of a request again, without a note in the log."""
        at = (request.path, request.step, self.device, self.dtype, self.redraw)
        plain = Noise(self.seed, *at)
        return plain.directions(request.asked, request.n, request.law)

    def draw(
        self, kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None
    ) -> Tensor:
        """Draw and note anything but directions."""
        self.log.others.append(f"{kind} {name!r}")
        self._note(self.log.owner(), kind, name, block, shape)
        return super().draw(kind, name, block, shape, out)

    def permutation(self, name: str, n: int) -> torch.Tensor:
        """Draw and note a random order."""
        self.log.others.append(f"permutation {name!r}")
        self._note(self.log.owner(), "permutation", name, 0, (n,))
        return super().permutation(name, n)


@dataclass(frozen=True)
class Given(Noise):
    """Noise whose directions the check chooses; every other draw stays keyed.

    Args:
        plan: from a request to directions ``[n, *place]`` by place.

    Example:
        >>> import torch
        >>> noise = Given(0, plan=lambda request: {"l0": torch.ones(1, 4)})
        >>> noise.directions({"l0": (4,)}).n
        1
    """

    plan: Callable[[Request], Mapping[str, Tensor]] | None = None

    def directions(
        self, places: Mapping[str, Shape], n: int = 1, law: str = "gaussian"
    ) -> Directions:
        """Return what the plan gives for this request."""
        assert self.plan is not None
        return fixed(self.plan(_request(self, places, n, law)), places)


class _Around:
    """An estimator with another way of being called."""

    def __init__(self, inner: Estimator, call: Callable[..., Estimate]) -> None:
        self._inner, self._call = inner, call

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the estimator."""
        return getattr(self._inner, name)

    def __call__(self, view: View, noise: Noise, state: Mapping[str, Tensor]) -> Estimate:
        """Call the watcher with the estimator and its arguments."""
        return self._call(self._inner, view, noise, state)


def around(inner: Estimator, call: Callable[..., Estimate]) -> Estimator:
    """Return the estimator called as ``call(estimator, view, noise, state)``, under its own name.

    Example:
        >>> from fgbench.registry import make
        >>> bp = make("estimators", "bp").thing
        >>> watched = around(bp, lambda inner, view, noise, state: inner(view, noise, state))
        >>> type(watched).__name__ == type(bp).__name__
        True
    """
    kind = type(type(inner).__name__, (_Around,), {})
    made: Estimator = kind(inner, call)
    return made


class Oracles:
    """View that passes every call on and records it.

    Args:
        view: the view.
        used: where names are noted, ``slopes(step)`` for finite differences.
        pulls: where the cotangents of every pull are noted.
        disturb: what becomes of the answer of the first pull.

    Example:
        >>> used: list[str] = []
        >>> Oracles("a view", used).upper(), used
        ('A VIEW', ['upper'])
    """

    def __init__(
        self,
        view: View,
        used: list[str],
        pulls: list[list[Tensor]] | None = None,
        disturb: Callable[[dict[Any, Tensor]], dict[Any, Tensor]] | None = None,
    ) -> None:
        self._view, self._used, self._pulls, self._disturb = view, used, pulls, disturb

    def __getattr__(self, name: str) -> Any:
        """Record the name and return the view's attribute."""
        found = getattr(self._view, name)
        self._used.append(name)
        return found

    def slopes(self, directions: Directions, step: float | None = None) -> Tensor:
        """Record whether a step was given, and return the slopes."""
        self._used.append("slopes" if step is None else "slopes(step)")
        return self._view.slopes(directions, step)

    def with_(self, *args: Any, **more: Any) -> Oracles:
        """Return the view at another place, watched too."""
        self._used.append("with_")
        return Oracles(self._view.with_(*args, **more), self._used, self._pulls, self._disturb)

    def pull(self, cotangents: Mapping[Any, Tensor], *args: Any, **more: Any) -> dict[Any, Tensor]:
        """Record the cotangents, and return their pull."""
        self._used.append("pull")
        found = self._view.pull(cotangents, *args, **more)
        if self._pulls is None:
            return found
        self._pulls.append([c.detach().clone() for c in cotangents.values()])
        if self._disturb is not None and len(self._pulls) == 1:
            return self._disturb(found)
        return found
