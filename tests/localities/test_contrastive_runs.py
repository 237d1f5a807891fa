"""Contrastive methods trained, measured and timed: the probe, the losses kept, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench import api, registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import COUPLED
from fgbench.errors import UsageError
from fgbench.measurement.design import Design
from fgbench.measurement.loop import measure
from fgbench.measurement.speed.step_costs import speed
from fgbench.training import loop as training
from fgbench.training import run as course
from fgbench.training.learner import Learner
from fgbench.training.optimizers import param_groups
from fgbench.training.recipe import Recipe, default_recipe
from fgbench.training.run import Progress, TrainingRun, probe
from fgbench.workload import Workload
from tests.makers.cases import mostly_slow
from tests.makers.networks import build
from tests.makers.training import train

MIXER = "localmixer-xs/2/4[channels=16]"
RECIPE = Recipe(epochs=2, batch=100, lr=0.1, weight_decay=0.01, head_decay=0.0)
SMALL: dict[str, Any] = {"arch": MIXER, "data": "digits", "recipe": RECIPE, "train_size": 400}


def copied(chain: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in chain.named_parameters()}


@pytest.fixture(scope="module")
def digits() -> Any:
    return registry.make("datasets", "digits", data_dir=None).thing.subset(230)


def test_the_probe_is_plain_sgd_on_frozen_features(digits: Any) -> None:
    """An ordinary loop over features of images as they are, the short last batch included."""
    task, _, _ = build(MIXER, "fg_a/contrastive-local[probe=0.3]", (1, 8, 8), 10)
    before, noise = copied(task.chain), Noise(7, dtype=torch.float64)
    probe(task, digits, RECIPE, noise)
    after = copied(task.chain)
    moved = {n for n in after if not torch.equal(after[n], before[n])}
    assert moved == {"readouts.final.linear.weight", "readouts.final.linear.bias"}

    with torch.no_grad():
        f = task.chain.run(digits.normalise(digits.train_x, torch.float64), 0, 2)
    features = F.layer_norm(f.mean(1).flatten(1), (16,))
    head = _linear(16, 10)
    with torch.no_grad():
        for name, p in head.named_parameters():
            p.copy_(before[f"readouts.final.linear.{name}"])
    rule = torch.optim.SGD(
        [{"params": [head.weight], "weight_decay": 0.01}, {"params": [head.bias]}], lr=0.3
    )
    for picked in noise.permutation("train", 230).split(100):
        rule.zero_grad()
        F.cross_entropy(head(features[picked]), digits.train_y[picked]).backward()
        rule.step()
    for name, p in head.named_parameters():
        torch.testing.assert_close(after[f"readouts.final.linear.{name}"], p.detach())


def _linear(inputs: int, outputs: int) -> nn.Linear:
    with Noise(0).seeded():
        return nn.Linear(inputs, outputs).double()


def test_steps_teach_everything_but_the_final_readout(digits: Any) -> None:
    task, estimator, noise = build(MIXER, "fg_a/contrastive-local-pg", (1, 8, 8), 10)
    run = TrainingRun(task, estimator, RECIPE, noise, digits)
    before = copied(task.chain)
    x, y = run.batch()
    assert (len(x), len(y)) == (200, 200)
    assert torch.equal(x, run.batch()[0])
    run.take()
    assert not torch.equal(x, run.batch()[0])
    still = {n for n, p in copied(task.chain).items() if torch.equal(p, before[n])}
    # constant over the channels that the next norm averages: its gradient is zero
    assert still - {"body.1.l0.bias"} == {
        "readouts.final.linear.weight",
        "readouts.final.linear.bias",
    }


def test_the_history_holds_the_mean_end_loss_of_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOOK", 1)
    for method in ("bp/contrastive-local", "BP"):
        events: list[Progress] = []
        found = train(method, **SMALL, progress=events.append)
        each = [e.loss for e in events if e.loss is not None]
        assert len(each) == 8
        assert [p["end_loss"] for p in found["history"]] == pytest.approx(
            [sum(each[:4]) / 4, sum(each[4:]) / 4], rel=1e-12
        )
    monkeypatch.setattr(training, "LOOK", 50)
    again = train("BP", **SMALL)
    assert [p["end_loss"] for p in again["history"]] == [p["end_loss"] for p in found["history"]]


@pytest.mark.slow
@pytest.mark.parametrize("method", mostly_slow(["bp/contrastive", "fg_a/contrastive-local-pg"], 2))
def test_the_loss_falls_and_the_readout_learns(method: str) -> None:
    """Digits at a fixed seed: chance is 90 % wrong, and ln 99 the loss that knows nothing."""
    recipe = default_recipe("localmixer-xs/2/4", "digits", method.startswith("bp"), method)
    kind = f"{method}[crop=0.3,flip=false]"
    found = train(kind, arch="localmixer-xs/2/4", data="digits", recipe=recipe.but(epochs=3))
    losses = [point["end_loss"] for point in found["history"]]
    assert losses[2] < losses[0] - 0.2
    assert found["test_error"] < 0.5


def test_the_probe_is_what_lowers_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the final readout stays zero: one class for all."""
    monkeypatch.setattr(course, "probe", lambda *given: None)
    assert train("bp/contrastive", **SMALL)["test_error"] > 0.8


