"""The verbs of a run: how each checks and completes its options, and how it does its work."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fgbench import registry
from fgbench.errors import MethodFailed, UsageError, at_work, undone
from fgbench.records import files, interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fgbench.measurement.design import Design
    from fgbench.registry import Method
    from fgbench.runs.case import Call, Job, Record
    from fgbench.training.length import Length
    from fgbench.training.recipe import Recipe
    from fgbench.workload import Subject, Workload

Options = dict[str, Any]
CHECKPOINTS = ".checkpoints"
"""Folder beside the records with a folder of checkpoints for each training that is under way."""


class Verb(NamedTuple):
    """The three functions of a verb.

    Attributes:
        plan: checks and completes the options of one method; returns them in a type of the verb's own.
        settings: returns the options of a plan as the record has them.
        work: runs jobs and returns their records in order; it may empty the list as it goes.

    Example:
        >>> sorted(VERBS)
        ['measure', 'speed', 'train']
    """

    plan: Callable[[Call, Method, Options], Any]
    settings: Callable[[Any], Options]
    work: Callable[[Call, list[Job]], list[Record]]


def _plan_measure(call: Call, method: Method, options: Options) -> Design:
    """Check and complete the options of ``measure``."""
    from fgbench.measurement.design import Design

    design = Design(**registry.validated(Design, options, "measure", ("seed",)), seed=call.seed)
    have = call.workload.data.train_size
    if design.batch > have:
        raise UsageError(f"batch {design.batch} is larger than the {have} training examples")
    return design


def _measure(call: Call, jobs: list[Job]) -> list[Record]:
    """Measure all methods at the same points."""
    from fgbench.measurement.loop import measure

    if not jobs:
        return []
    begun = datetime.now(UTC)
    records: dict[int, Record] = {}

    def finished(at: int, result: Record, seconds: float) -> None:
        records[at] = finish_measured(call, jobs[at], result, begun, seconds)

    methods = [job.method for job in jobs]
    measure(call.workload, methods, jobs[0].plan, call.report, call.timeout, finished)
    return [records[at] for at in range(len(jobs))]


def finish_measured(
    call: Call, job: Job, result: Mapping[str, Any], begun: datetime, seconds: float
) -> Record:
    """Write the record of a method that is measured, and return it.

    Args:
        call: verb, workload and store.
        job: the method's run.
        result: of :func:`fgbench.measurement.loop.measure`, or a status and its reason.
        begun: when it started.
        seconds: how long it took.

    Returns:
        The record; its options have the directions that a budget bought.
    """
    options = job.draft["options"]
    if result.get("budget") is not None and "directions" in options:
        options = {**options, "directions": result["directions"]}
    return call.finish(job, {**result, "options": options}, begun, seconds)


@dataclass(frozen=True)
class Training:
    """The plan of ``train``.

    Args:
        recipe: what to train with.
        train_size: train on the first so many examples; None is all.
        validation: hold out the last so many of these.
        graph: whether steps are captured, see :func:`fgbench.training.step_capture.asked`.
        compiled: whether passes are compiled, see :func:`fgbench.core.compiled.passes.checked`.
        length: how long the run is, where that is not the epochs of the recipe.
        subject: the network of the run, built once: the recipe depends on what the estimator claims of it.
            None where its locality raised, of which the run has the reason.

    Example:
        >>> from fgbench.training.length import Length
        >>> from fgbench.training.recipe import default_recipe
        >>> from fgbench.workload import Workload
        >>> subject = Workload.of("mlp-1x4", "digits").task(registry.method("BP"), seed=0)
        >>> recipe = default_recipe("mlp-1x4", "digits", exact=True)
        >>> plan = Training(recipe, 400, 50, "off", "off", Length(steps=9), subject)
        >>> plan.settings()["train_size"], plan.settings()["steps"]
        (400, 9)
    """

    recipe: Recipe
    train_size: int | None
    validation: int
    graph: str
    compiled: str
    length: Length
    subject: Subject | None

    def settings(self) -> Options:
        """Return the options as the record has them; of a run of some length no epochs."""
        split = {"train_size": self.train_size, "validation": self.validation}
        length = self.length.stated
        unstated = {"epochs"} if length else set()
        if not self.recipe.update:  # without a rule there is no such setting, nor a part of the key
            unstated.add("update")
        recipe = self.recipe.model_dump(exclude=unstated)
        compiled = {} if self.compiled == "off" else {"compile": self.compiled}
        return {**recipe, **split, "graph": self.graph, **compiled, **length}

    def workload(self, whole: Workload) -> Workload:
        """Return the workload on the part of the data that this run uses."""
        return whole.split(self.train_size, self.validation)


def _plan_train(call: Call, method: Method, options: Options) -> Training:
    """Complete a recipe: the one that ships for architecture, data and method, changed by the options."""
    from fgbench.core.compiled.passes import checked
    from fgbench.training import update_rule
    from fgbench.training.length import Length
    from fgbench.training.loop import recipe_for
    from fgbench.training.recipe import non_negative_int
    from fgbench.training.step_capture import asked

    options = dict(options)
    length = Length.taken(options)
    graph = asked(options.pop("graph", "auto"), call.workload.device)
    compiled = checked(options.pop("compile", "off"))
    size = options.pop("train_size", None)
    size = None if size is None else non_negative_int("train_size", size)
    validation = non_negative_int("validation", options.pop("validation", 0))
    try:
        subject = call.workload.task(method, call.seed)
    except MethodFailed:
        subject = None
    recipe = recipe_for(call.workload, method, subject).but(**options)
    update_rule.made(recipe.update)  # a mistake is raised before anything runs
    if length.forwards is not None and subject is not None:
        length = _in_steps(length, subject, recipe, call.workload.split(size, validation))
    return Training(recipe, size, validation, graph, compiled, length, subject)


def _in_steps(length: Length, subject: Subject, recipe: Recipe, workload: Workload) -> Length:
    """Return a length in steps; as it is where the method cannot run, which its run reports."""
    from fgbench.core.estimator import why_not

    if recipe.batch > workload.data.train_size:
        return length
    try:
        with at_work(subject.estimator, *subject.task.parts, begun=False):
            if why_not(subject.estimator, subject.task.scheme):
                return length
        return length.in_steps(subject, recipe, workload.data)
    except MethodFailed:
        return length


def discard_checkpoint(folder: Path, key: str) -> None:
    """Remove the checkpoint of a training whose record is written.

    Args:
        folder: of the records.
        key: of the record.

    Example:
        >>> from pathlib import Path
        >>> discard_checkpoint(Path("no-such-folder"), "key")
    """
    from fgbench.training import checkpoint

    checkpoint.discard(folder / CHECKPOINTS / key)
    files.remove([folder / CHECKPOINTS])


def _train(call: Call, jobs: list[Job]) -> list[Record]:
    """Train one method after another, each from its last checkpoint if it has one."""
    from fgbench.training.loop import train

    records = []
    while jobs:
        job = jobs.pop(0)  # with its network, whose memory is free after the run
        plan: Training = job.plan
        name = job.method.text
        begun, start = datetime.now(UTC), perf_counter()
        kept = call.store is not None and job.named
        folder = call.store.folder / CHECKPOINTS / job.key if call.store and kept else None
        # A signal after the last step waits until the record is written.
        with nullcontext() if folder is None else interrupts.steps():
            result = train(
                plan.workload(call.workload),
                job.method,
                plan.recipe,
                seed=call.seed,
                subject=plan.subject,
                checkpoint=folder,
                graph=plan.graph,
                compiled=plan.compiled,
                length=plan.length,
                progress=lambda event, name=name: call.report(f"{name}, {event}"),  # type: ignore[misc]
                tell=lambda line, name=name: call.report(f"{name}, {line}"),  # type: ignore[misc]
            )
            records.append(call.finish(job, result, begun, perf_counter() - start))
            if call.trained is not None and plan.subject is not None:
                call.trained(job.key, plan.subject.task.chain)
            # A failed run is tried again from its checkpoint.
            if call.store is not None and result["status"] != "failed":
                discard_checkpoint(call.store.folder, job.key)
    return records


def _plan_speed(call: Call, method: Method, options: Options) -> Options:
    """Check and complete the options of ``speed``."""
    from fgbench.measurement.speed.step_costs import speed

    defaults = {"batch": 128, "rounds": 20, "reference": "faster"}
    checked = registry.validated(speed, options, "speed", ("workload", "methods", "seed"))
    if checked.get("compile") == "off":
        del checked["compile"]  # as if it were not stated: earlier records have no such option
    return {**defaults, **checked}


def _speed(call: Call, jobs: list[Job]) -> list[Record]:
    """Time all methods in one interleaved run."""
    from fgbench.measurement.speed.step_costs import speed

    begun, start = datetime.now(UTC), perf_counter()
    with undone():
        methods = [job.method for job in jobs]
        results = speed(call.workload, methods, seed=call.seed, **jobs[0].plan)
    seconds = perf_counter() - start
    return [
        call.finish(job, result, begun, seconds) for job, result in zip(jobs, results, strict=True)
    ]


VERBS: Mapping[str, Verb] = {
    "measure": Verb(_plan_measure, asdict, _measure),
    "train": Verb(_plan_train, lambda plan: plan.settings(), _train),
    "speed": Verb(_plan_speed, dict, _speed),
}
