"""A mask that all examples share stays whole, also where its positions are as many as the examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fgbench
from fgbench.core.wrapping import wrap
from fgbench.core.wrapping.shared import shared_inputs


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Attention(nn.Module):
    """One head with an additive mask ``[t, t]``, and a prediction per example."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        scores = self.q(x) @ self.k(x).mT + mask
        return self.out(torch.tanh(scores.softmax(-1) @ self.v(x))).mean(1)


class Gate(nn.Module):
    """Two inputs with examples, the second of them square."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, size), nn.Linear(size, 2)

    def forward(self, x: Tensor, gate: Tensor) -> Any:
        return self.last(torch.tanh(self.first(x)) * gate)


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(1)


def inputs(examples: int, positions: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, positions, 4, generator=generator, dtype=torch.float64)
    return x, torch.full((positions, positions), -9.0, dtype=torch.float64).triu(1)


@pytest.mark.parametrize(("examples", "positions"), [(5, 5), (3, 3), (5, 3), (4, 6), (2, 2)])
def test_a_mask_stays_whole_and_means_are_exact(examples: int, positions: int) -> None:
    net, batch = Attention().double(), inputs(examples, positions)
    target = torch.ones(examples, 4, dtype=torch.float64)
    chain = wrap(net, batch, loss)
    assert chain.survey.shared == {1}
    found = fgbench.estimate("bp/end", model=net, batch=(batch, target), loss=loss)
    loss(net(*batch), target).mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(found[name], p.grad)


def test_another_batch_may_have_as_many_examples_as_the_mask_has_positions() -> None:
    net = Attention().double()
    chain = wrap(net, inputs(3, 6), loss)
    x, mask = inputs(6, 6)
    part = chain.part(chain.start((x, mask)), slice(0, 2))
    assert [len(t) for t in part.inputs] == [2, 6]


def test_a_square_input_with_examples_is_cut() -> None:
    batch = torch.randn(5, 4), torch.randn(5, 5)
    assert shared_inputs(Gate(5), batch, 5, lambda y: y) == frozenset()
    assert wrap(Gate(5), batch, loss).survey.shared == frozenset()


def test_a_mask_is_told_under_dropout_too() -> None:
    class Dropped(Attention):
        def forward(self, x: Tensor, mask: Tensor) -> Any:
            return nn.functional.dropout(super().forward(x, mask), 0.5)

    assert shared_inputs(Dropped().double(), inputs(4, 4), 4, lambda y: y) == {1}
