"""A network on which every number would be wrong is refused before anything is made on it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fgbench
from fgbench.conformance import require_structure, structure
from fgbench.conformance.nets import CONVOLUTIONS, OPAQUE
from fgbench.conformance.outcome import Fault
from fgbench.conformance.structure import check_structure
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError

DATA = "synthetic[size=2,train=64,test=32]"


class Shortcut(LocalModule):
    """A layer with a shortcut whose weights belong to no site."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.l0, self.short = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        x = x.flatten(1)
        z = tap("site", "l0", tap("op", "l0", self.l0(x)))
        return tap("out", "l0", F.relu(z)) + self.short(x)


def shortcuts(*, shape: tuple[int, ...], classes: int, depth: int = 2) -> Chain:
    """Layers with shortcuts."""
    body: list[LocalModule] = [Shortcut(prod(shape)) for _ in range(depth)]
    return Chain(body, {"final": LinearReadout("b c", prod(shape), classes)}, shape, classes)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a registered architecture with a parameterised call outside every site."""
    registered = importlib.import_module("fgbench.registry.entries")
    registered.entries("architectures")
    known = registered._registered["architectures"]
    monkeypatch.setitem(known, "short", registered.Entry("short", shortcuts, __name__))
    yield "short"
    require_structure.cache_clear()


@pytest.mark.parametrize("verb", ["measure", "train", "speed"])
def test_a_call_outside_every_site_is_refused_and_named(outside: str, verb: str) -> None:
    options: dict[str, Any] = {"measure": {"draws": 4}, "train": {"epochs": 1}, "speed": {}}[verb]
    line = Shortcut.forward.__code__.co_firstlineno + 3
    said = (
        r"^short cannot be used: parameter body\.0\.short\.weight is reached from no site: "
        rf"linear \(test_structure\.py:{line}\) uses it outside every site, so noise on activities "
        "gives it no gradient; see fgbench check short$"
    )
    with pytest.raises(UsageError, match=said):
        fgbench.run(verb, method="FG-A", arch=outside, data=DATA, batch=8, **options)


def test_nothing_is_written_for_a_network_that_is_refused(outside: str, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        fgbench.run("measure", method="BP", arch=outside, data=DATA, records=tmp_path, batch=8)
    assert not list(tmp_path.rglob("*.json"))


def test_a_network_is_checked_once_and_leaves_no_trace() -> None:
    require_structure.cache_clear()
    before = torch.random.get_rng_state()
    for _ in range(3):
        require_structure("mlp-2x4", (1, 2, 2), 3)
    assert require_structure.cache_info().misses == 1
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture(params=["with values", "without"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check small networks as they are, or as large ones are."""
    if request.param == "without":
        monkeypatch.setattr(structure, "MUCH", 0)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("net", [CONVOLUTIONS, OPAQUE])
def test_operations_that_need_values_are_checked_with_them(net: Any) -> None:
    chain = net.build(Noise(0, dtype=torch.float64)).float()
    check_structure(chain, Noise(1).normal("x", (2, *net.shape)))


@pytest.mark.usefixtures("_way")
def test_what_is_found_does_not_depend_on_values() -> None:
    with Noise(0).seeded():
        chain = shortcuts(shape=(1, 2, 2), classes=3)
    said = (
        r"body\.0\.short\.weight is reached from no site: linear \(test_structure\.py:\d+\) uses it"
    )
    with pytest.raises(Fault, match=said):
        check_structure(chain, Noise(1).normal("x", (2, 1, 2, 2)))
