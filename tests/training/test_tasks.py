"""Training on data that are no images: losses, metrics, checkpoints and refusals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fgbench import registry
from fgbench.data.given import data_set
from fgbench.errors import UsageError
from fgbench.reporting.terminal.tables import _trainings
from fgbench.runs.run import run_all
from fgbench.training.loop import train
from fgbench.training.recipe import Recipe
from fgbench.workload import Cuts, Workload

RECIPE = Recipe(epochs=2, batch=16, lr=0.01)


def test_metrics_of_regression_are_those_of_the_trained_network():
    workload = Workload.of("mlp-2x8", "diabetes", dtype="float64")
    subject = workload.task(registry.method("BP"), 0)
    found = train(workload, registry.method("BP"), RECIPE, subject=subject)
    with torch.no_grad():
        p, y = subject.task.chain(workload.data.test_x)[:, 0], workload.data.test_y
    off = float(((p - y) ** 2).mean())
    assert found["test_mse"] == pytest.approx(off, rel=1e-12)
    assert found["test_loss"] == pytest.approx(off, rel=1e-12)
    assert found["test_r2"] == pytest.approx(1 - off / float(y.var(unbiased=False)), rel=1e-12)
    assert (found["test_error"], found["correct"]) == (None, "")
    assert {"train_r2", "test_r2", "train_mse", "end_loss"} <= set(found["history"][-1])
    assert found["metrics"]["r2"] == {"unit": "", "best": "high", "chance": 0.0}


def test_backprop_takes_the_gradient_of_the_mean_squared_error():
    workload = Workload.of("mlp-1x4", "diabetes", dtype="float64")
    task, estimator, noise = workload.task(registry.method("BP"), 0)
    x, y = workload.data.sample(8, torch.float64)
    step = task.estimate(x, y, estimator, noise)
    loss = ((task.chain(x)[:, 0] - y) ** 2).mean()
    params = {**task.chain.body_parameters(), **task.chain.readout_parameters("final")}
    grads = torch.autograd.grad(loss, list(params.values()))
    for (name, _), grad in zip(params.items(), grads, strict=True):
        torch.testing.assert_close(
            {**step.body, **step.readouts}[name], grad, rtol=1e-12, atol=1e-14
        )


def test_local_heads_learn_the_loss_of_the_data():
    workload = Workload.of("mlp-2x4", "diabetes", dtype="float64")
    task, _, _ = workload.task(registry.method("LG-FG-A"), 0)
    x, y = workload.data.sample(8, torch.float64)
    first = next(iter(task.views(x, y, task.chain.counter())))
    with torch.no_grad():
        head = task.chain.read("local0", first.output())
    torch.testing.assert_close(first.losses(), (head[:, 0] - y) ** 2, rtol=1e-13, atol=0)


def test_a_resumed_run_of_regression_ends_with_the_same_numbers(tmp_path: Path):
    workload, method = Workload.of("mlp-1x4", "diabetes"), registry.method("FG-A")
    whole = train(workload, method, RECIPE)

    class Stopped(Exception):
        """The end of a first part."""

    def stop(event):
        if event.point is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(workload, method, RECIPE, checkpoint=tmp_path / "run", progress=stop)
    again = train(workload, method, RECIPE, checkpoint=tmp_path / "run")
    same = ("test_mse", "test_r2", "train_loss", "steps")
    assert {n: again[n] for n in same} == {n: whole[n] for n in same}


def test_the_main_metric_is_told_after_an_epoch_and_in_the_table():
    lines: list[str] = []
    found = run_all(
        "train", ["BP"], arch="mlp-1x4", data="diabetes", epochs=1, progress=lines.append
    )
    assert f"test mse {found[0]['test_mse']:.4g}" in lines[-1]
    table = _trainings(found)
    assert list(table.columns)[1:5] == ["test mse", "train mse", "test r2", "test loss"]
    assert "r2: chance 0, larger is better" in str(table.caption)


def test_changes_of_images_are_refused_for_other_data():
    workload = Workload.of("mlp-1x4", "diabetes")
    with pytest.raises(UsageError, match="diabetes has no images: flip, crop") as error:
        train(workload, registry.method("BP"), RECIPE.but(flip=True))
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="compares views of images, and diabetes has none"):
        train(workload, registry.method("bp/contrastive"), RECIPE)


def test_tokens_need_an_embedding_and_a_loss_is_per_example():
    with pytest.raises(UsageError, match="mlp-1x4 takes real numbers, and the inputs are integers"):
        run_all("train", ["BP"], arch="mlp-1x4", data="topics", epochs=1)
    x = torch.ones(20, 3)
    data = data_set((x, x[:, 0]), loss=lambda p, t: ((p[:, 0] - t) ** 2).mean(), name="mine")
    with pytest.raises(UsageError, match=r"the loss returned \[\] for 2 examples"):
        run_all("train", ["BP"], arch="mlp-1x4", data=data, epochs=1, batch=4)


def test_a_network_solves_poissons_equation():
    """The gradient is that of autograd through the derivatives, and training lowers the residual."""
    workload = Workload.of("mlp-pinn-2x8", "poisson[train=64,test=16]", dtype="float64")
    task, estimator, noise = workload.task(registry.method("BP"), 0)
    x, y = workload.data.sample(16, torch.float64)
    step = task.estimate(x, y, estimator, noise)
    chain, points = task.chain, x.clone().requires_grad_()
    net = chain.body.net if hasattr(chain.body, "net") else chain.body[0].net
    u = points * (1 - points) * net(points)
    (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), points, create_graph=True)
    loss = ((second + math.pi**2 * torch.sin(math.pi * x)) ** 2).mean()
    params = dict(net.named_parameters())
    grads = torch.autograd.grad(loss, list(params.values()))
    for name, grad in zip(params, grads, strict=True):
        (found,) = [g for n, g in {**step.body, **step.readouts}.items() if n.endswith(name)]
        torch.testing.assert_close(found, grad, rtol=1e-10, atol=1e-10)


def test_an_equation_has_no_losses_on_the_way_and_says_why():
    """A readout of a layer sees values, and a residual needs their derivatives by the points."""
    workload = Workload.of("mlp-pinn-2x8", "poisson[train=64,test=16]", dtype="float64")
    for name in ("LG-FG-A", "bp/module", "fg_a/overlap", "bp/dgl"):
        scheme = workload.task(registry.method(name), seed=0).task.scheme
        assert "a residual of derivatives by the points" in scheme.refused
        assert "\n" not in scheme.refused
    for name in ("FG-A", "bp/last", "np/blockwise"):
        assert workload.task(registry.method(name), seed=0).task.scheme.refused == ""
    cut = Workload.of(
        "mlp-pinn-2x8", "poisson[train=64,test=16]", cuts=Cuts(cut="net.layers.0,net.layers.1")
    )
    with pytest.raises(
        UsageError, match="mlp-pinn-2x8 on poisson takes no cut: the loss of an equation"
    ):
        cut.chain(0)
