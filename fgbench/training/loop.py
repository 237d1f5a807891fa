"""Training: one loop for every method, on a CPU or a GPU.

All randomness is keyed by (seed, purpose, step), so a checkpoint needs no generator's state and a run
that was killed and resumed ends with the same bytes as one that was not, times apart. (On a GPU as far
as its kernels are deterministic; no global setting is touched.)

An epoch visits the training set in a keyed order. What does not fill a batch is left out of the epoch,
another part each time: every step then averages equally many examples and costs the same.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.training.checkpoint import Keeper, interrupt_held
from fgbench.training.recipe import Recipe, default_recipe
from fgbench.training.run import Progress, TrainingRun
from fgbench.training.step_capture import asked
from fgbench.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK = 50
"""Most steps between two looks at the losses; a look waits for the accelerator."""


def train(
    method: str,
    *,
    arch: str,
    data: str,
    recipe: Recipe,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    data_dir: str | None = None,
    workload: Workload | None = None,
    train_size: int | None = None,
    validation: int = 0,
    checkpoint: Path | None = None,
    every: float = 30.0,
    graph: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train one network by one method and evaluate it on every example of both splits.

    A seed decides initial weights, batch order and noise; two methods under one seed share the first
    two. Credit of the body and the readouts' exact gradients go to one PyTorch optimiser. An estimator
    with learned state names its optimiser as ``state_optimizer = ("adam", 1e-3)``; without, learned
    state takes plain gradient steps of rate 1.

    Args:
        method: a METHOD of :func:`fgbench.registry.method`.
        arch: architecture.
        data: data set.
        recipe: what to train with, see :func:`recipe_for`.
        seed: the run's seed.
        device: ``cpu``, ``cuda``, or ``auto`` for ``cuda`` where there is one.
        dtype: ``float32`` or ``float64``.
        data_dir: folder of the data sets.
        workload: what these names make, where it is there already: data lie on a device once.
        train_size: train on the first so many examples.
        validation: hold out the last so many of these and evaluate on them instead of the test split.
        checkpoint: the run's own folder: a run that was stopped goes on from there. Call
            :func:`fgbench.training.checkpoint.discard` once its record is written.
        every: seconds between checkpoints within an epoch; one is also written after each epoch,
            unless the last is younger than a second.
        graph: ``auto``: on a GPU, a step that is bound by its launches runs as a captured graph;
            ``on``, ``off``. The run is the same.
        progress: called after every epoch, and within at most every 50 steps or about each second.

    Returns:
        ``status reason epochs test_error train_error test_loss train_loss seconds steps history cost
        device correct examples classes graph``. What the method's own work raised is the reason of a status
        ``failed``; its checkpoint stays. Errors are fractions, None unless the status is ``ok``; ``seconds``
        are of training alone, without evaluation and checkpoints; ``cost`` is the mean per step;
        ``correct`` is a hexadecimal bitmap of the test examples predicted rightly, the first in the
        highest bit, padded with zeros to whole bytes; ``graph`` says whether the last steps were
        ``used`` as a captured graph and the ``reason``.

    Raises:
        UsageError: for names or options that do not exist, a graph on a CPU, a batch larger than the
            training set, or a checkpoint that another run left.
        KeyboardInterrupt: on Ctrl-C, once the step at work is done and saved.
    """
    workload = workload or Workload.of(arch, data, device, dtype, data_dir)
    asked(graph, workload.device)
    chosen = workload.data.subset(train_size).held_out(validation)
    workload = replace(workload, data=chosen)
    there = workload.data
    if recipe.batch > len(there.train_y):
        raise UsageError(
            f"batch {recipe.batch} is larger than the {len(there.train_y)} training examples"
        )
    parsed = registry.method(method)
    task, estimator, noise = workload.task(parsed, seed)
    try:
        with at_work(estimator, begun=False):
            if reason := estimator.supports(task.scheme):
                return _result("skipped", reason, recipe, workload)
            run = TrainingRun(task, estimator, recipe, noise, there, graph)
    except MethodFailed as failed:
        return _result("failed", str(failed), recipe, workload)
    identity = {
        **{"method": f"{parsed.estimator.text}/{parsed.locality.text}", "arch": arch, "seed": seed},
        **{"data": there.fingerprint, "device": workload.device.type, "dtype": dtype},
        **{"threads": torch.get_num_threads(), "torch": str(torch.__version__)},
        **{f"recipe.{name}": value for name, value in recipe.model_dump().items()},
    }
    keep = None if checkpoint is None else Keeper(checkpoint, every, identity)
    saved = None if keep is None else keep.load()
    if saved is not None:
        run.restore(saved)
    held = interrupt_held() if keep is not None else nullcontext(lambda: False)
    try:
        with held as pressed:
            reason = _learn(run, keep, pressed, progress or _silent)
    except MethodFailed as failed:
        return _result("failed", str(failed), recipe, workload, run)
    return _result("diverged" if reason else "ok", reason, recipe, workload, run)


