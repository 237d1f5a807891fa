"""Mono-Forward: training is that of local losses to the bit; its prediction is the sum of heads."""

from __future__ import annotations

import pytest
import torch

from fgbench import registry
from fgbench.registry import make
from fgbench.training.recipe import Recipe
from fgbench.training.run import prediction_price
from fgbench.workload import Workload
from tests.makers.networks import worst
from tests.makers.places import ARCHS, made
from tests.makers.training import train

DATA = "synthetic[train=64,test=32]"


@pytest.mark.parametrize("arch", ARCHS)
def test_objectives_and_heads_are_those_of_local(arch: str) -> None:
    own, x, y = made(arch, "mono_forward")
    local, _, _ = made(arch, "local")
    assert own.objectives == local.objectives
    assert worst(own.scheme_truth(x, y), local.scheme_truth(x, y)) == 0


def test_it_has_a_preset() -> None:
    found = registry.method("MONO-FORWARD")
    assert (found.estimator.text, found.locality.text) == ("bp", "mono_forward")


@pytest.mark.parametrize("arch", ARCHS)
def test_the_prediction_is_the_sum_of_the_heads_logits(arch: str) -> None:
    task, x, _ = made(arch, "mono_forward")
    chain = task.chain
    assert task.scheme.predictions is not None
    found = task.scheme.predictions(x)
    want = torch.zeros(4, 5, dtype=x.dtype)
    for k in range(len(chain)):
        want = want + chain.read(chain.local_readout(k), chain.run(x, 0, k + 1))
    torch.testing.assert_close(found, want)
    probabilities = sum(
        chain.read(chain.local_readout(k), chain.run(x, 0, k + 1)).softmax(1)
        for k in range(len(chain))
    )
    assert isinstance(probabilities, torch.Tensor)
    product = found.softmax(1)  # of the heads' probabilities, not their mean
    assert not torch.allclose(product, probabilities / len(chain), atol=1e-4)


def test_the_last_head_alone_is_the_final_readout_to_the_bit() -> None:
    task, x, _ = made("mlp-4x8", "mono_forward[predict=last]")
    assert task.scheme.predictions is not None
    assert torch.equal(task.scheme.predictions(x), task.chain(x))


def test_evaluation_uses_it_and_training_does_not() -> None:
    recipe = Recipe(epochs=2, batch=16, lr=0.05)
    summed, last, local = (
        train(f"bp/{locality}", arch="mlp-3x8", data=DATA, recipe=recipe)
        for locality in ("mono_forward", "mono_forward[predict=last]", "local")
    )
    for name in ("test_loss", "test_error", "train_loss", "correct"):
        assert last[name] == local[name]
    assert summed["test_loss"] != local["test_loss"]
    assert summed["cost"]["forward_equivalents"] == local["cost"]["forward_equivalents"]


def test_heads_replaced_by_noise_spoil_the_sum_alone() -> None:
    task, x, _ = made("mlp-4x8", "mono_forward")
    assert task.scheme.predictions is not None
    before, last = task.scheme.predictions(x), task.chain(x)
    with torch.no_grad():
        task.chain.readout("local0").linear.weight.add_(1.0)  # type: ignore[operator,union-attr]
    assert torch.equal(task.chain(x), last)
    assert not torch.allclose(task.scheme.predictions(x), before)


def test_a_prediction_is_priced_with_all_heads() -> None:
    workload = Workload.of("mlp-2x8", "synthetic[size=4,train=64,test=32]")
    task = workload.task(registry.method("MONO-FORWARD"), seed=0).task
    body = 2 * (16 * 8 + 8 * 8)
    head = 2 * 8 * 10
    assert prediction_price(task) == {
        "prediction": pytest.approx((body + 2 * head) / (body + head))
    }
    assert make("localities", "mono_forward").thing.predict == "sum"
