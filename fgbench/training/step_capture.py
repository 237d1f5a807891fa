"""Steps captured once and replayed as CUDA graphs, with noise that stays what its keys say.

A captured step is launched as a whole, so a step that the host cannot launch as fast as the device works
takes the device's time alone. A replay runs the kernels of the capture on the memory of the capture, and no
Python: what the host decides in a step (which noise, which rate, which examples) must lie in buffers that
are filled before every replay. Noise is reseeded by its key for every draw, which a replay cannot do, so
its draws are fed from buffers (:mod:`fgbench.core.noise.replay`). A captured run has the noise of
a plain one to the
bit, and takes the same steps where the kernels are deterministic.

Real steps are rehearsed before the capture: they show which draws a step makes, and that it makes the
same ones every time. A step that cannot be captured is taken as it is, and the reason is kept.
"""

from __future__ import annotations

from itertools import repeat
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

from fgbench.core.noise.replay import NoiseReplay, Uncapturable
from fgbench.errors import UsageError, reason, unknown
from fgbench.training.cuda_graphs import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor

    from fgbench.core.noise.keyed import Noise
    from fgbench.training.cuda_graphs import Backend

T = TypeVar("T")
MODES = ("auto", "on", "off")
WARM_UP = 3
"""Steps before any is timed: they build what later steps find built."""
TIMED = 5
"""Steps that are timed to see whether the host holds the device up."""
BOUND = 0.8
"""Part of a step's time that its launches take from where on the step counts as bound by them."""


def asked(mode: str, device: torch.device) -> str:
    """Check what was asked for.

    Args:
        mode: ``auto`` (where launches bound a step), ``on`` or ``off``.
        device: where the steps are taken.

    Returns:
        The mode.

    Raises:
        UsageError: for another mode, or ``on`` where there is nothing to capture with.
    """
    if mode not in MODES:
        raise unknown("graph", str(mode), MODES)
    if mode == "on" and backend_of(device) is None:
        raise UsageError(
            f"graph 'on' was asked for on device {device.type!r}, and steps are captured on cuda "
            "alone; use auto or off"
        )
    return mode


class Captured(Generic[T]):
    """One step, rehearsed and then captured.

    Args:
        work: a step given its noise by purpose; whatever else changes from step to step it reads from
            tensors that stay where they are.
        noise: the run's noise by purpose.
        backend: what captures.
        held: returns the tensors that steps read and write in place; a step that puts others in their
            place cannot be captured.
    """

    def __init__(
        self,
        work: Callable[[Mapping[str, Noise]], T],
        noise: Mapping[str, Noise],
        backend: Backend,
        held: Callable[[], Sequence[Tensor]] = tuple,
    ) -> None:
        self._work, self._noise, self._backend, self._held = work, noise, backend, held
        self._feed = NoiseReplay()
        self._kept: list[Tensor] = []  # alive, so that no other tensor takes its place unseen
        self._moved = False
        self._found: T
        self._replay: Callable[[], None]

    def rehearse(self, step: int) -> T:
        """Take one step as it is, on the stream of the capture, and note its draws.

        Args:
            step: number of the step.

        Returns:
            What the step gave.
        """
        with self._backend.apart():
            found = self._work(self._feed.noise(self._noise, step))
        self._feed.rehearsed()
        self._moved = self._changed()
        return found

    def _changed(self) -> bool:
        """Say whether steps work on other memory than when this was last asked, which is kept."""
        self._kept, before = list(self._held()), self._kept
        return [t.data_ptr() for t in self._kept] != [t.data_ptr() for t in before]

    def capture(self) -> None:
        """Capture the step; no step is taken.

        Raises:
            Uncapturable: with the reason, where it cannot be; steps can still be taken as they are.
        """
        if self._moved:
            raise Uncapturable("it puts other tensors in the place of its state at every step")
        if self._feed.reason:
            raise Uncapturable(self._feed.reason)
        self._feed.seal()
        noise = self._feed.noise(self._noise, 0)
        raised: list[Exception] = []

        def work() -> T:
            try:
                return self._work(noise)
            except Exception as error:  # the end of a broken capture raises too, and says less
                raised.append(error)
                raise

        try:
            self._found, self._replay = self._backend.capture(work)
        except Exception as error:
            # Nothing was done: the step is taken as it is, and what is no matter of capturing recurs.
            first = raised[0] if raised else error
            why = str(first) if isinstance(first, Uncapturable) else reason(first)
            raise Uncapturable(why) from error
        if self._changed():
            raise RuntimeError("a captured step put other tensors in the place of its state")

    def replay(self, step: int) -> T:
        """Take one step as it was captured.

        Args:
            step: number of the step.

        Returns:
            What the capture gave; its tensors are written again by the next replay.
        """
        self._feed.fill(step)
        self._replay()
        return self._found


