"""The case of a run: what it works on, and the part of its record that is known before it runs.

The key of a record covers the verb, every option, the device kind, the threads, the data and a hash of the
code that decides the numbers, so that edited code never serves old numbers.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fgbench import registry
from fgbench.errors import MethodFailed, Unwritten, at_work, pass_on
from fgbench.records import files, keys, provenance, schema
from fgbench.runs import sources, study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from fgbench.core.network import Chain
    from fgbench.records.store import Store
    from fgbench.registry import Method
    from fgbench.workload import Workload

Record = dict[str, Any]
PACKAGES = (
    *("core", "data.arrays", "data.augment", "data.dataset", "data.given", "data.goal"),
    *("measurement", "stats", "training", "workload"),
)
"""Packages of fgbench whose code decides the numbers of a run; the key covers every file in them.

The files of the estimator, locality, architecture and data set of the run are covered beside them, and what
their options name: see :mod:`fgbench.runs.sources`.
"""
UNKEYED = ("graph",)
"""Options that decide how a run is done but not its numbers: no part of its key or settings."""


@dataclass(frozen=True)
class Call:
    """One call of :func:`fgbench.runs.run.run_all`: its verb, workload, seed and store.

    Args:
        verb: ``measure``, ``train`` or ``speed``.
        workload: architecture and data, loaded once for all methods.
        data: the data set as typed.
        seed: of everything random.
        store: where records are kept, None for nowhere.
        progress: called with one line now and then.
        timeout: seconds that ``measure`` gives each method; None is no limit.
        trained: called with the key of a record and its network after each training.
        finished: called with each record as soon as it is there.

    Example:
        >>> from fgbench.workload import Workload
        >>> text = "synthetic[train=64,test=32]"
        >>> lines: list[str] = []
        >>> call = Call("train", Workload.of("mlp-1x4", text), text, 0, None, lines.append)
        >>> call.report("epoch 1/2")
        >>> lines
        ['epoch 1/2']
    """

    verb: str
    workload: Workload
    data: str
    seed: int
    store: Store | None
    progress: Callable[[str], None] | None
    timeout: float | None = None
    trained: Callable[[str, Chain], None] | None = None
    finished: Callable[[Record], None] | None = None

    def report(self, message: str) -> None:
        """Pass a line of progress to the caller, if it asked for progress."""
        if self.progress is not None:
            self.progress(message)

    def tell(self, record: Record) -> None:
        """Pass a record to the caller, if it asked for records as they come."""
        if self.finished is not None:
            self.finished(record)

    def finish(
        self, job: Job, result: Mapping[str, Any], begun: datetime, seconds: float
    ) -> Record:
        """Complete the draft of a job with its result, write the record, and return it.

        Args:
            job: what ran.
            result: what it returned. Its ``claims`` go under ``about`` of a finished run.
            begun: when it started.
            seconds: how long it took.

        Returns:
            The record, equal to what is read back from its file. Where that cannot be written, a measurement
            is returned with a warning :class:`fgbench.errors.Unwritten`.

        Raises:
            OSError: the record of a training cannot be written.
        """
        claims, result = result.get("claims"), {k: v for k, v in result.items() if k != "claims"}
        about = job.draft["about"]
        if result["status"] in schema.FINISHED:
            about = {**about, "claims": claims or self._claims(job.method)}
        draft = {**job.draft, "about": about}
        try:
            record = study.finish(self.store, draft, result, begun, seconds)
        except OSError as error:
            if self.verb == "train":  # its checkpoint keeps what was done
                raise
            where = error.filename2 or error.filename
            what = f"the record of {job.method.text} cannot be written: {where}: {files.why(error)}"
            warnings.warn(Unwritten(f"{what}; its numbers are shown only"), stacklevel=2)
            record = study.finish(None, draft, result, begun, seconds)
        self.tell(record)
        return record

    def _claims(self, method: Method) -> Record:
        """Return what an estimator claims of its task, on a network built for the purpose."""
        task, estimator, _ = self.workload.task(method, self.seed)
        try:
            with at_work(estimator):
                return asdict(task.claims(estimator))
        except MethodFailed:
            return {}


@dataclass(frozen=True)
class Job:
    """One method's run in a call.

    Args:
        method: estimator and locality.
        plan: the verb's options, checked and complete, in the verb's own type.
        draft: the part of the record that is known before the run.

    Example:
        >>> Job(registry.method("FG-A"), plan=None, draft={"key": "0123"}).key
        '0123'
    """

    method: Method
    plan: Any
    draft: Record

    @property
    def key(self) -> str:
        """Key of the record."""
        return str(self.draft["key"])

    @property
    def named(self) -> bool:
        """Whether its names say all: a run of objects is never served, and never goes on later."""
        return "objects" not in self.draft


def draft(call: Call, method: Method, settings: Mapping[str, Any]) -> Record:
    """Build the part of a record that is known before the run: names, settings, provenance and keys.

    Args:
        call: verb, workload and seed.
        method: estimator and locality.
        settings: the verb's options, defaults included.

    Returns:
        The draft, its status empty.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.workload import Workload
        >>> text = "synthetic[train=64,test=32]"
        >>> call = Call("train", Workload.of("mlp-1x4", text), text, 0, None, None)
        >>> record = draft(call, registry.method("FG-A"), {"epochs": 1})
        >>> record["estimator"], record["locality"], len(record["key"])
        ('fg_a', 'end', 32)
    """
    import torch

    settings = {name: value for name, value in settings.items() if name not in UNKEYED}
    workload, data, seed = call.workload, call.data, call.seed
    settings |= workload.cuts.stated
    estimator, locality = method.estimator, method.locality
    kinds = {"estimator": estimator.unnamed, "locality": locality.unnamed}
    objects = [*(kind for kind, is_object in kinds.items() if is_object), *workload.objects]
    # Batches are prepared in the file of the data set.
    files = [workload.source(), "" if "data" in objects else registry.source("datasets", data)]
    named = set() if "architecture" in objects else sources.named(workload.arch)
    paths = sources.imported({Path(p) for p in files if p} | named)
    paths |= sources.of(estimator) | sources.of(locality)
    paths |= sources.imported(sources.named(str(settings.get("update", ""))))
    code = keys.code_hash(*(f"fgbench.{package}" for package in PACKAGES), *paths)
    case: Record = {
        "verb": call.verb,
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
    if objects:  # what they compute is in no text: each run has a key of its own
        case["objects"] = [*objects, uuid4().hex]
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
        "verb": call.verb,
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
        **({"objects": objects} if objects else {}),
    }


def _about(estimator: registry.Made) -> Record:
    """Describe an estimator by its class, for readers of the record who do not have its file."""
    cls = type(estimator.thing)
    try:
        name, module = str(cls.__name__), str(cls.__module__)
    except BaseException as error:  # of a metaclass that computes them
        pass_on(error)
        name = module = ""
    return {
        "class": name,
        "module": "" if estimator.file else module,
        "file": _below_home(estimator.file),
        "documentation": registry.documentation(cls),
        "promises": registry.documentation(getattr(cls, "claims", None)),
        "claims": None,
    }


def _below_home(path: str) -> str:
    """Write a path in the user's home as ``~/...``, because records are published."""
    home = os.path.expanduser("~")  # unchanged where there is none
    below = path and Path(path).is_relative_to(home)
    return (Path("~") / Path(path).relative_to(home)).as_posix() if below else path


def _full(item: registry.Made) -> Record:
    """Return a name with every option, defaults included, so that one key means one computation."""
    options = {name: _plain(value) for name, value in sources.options(item).items()}
    return {"name": item.name, "options": options}


def _plain(value: Any) -> Any:
    """Return an option as JSON can hold it, ``inf`` and ``nan`` as text."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else repr(value)
