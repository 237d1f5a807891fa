"""Measure methods in several processes, with the records of one process, bit for bit.

Every number of a measurement depends on its method, seed and design alone, so methods and seeds are measured
by the workers of a sweep, and this process plans, claims and writes as it does for itself. Where networks are
trained before they are measured, the methods of a worker share that training; otherwise a worker takes one
method at a time.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError
from fgbench.records import interrupts, schema
from fgbench.runs import study
from fgbench.runs.run import made, opened
from fgbench.runs.sweep.runner import place
from fgbench.runs.sweep.workers import Pool
from fgbench.runs.verbs import finish_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.measurement.design import Design
    from fgbench.runs.case import Job, Record
    from fgbench.runs.run import Begun
    from fgbench.runs.sweep.workers import Event
    from fgbench.workload import Cuts, Workload

WORK = "fgbench.runs.parallel:measure_in_worker"
DRAINED = 50  # events of each worker that are heard after an interrupt
NAMES_ONLY = (
    "jobs above 1 measures in processes of their own, which make everything from names; {} was given as an "
    "object: use jobs=1, or a file such as ./mine.py:Mine"
)


def measure_all(
    methods: Sequence[Any],
    seeds: Sequence[int],
    jobs: int | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    **case: Any,
) -> list[Record]:
    """Measure methods on seeds, several at the same time.

    Args:
        methods: METHODs.
        seeds: in ascending order.
        jobs: runs at the same time; None is one per GPU, or one per core on a CPU.
        progress: called with one line now and then: how many are measured, and what is under way.
        case: ``arch``, ``data`` and the options of :func:`fgbench.runs.run.run_all`.

    Returns:
        One record per seed and method, those of the first seed first. They are those that one process makes.
        If the process of a method dies, its record has the status ``failed`` and says how.

    Raises:
        UsageError: for an unknown name or option, objects in place of names, or no worker.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "draws": 4, "batch": 8}
        >>> found = measure_all(["BP", "FG-A"], [0], jobs=1, **case)
        >>> [record["status"] for record in found]
        ['ok', 'ok']
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    with opened("measure", methods, seeds, progress=progress, **case) as begun:
        todo = sum(len(each.todo) for each in begun)
        workers = None if jobs is None else max(1, min(jobs, todo))
        device, slots = place(case.get("device", "cpu"), workers)
        if min(len(slots), todo) < 2:
            for each in begun:
                each.work()
        else:
            _require_names(begun)
            with Pool(slots, WORK) as pool:
                _Spread(begun, len(slots), device, case).run(pool)
        return [record for each in begun for record in each.records()]


def _require_names(begun: Sequence[Begun]) -> None:
    """Refuse what another process cannot make."""
    for each in begun:
        for job in each.todo:
            if objects := job.draft.get("objects"):
                raise UsageError(NAMES_ONLY.format(f"the {objects[0]}"))


@dataclass(frozen=True)
class _Group:
    """Methods that one worker measures in turn on one seed.

    Args:
        begun: the runs of the seed.
        jobs: those of the group.
    """

    begun: Begun
    jobs: list[Job]


