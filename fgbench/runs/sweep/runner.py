"""Run a sweep: all runs of a plan on a pool of workers, with values tuned first where the plan says so.

The records are the only state of a sweep. Started again after it was stopped, a sweep finds finished runs by
their keys, resumes trainings from their checkpoints, and ends with the records of an undisturbed sweep. A run
that raises, or whose worker dies, leaves a ``failed`` record with the reason. It does not stop the others,
and is tried again by the next call.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError
from fgbench.records import keys, schema
from fgbench.records.metrics import main_of
from fgbench.records.store import Store
from fgbench.runs.case import UNKEYED
from fgbench.runs.run import failed
from fgbench.runs.sweep.workers import Pool, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fgbench.runs.sweep.cells import Case, Cell
    from fgbench.runs.sweep.schema import Options

Record = dict[str, Any]


@dataclass
class Stage:
    """The progress of one cell.

    Args:
        cell: the cell.
        chosen: the values in use, None while they are being tuned.
        trials: the tuning runs of each combination of values.
        results: the runs of the result, known once the values are.
        choice: the record of the tuning.

    Example:
        >>> from fgbench.runs.sweep.cells import Cell
        >>> cell = Cell("g", "BP", "mlp-2x64", "digits", "train", (0, 1), {"epochs": 3}, {}, {}, None)
        >>> len(Stage(cell).results)
        2
    """

    cell: Cell
    chosen: Options | None = None
    trials: list[tuple[Options, list[Case]]] = field(default_factory=list)
    results: list[Case] = field(default_factory=list)
    choice: Record | None = None

    def __post_init__(self) -> None:
        """List the tuning runs, or the runs of the result where nothing is tuned."""
        if self.cell.tuning is None:
            self.chosen = {}
            self.results = self.cell.results({})
        else:
            self.trials = [(values, self.cell.trials(values)) for values in self.cell.candidates]


@dataclass(frozen=True)
class Settings:
    """Where the records go and how the runs of a sweep are executed.

    Args:
        records: folder of records.
        jobs: number of workers; None is one per GPU, or one per core on a CPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads of each worker.
        data_dir: folder of data files; FGBENCH_DATA or the cache where None.
        reuse: accept finished records made by other code, marked ``reused``.

    Example:
        >>> Settings(Path("records"), jobs=2).dtype
        'float32'
    """

    records: Path
    jobs: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 1
    data_dir: str | None = None
    reuse: bool = False


class Sweep:
    """A running sweep.

    Args:
        cells: what is to be run.
        settings: where the records go and how runs are executed.
        watch: called with the sweep after every change.
        rank: by what a setting is chosen, the smallest first; :func:`score` where None.

    Attributes:
        stages: the progress of each cell.
        found: id of a case to its record, for those that have ended.
        at: number of a task to its case and latest line of progress, for those that are running.

    Example:
        >>> sweep = Sweep([], Settings(Path("records")), watch=lambda sweep: None)
        >>> sweep.known, sweep.records()
        (0, [])
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        settings: Settings,
        watch: Callable[[Sweep], None],
        rank: Callable[[Sequence[Record]], Any] | None = None,
    ) -> None:
        self.stages = [Stage(cell) for cell in cells]
        self.settings = settings
        self.found: dict[str, Record] = {}
        self.at: dict[int, tuple[Case, str]] = {}
        self._watch, self._rank = watch, rank or score
        self._queue: deque[Case] = deque()
        self._queued: set[str] = set()

    def run(self) -> list[Record]:
        """Run everything that is not finished.

        Returns:
            The records of the results and of the tunings, in the order of the plan.

        Raises:
            UsageError: if no worker can be placed, or ``graph`` is ``on`` on a CPU.
        """
        device, slots = place(self.settings.device, self.settings.jobs)
        common = {"device": device, "records": str(self.settings.records)}
        common |= {k: getattr(self.settings, k) for k in ("dtype", "threads", "data_dir", "reuse")}
        for stage in self.stages:
            self._enqueue(case for _, runs in stage.trials for case in runs)
            self._enqueue(stage.results)
        _check_graph(self._queue, device)
        number = 0
        with Pool(slots) as pool:
            while self._queue or self.at:
                while pool.free and self._queue:
                    case = self._queue.popleft()
                    self.at[number] = case, ""
                    pool.start(number, {**common, **call(case)})
                    number += 1
                for event in pool.wait(1.0):
                    case, _ = self.at[event.task]
                    if event.kind == "progress":
                        self.at[event.task] = case, event.text
                    elif event.kind == "notice":
                        warnings.warn(event.text, event.value, stacklevel=2)
                    else:
                        del self.at[event.task]
                        self._settle(
                            case, event.value or self._record_failure(case, event.text, common)
                        )
                self._watch(self)
        return self.records()

    @property
    def known(self) -> int:
        """Number of runs known so far; tuned cells add theirs when their values are chosen."""
        return len(self._queued)

    def records(self) -> list[Record]:
        """Return the records of results and tunings so far, in the order of the plan."""
        listed = []
        for stage in self.stages:
            listed += [] if stage.choice is None else [stage.choice]
            listed += [self.found[c.id] for c in stage.results if c.id in self.found]
        return listed

    def failures(self) -> list[tuple[str, str]]:
        """Return (run, reason) of everything that failed, tuning runs and tunings included."""
        cases = {c.id: c for s in self.stages for _, runs in s.trials for c in runs}
        cases |= {c.id: c for s in self.stages for c in s.results}
        failed = [
            (str(cases[i]), r["reason"]) for i, r in self.found.items() if r["status"] == "failed"
        ]
        for stage in self.stages:
            if stage.choice is not None and stage.choice["status"] == "failed":
                cell = stage.cell
                failed.append((f"{cell.method} {cell.arch} {cell.data}", stage.choice["reason"]))
        return failed

    def _enqueue(self, cases: Any) -> None:
        """Add runs to the queue, each once."""
        for case in cases:
            if case.id not in self._queued:
                self._queued.add(case.id)
                self._queue.append(case)

    def _settle(self, case: Case, record: Record) -> None:
        """Store the record of a run, and choose the values of a cell whose last tuning run it was."""
        self.found[case.id] = record
        for stage in self.stages:
            runs = [c.id for _, trial in stage.trials for c in trial]
            if (
                stage.chosen is not None
                or case.id not in runs
                or any(i not in self.found for i in runs)
            ):
                continue
            self._choose(stage)

    def _choose(self, stage: Stage) -> None:
        """Choose the values with the best mean metric on held-out examples, and write a record of it."""
        judged = [(values, [self.found[c.id] for c in runs]) for values, runs in stage.trials]
        ranks = [self._rank(runs) for _, runs in judged]
        best = min(range(len(ranks)), key=ranks.__getitem__)  # the first of equal ones
        works = score(judged[best][1]) < inf
        stage.chosen = judged[best][0] if works else None
        why = "" if works else f"none of the {len(judged)} combinations of values tried trained"
        store = Store(self.settings.records)
        fresh = choice(stage.cell, judged, stage.chosen, why)
        stage.choice = store.find(fresh["key"]) or fresh
        if stage.choice is fresh:
            store.write(fresh)
        if stage.chosen is not None:
            stage.results = stage.cell.results(stage.chosen)
            self._enqueue(stage.results)
        else:
            stage.chosen = {}

    def _record_failure(self, case: Case, why: str, common: Options) -> Record:
        """Write the record of a run that raised or whose worker died; where it cannot be, return it only."""
        try:
            return failed(reason=why, **common, **call(case))
        except OSError:  # often what the run raised: the disk is full
            return failed(reason=why, **{**common, "records": None}, **call(case))


