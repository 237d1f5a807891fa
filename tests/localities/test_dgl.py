"""Decoupled greedy learning: auxiliary networks by their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import UsageError
from fgbench.localities.dgl import Maps
from fgbench.registry import make
from tests.makers.networks import worst
from tests.makers.places import CNN, MIXER, exact, made, truth_by_hand


def literal(chain: Chain, name: str, f: Tensor) -> Tensor:
    """The paper's networks without their norms, written out."""
    net = chain.readout(name)
    weights = dict(net.named_parameters())
    if name == "final":
        return chain.read(name, f)
    if isinstance(net, Maps):
        h = f
        if net.reduced:
            h = F.adaptive_avg_pool2d(h, [-(-size // 4) for size in f.shape[2:]])
        i = 0
        while f"maps.{i}.weight" in weights:
            w = weights[f"maps.{i}.weight"]
            h = F.conv2d(h, w, weights.get(f"maps.{i}.bias"), padding=w.shape[2] // 2).relu()
            i += 1
        h = F.adaptive_avg_pool2d(h, [min(2, size) for size in h.shape[2:]]).flatten(1)
    else:
        h = f.mean(1).flatten(1) if f.dim() == 4 else f
    i = 0
    while f"hidden.{i}.weight" in weights:
        h = (h @ weights[f"hidden.{i}.weight"].T + weights[f"hidden.{i}.bias"]).relu()
        i += 1
    return h @ weights["linear.weight"].T + weights["linear.bias"]


CASES = [
    *[("mlp-4x8", aux) for aux in ("mlp", "linear")],
    *[(MIXER, aux) for aux in ("mlp", "linear")],
    *[(CNN, aux) for aux in ("mlp", "mlp-sr", "cnn", "linear")],
]


@pytest.mark.parametrize(("arch", "aux"), CASES)
def test_gradients_are_those_of_the_formulas(arch: str, aux: str) -> None:
    task, x, y = made(arch, f"dgl[aux={aux}]", shape=(1, 8, 8))

    def losses(o: Objective, f: Tensor) -> Tensor:
        if aux == "linear" and f.dim() == 4 and arch == CNN:
            head = dict(task.chain.readout(o.readout).named_parameters())
            return F.cross_entropy(
                f.mean((2, 3)) @ head["linear.weight"].T + head["linear.bias"], y
            )
        return F.cross_entropy(literal(task.chain, o.readout, f), y, reduction="none")

    assert worst(task.scheme_truth(x, y), truth_by_hand(task, x, losses)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("aux", ["mlp-sr", "cnn"])
def test_every_estimator_passes_maps(aux: str) -> None:
    exact(*made(CNN, f"dgl[aux={aux}]", shape=(1, 8, 8)))


def test_linear_networks_are_local_heads() -> None:
    task, x, y = made("mlp-4x8", "dgl[aux=linear]")
    chain = task.chain
    with Noise(0).seeded():
        chain.attach()
    with torch.no_grad():
        for k in range(3):
            chain.readout(f"local{k}").load_state_dict(chain.readout(f"aux{k}").state_dict())
    local = Task(Scheme(chain, make("localities", "local").thing))
    assert worst(task.scheme_truth(x, y), local.scheme_truth(x, y)) == 0


def test_a_step_hands_on_activities_of_the_weights_before_it() -> None:
    """Every window starts where the modules before it lead."""
    task, x, y = made("mlp-4x8", "dgl")
    for view in task.views(x, y, CostCounter()):
        torch.testing.assert_close(
            view.start.flatten(1), task.chain.run(x, 0, view.objective.window[0]).flatten(1)
        )


@pytest.mark.parametrize("aux", ["mlp-sr", "cnn"])
def test_maps_are_needed_where_they_are_asked_for(aux: str) -> None:
    with pytest.raises(
        UsageError, match=rf"dgl\[aux={aux}\] needs outputs with channels, height and width"
    ):
        made("mlp-4x8", f"dgl[aux={aux}]")
