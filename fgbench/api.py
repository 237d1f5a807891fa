"""The one stable entry for suites and scripts: ``run(verb, **case) -> dict``.

A case becomes a record: its key covers the verb, every option, the device kind, threads, the data and a
hash of the code that makes the number, so that an edited estimator never serves old numbers.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError, unknown
from fgbench.records import keys, locks, provenance, schema
from fgbench.records.store import Store
from fgbench.runs import study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.registry import Method
    from fgbench.workload import Workload

Case = dict[str, Any]
PACKAGES = ("core", "data.augment", "data.dataset", "measurement", "stats", "training", "workload")
"""Whose code decides the numbers of a run, beside that of the things it names."""
UNKEYED = ("graph",)
"""Options that decide how a run is done and not what it finds: no part of its key or settings."""


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
        options: the verb's own: those of :class:`fgbench.measurement.design.Design`, of
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
        drafts = [_draft(verb, m, call, s) for m, s in zip(parsed, settings, strict=True)]
        done = _known(verb, drafts, store, reuse, held)
        todo: dict[str, int] = {}
        for i, draft in enumerate(drafts):
            if not done.get(draft["key"]):
                todo.setdefault(draft["key"], i)
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
        draft = _draft(verb, method, call, VERBS[verb][0](method, call, options))
    return call.keep(draft, {"status": "failed", "reason": reason}, datetime.now(UTC), 0.0)


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
    for draft in sorted(drafts, key=lambda d: str(d["key"])):
        if store is None or draft["key"] in found:
            continue
        held.enter_context(locks.claim(store.folder, draft["key"], wait=True))
        known = store.find(draft["key"], reuse=reuse, case_key=draft["case_key"])
        found[draft["key"]] = known if known is not None and verb != "speed" else {}
    return found


@dataclass(frozen=True)
class Call:
    """What one call of :func:`run_all` works on.

    Args:
        workload: data and architecture.
        data: the data set as typed.
        data_dir: folder of data files.
        seed: of everything random.
        store: where records are kept, None for nowhere.
        progress: called with one line now and then.
    """

    workload: Workload
    data: str
    data_dir: str | None
    seed: int
    store: Store | None
    progress: Callable[[str], None] | None

    def tell(self, message: str) -> None:
        """Pass a line on."""
        if self.progress is not None:
            self.progress(message)

    def keep(self, draft: Case, result: Mapping[str, Any], begun: datetime, seconds: float) -> Case:
        """Complete a draft with what the run found, write it, and return it as it reads back."""
        return study.kept(self.store, draft, result, begun, seconds)

    def kept(
        self,
        todo: Sequence[tuple[Method, Case, Case]],
        found: Sequence[Case],
        begun: datetime,
        seconds: float,
    ) -> list[Case]:
        """Keep runs that ended, each with what its estimator claims."""
        return [
            self.keep(_claiming(self, method, draft, f), f, begun, seconds)
            for (method, _, draft), f in zip(todo, found, strict=True)
        ]


def _draft(verb: str, method: Method, call: Call, settings: Mapping[str, Any]) -> Case:
    """Build everything of a record that is known before it runs."""
    import torch

    settings = {name: value for name, value in settings.items() if name not in UNKEYED}
    workload, data, seed = call.workload, call.data, call.seed
    sources = (
        workload.source(),
        registry.source("datasets", data),
    )  # images are normalised there
    paths = {Path(p) for p in (*sources, method.estimator.source, method.locality.source)}
    code = keys.code_hash(*(f"fgbench.{room}" for room in PACKAGES), *paths)
    estimator, locality = method.estimator, method.locality
    case: Case = {
        "verb": verb,
        "estimator": _full(estimator),
        "locality": _full(locality),
        "arch": workload.arch,
        "data": data,
        "seed": seed,
        "settings": settings,
        "device": workload.device.type,
        "dtype": str(workload.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "data_fingerprint": workload.data.fingerprint,
        "code": code,
    }
    where = {
        **provenance.environment(),
        "dtype": case["dtype"],
        "data_fingerprint": workload.data.fingerprint,
        "data_source": workload.data.source,
        "code": code,
    }
    if workload.device.type == "cuda":
        where["device_name"] = torch.cuda.get_device_name(workload.device)
    return {
        "schema": schema.SCHEMA,
        "key": keys.key(case),
        "case_key": keys.case_key(case),
        "verb": verb,
        "method": method.text,
        "estimator": estimator.text,
        "locality": locality.text,
        "options": {**case["estimator"]["options"], **case["locality"]["options"]},
        "arch": workload.arch,
        "data": data,
        "seed": seed,
        "status": "",
        "reason": "",
        "device": workload.device.type,
        "commit": provenance.commit(),
        "where": where,
        "settings": settings,
        "about": _about(estimator),
    }


def _about(made: registry.Made) -> Case:
    """Say of an estimator what its class says, for readers who lack the file that it comes from."""
    make = type(made.thing)
    return {
        "class": make.__name__,
        "module": "" if made.file else make.__module__,
        "file": _beneath_home(made.file),
        "documentation": registry.documentation(make),
        "promises": registry.documentation(getattr(make, "claims", None)),
        "claims": None,
    }


def _beneath_home(path: str) -> str:
    """Write a path in the user's folder as ``~/...``: records are published."""
    home = os.path.expanduser("~")  # unchanged where there is none
    within = path and Path(path).is_relative_to(home)
    return (Path("~") / Path(path).relative_to(home)).as_posix() if within else path