def _check_graph(cases: Iterable[Case], device: str) -> None:
    """Check the option ``graph`` of all cases on this device, before the first run."""
    modes = {case.options["graph"] for case in cases if "graph" in case.options}
    if modes:
        import torch

        from fgbench.training.step_capture import asked

        for mode in modes:
            asked(mode, torch.device(device))


def score(runs: Sequence[Record]) -> float:
    """Return by what a setting is chosen: the mean main metric of its trials, where smaller is better.

    Args:
        runs: trials that differ by their seeds.

    Returns:
        The mean, its sign changed where more is better; infinite where a trial did not finish.

    Example:
        >>> found = {"status": "ok", "metrics": {"r2": {"best": "high"}}}
        >>> score([{**found, "test_r2": 0.5}, {**found, "test_r2": 0.25}])
        -0.375
    """
    if any(r["status"] != "ok" for r in runs):
        return inf
    return float(sum(main_of(r).sign * r[main_of(r).field()] for r in runs)) / len(runs)


def call(case: Case) -> Options:
    """Return a case as arguments of :func:`fgbench.runs.run.run_all`.

    Args:
        case: a run of the sweep.

    Returns:
        Keyword arguments.

    Example:
        >>> from fgbench.runs.sweep.cells import Case
        >>> call(Case("train", "BP", "mlp-2x64", "digits", 0, {"epochs": 3}))["methods"]
        ['BP']
    """
    named = {"verb": case.verb, "methods": [case.method], "seed": case.seed}
    return {**named, "arch": case.arch, "data": case.data, **case.options}


