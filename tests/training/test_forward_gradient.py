"""Training loops of one's own: they take the steps of fgbench's own loop, and any module."""

from __future__ import annotations

import copy
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fgbench
from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.training.forward_gradient import ForwardGradient
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.paths import ROOT

CASE: dict[str, Any] = {"arch": "mlp-2x8", "data": "synthetic[size=4,train=64,test=32]"}
STATEFUL = f"{ROOT / 'tests' / 'makers' / 'stateful.py'}:Learned/end"
PLAIN: dict[str, Any] = {
    "schedule": "constant",
    "warmup_epochs": 0,
    "weight_decay": 0.0,
    "momentum": 0.9,
}


def net(seed: int = 0) -> nn.Sequential:
    """Three layers, the first two of which ``cut="[13]"`` ends after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
        )


def batch(n: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(n) % 3


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("method", ["BP", "FG-A", "FG-W", "LG-FG-A", "DFA", STATEFUL])
def test_a_loop_of_ones_own_takes_the_steps_of_train(method: str) -> None:
    """The same network, order and noise give the same parameters, bit for bit."""
    recipe = {"epochs": 2, "batch": 16, "lr": 0.05, "optimizer": "sgd", **PLAIN}
    (trained,) = fgbench.train(method, seed=3, **CASE, **recipe)
    assert trained.status == "ok"
    workload = Workload.of(**CASE)
    chain, noise = workload.chain(3), workload.noise(3)
    optimizer = torch.optim.SGD(chain.parameters(), lr=0.05, momentum=0.9, fused=True)
    forward = ForwardGradient(chain, "cross_entropy", method, optimizer, seed=3)
    for epoch in range(2):
        order = noise.child("order").at(epoch).permutation("train", workload.data.train_size)
        for picked in order.split(16):
            forward.step(*workload.data.batch(picked))
    theirs = dict(trained.model.named_parameters())
    for name, p in chain.named_parameters():
        assert torch.equal(p, theirs[name]), name
    assert not any(name.startswith("readouts.local") for name, _ in chain.named_parameters())


def with_dropout() -> nn.Sequential:
    parts = list(net().children())
    return nn.Sequential(*parts[:2], nn.Dropout(0.4), *parts[2:])


@pytest.mark.parametrize("method", ["FG-W", "LG-FG-A"])
def test_a_loop_over_a_module_takes_the_steps_of_train_with_its_dropout(method: str) -> None:
    data = fgbench.data_set((*batch(32), *batch(32)))
    recipe = {"epochs": 2, "batch": 8, "lr": 0.05, "optimizer": "sgd", **PLAIN}
    model, twin = with_dropout(), with_dropout()
    (trained,) = fgbench.train(method, model=model, data=data, cut=["2"], **recipe)
    assert trained.status == "ok"
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, fused=True)
    forward = ForwardGradient(twin, "cross_entropy", method, optimizer, cut=["2"])
    for epoch in range(2):
        order = Noise(0).child("order").at(epoch).permutation("train", data.train_size)
        for picked in order.split(8):
            forward.step(*data.batch(picked))
    assert same(values(model), values(twin))
    assert not same(values(model), values(with_dropout()))


def test_every_step_has_masks_of_its_own() -> None:
    model = with_dropout()
    forward = ForwardGradient(model, "cross_entropy", "BP", sgd(model, lr=0.0))
    losses = [forward.step(*batch()) for _ in range(3)]
    assert len(set(losses)) == 3


def test_a_module_is_trained_in_place_as_its_optimizer_says() -> None:
    model = net()
    forward = ForwardGradient(model, "cross_entropy", "BP", sgd(model))
    twin = net()
    optimizer = sgd(twin)
    for seed in range(4):
        x, y = batch(seed=seed)
        loss = F.cross_entropy(twin(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert forward.step(x, y) == pytest.approx(loss.item(), rel=1e-6)
    assert forward.steps == 4
    for a, b in zip(values(model), values(twin), strict=True):
        torch.testing.assert_close(a, b)


def test_noise_is_keyed_by_seed_and_step() -> None:
    def run(seed: int) -> list[Tensor]:
        model = net()
        forward = ForwardGradient(model, "cross_entropy", "FG-A", sgd(model), seed=seed)
        for k in range(3):
            with torch.random.fork_rng():  # the global generator has no part in it
                torch.manual_seed(seed + k)
                forward.step(*batch())
        return values(model)

    assert same(run(0), run(0))
    assert not same(run(0), run(1))


def test_batches_of_other_sizes_are_taken() -> None:
    model = net()
    forward = ForwardGradient(model, "cross_entropy", "LG-FG-A", sgd(model), cut=["1", "3"])
    for n in (8, 5, 1, 8):
        before = values(model)
        assert forward.step(*batch(n)) > 0
        assert not same(values(model), before)


def test_heads_join_the_optimizer_and_a_schedule_goes_on() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    forward = ForwardGradient(model, "cross_entropy", "LG-FG-A", optimizer, cut=["1", "3"])
    names = set(dict(model.named_parameters()))
    forward.step(*batch())
    schedule.step()
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(names) + 4
    assert group["lr"] == pytest.approx(0.05)
    heads = forward.state_dict()["heads"]
    forward.step(*batch())
    assert all(not torch.equal(heads[name], p) for name, p in forward.state_dict()["heads"].items())
    assert set(dict(model.named_parameters())) == names


@pytest.mark.parametrize(
    ("method", "kind"),
    [("LG-FG-A", torch.optim.Adam), (STATEFUL, torch.optim.SGD), ("FA", torch.optim.RMSprop)],
)
def test_a_saved_loop_goes_on_bit_for_bit(method: str, kind: Any) -> None:
    def make(model: nn.Module) -> ForwardGradient:
        optimizer = kind(model.parameters(), lr=0.01)
        return ForwardGradient(model, "cross_entropy", method, optimizer, cut=["1", "3"])

    whole = net()
    straight = make(whole)
    for k in range(6):
        straight.step(*batch(seed=k))
    first = net()
    stopped = make(first)
    for k in range(3):
        stopped.step(*batch(seed=k))
    file = BytesIO()
    torch.save({"model": first.state_dict(), "loop": stopped.state_dict()}, file)
    stopped.step(*batch(seed=9))  # what is saved does not change
    file.seek(0)
    saved = torch.load(file)
    second = net(seed=1)
    second.load_state_dict(saved["model"])
    resumed = make(second)
    resumed.load_state_dict(saved["loop"])
    assert resumed.steps == 3
    for k in range(3, 6):
        resumed.step(*batch(seed=k))
    assert same(values(second), values(whole))
    first.load_state_dict(saved["model"])  # a loop that has begun can go back, too
    stopped.load_state_dict(saved["loop"])
    for k in range(3, 6):
        stopped.step(*batch(seed=k))
    assert same(values(first), values(whole))


def test_a_state_of_something_else_is_refused() -> None:
    model = net()
    forward = ForwardGradient(model, "cross_entropy", "LG-FG-A", sgd(model), cut=["1"])
    with pytest.raises(UsageError, match="there is no 'steps'"):
        forward.load_state_dict(model.state_dict())
    other = net()
    two = ForwardGradient(other, "cross_entropy", "LG-FG-A", sgd(other), cut=["1", "3"])
    two.step(*batch())
    forward.load_state_dict(two.state_dict())
    with pytest.raises(UsageError, match="of another method, cut or network"):
        forward.step(*batch())


def test_no_step_is_taken_where_the_loss_is_not_finite() -> None:
    model = net()
    forward = ForwardGradient(model, "cross_entropy", STATEFUL, sgd(model))
    forward.step(*batch())
    before, learned = values(model), copy.deepcopy(forward.state_dict())
    x, y = batch()
    x[2, 1] = torch.inf
    assert not isfinite(forward.step(x, y))
    assert same(values(model), before)
    after = forward.state_dict()
    for objective, own in learned["state"].items():
        assert all(torch.equal(after["state"][objective][name], t) for name, t in own.items())
    assert forward.step(*batch()) > 0
    assert all(bool(t.isfinite().all()) for t in values(model))


def test_backward_writes_gradients_and_leaves_the_step_to_the_loop() -> None:
    model = net()
    forward = ForwardGradient(model, "cross_entropy", "FG-A[directions=4]", sgd(model))
    before = values(model)
    loss = forward.backward(*batch())
    assert same(values(model), before)
    wanted = fgbench.estimate(
        "FG-A[directions=4]", model=model, batch=batch(), loss="cross_entropy"
    )
    assert loss == wanted.loss
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert torch.equal(p.grad, wanted[name])
    second = fgbench.estimate(
        "FG-A[directions=4]", model=model, batch=batch(), loss="cross_entropy", step=1
    )
    assert not torch.equal(second["0.weight"], wanted["0.weight"])


class Tied(nn.Module):
    """A weight used twice, a frozen layer, and two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(6, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.last(self.frozen(self.twice(self.twice(x).tanh()).relu()) * mask)}


