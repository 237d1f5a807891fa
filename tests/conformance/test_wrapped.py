"""The checks of wrapped networks hold for what is right, and reject planted faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench.conformance.outcome import Fault
from fgbench.conformance.wrapped import (
    examine_wrapped,
    examples_apart,
    parameters,
    reach,
    repeatable,
)
from fgbench.core.axes import Cells
from fgbench.core.noise.keyed import Noise
from fgbench.core.wrapping import wrap
from fgbench.core.wrapping.chain import WrappedChain
from tests.makers.wrapped import small

torch.set_num_threads(1)


class Causal(nn.Module):
    """Each token gets the mean of all before it and itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 2)
        self.spare = nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.one(x)).cumsum(1)
        return self.two(h)


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """One loss per example."""
    return (prediction - target).square().mean((1, 2))


def causal() -> tuple[WrappedChain, Tensor]:
    """A wrapped network and a batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Causal().double()
        x = torch.randn(3, 5, 3, dtype=torch.float64)
    module.spare.requires_grad_(False)
    return wrap(module, x, loss, out_axes="b t c"), x


@pytest.mark.parametrize("name", ["a block applied three times", "dropout", "U-Net"])
def test_what_is_right_holds(name: str) -> None:
    subject = small(name)
    noise = Noise(0, dtype=torch.float64)
    outcomes = examine_wrapped(subject.chain(), subject.inputs, subject.targets, noise)
    assert [f"{o.check}: {o.detail}" for o in outcomes if not o.held] == []
    assert {"slopes along weights", "pulls", "reach to the end"} <= {o.check for o in outcomes}


def test_scores_that_are_left_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, x = causal()
    assert reach(chain, x, 0, 1) == "3 reaches as found"

    def apart(self: WrappedChain, kept: str, name: str, stop: int, **more: Any) -> Cells:
        return Cells(kept, "b t q", "")

    monkeypatch.setattr(WrappedChain, "cells", apart)
    with pytest.raises(
        Fault, match=r"index \d of body.one moves score \d along t, which its reach leaves"
    ):
        reach(chain, x, 0, 1)


def test_a_parameter_that_meets_no_data_is_named() -> None:
    chain, _ = causal()
    assert parameters(chain) == "4 parameters, 1 frozen"
    chain.body.spare.requires_grad_(True)
    with pytest.raises(Fault, match="spare: no call on data uses it"):
        parameters(chain)


def test_a_pass_that_leaves_a_trace_is_named() -> None:
    chain, x = causal()
    assert repeatable(chain, x).startswith("predictions [3, 5, 2]")
    chain.body.register_forward_hook(lambda module, args, out: module.calls.add_(1.0) and None)
    with pytest.raises(Fault, match=r"changes buffer body\.calls"):
        repeatable(chain, x)


def test_examples_that_see_each_other_are_named() -> None:
    chain, x = causal()
    assert examples_apart(chain, x).startswith("predictions stay as they are")
    chain.body.register_forward_hook(lambda module, args, out: out - out.mean(0))
    with pytest.raises(Fault, match=r"prediction of example 0 changes by .* with example 2"):
        examples_apart(chain, x)