def recipe_for(method: str, *, arch: str, data: str, data_dir: str | None = None) -> Recipe:
    """Return the recipe that ships for a method on an architecture and a data set.

    Args:
        method: a METHOD; whether its gradients are free of noise is what it claims on this task.
        arch: architecture.
        data: data set.
        data_dir: folder of the data sets.

    Returns:
        The recipe.
    """
    parsed = registry.method(method)
    task, estimator, _ = Workload.of(arch, data, data_dir=data_dir).task(parsed, 0)
    name = f"{parsed.estimator.text}/{parsed.locality.text}"
    try:
        with at_work(estimator, begun=False):
            exact = task.claims(estimator).deterministic
    except MethodFailed:  # so will the run, which says why
        exact = False
    return default_recipe(arch, data, exact, name)


def _learn(
    run: TrainingRun,
    keep: Keeper | None,
    pressed: Callable[[], bool],
    tell: Callable[[Progress], None],
) -> str:
    """Take the steps that are left; return why they ended early, or ""; what they raise fails the run."""
    looked = perf_counter()
    if run.step < run.steps:
        run.batch()  # too few images are the user's mistake and no failure of the method
    while run.step < run.steps:
        begin = perf_counter()
        with at_work(run.estimator):
            run.take()

        ended, stop = run.step % run.per_epoch == 0, pressed()
        due = keep is not None and keep.due(ended)
        look = ended or stop or due or len(run.unseen) >= LOOK or perf_counter() - looked > 1
        with at_work(run.estimator):
            reason = run.look() if look else ""
            run.seconds += perf_counter() - begin
            if ended and not reason:
                reason = run.assess()
        if reason:
            return reason
        if look:
            looked = perf_counter()
            try:
                tell(run.progress(ended))
            except KeyboardInterrupt:
                stop = True
        if keep is not None and (due or stop):
            keep.save(run.learner.tensors(), run.facts())
        if stop:
            raise KeyboardInterrupt
    return ""


def _result(
    status: str, reason: str, recipe: Recipe, workload: Workload, run: TrainingRun | None = None
) -> dict[str, Any]:
    """Put the record's fields together; errors only for what came to its end."""
    steps = run.step if run is not None else 0
    history = run.history if run is not None else []
    last = history[-1] if history and status == "ok" else {}
    errors = ("test_error", "train_error", "test_loss", "train_loss")
    data = workload.data
    return {
        "status": status,
        "reason": reason,
        "epochs": recipe.epochs,
        **{name: last.get(name) for name in errors},
        "seconds": run.seconds if run is not None else 0.0,
        "steps": steps,
        "history": history,
        "cost": {name: price / steps for name, price in run.spent.items()} if run and steps else {},
        "device": workload.device.type,
        "correct": run.correct if run is not None and last else None,
        "graph": {
            "used": run is not None and run.graph.used,
            "reason": run.graph.reason if run is not None else "no step was taken",
        },
        "examples": {"train": len(data.train_y), "test": len(data.test_y)},
        "classes": data.classes,
    }


def _silent(event: Progress) -> None:
    """Tell nobody."""
