"""The draft of a run's record: everything that is known before the run, with its keys.

The key of a record covers the verb, every option, the device kind, threads, the data and a hash of the code
that decides the numbers, so that edited code never serves old numbers.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.records import keys, provenance, schema
from fgbench.runs import study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from fgbench.records.store import Store
    from fgbench.registry import Method
    from fgbench.workload import Workload

Case = dict[str, Any]
PACKAGES = ("core", "data.augment", "data.dataset", "measurement", "stats", "training", "workload")
"""Whose code decides the numbers of a run, beside that of the things it names."""
UNKEYED = ("graph",)
"""Options that decide how a run is done and not what it finds: no part of its key or settings."""


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


def draft(verb: str, method: Method, call: Call, settings: Mapping[str, Any]) -> Case:
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
    if found["status"] not in schema.FINISHED:
        return draft
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
