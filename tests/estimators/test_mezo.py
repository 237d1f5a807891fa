"""``mezo`` has the numbers of central differences and the memory of inference."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.along import Streamed
from fgbench.core.noise.keyed import DesignedNoise
from fgbench.core.targets import Targets
from fgbench.measurement.speed.memory import memory
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.networks import batch, build, worst
from tests.makers.signs import signs


@pytest.mark.parametrize(
    ("arch", "locality"),
    [
        ("mlp-2x70", "end"),
        ("mlp-3x5", "local"),
        ("mlp-3x5", "module"),
        ("mlp-3x5", "overlap"),
        ("cnn-small", "end"),
        ("localmixer-xs/2/4[channels=8,groups=2]", "end"),
        ("mlp-2x5", "contrastive-local[features=3]"),  # keys that stay fixed
    ],
)
@pytest.mark.parametrize("options", ["", "directions=3,law=rademacher,step=0.01"])
def test_it_is_the_central_difference(arch: str, locality: str, options: str) -> None:
    found = []
    for method in (f"mezo[{options}]", f"wp[{','.join(filter(None, ['sided=central', options]))}]"):
        task, estimator, noise = build(arch, f"{method}/{locality}")
        x, y = batch(3 * task.scheme.copies)
        if task.scheme.copies > 1:
            y = y[:3].repeat(task.scheme.copies)
        found.append(task.estimate(x, y, estimator, noise))
    mezo, wp = found
    assert isinstance(mezo.body, Streamed)
    assert worst(dict(mezo.body), dict(wp.body)) < 1e-9
    assert worst(mezo.readouts, wp.readouts) < 1e-10
    assert float(mezo.loss) == pytest.approx(float(wp.loss), rel=1e-12)


def test_losses_elsewhere_compare_with_what_the_batch_brings() -> None:
    """Under infopro, whose decoders compare with the image itself."""
    found = []
    for method in ("mezo", "wp[sided=central]"):
        task, estimator, noise = build("mlp-2x5", f"{method}/infopro")
        x, y = batch(3)
        targets = Targets(y, {"image": x.sigmoid().flatten(1)})
        found.append(task.estimate(x, targets, estimator, noise).body)
    mezo, wp = found
    assert any(bool(g.any()) for g in wp.values())
    assert worst(dict(mezo), dict(wp)) < 1e-9


def test_it_costs_its_passes_and_a_clean_one() -> None:
    task, estimator, noise = build("mlp-2x6", "mezo[directions=3]/end")
    x, y = batch()
    ledger = task.estimate(x, y, estimator, noise).ledger
    assert (ledger.forwards, ledger.slopes, ledger.pulls, ledger.backwards) == (7.0, 0.0, 0.0, 0.0)
    share = task.chain.readout_share("final", 1)
    assert ledger.readouts == pytest.approx((6 + 3) * share)  # values, and one reading


def test_its_mean_over_all_signs_has_a_bias_of_second_order() -> None:
    """Over every vector of signs the mean is exact; its bias falls as ε², by 4 from ε to ε/2."""
    errors = []
    for step in (0.02, 0.01):
        task, estimator, _ = build(
            "mlp-1x2[activation=tanh]", f"mezo[law=rademacher,step={step}]/end", (1, 1, 2), 3
        )
        x, y = batch(3, (1, 1, 2), 3)
        shapes = {n: tuple(p.shape) for n, p in task.chain.body_parameters().items()}
        assert sum(map(prod, shapes.values())) == 6
        noise = DesignedNoise(0, dtype=torch.float64, given=signs(shapes))
        found = task.estimate(x, y, estimator, noise).body
        truth = task.scheme_truth(x, y)
        errors.append({n: found[n] - g for n, g in truth.items()})
        assert worst(dict(found), truth) < 1e-3
    for name, error in errors[0].items():
        torch.testing.assert_close(error, 4 * errors[1][name], rtol=1e-2, atol=1e-9)
        assert float(error.abs().max()) > 1e-9


def test_parameters_return_to_within_rounding() -> None:
    task, estimator, noise = build("mlp-2x70", "mezo[directions=5,step=0.1]/end")
    x, y = batch()
    before = {n: p.detach().clone() for n, p in task.chain.named_parameters()}
    task.estimate(x, y, estimator, noise)
    for name, p in task.chain.named_parameters():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.0},
        pytest.param({"momentum": 0.9}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adam"}, marks=pytest.mark.slow),
    ],
)
def test_it_trains_as_central_differences_do(options: dict[str, Any]) -> None:
    ends = []
    for method in ("mezo", "wp[sided=central]"):
        workload = Workload.of("mlp-2x70", "synthetic[train=64,test=32]", dtype="float64")
        subject = workload.task(registry.method(method), 0)
        recipe = Recipe(epochs=2, batch=16, lr=1e-3, weight_decay=0.01, **options)
        run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, workload.data)
        while run.step < run.steps:
            run.take()
        ends.append({n: p.detach().clone() for n, p in subject.task.chain.named_parameters()})
        assert not run.look()
    assert worst(*ends) < 1e-6  # adam divides by the noise of small entries


@pytest.mark.parametrize(
    ("arch", "data", "batch", "most"),
    [
        ("mlp-3x256", "synthetic[size=16,train=256,test=32]", 256, 1.15),
        pytest.param(
            *("mlp-4x1024", "synthetic[size=28,train=128,test=32]", 128, 1.15),
            marks=pytest.mark.slow,
        ),
        pytest.param("gpt-2x64", "topics", 32, 1.15, marks=pytest.mark.slow),
    ],
)
def test_a_step_takes_the_memory_of_inference(
    arch: str, data: str, batch: int, most: float
) -> None:
    """Beyond what was there before; the same with held perturbations is the planted fault."""
    workload = Workload.of(arch, data)
    found = memory(workload, registry.method("mezo"), batch)
    assert found.step / found.inference <= most
    assert found.estimate / found.inference <= most
    held = memory(workload, registry.method("wp[sided=central]"), batch)
    assert held.step / held.inference > 1.5
