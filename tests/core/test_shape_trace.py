"""Shapes and operations of one example."""

from __future__ import annotations

from typing import Any

import torch

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