def replayable(
    work: Callable[[Mapping[str, Noise]], T], noise: Mapping[str, Noise], backend: Backend
) -> Callable[[int], T]:
    """Capture a step that changes nothing which it reads.

    Args:
        work: as of :class:`Captured`; it has run before.
        noise: its noise by purpose.
        backend: what captures.

    Returns:
        The step by its number, replayed.

    Raises:
        Uncapturable: with the reason, where it cannot be captured.
    """
    captured = Captured(work, noise, backend)
    for step in range(2):
        captured.rehearse(step)
    captured.capture()
    return captured.replay


class Steps(Generic[T]):
    """Steps by their number, taken as they are until one is captured, if one is.

    Asked for ``auto``, steps are captured where the median of a few shows that launching one takes at
    least :data:`BOUND` of the time until the device has done it: the device waits for the host there.

    Args:
        work: as of :class:`Captured`.
        noise: the run's noise by purpose.
        mode: what was asked for, see :func:`asked`.
        backend: what captures, None where nothing does.
        held: as of :class:`Captured`.

    Attributes:
        used: whether steps are replayed.
        reason: why, or why not.
    """

    def __init__(
        self,
        work: Callable[[Mapping[str, Noise]], T],
        noise: Mapping[str, Noise],
        mode: str,
        backend: Backend | None,
        held: Callable[[], Sequence[Tensor]] = tuple,
    ) -> None:
        self._work, self._noise, self._mode, self._held = work, noise, mode, held
        self.used, self.reason = False, "the run ended before a step was captured"
        self._shares: list[float] = []
        if backend is None or mode == "off":
            self.reason = "off" if mode == "off" else "steps are captured on cuda alone"
            self._ways: Iterator[Callable[[int], T]] = repeat(self._plain)
        else:
            self._ways = self._towards(backend)

    def __call__(self, step: int) -> T:
        """Take one step.

        Args:
            step: its number.

        Returns:
            What it gave; tensors may be written again by the next.

        Raises:
            Uncapturable: if capture was asked for and cannot be.
        """
        return next(self._ways)(step)

    def _towards(self, backend: Backend) -> Iterator[Callable[[int], T]]:
        """Yield how one step after the other is taken."""
        if self._mode == "auto":
            yield from repeat(self._plain, WARM_UP)
            yield from repeat(lambda step: self._timed(step, backend), TIMED)
            share = f"{100 * median(self._shares):.0f} % of a step's time went into launching it"
            if median(self._shares) < BOUND:
                self.reason = f"not bound by launches: {share}"
                yield from repeat(self._plain)
        captured = Captured(self._work, self._noise, backend, self._held)
        yield from repeat(captured.rehearse, 3)  # the first makes what later ones find there
        try:
            captured.capture()
        except Uncapturable as error:
            if self._mode == "on":
                raise
            self.reason = f"the step cannot be captured: {error}"
            yield from repeat(self._plain)
        self.used, self.reason = True, "on" if self._mode == "on" else f"bound by launches: {share}"
        yield from repeat(captured.replay)

    def _plain(self, step: int) -> T:
        """Take one step as it is."""
        return self._work({name: source.at(step) for name, source in self._noise.items()})

    def _timed(self, step: int, backend: Backend) -> T:
        """Take one step as it is, noting which part of its time the launches took."""
        backend.wait()
        begin = perf_counter()
        found = self._plain(step)
        launched = perf_counter()
        backend.wait()
        self._shares.append((launched - begin) / (perf_counter() - begin))
        return found
