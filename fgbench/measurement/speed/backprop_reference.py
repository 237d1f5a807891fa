"""The backprop step that speeds are ratios to: plain PyTorch, or compiled where that is faster.

``torch.compile`` takes the forward pass and the loss of the same model on the same batch; what it needs to
compile is no part of any time. It makes some nets faster and others slower, so both are timed in the same
rounds, and the faster is the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch

from fgbench import errors

if TYPE_CHECKING:
    from fgbench.core.task import Task

Which = Literal["faster", "plain", "compiled"]
OFF = 1e-2
"""How far a compiled gradient may be from the plain one, by norm: rounding turns ReLUs at 0 over."""


@dataclass(frozen=True)
class Reference:
    """The steps among which the reference is chosen.

    Args:
        steps: ``plain``, ``compiled`` or both, each a callable of the number of the call.
        compile_s: seconds that compiling took.
        reason: why there is no compiled step where one was asked for.
    """

    steps: dict[str, Callable[[int], Any]]
    compile_s: float = 0.0
    reason: str = ""


def build(task: Task, x: torch.Tensor, y: torch.Tensor, which: Which = "faster") -> Reference:
    """Build ordinary PyTorch steps of a task's model on its end loss: forward, loss, ``backward``.

    Args:
        task: its chain is used up: steps leave gradients on it.
        x: a batch.
        y: its labels.
        which: ``plain``, ``compiled``, or both to choose the ``faster``. Without a compiler, where it
            fails, or where its gradient is another, the plain one stands alone.

    Returns:
        The steps.
    """
    plain = {"plain": _step(task, x, y)}
    if which == "plain":
        return Reference(plain)
    plain["plain"](0)  # what fails here is no matter of compiling
    want = _gradient(task)
    compiled, begin = _step(task, x, y, compiling=True), perf_counter()
    try:
        compiled(0)
    except RuntimeError as error:  # what dynamo, inductor and a missing compiler raise
        return Reference(plain, reason=f"not compiled: {errors.reason(error)}")
    seconds = perf_counter() - begin
    off = float((_gradient(task) - want).norm() / want.norm().clamp_min(1e-30))
    if not off <= OFF:
        return Reference(plain, seconds, f"the compiled gradient is off by {off:.1g}")
    return Reference(
        {"compiled": compiled} if which == "compiled" else {**plain, "compiled": compiled}, seconds
    )


def _step(task: Task, x: torch.Tensor, y: torch.Tensor, compiling: bool = False) -> Any:
    """Build one of the steps."""
    chain, name = task.chain, task.end.readout

    def mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        prediction = chain.read(name, chain.run(x, 0, len(chain)))
        return chain.readout(name).losses(prediction, y).mean()

    loss = torch.compile(mean, dynamic=False) if compiling else mean

    def step(k: int) -> None:
        chain.zero_grad(set_to_none=True)
        loss(x, y).backward()

    return step


def _gradient(task: Task) -> torch.Tensor:
    """Return the gradients that a step left, in one vector."""
    grads = [p.grad for p in task.chain.parameters() if p.grad is not None]
    return torch.cat([g.detach().flatten() for g in grads])
