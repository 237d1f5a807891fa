"""The training loop, one for every method, on a CPU or a GPU.

All randomness is keyed by (seed, purpose, step). A checkpoint therefore stores no generator state, and a run
that was killed and resumed ends with the same bytes as an undisturbed one, times apart. (On a GPU this holds
as far as its kernels are deterministic; no global setting is changed.)

An epoch visits the training set in a keyed order. Examples that do not fill a last batch are left out of the
epoch, different ones each time, so that every step averages over equally many examples and costs the same.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.core.compiled.passes import CompiledPasses, checked
from fgbench.core.estimator import why_not
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.records import interrupts, keys
from fgbench.training import update_rule
from fgbench.training.checkpoint import Keeper
from fgbench.training.length import BY_RECIPE, Length, fitted, steps_in
from fgbench.training.recipe import Recipe, brought_rules, default_recipe
from fgbench.training.run import Progress, TrainingRun, prediction_price
from fgbench.training.step_capture import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.core.task import Task
    from fgbench.registry import Method
    from fgbench.workload import Subject, Workload

PACKAGES = (
    *("core", "data.arrays", "data.augment", "data.dataset", "data.given", "data.goal"),
    *("training", "workload"),
)
"""Packages of fgbench whose code decides the numbers of a training; a checkpoint of other code is refused."""
LOOK = 50
"""Most steps between two looks at the losses; a look waits for the accelerator."""


def train(
    workload: Workload,
    method: Method,
    recipe: Recipe,
    *,
    seed: int = 0,
    subject: Subject | None = None,
    checkpoint: Path | None = None,
    every: float = 30.0,
    graph: str = "auto",
    compiled: str = "off",
    length: Length = BY_RECIPE,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train one network by one method and evaluate it on all examples of both splits after each epoch.

    The seed decides initial weights, batch order and noise; two methods with one seed share the first two.
    One PyTorch optimiser moves the body by the estimated gradients and the readouts by exact ones. An
    estimator with learned state names that state's optimiser as ``state_optimizer = ("adam", 1e-3)``;
    if it names none, learned state takes plain gradient steps of rate 1.

    Args:
        workload: architecture and data; see :meth:`fgbench.workload.Workload.split` for part of the data.
        method: estimator and locality.
        recipe: what to train with, see :func:`recipe_for`.
        seed: of the run.
        subject: what ``workload.task(method, seed)`` returned, where it is built already; its network is
            trained in place. Built here where None.
        checkpoint: the run's own folder; a run that was stopped goes on from there. Call
            :func:`fgbench.training.checkpoint.discard` once its record is written.
        every: seconds between checkpoints within an epoch. One is also written after each epoch, unless
            the last is younger than a second.
        graph: ``auto``: on a GPU, steps whose time is spent on launching kernels run as a captured graph;
            ``on``; ``off``. The numbers are the same.
        compiled: ``auto``: passes run as compiled programs where they can be, see
            :mod:`fgbench.core.compiled.passes`; ``on``: one that cannot be is an error; ``off``. The numbers
            are the same to rounding.
        length: how long the run is, in place of the epochs of the recipe.
        progress: called after every epoch, and within an epoch every 50 steps or about each second.
        tell: called with one line where the run goes on from a checkpoint. One that is damaged is not used
            and named in a :class:`fgbench.errors.Notice`.

    Returns:
        ``status reason epochs test_error train_error test_loss train_loss seconds steps history cost device
        correct examples classes graph claims``. Errors are fractions, and None unless the status is ``ok``.
        ``seconds`` covers training without evaluation and checkpoints. ``cost`` is the mean per step, and
        that of a ``prediction`` where the locality makes its own. ``correct`` is a hexadecimal bitmap of
        the correctly predicted test examples, the first in the highest bit, padded with zeros to whole
        bytes. ``graph`` says whether the last steps were ``used`` as a captured graph, and the ``reason``.
        ``compiled`` says how many passes ran ``compiled`` and ``eager``, why, and the ``seconds`` that
        compiling took, which are none of the training's; it is missing where compiling is off.
        ``claims`` are those of the estimator on this task; None where it did not run. If the estimator's
        code raises, the status is ``failed`` with the reason, and its checkpoint stays.

    Raises:
        UsageError: for a graph on a CPU, a batch larger than the training set, or the checkpoint of
            another run.
        KeyboardInterrupt: on Ctrl-C, with a checkpoint after the current step is finished and saved.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> recipe = Recipe(epochs=2, batch=16, lr=0.1)
        >>> found = train(workload, registry.method("FG-A"), recipe)
        >>> found["status"], found["steps"], len(found["history"])
        ('ok', 8, 2)
    """
    asked(graph, workload.device)
    passes = CompiledPasses(must=compiled == "on") if checked(compiled) != "off" else None
    data = workload.data
    if recipe.batch > data.train_size:
        raise UsageError(
            f"batch {recipe.batch} is larger than the {data.train_size} training examples"
        )
    claims = None
    try:
        subject = subject or workload.task(method, seed)
        task, estimator, noise = subject
        with at_work(estimator, *task.parts, begun=False):
            if reason := why_not(estimator, task.scheme):
                return _result("skipped", reason, recipe, workload)
            claims = asdict(task.claims(estimator))
            fit, steps = _limited(length, workload, method, subject, recipe, seed)
            timed = length.seconds is not None
            task = task if passes is None else task.compiled(passes)
            run = TrainingRun(task, estimator, fit, noise, data, graph, steps, timed)
    except MethodFailed as failed:
        return _result("failed", str(failed), recipe, workload)
    keeper = None
    if checkpoint is not None:
        identity = _identity(workload, method, recipe, seed)
        identity |= {f"length.{name}": value for name, value in length.stated.items()}
        keeper = Keeper(checkpoint, every, identity)
        if keeper.load(run.restore) and tell is not None:
            tell(f"goes on from its checkpoint after step {run.step}")
    try:
        with interrupts.steps() if keeper is not None else nullcontext():
            reason = _steps(run, keeper, progress or (lambda event: None))
    except MethodFailed as failed:
        result = _result("failed", str(failed), recipe, workload, run)
    else:
        result = _result("diverged" if reason else "ok", reason, recipe, workload, run)
    return {**result, "claims": claims}