def test_an_estimate_has_the_modules_own_names_and_changes_nothing() -> None:
    with torch.random.fork_rng():
        model = Tied().double()
        x, y = batch()
        inputs = (x.double(), torch.rand(8, 6).double())
    before, random = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    how: dict[str, Any] = {"model": model, "batch": (inputs, y), "loss": "cross_entropy"}
    gradient = fgbench.estimate("BP", output=lambda found: found["logits"], **how)
    noisy = fgbench.estimate("FG-A", output=lambda found: found["logits"], **how)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert list(gradient) == ["twice.weight", "twice.bias", "last.weight", "last.bias"]
    assert noisy.keys() == gradient.keys()
    loss = F.cross_entropy(model(*inputs)["logits"], y)
    loss.backward()
    assert gradient.loss == noisy.loss == pytest.approx(loss.item(), rel=1e-12)
    for name, grad in gradient.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, rtol=1e-10, atol=1e-12)
    assert noisy.cost > 1
    assert noisy.counts["slopes"] == 1
    noisy.apply(model)
    assert torch.equal(model.last.weight.grad, noisy["last.weight"])
    with pytest.raises(UsageError, match=r"unknown parameter of Sequential 'twice\.weight'"):
        noisy.apply(net())


def mean(prediction: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(prediction, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": nn.Linear}, "model: expected a torch.nn.Module, got the class Linear"),
        ({"model": 3}, "model: expected a torch.nn.Module, got int"),
        ({"model": nn.ReLU()}, "ReLU has no parameter that learns (requires_grad)"),
        ({"loss": mean}, "the loss returned one number, expected one loss per example, [8]"),
        ({"loss": nn.CrossEntropyLoss()}, "the loss returned one number"),
        ({"loss": "crossentropy"}, "unknown loss 'crossentropy'; did you mean 'cross_entropy'?"),
        ({"loss": 3}, "loss: expected cross_entropy, mse, or a function"),
        ({"loss": "mse"}, "the loss cannot be computed of predictions [8, 3]"),
        ({"method": "FG-B"}, "unknown method 'FG-B'"),
        ({"method": 3}, "got int 3"),
        ({"method": "LG-FG-A"}, "LG-FG-A has losses on the way, and Sequential is not cut"),
        ({"batch": batch()[0]}, "batch: expected (inputs, targets), got Tensor"),
        ({"batch": (3, 4)}, "a batch is tensors, got int"),
        ({"batch": (batch()[0][:1], batch()[1][:1])}, "two"),
        (
            {"batch": (batch()[0].to("meta"), batch()[1])},
            "Sequential is on cpu and its batch on meta: move one, such as x.to('cpu')",
        ),
        ({"batch": (batch()[0][:, :4], batch()[1])}, "Sequential cannot be run on this batch"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    given = {"method": "FG-A", "model": net(), "batch": batch(), "loss": "cross_entropy", **change}
    with pytest.raises(UsageError) as caught:
        fgbench.estimate(given.pop("method"), **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_optimizer_is_one_of_torch() -> None:
    with pytest.raises(UsageError, match="optimizer: expected one of torch, got str"):
        ForwardGradient(net(), "cross_entropy", "FG-A", "sgd")  # type: ignore[arg-type]


def test_estimators_of_ones_own_are_taken() -> None:
    mine = registry.make("estimators", "fg_a[directions=2]").thing
    how: dict[str, Any] = {"model": net(), "batch": batch(), "loss": "cross_entropy"}
    given = fgbench.estimate((mine, "local"), cut="auto", **how)
    named = fgbench.estimate("fg_a[directions=2]/local", cut="auto", **how)
    assert all(torch.equal(given[name], grad) for name, grad in named.items())


def test_an_update_rule_takes_the_steps() -> None:
    """Signs of plain SGD move every weight by the rate; a state of the rule goes on from where it was."""

    def loop(update: str, optimizer: Any = torch.optim.SGD) -> tuple[Any, Any]:
        with Noise(0).seeded():
            net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        rule = optimizer(net.parameters(), lr=0.5)
        return net, ForwardGradient(net, "cross_entropy", "FG-W", rule, update=update)

    x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    net, forward = loop("sign")
    before = net[0].weight.detach().clone()
    forward.step(x, y)
    torch.testing.assert_close((net[0].weight - before).abs(), torch.full((3, 4), 0.5))
    plain, alone = loop("none"), loop("")
    for one, other in zip(plain[0].parameters(), alone[0].parameters(), strict=True):
        for each in (plain, alone):
            each[1].step(x, y)
        assert torch.equal(one, other)
    net, forward = loop("shrink")
    for _ in range(4):
        forward.step(x, y)
    again, resumed = loop("shrink")
    net, forward = loop("shrink")
    for _ in range(2):
        forward.step(x, y)
    again.load_state_dict(net.state_dict())
    resumed.load_state_dict(forward.state_dict())
    for each in (forward, resumed):
        for _ in range(2):
            each.step(x, y)
    for name, p in again.named_parameters():
        assert torch.equal(p, net.get_parameter(name))
    with pytest.raises(UsageError, match="unknown update 'sgn'"):
        loop("sgn")


class Counted(nn.Module):
    """Counts its calls, and keeps a running mean of its features, in place and by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("square", torch.ones(5))
        self.calls: Tensor
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.training:
            seen = h.detach()
            self.calls += 1
            self.mean.mul_(0.9).add_(seen.mean(0), alpha=0.1)
            self.square = 0.9 * self.square + 0.1 * seen.square().mean(0)
        return self.last(torch.tanh(h))


@pytest.mark.parametrize(
    "method",
    ["BP", "FG-A", "FG-W[directions=2]", "NP", "WP", "mezo/end", "LG-FG-A", "DFA", STATEFUL],
)
def test_buffers_advance_once_per_step_as_with_backprop(method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Counted()
    x, y = batch()
    cut: dict[str, Any] = {"cut": ["first"]} if method == "LG-FG-A" else {}
    forward = ForwardGradient(model, "cross_entropy", method, sgd(model), **cut)
    for step in range(3):
        twin = copy.deepcopy(model)
        twin(x)
        forward.step(x, y)
        assert int(model.calls) == step + 1
        for name, buffer in twin.named_buffers():
            torch.testing.assert_close(dict(model.named_buffers())[name], buffer, msg=name)


@pytest.mark.parametrize(
    ("method", "passes"),
    [("BP", 1), ("bp[recompute=auto]/end", 1), ("NP", 2), ("FG-A", 2), ("LG-FG-A", 3)],
)
def test_buffers_take_a_pass_of_their_own_only_without_a_plain_one(
    method: str, passes: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Counted()
    calls: list[int] = []
    model.first.register_forward_hook(lambda *given: calls.append(1))
    x, y = batch()
    cut: dict[str, Any] = {} if method in ("BP", "NP", "FG-A") else {"cut": ["first"]}
    forward = ForwardGradient(model, "cross_entropy", method, sgd(model), **cut)
    forward.step(x, y)
    twin = copy.deepcopy(model)
    twin(x)
    calls.clear()
    forward.step(x, y)
    assert len(calls) == passes
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer, msg=name)


NET = """
from torch import nn, zeros

class Net(nn.Module):
    def __init__(self, shape, classes, writes=True):
        super().__init__()
        self.first, self.last, self.writes = nn.Linear(16, 5), nn.Linear(5, classes), writes
        self.register_buffer("mean", zeros(5))

    def forward(self, x):
        h = self.first(x.flatten(1))
        if self.writes and self.training:
            self.mean.mul_(0.9).add_(h.detach().mean(0))
        return self.last(h.tanh())
"""


@pytest.mark.parametrize(("method", "more"), [("BP", 0.0), ("NP", 0.0), ("FG-A", 1.0)])
def test_buffers_raise_the_price_of_a_step_only_by_a_pass_of_their_own(
    method: str, more: float, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    prices = []
    for ending in ("[writes=false]", ""):
        case = Workload.of(f"{tmp_path}/net.py:Net{ending}", CASE["data"])
        subject = case.task(registry.method(method), seed=0)
        recipe = Recipe(epochs=1, batch=16, lr=0.1)
        run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, case.data)
        run.take()
        prices.append(run.unseen[0][1]["forwards"])
    assert prices[1] - prices[0] == more


class Leaky(nn.Module):
    """Takes its running mean off: every pass of a step has to see the same one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(5))
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out = self.last(torch.tanh(h - self.mean))
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * h.detach().mean(0)
        return out


@pytest.mark.parametrize("method", ["FG-A", "FG-W", "WP[sided=central]", "LG-FG-A"])
def test_every_pass_of_a_step_sees_the_buffers_of_its_beginning(method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = [Leaky().double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    x, y = batch()
    x = x.double()
    frozen = models[1]
    cut: dict[str, Any] = {"cut": ["first"]} if method == "LG-FG-A" else {}
    steps = [ForwardGradient(m, "cross_entropy", method, sgd(m), **cut) for m in models]
    steps[0].backward(x, y)
    mean = models[0].mean.clone()
    assert not torch.equal(mean, torch.zeros(5, dtype=mean.dtype))
    frozen.train(False)  # in which mode it writes no buffers
    steps[1].backward(x, y)
    for (name, one), two in zip(models[0].named_parameters(), frozen.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name