def test_projectors_never_start_at_zero_and_decay_apart() -> None:
    task, estimator, noise = build(MIXER, "bp/contrastive-local", (1, 8, 8), 10)
    before = copied(task.chain)
    Learner(task, estimator, RECIPE.but(zero_heads=True), noise)
    assert all(torch.equal(p, before[n]) for n, p in copied(task.chain).items())
    decay = {g["name"]: g["weight_decay"] for g in param_groups(task.chain, RECIPE)}
    assert decay["body weights"] == decay["final weights"] == 0.01
    assert decay["local weights"] == decay["local biases"] == decay["body biases"] == 0.0


@pytest.mark.parametrize(
    "name", ["bp/contrastive", "fg_a[law=sphere]/contrastive-local-pg[crop=1]"]
)
def test_a_recipe_ships(name: str) -> None:
    exact = name.startswith("bp")
    small = default_recipe("localmixer-xs/1/1", "digits", exact, name)
    assert (small.zero_heads, small.head_lr, small.head_decay) == (False, 1.0, 0.0)
    cifar = default_recipe("localmixer-m/8/16", "cifar10", exact, name)
    assert (cifar.epochs, cifar.batch, cifar.weight_decay) == (40, 100, 1e-4)
    assert default_recipe("localmixer-m/8/16", "cifar10", exact, "bp/local").epochs == 200


# measuring and timing


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.of("mlp-2x8", "synthetic[size=4,train=64]", dtype="float64")


@pytest.mark.slow
def test_measuring_shows_the_bias_of_live_keys(workload: Workload) -> None:
    """200 draws at two points, fixed seed; four unbiased rows at 1e-3 are 0.4 % false alarms."""
    names = [
        "",
        "[shared_noise=false]",
        "[stop_keys=false]",
        "[stop_keys=false,shared_noise=false]",
    ]
    methods = [registry.method(f"fg_a/contrastive{n}") for n in names]
    methods.append(registry.method("fg_w/contrastive[stop_keys=false]"))
    methods.append(registry.method("np/contrastive[stop_keys=false]"))
    found = measure(workload, methods, Design(draws=200, batches=2, batch=6))
    sizes = [f["bias"]["value"] for f in found]
    p_values = [f["bias"]["p_value"] for f in found]
    assert min(p_values[i] for i in (0, 1, 3, 4)) > 1e-3
    live = [2, 5]  # where views share their noise
    assert max(p_values[i] for i in live) < 1e-2
    assert min(sizes[i] for i in live) > 0.2
    assert sizes[5] == pytest.approx(sizes[2], rel=0.2)
    assert [
        i for i, f in enumerate(found) if f["claimed"] == {"bias": "some", "why": COUPLED}
    ] == live
    assert {f["claimed"]["bias"] for i, f in enumerate(found) if i not in live} == {"none"}
    assert found[1]["predicted_variance"] == pytest.approx(
        found[1]["relative_variance"]["value"], rel=0.3
    )
    assert found[0]["predicted_variance"] is None
    assert all(f["locality_gap"]["value"] == 0 for f in found)
    assert {f["batch"] for f in found} == {6}


def test_methods_are_measured_on_the_same_views(workload: Workload) -> None:
    names = ["bp/contrastive", "bp/contrastive", "bp/contrastive-local", "bp/contrastive[crop=0.5]"]
    one, same, local, other = measure(
        workload, [registry.method(n) for n in names], Design(draws=2, batches=1, batch=4)
    )
    assert one["cosine"]["value"] == same["cosine"]["value"] == pytest.approx(1)
    assert one["locality_gap"]["value"] == 0 < local["locality_gap"]["value"]
    assert other["status"] == "ok"


def test_one_image_is_refused_in_one_line(workload: Workload) -> None:
    for local in ("bp/contrastive", "fg_a/contrastive-local-pg", "np/contrastive-module"):
        method = registry.method(local)
        calls = [
            lambda m=method: measure(workload, [m], Design(batch=1, batches=1)),
            lambda m=method: speed(workload, [m], batch=1, rounds=3),
            lambda n=local: train(n, **{**SMALL, "recipe": RECIPE.but(batch=1)}),
        ]
        for call in calls:
            with pytest.raises(UsageError, match="at least 2 images, got 1") as caught:
                call()
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["measure", "train", "speed"])
def test_the_api_runs_it(verb: str) -> None:
    options: dict[str, Any] = {
        "measure": {"draws": 4, "batches": 1, "batch": 4},
        "train": {"epochs": 1, "train_size": 200, "batch": 100},
        "speed": {"rounds": 3, "batch": 4, "reference": "plain"},
    }[verb]
    found = api.run(
        verb, method="fg_a/contrastive-local-pg", arch="mlp-1x8", data="digits", **options
    )
    assert found["status"] == "ok"
    assert found["locality"] == "contrastive-local-pg"
    assert found["options"]["temperature"] == 0.5
