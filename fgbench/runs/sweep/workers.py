"""Worker processes that each run one case at a time, pinned to a core or a GPU.

A worker is started afresh (``spawn``), so that it may choose its device before torch is imported, and is
kept for many cases. Its death is an answer like any other: the case it was at is reported as lost with
the signal or exit code, and another worker takes its place. Workers end when their parent does, however
it ended: they watch its process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.errors import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

GRACE_S = 10.0
"""How long a worker may go on saving after an interrupt."""


@dataclass(frozen=True)
class Slot:
    """Where a worker runs.

    Args:
        cores: CPU cores it may use; empty for all.
        gpu: what it sees as its only GPU; "" leaves the environment alone.
    """

    cores: tuple[int, ...] = ()
    gpu: str = ""


@dataclass(frozen=True)
class Event:
    """What a worker says.

    Args:
        kind: ``progress``, ``done`` (``value`` is what the call returned), ``failed`` (it raised) or
            ``lost`` (its process died).
        task: number of the task.
        text: a line of progress, or the reason.
        value: the result.
    """

    kind: str
    task: int
    text: str = ""
    value: Any = None


@dataclass
class _Worker:
    """A process and what it is at."""

    slot: Slot
    process: SpawnProcess
    pipe: Connection
    task: int | None = None


@dataclass
class Pool:
    """Workers on slots.

    Args:
        slots: one worker each.
    """

    slots: list[Slot]
    _workers: list[_Worker] = field(default_factory=list)
    _halts: bool = False

    def __enter__(self) -> Pool:
        """Start no worker yet: each starts with its first task."""
        main = threading.current_thread() is threading.main_thread()
        if main and hasattr(signal, "SIGTSTP"):
            self._halts = signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        if self._halts:
            signal.signal(signal.SIGTSTP, self._halt)
        return self

    def _halt(self, number: int, frame: object) -> None:
        """Stop with all workers, which do not hear a terminal's Ctrl-Z, and go on with them."""
        pids = [w.process.pid for w in self._workers if w.process.pid and w.process.is_alive()]
        _send(pids, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _send(pids, signal.SIGCONT)

    def __exit__(self, *error: object) -> None:
        """End all workers: idle ones at once, busy ones after an interrupt and a while."""
        if self._halts:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        for worker in self._workers:
            worker.pipe.close()
            if worker.task is not None and worker.process.pid and worker.process.is_alive():
                _send([worker.process.pid], signal.SIGINT)
        end = monotonic() + GRACE_S
        for worker in self._workers:
            worker.process.join(max(0.0, end - monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    @property
    def free(self) -> int:
        """How many more tasks can be started now."""
        return len(self.slots) - sum(w.task is not None for w in self._workers)

    def start(self, task: int, call: dict[str, Any]) -> None:
        """Hand a call of :func:`fgbench.runs.run.run_all` to a free worker.

        Args:
            task: number that events will carry.
            call: its keyword arguments, ``verb`` and ``methods`` among them.
        """
        worker = next((w for w in self._workers if w.task is None), None)
        if worker is None:
            taken = [w.slot for w in self._workers]
            slot = next(s for s in self.slots if taken.count(s) < self.slots.count(s))
            worker = _spawn(slot)
            self._workers.append(worker)
        worker.task = task
        with suppress(OSError):  # a dead worker is noticed by wait()
            worker.pipe.send(call)

    def wait(self, seconds: float) -> Iterator[Event]:
        """Yield what workers said, or nothing when the time is over.

        Args:
            seconds: how long to wait for the first event.

        Yields:
            Events; after one that is not ``progress`` the worker is free.
        """
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(list(pipes), seconds):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                kind, text, value = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            assert worker.task is not None
            task = worker.task
            if kind != "progress":
                worker.task = None
            yield Event(kind, task, text, value)

    def _bury(self, worker: _Worker) -> Iterator[Event]:
        """Take a dead worker away and say what it was at."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.task is not None:
            yield Event("lost", worker.task, _why(worker.process.exitcode))


def _send(pids: list[int], number: int) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _why(code: int | None) -> str:
    """Word an exit code."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system ends processes like this when memory is short)" * (name == "SIGKILL")
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code}"


def _spawn(slot: Slot) -> _Worker:
    """Start a worker."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, slot), daemon=True)
    process.start()
    theirs.close()
    return _Worker(slot, process, ours)


def _work(pipe: Connection, slot: Slot) -> None:
    """Run calls until the pipe closes: the life of a worker."""
    # a terminal's Ctrl-C and Ctrl-Z reach the parent alone, which passes them on
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if slot.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    if slot.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    threading.Thread(target=_follow_parent, daemon=True).start()
    from fgbench.runs.run import run_all

    while True:
        try:
            call = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            found = run_all(**call, progress=lambda line: pipe.send(("progress", line, None)))
            pipe.send(("done", "", found[0]))
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            return
        except BaseException as error:
            pipe.send(("failed", reason(error, run_all), None))


def _follow_parent() -> None:
    """End this process when its parent has ended."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    sys.stderr.flush()
    os._exit(1)
