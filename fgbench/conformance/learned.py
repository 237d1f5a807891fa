"""State that learns: taken through several steps of training, saved and restored on the way.

A claim holds in every state and not in the first alone. So the state is moved as training moves it, and
what is claimed is judged again where it arrives.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fgbench.conformance.agreement import same
from fgbench.conformance.nets import SEED
from fgbench.conformance.outcome import Fault, NotJudged, listed
from fgbench.conformance.pure import NOT_FINITE, pure
from fgbench.core.noise.keyed import Noise
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.training.learner import Learner
from fgbench.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.conformance.nets import Case

STEPS = 13  # a prime: what is renewed every few steps is not renewed then, as it is at the start
FEW = 2  # steps of what keeps no state
RATE = 0.01  # of the parameters; the state's own is the estimator's


def keeps_state(case: Case) -> bool:
    """Return whether an estimator keeps any state.

    Args:
        case: estimator, network and locality.

    Returns:
        Whether one objective has a tensor of it.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> keeps_state(Case.build(TINY, "end", make("estimators", "fa").thing))
        True
    """
    return any(own for own in case.state.values())


def learned(case: Case, steps: int = STEPS) -> Case:
    """Train a few steps and return the case with the parameters and the state that they lead to.

    Args:
        case: estimator, network and locality; left as it is.
        steps: optimiser steps, each on a batch of its own.

    Returns:
        The case after them.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> learned(Case.build(TINY, "end", make("estimators", "fa").thing), 2).name
        'mlp-2x4/end after 2 learned steps'
    """
    task, learner = _learner(case)
    _steps(case, task, learner, 0, steps)
    return replace(case, task=task, state=learner.state, after=f" after {steps} learned steps")


def state(case: Case) -> str:
    """Check that state learns as the learner moves it, and goes on alike from a checkpoint.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: if it keeps no state.
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> state(Case.build(TINY, "end", make("estimators", "fa").thing)).partition(";")[0]
        'it stays as it is over 13 learned steps'
    """
    if not keeps_state(case):
        raise NotJudged("it keeps none")
    task, learner = _restored(case, STEPS)
    pure(replace(case, task=task, state=learner.state))
    moved = _moved(case, learner.state)
    how = f"{listed(moved, 2)} moves over" if moved else "it stays as it is over"
    return f"{how} {STEPS} learned steps; saved half way and restored, it arrives at the same"


def training(case: Case) -> str:
    """Check that two steps of training move what learns, and that the second is the same from a checkpoint.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where nothing is updated.
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> training(Case.build(TINY, "end", make("estimators", "bp").thing)).partition(";")[0]
        'two steps move 4 of 4 parameters of the body'
    """
    task, _ = _restored(case, FEW)
    before = dict(case.task.chain.named_parameters())
    after = task.chain.body_parameters()
    own = {k for o in task.objectives for k in o.updates}
    updated = task.chain.body_parameters(tuple(sorted(own)))
    moved = [name for name in updated if not torch.equal(after[name], before[name])]
    may_stay = bool(getattr(case.estimator, "update", ""))  # its rule may take a step back
    for o in task.objectives:
        heads = task.chain.readout_parameters(o.readout) if o.head and not may_stay else {}
        if heads and all(torch.equal(p, before[name]) for name, p in heads.items()):
            raise Fault(
                f"{FEW} steps move no parameter of the readout {o.readout!r}, which {o.name!r} teaches"
            )
    if not updated:
        raise NotJudged("no objective updates a module")
    if not moved and not may_stay:
        raise Fault(f"{FEW} steps of rate {RATE:g} move no parameter of the body")
    return (
        f"two steps move {len(moved)} of {len(updated)} parameters of the body; saved after one and "
        "restored, the second is the same"
    )


def _restored(case: Case, steps: int) -> tuple[Task, Learner]:
    """Take steps of training, and the second half of them again from a checkpoint.

    Returns:
        Task and learner after the steps.

    Raises:
        Fault: where the two do not arrive at the same.
    """
    task, learner = _learner(case)
    _steps(case, task, learner, 0, steps // 2)
    copies: dict[int, Tensor] = {}  # a tensor that objectives share stays one tensor
    saved = {
        name: copies.setdefault(id(t), t.detach().clone()) for name, t in learner.tensors().items()
    }
    _steps(case, task, learner, steps // 2, steps)
    for objective, own in learner.state.items():
        for name, t in own.items():
            if t.is_floating_point() and not bool(t.isfinite().all()):
                raise Fault(
                    f"state {name!r} of {objective} is not finite after {steps} learned steps"
                )
    if learner.unsound():
        raise NotJudged(NOT_FINITE)
    again, restored = _learner(case)
    restored.restore(saved)
    _steps(case, again, restored, steps // 2, steps)
    for name, t in learner.tensors().items():
        if name not in restored.tensors() or not same(t, restored.tensors()[name]):
            where = " of ".join(reversed(name.split("\t")[1:]))
            raise Fault(
                f"saved after {steps // 2} of {steps} learned steps and restored, it arrives at another "
                f"{where}: something it learns is not in its state"
            )
    return task, learner


def _learner(case: Case) -> tuple[Task, Learner]:
    """Return a copy of the case's task and a learner of it, in the state of the start."""
    task = Task(Scheme(copy.deepcopy(case.task.chain), case.task.scheme.locality))
    recipe = Recipe(epochs=1, batch=case.net.examples, lr=RATE, update="none")
    noise = Noise(SEED, dtype=case.x.dtype)
    return task, Learner(task, case.estimator, recipe, noise)


def _steps(case: Case, task: Task, learner: Learner, first: int, stop: int) -> None:
    """Take the steps from ``first`` to ``stop - 1``."""
    for k in range(first, stop):
        noise = case.noise.child("learning").at(k)
        x = noise.child("batch").normal("x", tuple(case.x.shape))
        step = task.estimate(x, case.y, case.estimator, noise, learner.state)
        learner.follow(step)
    for p in task.chain.parameters():
        p.grad = None


def _moved(case: Case, now: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """List the parts of the state that are not what they were."""
    names = {
        name
        for objective, own in now.items()
        for name, t in own.items()
        if not same(t, case.state[objective][name])
    }
    return sorted(names)
