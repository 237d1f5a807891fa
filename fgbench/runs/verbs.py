"""The verbs of a run: how each completes its options, and how it does its work."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.runs.case import Case

if TYPE_CHECKING:
    from fgbench.registry import Method
    from fgbench.runs.case import Call

Todo = list[tuple["Method", Case, Case]]


def _measure_settings(method: Method, call: Call, options: Case) -> Case:
    """Check and complete the options of ``measure``."""
    from fgbench.measurement.loop import Design

    design = Design(**registry.validated(Design, options, "measure", ("seed",)), seed=call.seed)
    have = len(call.workload.data.train_y)
    if design.batch > have:
        raise UsageError(f"batch {design.batch} is larger than the {have} training examples")
    return asdict(design)


def _measure(call: Call, todo: Todo) -> list[Case]:
    """Measure all methods at the same points."""
    from fgbench.measurement.loop import Design, measure

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