def choice(
    cell: Cell, judged: Sequence[tuple[Options, list[Record]]], chosen: Options | None, why: str
) -> Record:
    """Build the record of a tuning: the grid of values, every tuning run, and the chosen values.

    Args:
        cell: whose values were tuned.
        judged: the records of the tuning runs of each combination of values.
        chosen: the values with the best mean, None where no combination trained.
        why: the reason where none did, else "".

    Returns:
        A record with the verb ``tune``; metrics are of the held-out examples, errors as fractions.

    Example:
        >>> from fgbench.runs.sweep.cells import Cell
        >>> from fgbench.runs.sweep.schema import Tuning
        >>> tune, tuning = {"lr": [0.1]}, Tuning(validation=8)
        >>> cell = Cell("g", "BP", "mlp-2x64", "digits", "train", (0,), {}, {}, tune, tuning)
        >>> trial = {"seed": 1000, "status": "ok", "key": "k", "test_error": 0.25, "epochs": 1}
        >>> trial |= {"estimator": "bp", "locality": "end"}
        >>> choice(cell, [({"lr": 0.1}, [trial])], {"lr": 0.1}, "")["trials"][0]["validation_error"]
        0.25
    """
    assert cell.tuning is not None
    first = judged[0][1][0]
    trials = [
        {"values": values, "seed": r["seed"], "status": r["status"], "key": r["key"]}
        | {"validation_error": r.get("test_error"), "epochs": r.get("epochs")}
        | {main_of(r).field("validation"): r.get(main_of(r).field())}
        for values, runs in judged
        for r in runs
    ]
    settings = {**cell.options, **cell.tuning.set}
    settings = {name: value for name, value in settings.items() if name not in UNKEYED}
    settings |= {"validation": cell.tuning.validation, "seeds": cell.tuning.seeds}
    subject = {"verb": "tune", "arch": cell.arch, "data": cell.data, "settings": settings}
    subject |= {name: first[name] for name in ("estimator", "locality")} | {"grid": cell.tune}
    case = {**subject, "trials": sorted(t["key"] for t in trials)}
    same = ("estimator", "locality", "options", "arch", "data", "device", "commit", "where")
    return {
        "schema": schema.SCHEMA,
        "key": keys.key(case),
        "case_key": keys.case_key(subject),
        "verb": "tune",
        "method": cell.method,
        **{name: first[name] for name in (*same, "about") if name in first},
        "seed": cell.tuning.seeds[0],
        "status": "failed" if chosen is None else "ok",
        "reason": why,
        "settings": settings,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "elapsed_s": round(sum(r.get("elapsed_s") or 0.0 for _, runs in judged for r in runs), 3),
        "chosen": chosen,
        "grid": cell.tune,
        "trials": trials,
    }


def place(device: str, jobs: int | None) -> tuple[str, list[Slot]]:
    """Choose the device, and the cores or GPU of each worker.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: number of workers; None is one per GPU, or one per core on a CPU.

    Returns:
        The device and one slot per worker. With more workers than cores none is pinned.

    Raises:
        UsageError: for an unknown device, ``cuda`` where there is no GPU, or fewer than one worker.

    Example:
        >>> device, slots = place("cpu", jobs=2)
        >>> device, len(slots)
        ('cpu', 2)
    """
    from fgbench.workload import device_of

    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    kind = device_of(device).type
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count()
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = [g for g in seen.split(",") if g] or [str(i) for i in range(count)]
        return kind, [Slot(gpu=gpus[i % len(gpus)]) for i in range(jobs or len(gpus))]
    affinity = getattr(os, "sched_getaffinity", None)
    cores = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    jobs = jobs or len(cores)
    pinned = jobs <= len(cores)
    return kind, [Slot(cores=(cores[i],) if pinned else ()) for i in range(jobs)]
