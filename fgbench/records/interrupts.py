"""Signals that end the program: Ctrl-C, the end of a job and the end of a terminal.

SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread. They wait while a file is being written
(:class:`whole`), until a training step is finished (:class:`steps`), and until an import is finished, because
an extension module that is interrupted half way reports an ImportError of its own. Signals that follow within
a moment are the same wish: they do not disturb the clean-up that the first one began.

Only the program installs handlers for good (:func:`install`). In a notebook or a script the two contexts
replace Python's own handler of Ctrl-C while they last, and no other.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
PATIENCE_S = 2.0
"""Seconds after an interrupt in which further signals do not raise a second one."""
IMPORT_S = 10.0
"""Most seconds that a signal waits for an import; that of a plug-in may never end."""
LOOK_S = 0.02
"""Seconds between two looks at whether the import has ended."""


class _Signals:
    """The signals of this process, and what they wait for.

    Attributes:
        seen: numbers of the signals that came; the first one decides the exit code.
        writing: how many :class:`whole` are open.
        stepping: how many :class:`steps` are open.
        since: when the signal came that waits for the end of an import; None where none waits.
        timer: what lets the main thread look at that import again; None where none runs.
        looks: whether the next call of the handler is a look at that import and no signal.
        raised: when KeyboardInterrupt was raised last.
        installed: whether the handlers are the program's.
        replaced: Python's handler of Ctrl-C while a context has replaced it.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.writing = self.stepping = 0
        self.since: float | None = None
        self.looks = False
        self.timer: threading.Timer | None = None
        self.raised = float("-inf")
        self.installed = False
        self.replaced: Any = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, and raise KeyboardInterrupt unless something must be finished first."""
        if self.looks:
            self.looks = False
        else:
            self.seen.append(int(number))
        if not self.writing and not (self.stepping and len(self.seen) == 1):
            self.end(frame)

    def end(self, frame: FrameType | None = None) -> None:
        """Raise KeyboardInterrupt, unless one was just raised or an import is under way."""
        now = monotonic()
        if now - self.raised < PATIENCE_S:
            return
        if self.installed and _importing(frame):
            self.since = now if self.since is None else self.since
            if now - self.since < IMPORT_S:
                if self.timer is None:  # one, however many signals wait
                    self.timer = threading.Timer(LOOK_S, self.look_again)
                    self.timer.daemon = True
                    self.timer.start()
                return
        self.since, self.raised = None, now
        raise KeyboardInterrupt

    def look_again(self) -> None:
        """Let the main thread look whether the import has ended, unless the wish is fulfilled already."""
        self.timer = None
        if self.since is None:
            return
        self.looks = True
        if hasattr(signal, "pthread_kill"):  # which ends a sleep as well
            signal.pthread_kill(threading.main_thread().ident or 0, self.seen[0])
        else:
            _thread.interrupt_main(signal.Signals(self.seen[0]))

    def enter(self) -> None:
        """Replace Python's handler of Ctrl-C when the first context of a script or notebook opens."""
        if self.installed or self.writing or self.stepping:
            return
        handler = signal.getsignal(signal.SIGINT)
        if handler is signal.default_int_handler:
            self.replaced = signal.signal(signal.SIGINT, self.handle)

    def leave(self, error: type[BaseException] | None) -> None:
        """Restore that handler when the last context closes, and raise what waited for its end."""
        if self.writing or (self.stepping and len(self.seen) < 2):
            return
        now, under_way = monotonic(), error is not None and issubclass(error, KeyboardInterrupt)
        if under_way and self.seen:
            self.raised = now
        raises = bool(self.seen) and not under_way and now - self.raised >= PATIENCE_S
        if raises:
            self.raised = now
        if not self.installed and not self.stepping:
            if self.replaced is not None:
                signal.signal(signal.SIGINT, self.replaced)
            self.replaced = None
            self.seen.clear()
            self.raised = float("-inf")
        if raises:
            raise KeyboardInterrupt


_signals = _Signals()


def _importing(frame: FrameType | None) -> bool:
    """Return whether a frame is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _main_thread() -> bool:
    """Return whether this is the main thread, the only one in which handlers run."""
    return threading.current_thread() is threading.main_thread()


class _Held:
    """A context in which signals wait: it counts itself while it is open, in the main thread alone.

    Attributes:
        counted: name of the count in :class:`_Signals`.
    """

    counted: str

    def __enter__(self) -> None:
        """Begin to hold signals back."""
        self._main = _main_thread()
        if self._main:
            _signals.enter()
            self._count(1)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Raise KeyboardInterrupt if a signal came that still has to be heeded."""
        if self._main:
            self._count(-1)
            _signals.leave(kind)

    def _count(self, change: int) -> None:
        """Change how many contexts of this kind are open."""
        setattr(_signals, self.counted, getattr(_signals, self.counted) + change)


class whole(_Held):
    """A context in which no signal ends the program: what it writes is written whole or not at all.

    Example:
        >>> with whole():
        ...     print("written")
        written
    """

    counted = "writing"


class steps(_Held):
    """A context in which the first signal waits until the caller stops; a second one raises at once.

    An interrupt within a step would leave parameters half updated. The caller asks :func:`due` after each
    step, saves, and raises KeyboardInterrupt; a signal that it has not heeded raises when the context ends.

    Example:
        >>> with steps():
        ...     due()
        False
    """

    counted = "stepping"


def due() -> bool:
    """Return whether a signal waits for the end of a step.

    Example:
        >>> due()
        False
    """
    return bool(_signals.seen) and _main_thread()


def install() -> None:
    """Install the handlers of the program; signals that are ignored stay so, as under ``nohup``.

    Example:
        >>> install()  # doctest: +SKIP
    """
    _signals.installed = True
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _signals.handle)


def ignore() -> None:
    """Ignore further signals: what is to be done is done, and the exit code is known.

    Example:
        >>> ignore()  # doctest: +SKIP
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_code() -> int:
    """Return the exit code of an interrupted program: 128 and the number of the first signal.

    Example:
        >>> exit_code()
        130
    """
    return 128 + (_signals.seen[0] if _signals.seen else signal.SIGINT)


def die() -> None:
    """End this process by the signal that interrupted it, so that its parent can name the cause.

    Example:
        >>> die()  # doctest: +SKIP
    """
    number = exit_code() - 128
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def unheard() -> Iterator[None]:
    """Start processes that hear no signal of :data:`SIGNALS` until they call :func:`hear`.

    A terminal sends Ctrl-C to all processes; one that is still importing would answer with a traceback.

    Example:
        >>> with unheard():
        ...     pass
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first process starts it, and that lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """End this process when the one that started it has ended, for whatever reason.

    Example:
        >>> follow_parent()  # doctest: +SKIP
    """
    from multiprocessing import connection, parent_process

    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        """Wait for its end."""
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def hear() -> None:
    """Install the handlers in a process that was started :func:`unheard`, and listen.

    Example:
        >>> hear()  # doctest: +SKIP
    """
    install()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
