"""The backprop step that step times are divided by: plain PyTorch, or compiled where that is faster.

``torch.compile`` is given the forward pass and the loss of the same model on the same batch; the time to
compile is reported apart. Compiling makes some networks faster and others slower, so both steps are timed in
the same rounds, and the faster one is the reference.

A compiled step whose gradient differs from the plain one is no reference. Where it differs on the batch, a
second look is taken at the batch with noise: a norm divides the rounding of a constant input, such as a blank
patch, by the square root of its eps, and a few norms make any two orders of summation different there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch

from fgbench import errors
from fgbench.core.noise.keyed import Noise
from fgbench.core.targets import labels_of
from fgbench.measurement.speed.interleaved_timing import peak

if TYPE_CHECKING:
    from fgbench.core.task import Task

Which = Literal["faster", "plain", "compiled"]
OFF = 1e-2
"""Largest relative distance of a compiled gradient from the plain one: rounding flips ReLUs near 0."""


@dataclass(frozen=True)
class Reference:
    """The steps from which the reference is chosen.

    Args:
        steps: ``plain``, ``compiled`` or both, each a callable of the number of the call.
        compile_s: seconds that compiling took.
        reason: why there is no compiled step where one was asked for, or "".
        beside: steps of which only the memory counts: ``plain`` where the compiled one was asked for.
        release: lets go of the gradients that a step has left.

    Example:
        >>> list(Reference({"plain": lambda k: None}).steps)
        ['plain']
    """

    steps: dict[str, Callable[[int], Any]]
    compile_s: float = 0.0
    reason: str = ""
    beside: dict[str, Callable[[int], Any]] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None

    def peaks(self, device: torch.device) -> dict[str, int]:
        """Return the most memory that each step holds beyond what was held before, in bytes.

        A gradient of an earlier step that is freed within a step would be taken from its peak.
        """
        found = {}
        for kind, step in {**self.beside, **self.steps}.items():
            self.release()
            found[kind] = peak(step, device)
        return found


def build(task: Task, x: torch.Tensor, y: torch.Tensor, which: Which = "faster") -> Reference:
    """Build ordinary PyTorch steps of a task's model on its end loss: forward, loss, ``backward``.

    Args:
        task: the model. The steps leave gradients on its parameters.
        x: a batch.
        y: its labels.
        which: ``plain``, ``compiled``, or ``faster`` for both. Where there is no compiler, where it fails or
            where its gradient differs, only the plain step is built.

    Returns:
        The steps.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> task, _, noise = workload.task(method("BP"), 0)
        >>> x, y = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
        >>> list(build(task, x, y, "plain").steps)
        ['plain']
    """
    mean = _mean_loss(task)
    plain = {"plain": _step(task, mean, x, y)}
    release = partial(task.chain.zero_grad, set_to_none=True)
    if which == "plain":
        return Reference(plain, release=release)
    plain["plain"](0)  # an error here has nothing to do with compiling
    loss = torch.compile(mean, dynamic=False)
    compiled, begin = _step(task, loss, x, y), perf_counter()
    try:
        compiled(0)
    except RuntimeError as error:  # what dynamo, inductor and a missing compiler raise
        why = f"not compiled: {errors.reason(error)}"
        return Reference(plain, reason=why, release=release)
    seconds = perf_counter() - begin
    off = _distance(task, plain["plain"], compiled)
    if not off <= OFF and x.is_floating_point():
        moved = x + Noise(0, device=x.device, dtype=x.dtype).normal("off", tuple(x.shape))
        off = _distance(task, _step(task, mean, moved, y), _step(task, loss, moved, y))
    if not off <= OFF:
        why = f"the compiled gradient is off by {off:.1g}"
        return Reference(plain, seconds, why, release=release)
    if which == "compiled":
        return Reference({"compiled": compiled}, seconds, beside=plain, release=release)
    return Reference({**plain, "compiled": compiled}, seconds, release=release)


def _mean_loss(task: Task) -> Callable[..., torch.Tensor]:
    """Return the mean end loss of a task as a function of inputs and labels."""
    chain, name = task.chain, "final" if task.end is None else task.end.readout

    def mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        prediction = chain.read(name, chain.run(x, 0, len(chain)))
        return chain.readout(name).losses(prediction, y).mean()

    return mean


def _step(task: Task, loss: Callable[..., torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> Any:
    """Build a step on one batch from a loss, plain or compiled."""
    chain, targets = task.chain, labels_of(y)

    def step(k: int) -> None:
        chain.zero_grad(set_to_none=True)
        loss(x, targets).backward()

    return step


def _distance(task: Task, plain: Callable[[int], Any], compiled: Callable[[int], Any]) -> float:
    """Return the distance of the gradient of a compiled step from that of a plain one, over its norm."""
    plain(0)
    expected = _gradient(task)
    compiled(0)
    return float((_gradient(task) - expected).norm() / expected.norm().clamp_min(1e-30))


def _gradient(task: Task) -> torch.Tensor:
    """Return the gradients that a step left on the parameters, as one vector."""
    grads = [p.grad for p in task.chain.parameters() if p.grad is not None]
    return torch.cat([g.detach().flatten() for g in grads])