def recipe_for(workload: Workload, method: Method, subject: Subject | None = None) -> Recipe:
    """Return the recipe that ships for a method on an architecture and a data set, or that they bring.

    Recipes differ for estimators whose gradients are free of noise, which is what the estimator claims of
    its task (``deterministic`` or ``exact``). If its claims or its locality raise, it is taken as noisy;
    its run then says why. An update rule that the estimator names is part of the recipe.

    Args:
        workload: architecture and data.
        method: estimator and locality.
        subject: what ``workload.task(method, seed)`` returned, where it is built already.

    Returns:
        The recipe.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> recipe_for(workload, registry.method("BP")).optimizer
        'sgd'
    """
    try:
        task, estimator, _ = subject or workload.task(method, 0)
        with at_work(estimator, *task.parts, begun=False):
            exact = task.claims(estimator).noiseless
    except MethodFailed:
        exact = False
    own = brought_rules(workload.maker(), method.locality.thing, method.estimator.thing)
    recipe = default_recipe(workload.arch, workload.data.name, exact, method_name(method), own)
    update = update_rule.named(recipe.update, method.estimator.thing)
    return recipe if update == recipe.update else recipe.but(update=update)


def method_name(method: Method) -> str:
    """Return ``estimator/locality`` of a method with its options, presets resolved.

    Example:
        >>> from fgbench import registry
        >>> method_name(registry.method("LG-FG-A"))
        'fg_a/local-pg'
    """
    return f"{method.estimator.text}/{method.locality.text}"


