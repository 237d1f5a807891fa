"""Training steps captured as CUDA graphs and replayed, with the same keyed noise.

A captured step is launched as one unit. A step whose kernels the host cannot launch as fast as the device
runs them then takes the device's time only. A replay repeats the kernels of the capture on the memory of the
capture and runs no Python, so everything the host decides in a step (noise, rate, examples) must lie in
buffers that are filled before each replay. Every draw of noise is seeded by its key, which a replay cannot
do, so draws are copied in from buffers (:mod:`fgbench.core.noise.replay`). A captured run has the noise of a
plain run bit for bit, and takes the same steps where the kernels are deterministic.

Real steps are rehearsed before the capture. They show which draws a step makes, and that every step makes
the same ones. A step that cannot be captured is run normally, and the reason is kept.
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
"""Steps before the first timed one; they pay for caches and allocations."""
TIMED = 5
"""Steps that are timed to see whether launching limits the speed."""
BOUND = 0.8
"""A step is bound by its launches where they take at least this fraction of its time."""


def asked(mode: str, device: torch.device) -> str:
    """Check the option ``graph``.

    Args:
        mode: ``auto`` (capture steps that are bound by their launches), ``on`` or ``off``.
        device: where the steps run.

    Returns:
        The mode.

    Raises:
        UsageError: for another mode, or ``on`` on a device where steps cannot be captured.

    Example:
        >>> import torch
        >>> asked("auto", torch.device("cpu"))
        'auto'
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
    """One step that is rehearsed, captured and replayed.

    Args:
        work: the step, given its noise by purpose. Everything else that changes from step to step it
            reads from tensors that keep their memory.
        noise: the run's noise by purpose.
        backend: captures the step.
        held: returns the tensors that a step updates in place. A step that replaces them by other tensors
            cannot be captured.

    Example:
        >>> from contextlib import nullcontext
        >>> from types import SimpleNamespace
        >>> backend = SimpleNamespace(apart=nullcontext)
        >>> Captured(lambda noise: 1.5, {}, backend).rehearse(step=0)
        1.5
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
        self._kept: list[
            Tensor
        ] = []  # kept alive, so that no other tensor can reuse their addresses
        self._moved = False
        self._captured: T
        self._replay: Callable[[], None]

    def rehearse(self, step: int) -> T:
        """Run one step normally, on the stream of the capture, and record its draws.

        Args:
            step: number of the step.

        Returns:
            What the step returned.
        """
        with self._backend.apart():
            result = self._work(self._feed.noise(self._noise, step))
        self._feed.rehearsed()
        self._moved = self._changed()
        return result

    def _changed(self) -> bool:
        """Check whether the held tensors have other memory than at the last check."""
        self._kept, before = list(self._held()), self._kept
        return [t.data_ptr() for t in self._kept] != [t.data_ptr() for t in before]

    def capture(self) -> None:
        """Capture the step without executing it.

        Raises:
            Uncapturable: with the reason, if it cannot be captured; steps can still be run normally.
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
            except Exception as error:
                # The end of a broken capture raises too, with less information.
                raised.append(error)
                raise

        try:
            self._captured, self._replay = self._backend.capture(work)
        except Exception as error:
            # Nothing was executed. The step is run normally next, and errors of its own are raised there.
            first = raised[0] if raised else error
            why = str(first) if isinstance(first, Uncapturable) else reason(first)
            raise Uncapturable(why) from error
        if self._changed():
            raise RuntimeError("a captured step put other tensors in the place of its state")

    def replay(self, step: int) -> T:
        """Replay the captured step.

        Args:
            step: number of the step; decides its noise.

        Returns:
            What the capture returned; its tensors are overwritten by the next replay.
        """
        self._feed.fill(step)
        self._replay()
        return self._captured


def replayable(
    work: Callable[[Mapping[str, Noise]], T], noise: Mapping[str, Noise], backend: Backend
) -> Callable[[int], T]:
    """Capture a step that does not change what it reads.

    Args:
        work: as for :class:`Captured`; it has run before.
        noise: its noise by purpose.
        backend: captures the step.

    Returns:
        A function that replays the step of a number.

    Raises:
        Uncapturable: with the reason, if it cannot be captured.

    Example:
        >>> from contextlib import nullcontext
        >>> from types import SimpleNamespace
        >>> recorder = SimpleNamespace(apart=nullcontext, capture=lambda work: (work(), lambda: None))
        >>> replayable(lambda noise: 1.5, {}, recorder)(7)
        1.5
    """
    captured = Captured(work, noise, backend)
    for step in range(2):
        captured.rehearse(step)
    captured.capture()
    return captured.replay


class Steps(Generic[T]):
    """Runs steps by their number: normally at first, as a captured graph where that is asked for or pays.

    With ``auto``, steps are captured if launching takes at least :data:`BOUND` of a step's time (median of
    a few steps), that is, if the device waits for the host.

    Args:
        work: as for :class:`Captured`.
        noise: the run's noise by purpose.
        mode: the option ``graph``, see :func:`asked`.
        backend: captures steps, None where that is not possible.
        held: as for :class:`Captured`.

    Attributes:
        used: whether steps are replayed.
        reason: why, or why not.

    Example:
        >>> steps = Steps(lambda noise: 1.5, {}, "auto", backend=None)
        >>> steps(0), steps.used, steps.reason
        (1.5, False, 'steps are captured on cuda alone')
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
        """Run one step.

        Args:
            step: its number.

        Returns:
            What it returned; its tensors may be overwritten by the next step.

        Raises:
            Uncapturable: if ``graph`` is ``on`` and the step cannot be captured.
        """
        return next(self._ways)(step)

    def _towards(self, backend: Backend) -> Iterator[Callable[[int], T]]:
        """Yield, for one step after another, the function that runs it."""
        if self._mode == "auto":
            yield from repeat(self._plain, WARM_UP)
            yield from repeat(lambda step: self._timed(step, backend), TIMED)
            share = f"{100 * median(self._shares):.0f} % of a step's time went into launching it"
            if median(self._shares) < BOUND:
                self.reason = f"not bound by launches: {share}"
                yield from repeat(self._plain)
        captured = Captured(self._work, self._noise, backend, self._held)
        yield from repeat(
            captured.rehearse, 3
        )  # the first one creates buffers that later ones reuse
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
        """Run one step normally."""
        return self._work({name: source.at(step) for name, source in self._noise.items()})

    def _timed(self, step: int, backend: Backend) -> T:
        """Run one step normally and record which fraction of its time the launches took."""
        backend.wait()
        begin = perf_counter()
        result = self._plain(step)
        launched = perf_counter()
        backend.wait()
        self._shares.append((launched - begin) / (perf_counter() - begin))
        return result
