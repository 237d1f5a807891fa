"""Run cases: look up what is finished, do the rest, and return one record each."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import unknown
from fgbench.records import locks
from fgbench.records.store import Store
from fgbench.runs import study
from fgbench.runs.case import PACKAGES, Call, Case, draft
from fgbench.runs.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def run(verb: str, *, method: str, **case: Any) -> Case:
    """Run one case and return its record.

    Args:
        verb: ``measure``, ``train`` or ``speed``.
        method: a METHOD, see :mod:`fgbench.registry`.
        case: ``arch``, ``data`` and the options of :func:`run_all`.

    Returns:
        The record as a dict, with the names of the design.

    Raises:
        UsageError: for an unknown verb, name or option.
    """
    return run_all(verb, [method], **case)[0]


def run_all(
    verb: str,
    methods: Sequence[str],
    *,
    arch: str,
    data: str,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    data_dir: str | None = None,
    records: str | Path | None = None,
    reuse: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Case]:
    """Run one verb for several methods on the same data, network and seed.

    Args:
        verb: ``measure`` (same points for all methods), ``train`` or ``speed`` (interleaved).
        methods: METHODs.
        arch: architecture with options.
        data: data set with options.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads while it runs, the process's own if None.
        data_dir: folder of data files; FGBENCH_DATA or the cache where None.
        records: folder where finished records are looked up and written, and where an interrupted
            training goes on; nothing is kept where None.
        reuse: accept finished records made by other code, marked ``reused``.
        progress: called with one line now and then.
        options: the verb's own: those of :class:`fgbench.measurement.loop.Design`, of
            :class:`fgbench.training.recipe.Recipe`, ``train_size``, ``validation`` and ``graph`` (see
            :func:`fgbench.training.loop.train`; a run is the same with and without), or those of
            :func:`fgbench.measurement.speed.step_costs.speed`.

    Returns:
        One record per method, in order. What one method's own work raises ends that method alone: its
        record has the status ``failed`` and the reason, the others are finished. With FGBENCH_DEBUG set
        the traceback is printed on stderr.

    Raises:
        UsageError: for an unknown verb, name or option.
    """
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    from fgbench.workload import Workload

    parsed = [registry.method(text) for text in methods]
    with study.threaded(threads), ExitStack() as held:
        workload = Workload.of(arch, data, device, dtype, data_dir)
        store = Store(study.folder(records)) if records is not None else None
        call = Call(workload, data, data_dir, seed, store, progress)
        prepare, work = VERBS[verb]
        settings = [prepare(method, call, options) for method in parsed]
        drafts = [draft(verb, m, call, s) for m, s in zip(parsed, settings, strict=True)]
        done = _known(verb, drafts, store, reuse, held)
        todo: dict[str, int] = {}
        for i, each in enumerate(drafts):
            if not done.get(each["key"]):
                todo.setdefault(each["key"], i)
        results = work(call, [(parsed[i], settings[i], drafts[i]) for i in todo.values()])
        done |= dict(zip(todo, results, strict=True))
    return [{**done[d["key"]], "method": d["method"]} for d in drafts]


def failed(
    verb: str,
    methods: Sequence[str],
    *,
    reason: str,
    arch: str,
    data: str,
    records: str | Path,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    data_dir: str | None = None,
    reuse: bool = False,
    **options: Any,
) -> Case:
    """Write the record of a run that could not say itself why it ended, such as one that was killed.

    Args:
        verb: as of :func:`run_all`, like all that is not named here.
        methods: the one METHOD.
        reason: why it ended.
        arch: architecture with options.
        data: data set with options.
        records: folder of records.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads it ran with.
        data_dir: folder of data files.
        reuse: without meaning here.
        options: the verb's own.

    Returns:
        The record, its status ``failed``.

    Raises:
        UsageError: for an unknown name or option.
    """
    from fgbench.workload import Workload

    method = registry.method(methods[0])
    with study.threaded(threads):
        workload = Workload.of(arch, data, device, dtype, data_dir)
        call = Call(workload, data, data_dir, seed, Store(study.folder(records)), None)
        begun = draft(verb, method, call, VERBS[verb][0](method, call, options))
    return call.keep(begun, {"status": "failed", "reason": reason}, datetime.now(UTC), 0.0)


def fusion(**case: Any) -> Case:
    """Time literally replicated against fused losses over numbers of groups.

    See :mod:`fgbench.measurement.studies.fused_losses`.

    Args:
        case: options of :func:`fgbench.measurement.studies.fused_losses.fusion`, but no readout,
        and of :func:`fgbench.runs.study.run`.

    Returns:
        One record; its ``rows`` are tidy.

    Raises:
        UsageError: for an unknown option or a size that is none.
    """
    from fgbench.measurement.studies.fused_losses import ABOUT, fusion, outcome

    return study.run(fusion, ABOUT, outcome, PACKAGES, **case)


def table1(**case: Any) -> Case:
    """Measure the variances of Table 1 on a grid, beside the closed forms.

    See :mod:`fgbench.measurement.studies.table1`.

    Args:
        case: options of :func:`fgbench.measurement.studies.table1.table1` and of
        :func:`fgbench.runs.study.run`.

    Returns:
        One record; its ``rows`` are tidy, its ``summary`` has the coverage.

    Raises:
        UsageError: for an unknown option, or a grid that measures nothing.
    """
    from fgbench.measurement.studies.table1 import ABOUT, outcome, table1

    rooms = (*PACKAGES, "estimators", "localities")
    return study.run(table1, ABOUT, outcome, rooms, **case)


def _known(
    verb: str, drafts: list[Case], store: Store | None, reuse: bool, held: ExitStack
) -> dict[str, Case]:
    """Claim every run, in one order for all processes, and look up those that are finished."""
    found: dict[str, Case] = {}
    for each in sorted(drafts, key=lambda d: str(d["key"])):
        if store is None or each["key"] in found:
            continue
        held.enter_context(locks.claim(store.folder, each["key"], wait=True))
        known = store.find(each["key"], reuse=reuse, case_key=each["case_key"])
        found[each["key"]] = known if known is not None and verb != "speed" else {}
    return found