class _Spread:
    """Measurements under way in workers.

    Args:
        begun: the runs of each seed.
        workers: number of workers.
        device: of the workers.
        case: the options of all runs.
    """

    def __init__(
        self, begun: Sequence[Begun], workers: int, device: str, case: dict[str, Any]
    ) -> None:
        self._begun = begun
        self._queue = deque(group for each in begun for group in _groups(each, len(begun), workers))
        self._total = sum(len(group.jobs) for group in self._queue)
        self._done = 0
        self._at: dict[int, tuple[_Group, str]] = {}
        self._number = 0
        self._started = datetime.now(UTC)
        common = {name: case.get(name) for name in ("data_dir", "threads", "timeout")}
        self._common = {**common, "device": device, "dtype": case.get("dtype", "float32")}

    def run(self, pool: Pool) -> None:
        """Measure everything; what is finished when an interrupt comes is written."""
        try:
            while self._queue or self._at:
                while pool.free and self._queue:
                    self._start(pool, self._queue.popleft())
                for event in pool.wait(1.0):
                    self._hear(event)
        except KeyboardInterrupt:
            with interrupts.whole():
                self._drain(pool)
            raise

    def _drain(self, pool: Pool) -> None:
        """Take in what workers have sent until now."""
        for _ in range(DRAINED):
            events = list(pool.wait(0.0))
            for event in events:
                if event.kind == "part":
                    self._hear(event)
            if not events:
                return

    def _start(self, pool: Pool, group: _Group) -> None:
        """Give a group to a worker."""
        call, plan = group.begun.call, group.jobs[0].plan
        self._at[self._number] = group, ""
        task: dict[str, Any] = {"arch": call.workload.arch, "data": call.data, "design": plan}
        task |= {"cuts": call.workload.cuts, "methods": [job.method.text for job in group.jobs]}
        pool.start(self._number, {**self._common, **task})
        self._number += 1

    def _hear(self, event: Event) -> None:
        """Take in an event of a worker."""
        group, _ = self._at[event.task]
        if event.kind == "notice":
            warnings.warn(event.text, event.value, stacklevel=2)
            return
        if event.kind == "mistake":
            raise UsageError(event.text)
        if event.kind == "progress":
            self._at[event.task] = group, event.text
        elif event.kind == "part":
            at, result, seconds = event.value
            self._finish(group, group.jobs[at], result, seconds)
        else:
            del self._at[event.task]
            left = [job for job in group.jobs if job.key not in group.begun.known]
            if len(group.jobs) > 1:  # one of them brought the others down: each again alone
                self._queue.extend(_Group(group.begun, [job]) for job in left)
            else:
                for job in left:
                    result = {"status": "failed", "reason": event.text or "it was not measured"}
                    self._finish(group, job, result, 0.0)
        self._show()

    def _finish(self, group: _Group, job: Job, result: dict[str, Any], seconds: float) -> None:
        """Write the record of a method."""
        begun = group.begun
        begun.known[job.key] = finish_measured(begun.call, job, result, self._started, seconds)
        self._done += 1

    def _show(self) -> None:
        """Report how many are measured and what is under way."""
        now = [
            f"seed {group.begun.call.seed}, {line}" if len(self._begun) > 1 else line
            for group, line in self._at.values()
            if line
        ]
        line = "; ".join([f"{self._done} of {self._total} measured", *now])
        self._begun[0].call.report(line)


def _groups(begun: Begun, seeds: int, workers: int) -> list[_Group]:
    """Return the groups of a seed: one per method, or one per worker where these share a training."""
    if not begun.todo:
        return []
    from fgbench.measurement.trajectories import default_moments

    design: Design = begun.todo[0].plan
    call = begun.call
    moments = design.moments or default_moments(call.workload.chain(call.seed))
    shared = design.along == "backprop" and max(moments) > 0
    count = min(max(1, workers // seeds), len(begun.todo)) if shared else len(begun.todo)
    return [_Group(begun, begun.todo[at::count]) for at in range(count)]


def measure_in_worker(
    send: Callable[..., None],
    *,
    arch: str,
    data: str,
    cuts: Cuts,
    methods: Sequence[str],
    design: Design,
    device: str,
    dtype: str,
    data_dir: str | None,
    threads: int | None,
    timeout: float | None,
) -> None:
    """Measure methods in a worker, and send each result as soon as it is there.

    Args:
        send: sends an event: its kind, text and value. A ``part`` is the number of a method, its result and
            its seconds.
        arch: architecture with options.
        data: data set with options.
        cuts: how an ordinary module is cut into a chain.
        methods: METHODs.
        design: of the measurement, with its seed.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        data_dir: folder of data files.
        threads: CPU threads.
        timeout: seconds that each method may take.

    Raises:
        UsageError: for a mistake that shows only while it is measured.

    Example:
        >>> from fgbench.measurement.design import Design
        >>> from fgbench.workload import Cuts
        >>> where = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "cuts": Cuts()}
        >>> how = {"device": "cpu", "dtype": "float32", "data_dir": None, "threads": None, "timeout": None}
        >>> design, events = Design(draws=4, batch=8), []
        >>> send = lambda kind, text="", value=None: events.append((kind, value))
        >>> measure_in_worker(send, methods=["BP"], design=design, **where, **how)
        >>> [value[1]["status"] for kind, value in events if kind == "part"]
        ['ok']
    """
    from fgbench.measurement.loop import measure

    def finished(at: int, result: Record, seconds: float) -> None:
        send("part", value=(at, schema.to_json(result), seconds))

    with study.threads_set(threads):
        workload = _workload(arch, data, device, dtype, data_dir, cuts)
        parsed = [made(text, timeout) for text in methods]
        measure(workload, parsed, design, lambda line: send("progress", line), timeout, finished)


@lru_cache(maxsize=1)
def _workload(
    arch: str, data: str, device: str, dtype: str, data_dir: str | None, cuts: Cuts
) -> Workload:
    """Load the data once for all tasks of a worker."""
    from fgbench.workload import Workload

    return Workload.of(arch, data, device, dtype, data_dir, cuts)
