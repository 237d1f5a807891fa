"""A deep linear network, Jacobians by autograd, and one example whose directions are all signs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from tests.makers.networks import build


class Linear(LocalModule):
    """A layer without a nonlinearity."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        z = tap("site", "l0", tap("op", "l0", self.l0(x.flatten(1))))
        return tap("out", "l0", z)


def linear_net(*widths: int, classes: int = 5, locality: str = "end") -> Task:
    """Build linear layers of these widths, the first that of the input, in float64."""
    with Noise(0).seeded():
        body: list[LocalModule] = [Linear(i, o) for i, o in pairwise(widths)]
        heads = {"final": LinearReadout("b c", widths[-1], classes)}
        chain = Chain(body, heads, (widths[0],), classes).double()
    task = Task.build(chain, registry.make("localities", locality).thing, Noise(0))
    task.chain.double()
    return task


def jacobians(task: Task, x: Tensor) -> dict[str, Tensor]:
    """Return the derivative of every example's logits at the output of every site, ``[b, k, *site]``."""
    outs: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "out":
            outs[name] = z
        return z

    chain = task.chain
    logits = chain.read("final", chain.run(x, 0, len(chain), tap))
    rows = [
        torch.autograd.grad(logits[:, k].sum(), list(outs.values()), retain_graph=True)
        for k in range(logits.shape[1])
    ]
    return {name: torch.stack([row[i] for row in rows], 1) for i, name in enumerate(outs)}


def grads_of(task: Task, estimator: Any, x: Any, y: Any, state: Any, noise: Any = None) -> Any:
    """Return the estimate of the body."""
    at = Noise(0, dtype=torch.float64) if noise is None else noise
    return task.estimate(x, y, estimator, at, state).body


def made(arch: str, text: str, shape: tuple[int, ...] = (2, 4, 6)) -> tuple[Task, Any, Any]:
    """Build a task, an estimator and its state."""
    task, estimator, noise = build(arch, text, shape)
    return task, estimator, task.init_state(estimator, noise)
