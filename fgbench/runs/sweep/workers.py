"""Worker processes, each pinned to a core or a GPU, that run one case at a time.

A worker is started with ``spawn``, so that it can choose its GPU before torch is imported, and runs many
cases. If it dies, its case is reported as lost with the signal or exit code, and another worker takes its
place. Workers watch their parent's process and end when it ends, for whatever reason.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import connection, get_context
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.errors import Notice, UsageError, reason
from fgbench.records import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

GOING_ON = ("progress", "notice", "part")
"""Kinds of events after which the worker is at the same task."""
RUN_ONE = "fgbench.runs.sweep.workers:run_one"
"""What the workers of a sweep call."""
GRACE_S = 10.0
"""Seconds that a worker has to save its state after an interrupt."""


@dataclass(frozen=True)
class Slot:
    """Where a worker runs.

    Args:
        cores: CPU cores it may use; empty for all.
        gpu: value of CUDA_VISIBLE_DEVICES for the worker; "" leaves the environment unchanged.

    Example:
        >>> Slot(cores=(0,))
        Slot(cores=(0,), gpu='')
    """

    cores: tuple[int, ...] = ()
    gpu: str = ""


@dataclass(frozen=True)
class Event:
    """A message from a worker.

    Args:
        kind: ``progress``, ``notice`` (a warning for the user), ``part`` (``value`` is finished, and the
            call goes on), ``done`` (``value`` is what the call returned), ``failed`` (it raised),
            ``mistake`` (it raised a :class:`fgbench.errors.UsageError`) or ``lost`` (its process died).
        task: number of the task.
        text: a line of progress, or the reason.
        value: the result.

    Example:
        >>> Event("progress", task=0, text="epoch 1/2").kind
        'progress'
    """

    kind: str
    task: int
    text: str = ""
    value: Any = None


@dataclass
class _Worker:
    """A process and the task it is running, if any."""

    slot: Slot
    process: SpawnProcess
    pipe: Connection
    task: int | None = None


@dataclass
class Pool:
    """A pool of workers, one per slot, that are started with their first task.

    Args:
        slots: one worker each.
        work: what a worker calls for each task, as ``module:name``. It is imported in the worker, and gets a
            function that sends an event (its kind, text and value), and the arguments of the task by name.

    Example:
        >>> with Pool([Slot(), Slot()]) as pool:
        ...     pool.free
        2
    """

    slots: list[Slot]
    work: str = RUN_ONE
    _workers: list[_Worker] = field(default_factory=list)
    _halts: bool = False

    def __enter__(self) -> Pool:
        """Let Ctrl-Z stop the workers too; no worker is started yet."""
        main = threading.current_thread() is threading.main_thread()
        if main and hasattr(signal, "SIGTSTP"):
            self._halts = signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        if self._halts:
            signal.signal(signal.SIGTSTP, self._halt)
        return self

    def _halt(self, number: int, frame: object) -> None:
        """Stop and continue together with all workers, which a terminal's Ctrl-Z does not reach."""
        pids = [w.process.pid for w in self._workers if w.process.pid and w.process.is_alive()]
        _send(pids, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _send(pids, signal.SIGCONT)

    def __exit__(self, *error: object) -> None:
        """End all workers: idle ones at once, busy ones after an interrupt and some seconds to save."""
        with interrupts.whole():  # a second signal would leave workers behind
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
        """Number of tasks that can be started now."""
        return len(self.slots) - sum(w.task is not None for w in self._workers)

    def start(self, task: int, call: dict[str, Any]) -> None:
        """Send a call to a free worker.

        Args:
            task: a number, which its events carry.
            call: the keyword arguments; of a sweep those of :func:`fgbench.runs.run.run_all`.
        """
        worker = next((w for w in self._workers if w.task is None), None)
        if worker is None:
            taken = [w.slot for w in self._workers]
            slot = next(s for s in self.slots if taken.count(s) < self.slots.count(s))
            with interrupts.whole():
                worker = _spawn(slot, self.work)
                self._workers.append(worker)
        worker.task = task
        with suppress(OSError):  # a dead worker is noticed by wait()
            worker.pipe.send(call)

    def wait(self, seconds: float) -> Iterator[Event]:
        """Yield the events of workers, or nothing if none comes in time.

        Args:
            seconds: how long to wait for the first event.

        Yields:
            Events; after one that is not among `GOING_ON` the worker is free.
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
            if kind not in GOING_ON:
                worker.task = None
            yield Event(kind, task, text, value)

    def _bury(self, worker: _Worker) -> Iterator[Event]:
        """Remove a dead worker and report the task it was running."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.task is not None:
            yield Event("lost", worker.task, _cause(worker.process.exitcode))


def _send(pids: list[int], number: int) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _cause(code: int | None) -> str:
    """Describe how a worker ended, from its exit code."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system ends processes like this when memory is short)" * (name == "SIGKILL")
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code}"


def _spawn(slot: Slot, work: str) -> _Worker:
    """Start a worker process."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, slot, work), daemon=True)
    with interrupts.unheard():
        process.start()
    theirs.close()
    return _Worker(slot, process, ours)


def _work(pipe: Connection, slot: Slot, work: str) -> None:
    """Run calls until the pipe closes; this is the main function of a worker."""
    # a group of its own: a terminal's Ctrl-C and Ctrl-Z reach the parent only, which passes them on
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if slot.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    if slot.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    interrupts.follow_parent()
    try:
        interrupts.hear()
        _serve(pipe, work)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent wants no more
        interrupts.ignore()
    except KeyboardInterrupt:
        interrupts.die()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking libraries down one by one takes longer than a small run


def _serve(pipe: Connection, work: str) -> None:
    """Run the calls that come through a pipe."""
    module, _, name = work.partition(":")
    run = getattr(import_module(module), name)

    def send(kind: str, text: str = "", value: Any = None) -> None:
        pipe.send((kind, text, value))

    def notify(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        """Send a warning to the parent, which knows where the user looks."""
        if issubclass(category, Notice):
            send("notice", str(message), category)
        else:
            shown(message, category, *where, **more)

    shown, warnings.showwarning = warnings.showwarning, notify
    warnings.simplefilter("always", Notice)
    while True:
        call = pipe.recv()
        try:
            send("done", value=run(send, **call))
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException as error:
            if interrupts.due():  # what a library made of the interrupt
                raise KeyboardInterrupt from None
            kind = "mistake" if isinstance(error, UsageError) else "failed"
            send(kind, reason(error, owner=run))


def run_one(send: Callable[..., None], **call: Any) -> dict[str, Any]:
    """Run one case of a sweep in a worker.

    Args:
        send: sends an event: its kind and its text.
        call: arguments of :func:`fgbench.runs.run.run_all` for one method.

    Returns:
        Its record.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 32}
        >>> run_one(lambda *event: None, verb="train", methods=["BP"], **case)["steps"]
        2
    """
    from fgbench.runs.run import run_all  # not before the device is chosen

    (record,) = run_all(**call, progress=lambda line: send("progress", line))
    return record
