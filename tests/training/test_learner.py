"""What learns: parameter groups, the step an optimiser takes, and state that learns beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from fgbench import registry
from fgbench.core.estimator import Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Step, Task
from fgbench.errors import UsageError
from fgbench.training.learner import Learner
from fgbench.training.optimizers import optimizer, param_groups
from fgbench.training.recipe import Recipe
from tests.makers.localities import Greedy
from tests.makers.paths import ROOT

OWN = ROOT / "tests" / "makers" / "stateful.py"
RECIPE = Recipe(epochs=2, batch=200, lr=0.05, weight_decay=1e-3)


def make(method: str, arch: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Task, Any]:
    parsed = registry.method(method)
    noise = Noise(0, dtype=dtype)
    with noise.child("arch").seeded():
        chain = registry.make("architectures", arch, shape=shape, classes=10).thing
    return Task.build(chain.to(dtype), parsed.locality.thing, noise), parsed.estimator.thing


def test_param_groups_cover_everything_once() -> None:
    task, _ = make("LG-FG-A", "localmixer-xs/2/4", (1, 8, 8), torch.float32)
    recipe = RECIPE.but(lr=0.5, head_lr=0.1, final_lr=0.01, weight_decay=0.3)
    groups = {group["name"]: group for group in param_groups(task.chain, recipe)}
    names = {id(p): name for name, p in task.chain.named_parameters()}
    members = {n: {names.pop(id(p)) for p in group["params"]} for n, group in groups.items()}
    assert not names
    rates = {"body": 0.5, "local": 0.05, "final": 0.005}
    assert set(members) == {f"{part} {kind}" for part in rates for kind in ("weights", "biases")}
    for name, group in groups.items():
        part, kind = name.split()
        assert group["lr"] == pytest.approx(rates[part])
        assert group["weight_decay"] == (0.3 if kind == "weights" else 0.0)
        assert {m.endswith("bias") for m in members[name]} == {kind == "biases"}
    # the grouped layer's bias has two axes and is still a bias
    assert task.chain.get_parameter("body.0.l1.bias").ndim == 2
    assert "body.0.l1.bias" in members["body biases"]
    assert members["final weights"] == {"readouts.final.linear.weight"}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_transposed_gradient_moves_the_right_weights(kind: str) -> None:
    """Fused optimisers ignore strides: a gradient assigned instead of copied would be scrambled."""
    task, estimator = make("BP", "mlp-1x4", (1, 8, 8), torch.float64)
    recipe = RECIPE.but(optimizer=kind, weight_decay=0.0)
    grad = Noise(0, dtype=torch.float64).normal("g", (64, 4))
    start = task.chain.get_parameter("body.0.l0.weight").detach().clone()
    learner = Learner(task, estimator, recipe, Noise(0))
    for _ in range(2):
        learner.follow(Step(body={"body.0.l0.weight": grad.T}))
    twin = nn.Parameter(start.clone())
    rules = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": 0.0, "foreach": False}
    rule = (
        rules[kind]([twin], **options, **({"momentum": 0.9} if kind == "sgd" else {}))
        if kind in rules
        else torch.optim.RMSprop([twin], momentum=0.9, **options)
    )
    for _ in range(2):
        twin.grad = grad.T.contiguous()
        rule.step()
    moved = task.chain.get_parameter("body.0.l0.weight").detach()
    torch.testing.assert_close(moved, twin.detach(), rtol=1e-12, atol=1e-14)
    assert float((moved - start).abs().max()) > 1e-3


def test_zero_heads_start_at_zero_and_others_do_not() -> None:
    for zero in (True, False):
        task, estimator = make("LG-FG-A", "mlp-2x16", (1, 8, 8), torch.float32)
        Learner(task, estimator, RECIPE.but(zero_heads=zero), Noise(0))
        local = task.chain.readout_parameters("local0").values()
        assert all(float(p.detach().abs().max()) == 0.0 for p in local) == zero
        assert all(float(p.detach().abs().max()) > 0.0 for p in task.chain.parameters()) != zero


def test_heads_of_any_name_start_at_zero_and_learn() -> None:
    """The last layer alone is zero: from zeros in all layers a head with a hidden layer never learns."""
    task, estimator = make("BP", "mlp-2x16", (1, 8, 8), torch.float32)
    task = Task.build(task.chain, Greedy(hidden=4, name="aux"), Noise(0))
    learner = Learner(task, estimator, RECIPE.but(zero_heads=True), Noise(0))
    own = task.chain.readout_parameters("aux0")
    zero = {name.removeprefix("readouts.aux0.") for name, p in own.items() if not bool(p.any())}
    assert zero == {"last.weight", "last.bias"}
    x, y = Noise(1).normal("x", (6, 1, 8, 8)), torch.arange(6) % 3
    before = {name: p.detach().clone() for name, p in own.items()}
    for _ in range(2):
        learner.follow(task.estimate(x, y, estimator, Noise(0)))
    assert all(not torch.equal(p, before[name]) for name, p in own.items())


# learned state


@dataclass(frozen=True)
class Stated(Defaults):
    """State as it is given, and the optimiser of it."""

    found: Any = None
    state_optimizer: Any = ("sgd", 1.0)

    def init_state(self, scheme: Any, noise: Noise) -> Any:
        return {"end": {"b": noise.normal("b", (3,))}} if self.found is None else self.found

    def __call__(self, view: Any, noise: Noise, state: Any) -> Estimate:
        return Estimate(grads=view.reverse(), state_grads={"c": torch.ones(3)})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            ("sdg", 1.0),
            "unknown optimizer in the state_optimizer of Stated 'sdg'; did you mean 'sgd'",
        ),
        (("adam", 0.0), "state_optimizer of Stated: expected a name and a rate"),
        ("adam", "expected a name and a rate"),
        (("adam", "fast"), "expected a name and a rate"),
        (("adam", float("nan")), "expected a name and a rate"),
    ],
)
def test_a_state_optimizer_that_does_not_exist_is_refused(rule: Any, words: str) -> None:
    task, _ = make("BP", "mlp-1x4", (1, 8, 8), torch.float32)
    with pytest.raises(UsageError, match=words):
        Learner(task, Stated(state_optimizer=rule), RECIPE, Noise(0))


def test_an_optimizer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'sdg'; did you mean 'sgd'"):
        optimizer("sdg", [{"params": [nn.Parameter(torch.ones(1))], "lr": 1.0}], 0.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"ned": {}}, "unknown objective in the state of Stated 'ned'; did you mean 'end'"),
        ([], "init_state of Stated returned list, expected a dictionary"),
        ({"end": {"b": 1.0}}, "expected a dictionary from the name"),
    ],
)
def test_state_of_no_objective_is_refused(found: Any, words: str) -> None:
    """It would be ignored, and the estimator would be handed an empty state."""
    task, _ = make("BP", "mlp-1x4", (1, 8, 8), torch.float32)
    with pytest.raises(UsageError, match=words):
        task.init_state(Stated(found), Noise(0))


def test_a_gradient_of_state_that_there_is_not_is_refused() -> None:
    task, _ = make("BP", "mlp-1x4", (1, 8, 8), torch.float32)
    x, y, estimator = torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2]), Stated()
    with pytest.raises(UsageError, match="unknown state in the state_grads of Stated 'c'"):
        task.estimate(x, y, estimator, Noise(0), task.init_state(estimator, Noise(0)))


@pytest.mark.parametrize("purpose", ["directions", "order", "augment", "views", "probe", "speed"])
def test_state_shares_no_draw_with_training(purpose: str) -> None:
    """A child of any name differs from the run's own noise of that name at its first step."""

    class Nested(Stated):
        def init_state(self, scheme: Any, noise: Noise) -> Any:
            return {"end": {"b": noise.child(purpose).normal("b", (3,))}}

    task, _ = make("BP", "mlp-1x4", (1, 8, 8), torch.float32)
    noise = Noise(0)
    learner = Learner(task, Nested(), RECIPE, noise)
    assert not torch.equal(learner.state["end"]["b"], noise.child(purpose).normal("b", (3,)))
    measured = task.init_state(Nested(), noise)  # as measuring has it
    assert torch.equal(learner.state["end"]["b"], measured["end"]["b"])


