"""Steps along streamed gradients are those along formed ones, whatever the optimiser."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fgbench.core.along import Along, Streamed
from fgbench.core.noise.keyed import Noise
from fgbench.training import optimizer_steps
from fgbench.training.optimizers import optimizer

RULES = [
    ("sgd", {"momentum": 0.0}),
    ("sgd", {"momentum": 0.0, "decay": 0.1}),
    ("sgd", {"momentum": 0.9, "decay": 0.1}),
    ("adam", {"momentum": 0.9}),
    ("adamw", {"momentum": 0.9, "decay": 0.1}),
    ("rmsprop", {"momentum": 0.9}),
    ("lars", {"momentum": 0.9}),
]


def made(name: str, momentum: float, decay: float = 0.0) -> tuple[dict[str, Any], Any]:
    noise = Noise(0, dtype=torch.float64)
    shapes = {"w": (130, 64), "b": (7,), "head": (3,)}
    params = {n: nn.Parameter(noise.normal(n, shape)) for n, shape in shapes.items()}
    groups = [
        {"params": [params["w"]], "lr": 0.1, "weight_decay": decay, "adapt": True},
        {"params": [params["b"], params["head"]], "lr": 0.01, "weight_decay": 0.0, "adapt": False},
    ]
    return params, optimizer(name, groups, momentum)


def body(k: int) -> Along:
    u = Noise(7, dtype=torch.float64).at(k).directions({"w": (130, 64), "b": (7,)}, n=3)
    return Along(u, torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
def test_a_streamed_step_is_the_step(name: str, options: dict[str, float]) -> None:
    ends = []
    for streamed in (True, False):
        params, rule = made(name, **options)
        for k in range(3):
            along = body(k)
            readouts = {"head": torch.full((3,), 0.1 * (k + 1), dtype=torch.float64)}
            grads = Streamed([{}, along]) if streamed else dict(along)
            optimizer_steps.take(rule, params, grads, readouts)
        if streamed:
            assert all(p.grad is None for p in params.values())
        ends.append(params)
    start, _ = made(name, **options)
    for n, p in ends[0].items():
        torch.testing.assert_close(p, ends[1][n], rtol=1e-12, atol=1e-14)
        assert not torch.equal(p, start[n])


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
def test_what_is_saved_comes_back_bit_for_bit(name: str, options: dict[str, float]) -> None:
    params, rule = made(name, **options)
    readouts = {"head": torch.ones(3, dtype=torch.float64)}
    for k in range(2):  # at the first there are no buffers yet
        before = {n: p.detach().clone() for n, p in params.items()}
        state = {
            i: {n: torch.as_tensor(t).clone() for n, t in own.items() if t is not None}
            for i, own in rule.state_dict()["state"].items()
        }
        back = optimizer_steps.saved(rule, params)
        for _ in range(2):
            optimizer_steps.take(rule, params, dict(body(k)), readouts)
        back()
        assert all(torch.equal(p, before[n]) for n, p in params.items())
        now = rule.state_dict()["state"]
        assert now.keys() == state.keys()
        for i, own in state.items():
            assert all(torch.equal(torch.as_tensor(now[i][n]), t) for n, t in own.items())
        optimizer_steps.take(rule, params, dict(body(k)), readouts)
