"""Shapes and operations of one example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
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


READ: dict[str, tuple[bool, Callable[[Tensor, Tensor], tuple[Tensor, Any]]]] = {
    "relu": (True, lambda z, x: (F.relu(z),) * 2),
    "a method": (True, lambda z, x: (z.relu(),) * 2),
    "a module": (True, lambda z, x: (torch.nn.ReLU()(z),) * 2),
    "a residual": (True, lambda z, x: (F.relu(z + x),) * 2),
    "two residuals": (True, lambda z, x: (torch.relu(x - (z + x)),) * 2),
    "its shape is asked for": (True, lambda z, x: (F.relu(z),) * len(z.shape)),
    "tanh": (False, lambda z, x: (torch.tanh(z),) * 2),
    "gelu": (False, lambda z, x: (F.gelu(z),) * 2),
    "nothing between": (False, lambda z, x: (z, z)),
    "a scale that may be 0": (False, lambda z, x: (0.0 * z,) * 2),
    "a scale before": (False, lambda z, x: (F.relu(0.0 * z),) * 2),
    "a residual after, shown": (False, lambda z, x: (F.relu(z) + x,) * 2),
    "another reader": (False, lambda z, x: (r := F.relu(z), r + z)),
    "two sums": (False, lambda z, x: (r := F.relu(z + x), r + (z - x))),
    "in place": (False, lambda z, x: (F.relu(z, inplace=True),) * 2),
    "a broadcast sum": (False, lambda z, x: (F.relu(z[:1] + x),) * 2),
}


@pytest.mark.parametrize("name", READ)
def test_only_a_relu_that_alone_reads_a_site_switches_its_units_off(name: str) -> None:
    """What the ``out`` shows, and what goes on: a unit is off only where no derivative can be."""
    want, act = READ[name]

    def run(k: int, x: Tensor, tap: Any) -> Tensor:
        shown, goes_on = act(tap("site", "l0", 2 * x), x)
        tap("out", "l0", shown)
        return goes_on  # type: ignore[no-any-return]

    found = shape_trace.trace(run, 1, torch.ones(2, 3))
    assert (found.rectified == {"l0"}) == want


@pytest.mark.parametrize("arch", ["mlp-2x4", "cnn-tiny", "localmixer-xs/4/8[channels=16,side=2]"])
def test_every_site_of_the_shipped_networks_is_read_by_a_relu(arch: str) -> None:
    with Noise(0).seeded():
        chain = registry.make("architectures", arch, shape=(1, 8, 8), classes=3).thing
    assert chain.rectified() == chain.index.keys()


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
