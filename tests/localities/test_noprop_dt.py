"""NoProp in discrete time: its losses and starts, and blocks that meet nothing of each other."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.architectures.noprop import schedule
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.targets import Targets
from fgbench.errors import UsageError
from fgbench.localities.noprop_dt import NoPropDiscrete
from fgbench.training.recipe import Recipe
from fgbench.workload import Workload
from tests.makers.networks import worst
from tests.makers.places import exact, made
from tests.makers.training import train

ARCH, T = "noprop-3x6", 3


def given() -> tuple[Any, Tensor, Targets]:
    task, x, y = made(ARCH, "noprop_dt")
    noise = Noise(4, dtype=torch.float64).normal("eps", (4, 5))
    return task, x, Targets(y, {"noise": noise})


def test_gradients_are_those_of_the_losses_written_out() -> None:
    task, x, y = given()
    chain, u = task.chain, F.one_hot(y.labels, 5).double()
    want: dict[str, Tensor] = {}
    for k, step in enumerate(schedule(T)):
        z = sqrt(step.before) * u + sqrt(1 - step.before) * y.given["noise"]
        weights = dict(chain.module(k).named_parameters())
        h = (torch.cat([z, x.flatten(1)], 1) @ weights["l0.weight"].T + weights["l0.bias"]).relu()
        label = (h @ weights["l1.weight"].T + weights["l1.bias"]).softmax(1)
        loss = T / 2 * 0.1 * step.gain * (label - u).square().sum(1).mean()
        params = chain.body_parameters((k,))
        want |= dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    assert worst(task.scheme_truth(x, y), want) < 1e-12


def test_the_readout_learns_from_the_law_of_the_last_label() -> None:
    task, x, y = given()
    bp, noise = registry.make("estimators", "bp").thing, Noise(0, dtype=torch.float64)
    found = task.estimate(x, y, bp, noise).readouts
    part = schedule(T)[-1].after
    z = sqrt(part) * F.one_hot(y.labels, 5).double() + sqrt(1 - part) * y.given["noise"]
    head = task.chain.readout_parameters("final")
    loss = F.cross_entropy(
        z @ head["readouts.final.linear.weight"].T + head["readouts.final.linear.bias"], y.labels
    )
    want = torch.autograd.grad(loss, list(head.values()))
    assert worst(found, dict(zip(head, want, strict=True))) < 1e-12
    assert set(found) == set(head)


def test_every_estimator_follows_it() -> None:
    exact(*given())


def test_no_block_meets_another() -> None:
    task, x, y = given()
    truth = task.scheme_truth(x, y)
    with torch.no_grad():
        for p in task.chain.module(0).parameters():
            p.mul_(2.0)
    again = task.scheme_truth(x, y)
    later = [n for n in truth if not n.startswith("body.0.")]
    assert worst({n: again[n] for n in later}, {n: truth[n] for n in later}) == 0


def test_perfect_blocks_lead_to_the_law_of_the_last_label() -> None:
    """Mean and variance of z_T with û = u, from z_0 ~ N(0, 1), and with the noise of every step."""
    mean, variance = 0.0, 1.0
    for i, step in enumerate(schedule(6)):
        if i == 0:  # the first label is taken as pure noise; its own law has a little of the label
            mean, variance = sqrt(step.before), 1 - step.before
        mean, variance = step.a + step.b * mean, step.b**2 * variance + step.c
    last = schedule(6)[-1].after
    assert (mean, variance) == (pytest.approx(sqrt(last)), pytest.approx(1 - last))


def test_predictions_go_through_all_blocks() -> None:
    task, x, _ = given()
    chain = task.chain
    assert torch.equal(NoPropDiscrete().predictions(chain, x), chain(x))
    sampled = NoPropDiscrete(inference="sampled")
    found = sampled.predictions(chain, x)
    assert torch.equal(found, sampled.predictions(chain, x))  # the noise has one key
    assert not torch.allclose(found, chain(x))
    torch.testing.assert_close(found[:1], sampled.predictions(chain, x[:1]))
    noise = Noise(0, ("inference",), dtype=torch.float64)
    z = noise.normal("z0", (1, 5)).expand(4, 5)
    for k, step in enumerate(schedule(T)):
        f = chain.run(torch.cat([torch.zeros_like(z), z, x.flatten(1)], 1), k, k + 1)
        assert torch.allclose(f[:, :5].sum(1), torch.ones(4, dtype=x.dtype))  # on the simplex
        z = step.a * f[:, :5] + step.b * z + sqrt(step.c) * noise.normal(f"z{k + 1}", (1, 5))
    want = chain.readout("final")(torch.cat([torch.zeros_like(z), z], 1))
    torch.testing.assert_close(found, want)


def test_batches_bring_the_noise_that_windows_begin_at() -> None:
    workload = Workload.of("noprop-2x4", "synthetic[size=4,train=64,test=32]")
    task, _, noise = workload.task(registry.method("NOPROP-DT"), seed=0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
    assert isinstance(y, Targets)
    views = list(task.views(x, y, CostCounter()))
    again = list(task.views(x, y, CostCounter()))
    assert all(torch.equal(a.start, b.start) for a, b in zip(views, again, strict=True))
    other = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise.at(1))[1]
    assert not torch.equal(other.given["noise"], y.given["noise"])
    with pytest.raises(UsageError, match="its own batches bring"):
        next(iter(task.views(x, y.labels, CostCounter())))


def test_other_networks_are_refused_in_one_line() -> None:
    task, _, _ = made("mlp-2x4", "noprop_dt")
    assert task.scheme.refused.endswith("the architecture noprop")


def test_it_trains() -> None:
    recipe = Recipe(epochs=2, batch=16, lr=0.01, optimizer="adam")
    found = train(
        "NOPROP-DT", arch="noprop-2x16", data="synthetic[train=64,test=32]", recipe=recipe
    )
    assert found["status"] == "ok"
    assert found["claims"]["kind"] == "rule"