def _limited(
    length: Length, workload: Workload, method: Method, subject: Subject, recipe: Recipe, seed: int
) -> tuple[Recipe, int | None]:
    """Return the recipe and the number of steps of a run of some length; None for the recipe's epochs."""
    data = workload.data
    if length.seconds is not None:  # timed on a network of its own
        steps: int | None = steps_in(length.seconds, workload.task(method, seed), recipe, data)
    else:
        steps = length.in_steps(subject, recipe, data).steps
    if steps is None:
        return recipe, None
    return fitted(recipe, steps, data.train_size // recipe.batch), steps


def _epochs(run: TrainingRun) -> float:
    """Return the epochs of a run, a fraction where it ends within one."""
    whole, part = divmod(run.steps, run.per_epoch)
    return round(run.steps / run.per_epoch, 4) if part else whole


def _identity(workload: Workload, method: Method, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Return what decides the numbers of a run, by which its checkpoint is recognised."""
    rule = (
        "" if recipe.update in ("", update_rule.NONE) else registry.source("updates", recipe.update)
    )
    named = (workload.source(), method.estimator.source, method.locality.source, rule)
    sources = {Path(path) for path in named if Path(path).is_file()}
    return {
        **{"method": method_name(method), "arch": workload.arch, "seed": seed},
        **{"data": workload.data.fingerprint, "device": workload.device.type},
        "dtype": str(workload.dtype).removeprefix("torch."),
        **{"threads": torch.get_num_threads(), "torch": str(torch.__version__)},
        **{f"recipe.{name}": value for name, value in recipe.model_dump().items()},
        "code": keys.code_hash(*(f"fgbench.{package}" for package in PACKAGES), *sources),
    }


def _steps(
    run: TrainingRun,
    keeper: Keeper | None,
    report: Callable[[Progress], None],
) -> str:
    """Take the remaining steps; return why they ended early, or "" if they did not."""
    looked = perf_counter()
    parts = run.parts
    if run.step < run.steps:
        with at_work(*parts, begun=False):
            run.batch()  # too few images are the user's mistake, not a failure of the method
    while run.step < run.steps:
        begin = perf_counter()
        compiling = _compiling(run.task)
        with at_work(run.estimator, *parts):
            run.take()

        ended, stop = run.ended, keeper is not None and interrupts.due()
        due = keeper is not None and keeper.due(ended)
        look = ended or stop or due or len(run.unseen) >= LOOK or perf_counter() - looked > 1
        with at_work(run.estimator, *parts):
            reason = run.look() if look else ""
            run.seconds += perf_counter() - begin - (_compiling(run.task) - compiling)
            if ended and not reason:
                reason = run.assess()
        if reason:
            return reason
        if look:
            looked = perf_counter()
            try:
                report(run.progress(ended))
            except KeyboardInterrupt:
                stop = True
        if keeper is not None and (due or stop):
            keeper.save(run.learner.tensors(), run.facts())
        if stop:
            raise KeyboardInterrupt
    return ""


def _result(
    status: str, reason: str, recipe: Recipe, workload: Workload, run: TrainingRun | None = None
) -> dict[str, Any]:
    """Return the fields of the record; errors are given only for a run that finished."""
    steps = run.step if run is not None else 0
    history = run.history if run is not None else []
    last = history[-1] if history and status == "ok" else {}
    data = workload.data
    names = dict.fromkeys(("error", "loss", *data.metrics))
    numbers = [f"{split}_{name}" for name in names for split in ("test", "train")]
    return {
        "status": status,
        "reason": reason,
        "epochs": recipe.epochs if run is None else _epochs(run),
        **{name: last.get(name) for name in numbers},
        "metrics": data.goal.described(),
        "seconds": run.seconds if run is not None else 0.0,
        "steps": steps,
        "history": history,
        "cost": _cost(run, status == "ok") if run and steps else {},
        "device": workload.device.type,
        "correct": run.correct if run is not None and last else None,
        "graph": {
            "used": run is not None and run.graph.used,
            "reason": run.graph.reason if run is not None else "no step was taken",
        },
        "examples": {"train": data.train_size, "test": data.test_size},
        "classes": data.classes,
        **({"compiled": run.task.programs.described()} if run and run.task.programs else {}),
        "claims": None,
    }


def _compiling(task: Task) -> float:
    """Return the seconds that compiling has taken."""
    return 0.0 if task.programs is None else task.programs.seconds


def _cost(run: TrainingRun, finished: bool) -> dict[str, float]:
    """Return the mean cost of a step, and of a prediction where the locality makes its own."""
    spent = {name: price / run.step for name, price in run.spent.items()}
    return spent | (prediction_price(run.task) if finished else {})