def _claiming(call: Call, method: Method, draft: Case, found: Case) -> Case:
    """Add what an estimator that ran claims of this task; nothing of it decides a number or a key."""
    claims = found.pop("claims", None)  # measuring and timing read them on the way
    if found["status"] not in schema.FINISHED:
        return draft
    if claims is None:
        task, estimator, _ = call.workload.task(method, call.seed)
        claims = asdict(task.claims(estimator))
    return {**draft, "about": {**draft["about"], "claims": claims}}


def _full(made: registry.Made) -> dict[str, Any]:
    """Name a thing with every option, defaults included, so that one key means one computation."""
    options = dict(made.options)
    if is_dataclass(made.thing):
        options = {f.name: _plain(getattr(made.thing, f.name)) for f in fields(made.thing)}
    return {"name": made.name, "options": options}


def _plain(value: Any) -> Any:
    """Return an option as JSON can hold it."""
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


Todo = list[tuple["Method", Case, Case]]


def _measure_settings(method: Method, call: Call, options: Case) -> Case:
    """Check and complete the options of ``measure``."""
    from fgbench.measurement.design import Design

    design = Design(**registry.validated(Design, options, "measure", ("seed",)), seed=call.seed)
    have = len(call.workload.data.train_y)
    if design.batch > have:
        raise UsageError(f"batch {design.batch} is larger than the {have} training examples")
    return asdict(design)


def _measure(call: Call, todo: Todo) -> list[Case]:
    """Measure all methods at the same points."""
    from fgbench.measurement.design import Design
    from fgbench.measurement.loop import measure

    if not todo:
        return []
    begun, start = datetime.now(UTC), perf_counter()
    design = Design(**todo[0][1])
    found = measure(call.workload, [method for method, _, _ in todo], design, call.tell)
    seconds = (perf_counter() - start) / len(todo)
    for (_, _, draft), f in zip(todo, found, strict=True):
        if f["budget"] is not None and "directions" in draft["options"]:
            f["options"] = {**draft["options"], "directions": f["directions"]}  # those bought
    return call.kept(todo, found, begun, seconds)


def _train_settings(method: Method, call: Call, options: Case) -> Case:
    """Complete a recipe: the default of (architecture, data, kind of estimator), then the options."""
    from fgbench.training.loop import recipe_for
    from fgbench.training.recipe import whole
    from fgbench.training.step_capture import asked

    options = dict(options)
    graph = asked(options.pop("graph", "auto"), call.workload.device)
    size = options.pop("train_size", None)
    split = {"train_size": None if size is None else whole("train_size", size)}
    split["validation"] = whole("validation", options.pop("validation", 0))
    names: dict[str, Any] = {
        "arch": call.workload.arch,
        "data": call.data,
        "data_dir": call.data_dir,
    }
    recipe = recipe_for(method.text, **names).but(**options)
    return {**recipe.model_dump(), **split, "graph": graph}


def _train(call: Call, todo: Todo) -> list[Case]:
    """Train one method after the other, each going on from its last checkpoint."""
    from fgbench.training import checkpoint
    from fgbench.training.loop import train
    from fgbench.training.recipe import Recipe

    found = []
    for method, setting, draft in todo:
        begun, start = datetime.now(UTC), perf_counter()
        recipe = Recipe(**{k: v for k, v in setting.items() if k in Recipe.model_fields})
        folder = None if call.store is None else call.store.folder / ".checkpoints" / draft["key"]
        if folder is not None and folder.exists():
            call.tell(f"{method.text}, goes on from its checkpoint")
        result = train(
            method.text,
            arch=call.workload.arch,
            data=call.data,
            recipe=recipe,
            seed=call.seed,
            device=str(call.workload.device),
            dtype=str(draft["where"]["dtype"]),
            data_dir=call.data_dir,
            workload=call.workload,
            train_size=setting["train_size"],
            validation=setting["validation"],
            graph=setting["graph"],
            checkpoint=folder,
            progress=lambda p, m=method: call.tell(f"{m.text}, {p}"),  # type: ignore[misc]
        )
        found += call.kept([(method, setting, draft)], [result], begun, perf_counter() - start)
        if folder is not None and result["status"] != "failed":  # that is tried again from here
            checkpoint.discard(folder)
    return found


def _speed_settings(method: Method, call: Call, options: Case) -> Case:
    """Check and complete the options of ``speed``."""
    from fgbench.measurement.speed.step_costs import speed

    given = ("workload", "methods", "seed")
    known = {"batch": 128, "rounds": 20, "reference": "faster"}
    return {**known, **registry.validated(speed, options, "speed", given)}


def _speed(call: Call, todo: Todo) -> list[Case]:
    """Time all methods in one interleaved run."""
    from fgbench.measurement.speed.step_costs import speed

    begun, start = datetime.now(UTC), perf_counter()
    found = speed(call.workload, [m for m, _, _ in todo], seed=call.seed, **todo[0][1])
    return call.kept(todo, found, begun, perf_counter() - start)


VERBS: dict[str, tuple[Any, Any]] = {
    "measure": (_measure_settings, _measure),
    "train": (_train_settings, _train),
    "speed": (_speed_settings, _speed),
}
