"""One estimate of a whole network by each method, beside backprop: run by ``make bench``."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task

METHODS = ("BP", "FA", "NP", "FG-W", "FG-A", "FG-A[directions=16]", "LG-FG-W", "LG-FG-A")
NETS = {"mlp-3x256": (1, 28, 28), "localmixer-m/1/16": (1, 28, 28), "cnn-small": (3, 32, 32)}
BATCH = 64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", NETS)
def test_one_estimate(benchmark: BenchmarkFixture, net: str, method: str) -> None:
    benchmark.group = net
    noise = Noise(0)
    with noise.seeded():
        chain = registry.make("architectures", net, shape=NETS[net], classes=10).thing
    made = registry.method(method)
    task = Task.build(chain, made.locality.thing, noise)
    estimator = made.estimator.thing
    if reason := estimator.supports(task.scheme):
        pytest.skip(reason)
    state = estimator.init_state(task.scheme, noise)
    x = noise.normal("x", (BATCH, *NETS[net]))
    labels = torch.arange(BATCH) % 10

    step = benchmark(lambda: task.estimate(x, labels, estimator, noise, state))
    assert step.body.keys() == task.chain.body_parameters().keys()
