"""Run cases: look up the records that are finished, run the others, and return one record each."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.core.time_limit import time_limit
from fgbench.errors import TimedOut, UsageError, unknown
from fgbench.records import locks
from fgbench.runs import study
from fgbench.runs.case import PACKAGES, Call, Job, Record, draft
from fgbench.runs.verbs import VERBS, discard_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fgbench.core.network import Chain
    from fgbench.registry import Method


def run(verb: str, *, method: str, **case: Any) -> Record:
    """Run one case and return its record.

    Args:
        verb: ``measure``, ``train`` or ``speed``.
        method: a METHOD, see :func:`fgbench.registry.method`.
        case: ``arch``, ``data`` and the options of :func:`run_all`.

    Returns:
        The record.

    Raises:
        UsageError: for an unknown verb, name or option.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
        >>> record = run("measure", method="FG-A", draws=4, batches=1, batch=8, **case)
        >>> record["status"], record["relative_variance"]["n"]
        ('ok', 4)
    """
    return run_all(verb, [method], **case)[0]


def run_all(
    verb: str,
    methods: Sequence[Any],
    *,
    arch: str | Callable[..., Any],
    data: Any,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    data_dir: str | None = None,
    records: str | Path | None = None,
    reuse: bool = False,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    trained: Callable[[str, Chain], None] | None = None,
    finished: Callable[[Record], None] | None = None,
    **options: Any,
) -> list[Record]:
    """Run one verb for several methods on the same data, network and seed.

    The data are loaded once for all methods, and ``train`` builds the network of each run once.

    Args:
        verb: ``measure`` (same points for all methods), ``train`` or ``speed`` (interleaved).
        methods: METHODs or objects, see :func:`fgbench.registry.method_of`.
        arch: architecture with options, or a function that returns a network.
        data: data set with options, or a data set.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads during the run; the process's own number if None.
        data_dir: folder of data files; FGBENCH_DATA or the cache where None.
        records: folder where finished records are looked up and written, and where an interrupted
            training goes on; nothing is kept where None.
        reuse: accept finished records made by other code, marked ``reused``.
        progress: called with one line now and then.
        timeout: seconds in which a METHOD must be made, and that ``measure`` gives each method in all;
            None is no limit. A method that takes longer has failed.
        trained: called with the key of each training that was run now, and its network.
        finished: called with each record as soon as it is there, found or made, so that an interrupt loses
            only what is not finished.
        options: the verb's own. ``measure``: those of :class:`fgbench.measurement.design.Design`.
            ``train``: those of :class:`fgbench.training.recipe.Recipe`, ``train_size``, ``validation`` and
            ``graph`` (see :func:`fgbench.training.loop.train`; the numbers are the same with and without).
            ``speed``: those of :func:`fgbench.measurement.speed.step_costs.speed`. All: ``cut``, ``sites``
            and ``out_axes`` of :class:`fgbench.workload.Cuts`.

    Returns:
        One record per method, in order. If one method's own code raises, its record has the status
        ``failed`` and the reason, and the other methods are finished. With FGBENCH_DEBUG set the traceback
        is printed on stderr.

    Raises:
        UsageError: for an unknown verb, name or option, or a METHOD that was not made in time.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
        >>> found = run_all("train", ["BP", "FG-A"], epochs=1, batch=32, **case)
        >>> [(record["method"], record["steps"]) for record in found]
        [('BP', 2), ('FG-A', 2)]
    """
    case = {"arch": arch, "data": data, "device": device, "dtype": dtype, "threads": threads}
    case |= {"data_dir": data_dir, "records": records, "reuse": reuse, "progress": progress}
    case |= {"timeout": timeout, "trained": trained, "finished": finished, **options}
    with opened(verb, methods, [seed], **case) as (begun,):
        begun.work()
    return begun.records()


@dataclass(frozen=True)
class Begun:
    """The runs of a verb on one seed: planned, claimed, and looked up.

    Args:
        call: verb, workload, seed and store.
        methods: the methods, as they were given.
        keys: of their records.
        known: key to record, of those that are finished.
        todo: the runs that are not, each key once.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
        >>> with opened("measure", ["BP"], [0, 1], draws=4, batch=8, **case) as begun:
        ...     [len(each.todo) for each in begun]
        [1, 1]
    """

    call: Call
    methods: list[Method]
    keys: list[str]
    known: dict[str, Record]
    todo: list[Job]

    def work(self) -> None:
        """Run what is not finished, in this process."""
        todo = [job.key for job in self.todo]
        made = VERBS[self.call.verb].work(self.call, self.todo)
        self.known.update(zip(todo, made, strict=True))

    def records(self) -> list[Record]:
        """Return a record per method, in order; call after all are finished."""
        found = zip(self.keys, self.methods, strict=True)
        return [{**self.known[key], "method": method.text} for key, method in found]


@contextmanager
def opened(
    verb: str,
    methods: Sequence[Any],
    seeds: Sequence[int],
    *,
    arch: str | Callable[..., Any],
    data: Any,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    data_dir: str | None = None,
    records: str | Path | None = None,
    reuse: bool = False,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    trained: Callable[[str, Chain], None] | None = None,
    finished: Callable[[Record], None] | None = None,
    **options: Any,
) -> Iterator[list[Begun]]:
    """Plan, claim and look up the runs of some seeds, so that mistakes come before the first of them.

    Args:
        verb: as of :func:`run_all`, like all arguments that are not listed here.
        methods: METHODs or objects.
        seeds: in ascending order, in which they are claimed.
        arch: architecture, or a function.
        data: data set.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads while the context is open.
        data_dir: folder of data files.
        records: folder of records.
        reuse: accept records made by other code.
        progress: called with one line now and then.
        timeout: seconds for making a METHOD, and for measuring it.
        trained: called after each training.
        finished: called with each record that is found, and with each that is made.
        options: the verb's own.

    Yields:
        The runs of each seed. Their claims end with the context.

    Raises:
        UsageError: for an unknown verb, name or option, or a METHOD that was not made in time.
    """
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    from fgbench.conformance.structure import Sample, require_network, require_structure
    from fgbench.workload import Cuts, Workload

    parsed = [made(given, timeout) for given in methods]
    with study.threads_set(threads), study.store_in(records) as store, ExitStack() as claims:
        cuts = Cuts.taken(options)
        workload = Workload.of(arch, data, device, dtype, data_dir, cuts)
        text = data if isinstance(data, str) else workload.data.name
        found = []
        for seed in seeds:
            call = Call(verb, workload, text, seed, store, progress, timeout, trained, finished)
            jobs = _jobs(call, parsed, options)
            keys = [job.key for job in jobs]
            known = _finished(call, jobs, reuse, claims)
            for record in known.values():
                call.tell(record)
            todo = _unfinished(jobs, known)
            if todo:
                sample = Sample.of(workload.data)
                if workload.network is None:
                    require_structure(workload.arch, sample=sample, **workload.sizes())
                else:
                    require_network(workload.chain(seed), workload.arch, sample)
            found.append(Begun(call, parsed, keys, known, todo))
        yield found


def made(given: Any, timeout: float | None) -> Method:
    """Make a METHOD, whose file may take long, within a time.

    Args:
        given: a METHOD or objects, see :func:`fgbench.registry.method_of`.
        timeout: seconds; None is no limit.

    Returns:
        The method.

    Raises:
        UsageError: for an unknown name or option, or where it takes longer.

    Example:
        >>> made("FG-A", None).estimator.name
        'fg_a'
    """
    try:
        with time_limit(timeout, str(given)):
            method = registry.method_of(given)
            registry.require_parts("estimators", method.estimator)
            registry.require_parts("localities", method.locality)
            return method
    except TimedOut as error:
        raise UsageError(str(error)) from None


def failed(
    verb: str,
    methods: Sequence[str],
    *,
    reason: str,
    arch: str,
    data: str,
    records: str | Path | None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    data_dir: str | None = None,
    reuse: bool = False,
    **options: Any,
) -> Record:
    """Write the record of a run whose process ended before it could write one, such as a killed one.

    Args:
        verb: as of :func:`run_all`, like all arguments that are not listed here.
        methods: the one METHOD.
        reason: why the run ended.
        arch: architecture with options.
        data: data set with options.
        records: folder of records; None where it is only returned.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads of the run.
        data_dir: folder of data files.
        reuse: has no effect here.
        options: the verb's own.

    Returns:
        The record, its status ``failed``.

    Raises:
        UsageError: for an unknown name or option.

    Example:
        >>> import tempfile
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = failed("train", ["BP"], reason="killed", records=folder, **case)
        >>> record["status"], record["reason"]
        ('failed', 'killed')
    """
    from fgbench.workload import Cuts, Workload

    with study.threads_set(threads), study.store_in(records) as store:
        cuts = Cuts.taken(options)
        workload = Workload.of(arch, data, device, dtype, data_dir, cuts)
        call = Call(verb, workload, data, seed, store, None)
        (job,) = _jobs(call, [registry.method(methods[0])], options)
        return call.finish(job, {"status": "failed", "reason": reason}, datetime.now(UTC), 0.0)


def fusion(**case: Any) -> Record:
    """Time literally replicated losses against fused ones over numbers of groups.

    Args:
        case: options of :func:`fgbench.measurement.studies.fused_losses.fusion`, except its readout,
            and of :func:`fgbench.runs.study.run`.

    Returns:
        One record; its ``rows`` are tidy.

    Raises:
        UsageError: for an unknown option or an invalid size.

    Example:
        >>> try:
        ...     fusion(groupz=[1])
        ... except Exception as error:
        ...     print(error)
        unknown option of fusion 'groupz'; did you mean 'groups'?
    """
    from fgbench.measurement.studies.fused_losses import ABOUT, fusion, outcome

    return study.run(fusion, ABOUT, outcome, PACKAGES, **case)


def table1(**case: Any) -> Record:
    """Measure the variances of Table 1 of the paper on a grid, beside their closed forms.

    Args:
        case: options of :func:`fgbench.measurement.studies.table1.table1` and of
            :func:`fgbench.runs.study.run`.

    Returns:
        One record; its ``rows`` are tidy, its ``summary`` has the coverage of the intervals.

    Raises:
        UsageError: for an unknown option, or a grid that measures nothing.

    Example:
        >>> record = table1(fan_in=[2], fan_out=[2], batch=[2], draws=8)
        >>> record["verb"], record["status"]
        ('table1', 'ok')
    """
    from fgbench.measurement.studies.table1 import ABOUT, outcome, table1

    return study.run(table1, ABOUT, outcome, (*PACKAGES, "estimators", "localities"), **case)


def _jobs(call: Call, methods: Sequence[Method], options: dict[str, Any]) -> list[Job]:
    """Plan the runs of all methods and draft their records; mistakes are raised before anything runs."""
    verb = VERBS[call.verb]
    plans = [verb.plan(call, method, options) for method in methods]
    return [
        Job(method, plan, draft(call, method, verb.settings(plan)))
        for method, plan in zip(methods, plans, strict=True)
    ]


def _finished(call: Call, jobs: Sequence[Job], reuse: bool, claims: ExitStack) -> dict[str, Record]:
    """Claim every run and return the records of those that are finished, by key.

    All processes claim in one order, so that no two wait for each other. Times are always measured anew.

    Returns:
        Key to record.
    """
    records: dict[str, Record] = {}
    if call.store is None:
        return records
    for key, job in sorted({job.key: job for job in jobs}.items()):
        call.store.check_writable(job.draft)
        claims.enter_context(locks.claim(call.store.folder, key, wait=True))
        record = call.store.find(key, reuse=reuse, case_key=job.draft["case_key"])
        if record is not None and call.verb != "speed":
            records[key] = record
            if call.verb == "train":  # of a process that was killed between its record and this
                discard_checkpoint(call.store.folder, key)
    return records


def _unfinished(jobs: Sequence[Job], finished: Mapping[str, Record]) -> list[Job]:
    """Return the jobs to run, in order and each key once: two methods of one key are one run."""
    by_key: dict[str, Job] = {}
    for job in jobs:
        if job.key not in finished:
            by_key.setdefault(job.key, job)
    return list(by_key.values())
