"""Memory beside inference: known allocations, and what is streamed is drawn once in a timed step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fgbench import registry
from fgbench.core.along import Along, Streamed, pass_over
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.measurement.speed.memory import Memory, memory
from fgbench.workload import Workload


@dataclass(frozen=True)
class Holding(Defaults):
    """Backprop, holding so many bytes more at its end."""

    extra: int = 0

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="network", deterministic=True)

    def __call__(self, view: Any, noise: Noise, state: Any) -> Estimate:
        grads = view.reverse()
        held = torch.empty(self.extra, dtype=torch.uint8)
        del held
        return Estimate(grads=grads)


def test_peaks_are_those_of_known_allocations() -> None:
    workload = Workload.of("mlp-1x64", "synthetic[train=64,test=32]")
    plain, more = (
        memory(workload, registry.method_of(Holding(extra)), batch=16) for extra in (0, 1 << 20)
    )
    assert plain.inference == more.inference
    body = 64 * 64 * 4  # the largest gradient, which is there when the rest is allocated
    assert 1 << 20 <= more.estimate - body < (1 << 20) + plain.estimate
    assert plain.inference < plain.estimate < plain.step
    assert plain.parameters == 4 * (64 * 64 + 64 + 64 * 10 + 10)
    assert Memory(2, 3, 5, 7).ratio == 2.5


def test_a_streamed_gradient_is_passed_over_once() -> None:
    u = Noise(0).directions({"w": (128, 64), "b": (3,)})
    drawn = []

    class Loud(Along):
        def pieces(self, name: str, limit: int | None = None) -> Any:
            for at, piece in super().pieces(name, limit):
                drawn.append((name, piece.numel()))
                yield at, piece

    params = {n: torch.zeros(s) for n, s in u.shapes.items()}
    pass_over(Streamed([{}, Loud(u, torch.ones(1))]), params)
    assert drawn == [("w", 128 * 64), ("b", 3)]
    pass_over({"w": torch.ones(1)}, {})
