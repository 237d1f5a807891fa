"""Hybrid training: differences before the cut, the exact gradient after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.conformance.nets import FEW, Case
from fgbench.conformance.variance import variance
from fgbench.core.noise.keyed import DesignedNoise
from fgbench.measurement.speed.memory import memory
from fgbench.workload import Workload
from tests.makers.networks import batch, build, worst
from tests.makers.signs import signs

SHAPE = (1, 1, 2)
NET = "mlp-2x2[activation=tanh]"  # 6 weights before the cut, 6 after it


def step(method: str, arch: str = NET, noise: Any = None, shape: Any = SHAPE) -> Any:
    task, made, own = build(arch, method, shape, 3)
    return task, task.estimate(*batch(3, shape, 3), made, noise or own)


@pytest.mark.parametrize("locality", ["end", "local", "module"])
def test_without_modules_before_the_cut_it_is_backprop(locality: str) -> None:
    for cut in (0, -2, -9):
        found, plain = (step(f"{m}/{locality}")[1] for m in (f"elasticzo[cut={cut}]", "bp"))
        assert all(torch.equal(found.body[n], g) for n, g in plain.body.items())
        assert found.ledger == plain.ledger


@pytest.mark.parametrize("step_size", [0, 1e-3])
def test_without_modules_after_the_cut_it_is_weight_perturbation(step_size: float) -> None:
    _, found = step(f"elasticzo[cut=2,step={step_size}]/end")
    _, plain = step("mezo/end" if step_size else "fg_w/end")
    assert worst(dict(found.body), dict(plain.body)) < (1e-9 if step_size else 1e-14)


@pytest.mark.parametrize(
    ("cut", "arch"), [(1, "mlp-3x4"), (2, "cnn-tiny[width=4]"), (1, "localmixer-xs/2/4")]
)
def test_after_the_cut_it_is_the_gradient_whatever_the_noise(cut: int, arch: str) -> None:
    task, first = step(f"elasticzo[cut={cut}]/end", arch, shape=(3, 8, 8))
    truth = task.scheme_truth(*batch(3, (3, 8, 8), 3))
    upper = [n for n in truth if int(n.split(".")[1]) >= cut]
    assert worst({n: first.body[n] for n in upper}, {n: truth[n] for n in upper}) < 1e-12
    _, plain = step("bp/end", arch, shape=(3, 8, 8))
    assert worst(dict(first.readouts), dict(plain.readouts)) < 1e-12
    assert float(first.loss) == pytest.approx(float(plain.loss), rel=1e-12)


def test_over_every_vector_of_signs_mean_and_variance_are_those_of_the_modules_before_the_cut() -> (
    None
):
    """The mean is the gradient, and Σ|e − g|² = (d − 1)|g|² of the 6 weights before the cut alone."""
    task, made, _ = build(NET, "elasticzo[cut=1,step=0,law=rademacher]/end", SHAPE, 3)
    x, y = batch(3, SHAPE, 3)
    truth = task.scheme_truth(x, y)
    low = {n: g for n, g in truth.items() if n.startswith("body.0")}
    rows = signs({n: tuple(g.shape) for n, g in low.items()})
    draws = []
    for k in range(64):
        one = DesignedNoise(
            0, dtype=torch.float64, given={n: t[k : k + 1] for n, t in rows.items()}
        )
        draws.append(dict(task.estimate(x, y, made, one).body))
    mean = {n: torch.stack([e[n] for e in draws]).mean(0) for n in truth}
    assert worst(mean, truth) < 1e-12
    total = sum(float((e[n] - g).square().sum()) for e in draws for n, g in truth.items()) / 64
    assert total == pytest.approx(5 * sum(float(g.square().sum()) for g in low.values()), rel=1e-10)
    everywhere = 11 * sum(float(g.square().sum()) for g in truth.values())
    assert total < 0.9 * everywhere  # what a direction along all weights would have


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
def test_the_documented_variance_is_exact(law: str) -> None:
    made = registry.make("estimators", f"elasticzo[step=0,law={law},directions=2]").thing
    assert "equals the exact one" in variance(Case.build(FEW, "end", made))


def test_prices_fall_with_the_cut() -> None:
    """A clean pass, two of values, and a forward and a reverse pass of the modules after the cut."""
    shape = (1, 4, 4)
    for cut in (1, 2, 3):
        ledger = step(f"elasticzo[cut={cut}]/end", "mlp-4x16", shape=shape)[1].ledger
        after = 1 - cut / 4
        assert ledger.forwards == pytest.approx(3 + after)
        assert ledger.backwards == pytest.approx(after)


def test_claims_follow_the_cut() -> None:
    for text, locality, bias, backward in (
        ("elasticzo", "end", "vanishing", "network"),
        ("elasticzo[step=0]", "end", "none", "network"),
        ("elasticzo[cut=9]", "end", "vanishing", "none"),
        ("elasticzo[cut=0]", "local", "none", "network"),
    ):
        task, made, _ = build(NET, f"{text}/{locality}", SHAPE, 3)
        claims = made.claims(task.scheme)
        assert (claims.bias, claims.backward) == (bias, backward)
        assert claims.deterministic == (text == "elasticzo[cut=0]")


def test_what_draws_masks_is_cut_nowhere() -> None:
    workload = Workload.of("gpt-2x8[heads=2,dropout=0.1]", "topics")
    task, made, _ = workload.task(registry.method("elasticzo[cut=1]"), 0)
    assert "draws masks" in made.supports(task.scheme)


@pytest.mark.slow
def test_memory_falls_with_the_cut() -> None:
    workload = Workload.of("mlp-16x32", "synthetic[train=512,test=32]")
    found = [
        memory(workload, registry.method(name), batch=512).estimate
        for name in ("BP", "elasticzo[cut=8]", "elasticzo[cut=14]", "mezo")
    ]
    assert found[0] > found[1] > found[2] > found[3]
    assert found[2] < 0.5 * found[0]
