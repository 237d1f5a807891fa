"""Greedy training in stages: who learns when, and that earlier modules stay as they are to the bit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core.clock import Clock
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.errors import UsageError
from fgbench.localities.greedy_sequential import GreedySequential
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.measuring import measured, workload
from tests.makers.networks import worst
from tests.makers.places import ARCHS, exact, made
from tests.makers.wrapped import Subject, under

NET, DATA = "mlp-3x6", "synthetic[size=4,train=64,test=32]"
RECIPE = Recipe(epochs=3, batch=16, lr=0.05, weight_decay=1e-3)  # 12 steps, 4 per stage


def run_of(method: str, recipe: Recipe = RECIPE) -> TrainingRun:
    place = Workload.of(NET, DATA, dtype="float64")
    subject = place.task(registry.method(method), seed=0)
    return TrainingRun(subject.task, subject.estimator, recipe, subject.noise, place.data)


def state(run: TrainingRun) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in run.task.chain.state_dict().items()}


@pytest.mark.parametrize(
    "method", ["bp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fg_a", "np"))]
)
def test_a_stage_moves_its_module_and_its_network_and_nothing_else(method: str) -> None:
    """Bit for bit, momentum and decay of earlier stages included."""
    run = run_of(f"{method}/greedy_sequential[depth=1]")
    own = [
        ("body.0.", "readouts.aux0."),
        ("body.1.", "readouts.aux1."),
        ("body.2.", "readouts.final."),
    ]
    for stage in range(3):
        for _ in range(4):
            before = state(run)
            run.take()
            moved = {n for n, t in state(run).items() if not torch.equal(t, before[n])}
            assert moved
            assert all(name.startswith(own[stage]) for name in moved)


def test_gradients_of_a_stage_that_is_over_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the last step stay, and the optimiser goes on moving what they belong to."""
    run = run_of("bp/greedy_sequential")
    follow = type(run.learner).follow

    def keeping(self: object, estimate: object, *more: object) -> None:
        kept = {
            n: p.grad.clone() for n, p in run.task.chain.named_parameters() if p.grad is not None
        }
        for name, grad in kept.items():
            estimate.body.setdefault(name, grad)  # type: ignore[attr-defined]
        follow(self, estimate, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(run.learner), "follow", keeping)
    for _ in range(4):
        run.take()
    before = state(run)
    run.take()
    assert not torch.equal(
        run.task.chain.state_dict()["body.0.l0.weight"], before["body.0.l0.weight"]
    )


def test_a_discarded_network_has_no_influence_on_later_stages() -> None:
    one, other = run_of("bp/greedy_sequential"), run_of("bp/greedy_sequential")
    for run in (one, other):
        for _ in range(4):
            run.take()
    with torch.no_grad():
        for p in other.task.chain.readout("aux0").parameters():
            p.add_(1.0)
    for run in (one, other):
        while run.step < run.steps:
            run.take()
    for name, t in one.task.chain.state_dict().items():
        assert name.startswith("readouts.aux0.") or torch.equal(
            t, other.task.chain.state_dict()[name]
        )


def test_stages_have_equal_parts_of_the_training() -> None:
    task, _, _ = made("mlp-4x8", "greedy_sequential")
    for steps in (4, 10, 17):
        found = [task.at(Clock(step, steps)).active for step in range(steps)]
        assert all(len(each) == 1 for each in found)
        modules = [each[0].updates[0] for each in found]
        assert modules == sorted(modules)
        assert modules[0] == 0
        assert modules[-1] == 3
        counts = [modules.count(k) for k in range(4)]
        assert max(counts) - min(counts) <= 1


def test_without_a_known_length_all_modules_learn() -> None:
    task, x, y = made("mlp-4x8", "greedy_sequential")
    linear, _, _ = made("mlp-4x8", "dgl[aux=linear]")
    assert task.at(Clock(7)).active == task.objectives
    assert worst(task.scheme_truth(x, y), linear.scheme_truth(x, y)) == 0


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("arch", ["mlp-4x8", pytest.param(ARCHS[2], marks=pytest.mark.slow)])
def test_estimators_follow_the_stage(arch: str, stage: int) -> None:
    task, x, y = made(arch, "greedy_sequential")
    count = len(task.objectives)
    stage = min(stage, count - 1)
    exact(task.at(Clock(stage, count)), x, y)


def test_a_stage_costs_its_module_and_the_way_to_it() -> None:
    task, x, y = made("mlp-4x8", "greedy_sequential")
    bp, noise = registry.make("estimators", "bp").thing, Noise(0, dtype=torch.float64)
    shares = task.chain.shares()
    for stage in range(4):
        ledger = task.at(Clock(stage, 4)).estimate(x, y, bp, noise).ledger
        assert ledger.forwards == pytest.approx(sum(shares[: stage + 1]))
        assert ledger.backwards == pytest.approx(shares[stage])


def test_measuring_measures_the_stage_of_the_moment() -> None:
    found = measured(
        "bp/greedy_sequential",
        "fg_a/greedy_sequential",
        where=workload("mlp-2x8", "synthetic[size=4,train=256,test=32]"),
        draws=64,
    )
    assert [one["status"] for one in found] == ["ok", "ok"]
    assert found[0]["bias"]["value"] == 0.0
    assert found[1]["bias"]["p_value"] > 1e-4
    sites = {name: one["relative_variance"] for name, one in found[1]["per_site"].items()}
    assert sites["body.0.l0"] is not None
    assert (sites.get("body.1.l0") or {"value": None})["value"] is None  # it has no gradient yet


def test_a_batch_norm_that_would_go_on_changing_is_refused() -> None:
    with Noise(0).seeded():
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 5))
    net.eval()
    x = Noise(0, dtype=torch.float64).normal("x", (4, 4))
    task = under(Subject("norm", net, x, torch.arange(4), cut=["2"]), "greedy_sequential")
    assert task.scheme.refused == ""
    layer = task.chain.get_submodule("body.1")
    layer.train()
    scheme = Scheme(task.chain, GreedySequential())
    assert (
        scheme.refused
        == "frozen modules would go on changing the statistics of body.1; call eval() on it"
    )


def test_an_objective_that_is_not_there_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong(GreedySequential):
        def active(self, objectives: tuple[Objective, ...], clock: Clock) -> tuple[Objective, ...]:
            return (Objective("other", (0, 1), "final", (0,)),)

    task, _, _ = made("mlp-4x8", "greedy_sequential")
    chain: Chain = task.chain
    with pytest.raises(UsageError, match=r"active\(\) of Wrong returned .*'other'"):
        Scheme(chain, Wrong()).active(Clock(0, 4))
