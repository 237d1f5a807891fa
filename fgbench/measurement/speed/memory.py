"""Memory of a step beside that of inference: of an estimate, and of the step that is taken along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fgbench.core.noise.keyed import Noise
from fgbench.measurement.speed.interleaved_timing import peak
from fgbench.training.learner import Learner
from fgbench.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.registry import Method
    from fgbench.workload import Workload


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of passes on one batch, beyond what was held before.

    Args:
        inference: of the losses of the batch, without gradients.
        estimate: of an estimate: gradients of body and readouts.
        step: of an estimate and a step along it.
        parameters: that the network holds all the time.

    Example:
        >>> Memory(inference=100, estimate=150, step=160, parameters=300).ratio
        1.6
    """

    inference: int
    estimate: int
    step: int
    parameters: int

    @property
    def ratio(self) -> float:
        """The memory of a step over that of inference, parameters left out of both."""
        return self.step / self.inference


def memory(
    workload: Workload,
    method: Method,
    batch: int = 128,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> Memory:
    """Measure the memory of inference, of an estimate, and of a step along it, on the same batch.

    Args:
        workload: architecture and data.
        method: estimator and locality.
        batch: examples.
        seed: of network, batch and noise.
        recipe: of the step; plain SGD without momentum where None.

    Returns:
        The bytes at the peak of each.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-2x64", "synthetic[train=64,test=32]")
        >>> found = memory(workload, method("BP"), batch=32)
        >>> found.inference < found.estimate < found.step
        True
    """
    task, estimator, noise = workload.task(method, seed)
    data = workload.data
    rows = Noise(seed).child("memory").permutation("batch", data.train_size)[:batch]
    x, y = task.scheme.batch(*data.rows(rows), data, noise.child("views"))
    plain = Recipe(epochs=1, batch=batch, lr=1e-6, optimizer="sgd", momentum=0.0)
    learner = Learner(task, estimator, recipe or plain, noise)
    chain, drawn = task.chain, noise.child("memory")
    name = "final" if task.end is None else task.end.readout

    def inference(k: int) -> torch.Tensor:
        with torch.no_grad():
            f = chain.run(chain.start(x), 0, len(chain))
            return chain.readout(name).losses(chain.read(name, f), y)

    def estimate(k: int) -> object:
        return task.estimate(x, y, estimator, drawn.at(k), learner.state)

    def step(k: int) -> None:
        learner.follow(task.estimate(x, y, estimator, drawn.at(k), learner.state))

    def peak_of(run: Callable[[int], object]) -> int:
        run(0)  # what is made once and kept
        for p in chain.parameters():
            p.grad = None
        return peak(run, workload.device)

    return Memory(
        inference=peak_of(inference),
        estimate=peak_of(estimate),
        step=peak_of(step),
        parameters=sum(p.numel() * p.element_size() for p in chain.parameters()),
    )
