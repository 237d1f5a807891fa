"""The clock of a training, as estimators read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.clock import START, Clock
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.replay import NoiseReplay, ReplayedClock, Uncapturable
from fgbench.measurement.design import Design
from fgbench.measurement.loop import measure
from fgbench.registry.factory import Made, Method
from fgbench.training.forward_gradient import ForwardGradient
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload

SEEN: list[Clock] = []


@dataclass(frozen=True)
class Reader(Defaults):
    """An exact gradient that notes the clock."""

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="network", deterministic=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        SEEN.append(view.clock)
        assert view.with_(params={}).clock == view.clock
        return Estimate(grads=view.reverse())


@pytest.fixture(autouse=True)
def none_seen() -> None:
    SEEN.clear()


WORKLOAD = ("mlp-1x4", "synthetic[size=2,train=64,test=32]")


def test_training_counts_steps_and_epochs() -> None:
    workload = Workload.of(*WORKLOAD)
    task, _, noise = workload.task(registry.method("BP"), 0)
    run = TrainingRun(task, Reader(), Recipe(epochs=2, batch=32, lr=0.1), noise, workload.data)
    while run.step < run.steps:
        run.take()
    assert [Clock(step, 4, step // 2, 2) for step in range(4)] == SEEN
    assert [clock.share for clock in SEEN] == [0, 0.25, 0.5, 0.75]


def test_measuring_gives_the_moment_to_every_draw() -> None:
    method = registry.method("BP")
    own = Method("reader/end", Made("reader", {}, Reader(), __file__), method.locality)
    design = Design(draws=3, batches=1, batch=8, moments=(0.0, 1.0), engine="dual")
    (record,) = measure(Workload.of(*WORKLOAD), [own], design)
    assert record["status"] == "ok", record["reason"]
    times = {(clock.step > 0, clock.epoch) for clock in SEEN}
    assert times == {(False, 0), (True, 1)}


def test_loops_of_users_count_steps_alone() -> None:
    with Noise(0).seeded():
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    x, y = torch.ones(4, 3), torch.tensor([0, 1, 1, 0])
    trainer = ForwardGradient(
        net, "cross_entropy", Reader(), torch.optim.SGD(net.parameters(), 0.1)
    )
    trainer.step(x, y)
    trainer.step(x, y)
    assert SEEN[-1] == Clock(1)
    assert SEEN[-1].share == 0


def test_a_step_that_reads_the_clock_is_not_captured() -> None:
    replay = NoiseReplay()
    clock = ReplayedClock(**vars(START), replay=replay)
    assert not replay.reason
    assert clock.epoch == 0
    assert replay.reason == "it reads the clock"
    replay.seal()
    with pytest.raises(Uncapturable, match="clock"):
        _ = clock.share
