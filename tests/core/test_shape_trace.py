"""Shapes and operations of one example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fgbench import registry
from fgbench.core import shape_trace
from fgbench.core.noise.keyed import Noise


def test_a_chain_is_traced_once(monkeypatch: Any) -> None:
    calls, trace = [], shape_trace.trace
    monkeypatch.setattr(shape_trace, "trace", lambda *a: calls.append(a) or trace(*a))
    with Noise(0).seeded():
        chain = registry.make("architectures", "mlp-3x8", shape=(2, 4, 6), classes=5).thing
    assert dict(chain.shapes()) == {f"body.{k}.l0": (8,) for k in range(3)}
    assert dict(chain.op_shapes()) == dict(chain.shapes())
    assert chain.raw_sites() == chain.shapes().keys()
    assert [chain.out_shape(k) for k in range(3)] == [(8,)] * 3
    assert chain.shares() == (48 / 64, 8 / 64, 8 / 64)
    assert len(calls) == 1


def test_shares_are_equal_where_nothing_multiplies() -> None:
    found = shape_trace.trace(lambda k, x, tap: tap("site", f"s{k}", x), 4, torch.zeros(1, 3))
    assert found.shares == (0.25,) * 4
    assert found.sites == {f"s{k}": (3,) for k in range(4)}
    assert found.raw == frozenset()


def _attend(x: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def _convolve(x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, torch.ones(2, 2, 3, 3), padding=1)


def _contract(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nbij,nbjk->nbik", x @ torch.ones(6, 6), x)


@pytest.mark.parametrize("kept", [torch.no_grad, torch.inference_mode])
def test_shares_are_those_of_the_counter_of_torch(kept: Callable[[], Any]) -> None:
    """Its counts of the same operations, composite ones among them."""
    steps = (_convolve, _contract, torch.relu, _attend)
    x, counts = torch.ones(1, 2, 6, 6), []
    with kept():
        for step in steps:
            with FlopCounterMode(display=False) as counter:
                step(x)
            counts.append(counter.get_total_flops())
        found = shape_trace.trace(lambda k, x, tap: steps[k](x), len(steps), x)
    assert len(set(counts)) >= 3
    assert found.shares == tuple(count / sum(counts) for count in counts)
