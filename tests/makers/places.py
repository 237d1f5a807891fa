"""Localities at work: their objectives by plain autograd, and how exactly every estimator follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.core.noise.keyed import DesignedNoise, Noise
from tests.makers.networks import batch, build, orthonormal, weights_of, worst
from tests.makers.operations import operations

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.task import Task

SHAPE, CLASSES = (1, 4, 4), 5
MOST = 700  # weights along which a design is made: it has as many directions, and is made by QR
MIXER = "localmixer-xs/2/4[channels=8,groups=2]"
CNN = "cnn-tiny[width=4]"
ARCHS = ("mlp-4x8", CNN, MIXER)
Grads = dict[str, "Tensor"]


def made(arch: str, locality: str, shape: tuple[int, ...] = SHAPE) -> tuple[Task, Tensor, Tensor]:
    """Return a task in float64 and a batch of 4 examples, of which two have one class."""
    task, _, _ = build(arch, f"bp/{locality}", shape, CLASSES)
    x, _ = batch(4, shape, CLASSES)
    return task, x, torch.tensor([1, 0, 1, 3])


def truth_by_hand(task: Task, x: Tensor, losses: Any) -> Grads:
    """Return the sum of gradients of the objectives: each from its clean start, by plain autograd.

    Args:
        task: the task, whose windows start at clean activities.
        x: the batch.
        losses: from an objective and the output of its window to losses per example.
    """
    chain, total = task.chain, Grads()
    for o in task.objectives:
        if not o.updates:
            continue
        start = chain.run(x, 0, o.window[0]).detach()
        f = chain.run(start, *o.window)
        params = chain.body_parameters(o.updates)
        found = torch.autograd.grad(losses(o, f).mean() * o.weight, list(params.values()))
        for name, g in zip(params, found, strict=True):
            total[name] = total[name] + g if name in total else g
    return total


def joint_design(task: Task, name: str, x: Tensor) -> DesignedNoise:
    """Return an orthonormal design of everything that is drawn for a batch, all examples at once."""
    places = (
        weights_of(task)
        if name == "fg_w"
        else {n: (len(x), *s) for n, s in task.chain.shapes().items()}
    )
    design: DesignedNoise = orthonormal(places, per_example=False)
    return design


def errors(task: Task, x: Tensor, y: Any) -> dict[str, float]:
    """Return how far estimators are from the truth of the scheme, relative to it.

    Backprop and the means of forward gradients over a design are exact; differences along few directions are
    compared with the slopes along the same ones; feedback alignment runs, and every number is finite.
    """
    truth = task.scheme_truth(x, y)
    noise = Noise(0, dtype=torch.float64)
    found = {}
    few = sum(p.numel() for p in task.chain.body_parameters().values()) <= MOST
    for name in ("bp", "fg_a", *(["fg_w"] if few else [])):
        estimator = registry.make("estimators", name).thing
        drawn = noise if name == "bp" else joint_design(task, name, x)
        found[name] = worst(task.estimate(x, y, estimator, drawn).body, truth)
    slopes = registry.make("estimators", "fg_a[directions=3]").thing
    differences = registry.make("estimators", "np[directions=3,step=1e-7]").thing
    along = task.estimate(x, y, slopes, noise).body
    found["np"] = worst(task.estimate(x, y, differences, noise).body, along)
    feedback = registry.make("estimators", "fa").thing
    state = task.init_state(feedback, noise)
    back = task.estimate(x, y, feedback, noise, state).body
    assert back.keys() == truth.keys()
    assert all(bool(g.isfinite().all()) for g in back.values())
    return found


def exact(task: Task, x: Tensor, y: Any) -> None:
    """Check that every estimator follows the objectives: to rounding, differences to their step."""
    found = errors(task, x, y)
    step = found.pop("np")
    assert max(found.values()) < 1e-10, found
    assert step < 1e-4, step


def price_and_work(task: Task, method: str, x: Tensor, y: Any) -> tuple[float, float, float]:
    """Return the price of an estimate, its counted operations, and the readouts' part of the price.

    All are in forward passes of the network, as the cost is.
    """
    estimator = registry.make("estimators", method).thing
    noise = Noise(0, dtype=torch.float64)
    images = x[: len(x) // task.scheme.copies]
    one = operations(lambda: task.chain(images))
    ledger = task.estimate(x, y, estimator, noise).ledger
    spent = operations(lambda: task.estimate(x, y, estimator, noise))
    return ledger.forward_equivalents, spent / one, ledger.readouts / ledger.network
