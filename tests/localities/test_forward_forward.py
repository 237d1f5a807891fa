"""Forward-Forward: closed forms of its gradient and of its step, its data, and what it says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.cli.main import run
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.data.synthetic import synthetic
from fgbench.localities.forward_forward import ForwardForward, labelled, normalised, other_labels
from fgbench.training.recipe import Recipe
from fgbench.training.run import prediction_price
from fgbench.workload import Workload
from tests.makers.measuring import measured, workload
from tests.makers.networks import worst
from tests.makers.places import CNN, MIXER, exact, made
from tests.makers.training import train

ARCHS = ["mlp-4x8", CNN, MIXER]
MARKS = torch.tensor([1, 1, 0, 0])
SMALL = "synthetic[size=4,train=64,test=32]"


def rows(arch: str) -> tuple[Any, Tensor]:
    task, x, _ = made(arch, "forward_forward")
    return task, x


@pytest.mark.parametrize("arch", ARCHS)
def test_gradients_are_those_of_the_layer_losses_by_autograd(arch: str) -> None:
    """The sum of softplus(θ − g) over positive and softplus(g − θ) over negative rows, each a mean."""
    task, x = rows(arch)
    chain: Chain = task.chain
    f, want = x, dict[str, Tensor]()
    for k in range(len(chain)):
        start = (
            f
            if k == 0
            else f / (f.flatten(1).square().mean(1).sqrt() + 1e-8).view(-1, *[1] * (f.dim() - 1))
        )
        f = chain.run(start.detach(), k, k + 1)
        g = f.flatten(1).square().sum(1)
        theta = f[0].numel()
        loss = F.softplus(theta - g[:2]).mean() + F.softplus(g[2:] - theta).mean()
        params = chain.body_parameters((k,))
        want |= dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    assert worst(task.scheme_truth(x, MARKS), want) < 1e-12


def test_gradients_are_the_closed_form_of_a_layer_of_relus() -> None:
    """∓2 (1 − p) y xᵀ, with p the probability of the right answer: −2 (1 − p) y xᵀ and +2 p y xᵀ."""
    task, x = rows("mlp-4x8")
    truth = task.scheme_truth(x, MARKS)
    chain, f = task.chain, x.flatten(1)
    for k in range(4):
        h = f if k == 0 else normalised(f)
        y = chain.run(h, k, k + 1).detach()
        p = (y.square().sum(1) - y.shape[1]).sigmoid()
        factor = (
            torch.where(MARKS == 1, -2 * (1 - p), 2 * p) / 2
        )  # means over two rows of each kind
        want = (factor[:, None] * y).T @ h
        torch.testing.assert_close(truth[f"body.{k}.l0.weight"], want, rtol=1e-12, atol=1e-12)
        f = y


@pytest.mark.parametrize("mark", [1, 0])
def test_a_step_scales_the_active_units_and_keeps_their_direction(mark: int) -> None:
    """By 1 + 2 η (1 − p) |x|² for a positive row and 1 − 2 η p |x|² for a negative one, without biases."""
    task, x = rows("mlp-1x6")
    chain, h = task.chain, x[:1].flatten(1)
    with torch.no_grad():
        chain.get_parameter("body.0.l0.bias").zero_()
    y = chain.run(h, 0, 1).detach()
    p = (y.square().sum() - 6).sigmoid()
    gradient = (
        task.scheme_truth(h, torch.tensor([mark]))["body.0.l0.weight"] / 2
    )  # twice the loss of one kind
    eta = 0.01
    with torch.no_grad():
        chain.get_parameter("body.0.l0.weight").sub_(eta * gradient)
    factor = (
        1 + 2 * eta * (1 - p) * h.square().sum() if mark else 1 - 2 * eta * p * h.square().sum()
    )
    torch.testing.assert_close(chain.run(h, 0, 1).detach(), y * factor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "arch", [*ARCHS[:1], *(pytest.param(arch, marks=pytest.mark.slow) for arch in ARCHS[1:])]
)
def test_every_estimator_follows_the_goodness(arch: str) -> None:
    task, x = rows(arch)
    exact(task, x, MARKS)


def test_windows_begin_at_a_mean_square_of_one() -> None:
    task, x = rows(MIXER)
    views = list(task.views(x, MARKS, CostCounter()))
    for view in views[1:]:
        mean = view.start.flatten(1).square().mean(1)
        torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-6, atol=0)


def test_labels_are_written_and_wrong_ones_are_even() -> None:
    x = Noise(0).normal("x", (5, 1, 3, 3))
    y = torch.tensor([0, 3, 1, 1, 2])
    found = labelled(x, y, 4)
    assert torch.equal(found.flatten(1)[:, :4], F.one_hot(y, 4).float())
    assert torch.equal(found.flatten(1)[:, 4:], x.flatten(1)[:, 4:])
    labels = torch.full((9000,), 3)
    counts = other_labels(labels, 10, Noise(7)).bincount(minlength=10)
    assert int(counts[3]) == 0
    assert chisquare(counts[counts > 0].numpy()).pvalue > 1e-4  # false alarms: 1 in 10,000
    planted = counts.clone()
    planted[4] += 200
    assert chisquare(planted[planted > 0].numpy()).pvalue < 1e-4


def test_a_batch_has_every_image_with_its_label_and_with_another() -> None:
    data = synthetic(size=4, train=64, test=32)
    pixels, labels = data.rows(torch.arange(8))
    x, marks = ForwardForward().batch(pixels, labels, data, Noise(0))
    assert marks.tolist() == [1] * 8 + [0] * 8
    plain = data.normalise(pixels).flatten(1)
    written = x.flatten(1)
    assert torch.equal(written[:8, 10:], plain[:, 10:])
    assert torch.equal(written[8:, 10:], plain[:, 10:])
    assert torch.equal(written[:8, :10].argmax(1), labels)
    assert bool((written[8:, :10].argmax(1) != labels).all())


def test_predictions_are_the_goodness_of_later_modules_under_every_label() -> None:
    task, x = rows("mlp-4x8")
    locality, chain = ForwardForward(), task.chain
    found = locality.predictions(chain, x)
    for c in range(5):
        f = labelled(x, torch.full((4,), c), 5, 3.0)
        total = torch.zeros(4, dtype=x.dtype)
        for k in range(4):
            f = chain.run(f if k == 0 else normalised(f), k, k + 1)
            total = total + (f.square().sum(1) if k else 0)
        torch.testing.assert_close(found[:, c], total)


def test_a_prediction_costs_a_pass_per_class() -> None:
    task = Workload.of("mlp-2x8", SMALL).task(registry.method("FF"), seed=0).task
    body, head = 2 * (16 * 8 + 8 * 8), 2 * 8 * 10
    assert prediction_price(task) == {"prediction": pytest.approx(10 * body / (body + head))}


def test_it_is_a_rule_with_no_bias_and_says_why() -> None:
    found = measured("bp/forward_forward", "bp/local", where=workload("mlp-2x8"))
    assert [one["status"] for one in found] == ["skipped", "ok"]
    assert "a training rule" in found[0]["reason"]
    assert "goodness is no loss of the predictions" in found[0]["reason"]
    task, _ = rows("mlp-4x8")
    claims = task.claims(registry.make("estimators", "fg_a").thing)
    assert (claims.kind, claims.why) == ("rule", ForwardForward.rule)
    assert task.end is None


def test_a_training_without_an_end_loss_has_a_history_and_a_cost() -> None:
    recipe = Recipe(epochs=2, batch=16, lr=0.01)
    found = train("FF", arch="mlp-2x16", data="synthetic[train=64,test=32]", recipe=recipe)
    assert found["status"] == "ok"
    assert [set(point) & {"end_loss", "test_error"} for point in found["history"]] == [
        {"test_error"}
    ] * 2
    assert found["claims"]["kind"] == "rule"
    assert found["cost"]["prediction"] > 5


@pytest.mark.slow
def test_the_command_line_lists_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "rules"]) == 0
    out = capsys.readouterr().out
    assert "forward_forward" in out
    assert "noprop_dt" in out
    assert out.count("no bias is measured, because") == 2
    case = ["--arch", "mlp-2x8", "--data", SMALL, "--batches", "1", "--batch", "8"]
    assert run(["measure", "FF", *case, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["status"] == "skipped"
    assert "a training rule" in record["reason"]


def test_examples_without_room_for_a_label_are_refused() -> None:
    task, _, _ = made("mlp-2x4", "forward_forward", shape=(1, 2, 2))
    assert task.scheme.refused == "forward_forward writes 5 numbers over each example, which has 4"
    found = train(
        "FF",
        arch="mlp-2x4",
        data="synthetic[size=3,train=64,test=32]",
        recipe=Recipe(epochs=1, batch=16, lr=0.1),
    )
    assert (found["status"], found["reason"]) == (
        "skipped", "forward_forward writes 10 numbers over each example, which has 9",
    )  # fmt: skip
