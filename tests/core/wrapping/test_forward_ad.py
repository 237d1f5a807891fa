"""A module that Duals cannot travel through is followed by torch's own forward mode, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench import registry
from fgbench.conformance.unbiased import frame
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the modules of a test under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Assigning(nn.Module):
    """Writes into a new tensor item by item, and asks for the type of an activity."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        out = torch.zeros_like(h)
        out[:, :3], out[:, 3:] = h[:, 3:], 2 * h[:, :3]
        return self.second(out)


class Typed(Assigning):
    """Refuses what is no tensor."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if not isinstance(h, Tensor):
            raise TypeError("expected a tensor")
        return self.second(h)


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of each example."""
    return F.cross_entropy(prediction, target, reduction="none")


def error(task: Task, x: Tensor, y: Tensor, name: str) -> float:
    """Return the relative error of the mean over an orthogonal design."""
    places: dict[str, Any] = {}
    for view in task.views(x, y, CostCounter()):
        if view.objective.updates:
            places |= dict(view.sites if name == "fg_a" else view.shapes)
        view.output()
    sizes = {place: torch.Size(shape).numel() for place, shape in places.items()}
    whole = sum(sizes.values())
    basis = frame(whole, Noise(0, dtype=torch.float64)).split(list(sizes.values()), 1)
    given = {n: b.reshape(whole, *places[n]) for n, b in zip(places, basis, strict=True)}
    estimator = registry.make("estimators", f"{name}[directions={whole}]").thing
    noise = DesignedNoise(0, dtype=torch.float64, given=given)
    found, truth = task.estimate(x, y, estimator, noise).body, task.scheme_truth(x, y)
    off = sum(float((found[n] - g).square().sum()) for n, g in truth.items())
    return (off / sum(float(g.square().sum()) for g in truth.values())) ** 0.5


@pytest.mark.parametrize("kind", [Assigning, Typed])
@pytest.mark.parametrize("locality", ["end", "local"])
def test_designs_are_exact_by_torchs_forward_mode(kind: Any, locality: str) -> None:
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 2, 1])
    chain = wrap(kind().double(), x, loss, cut=["first"])
    assert chain.lost
    task = Task.build(chain, registry.make("localities", locality).thing, Noise(0))
    task.chain.double()
    assert max(error(task, x, y, name) for name in ("fg_a", "fg_w")) < 1e-12
    step = task.estimate(x, y, registry.make("estimators", "fg_a").thing, Noise(0).at(1))
    assert step.ledger.forward_equivalents >= 3.0


def test_module_that_duals_can_follow_does_without() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    assert wrap(net, torch.randn(3, 4), loss).lost == ""