@pytest.mark.parametrize(("name", "lr"), [("Learned", None), ("Plain", 1.0)])
def test_learned_state_follows_its_optimiser(name: str, lr: float | None) -> None:
    task, estimator = make(f"{OWN}:{name}/end", "mlp-1x4", (1, 8, 8), torch.float64)
    learner = Learner(task, estimator, RECIPE, Noise(0, dtype=torch.float64))
    twin = nn.Parameter(torch.ones(2, dtype=torch.float64))
    rule = torch.optim.SGD([twin], lr) if lr else torch.optim.Adam([twin], 1e-2)
    mean = torch.zeros(2, dtype=torch.float64)
    x, y = torch.zeros(3, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2])
    for k in range(3):
        noise = Noise(5, dtype=torch.float64).at(k)
        learner.follow(task.estimate(x, y, estimator, noise, learner.state))
        mean = 0.9 * mean + noise.normal("kick", (2,))
        twin.grad = noise.normal("pull", (2,)) + mean
        rule.step()
    torch.testing.assert_close(learner.state["end"]["scale"], twin.detach(), rtol=1e-12, atol=0)
    assert torch.equal(learner.state["end"]["mean"], mean)


def test_shared_state_gets_the_sum_of_its_gradients() -> None:
    task, estimator = make(f"{OWN}:Plain/local", "mlp-2x4", (1, 8, 8), torch.float32)
    learner = Learner(task, estimator, RECIPE, Noise(0))
    shared = learner.state["module0"]["scale"]
    assert learner.state["module1"]["scale"] is shared
    grads: dict[str, Mapping[str, torch.Tensor]]
    grads = {f"module{k}": {"scale": torch.tensor([1.0, 10.0]) * (k + 1)} for k in (0, 1)}
    learner.follow(Step(state_grads=grads))
    assert learner.state["module0"]["scale"].tolist() == [1 - 3.0, 1 - 30.0]
    swapped: dict[str, Mapping[str, torch.Tensor]] = {"module0": {"scale": torch.zeros(2)}}
    with pytest.raises(ValueError, match="replaced by new_state"):
        learner.follow(Step(new_state=swapped, state_grads=grads))
