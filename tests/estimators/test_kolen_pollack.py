"""Kolen-Pollack: what separates weights and feedback decays by one number, whatever moves the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.clock import Clock
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.errors import UsageError
from fgbench.estimators.kolen_pollack import KolenPollack
from fgbench.training.learner import Learner
from fgbench.training.optimizers import optimizer
from fgbench.training.recipe import Recipe
from tests.makers.feedback import grads_of, made
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)
STEPS = 20
RECIPES = {
    "constant": {"momentum": 0.0, "schedule": "constant"},
    "schedule": {"momentum": 0.0, "schedule": "linear", "warmup_epochs": 0.25},
    "momentum": {"momentum": 0.9, "schedule": "cosine"},
    "nesterov": {"momentum": 0.9, "nesterov": True, "schedule": "staircase", "final_lr": 0.1},
    "adamw": {"optimizer": "adamw", "schedule": "cosine", "final_lr": 0.1, "lr": 0.01},
}


def recipe(name: str) -> Recipe:
    base = {"epochs": 1, "batch": 4, "lr": 0.1, "weight_decay": 0.3}
    return Recipe(**{**base, **RECIPES[name]})


def trained(task: Task, estimator: Any, rule: Recipe, start: Any = None) -> Learner:
    """Take 20 steps, each on a batch of its own, at the rates of the schedule."""
    learner = Learner(task, estimator, rule, Noise(0, dtype=torch.float64))
    if start is not None:
        start(learner)
    for k in range(STEPS):
        learner.pace(rule.factor(k, STEPS))
        x = Noise(1, dtype=torch.float64).at(k).normal("x", (4, *SHAPE))
        y = (torch.arange(4) * 3 + k) % 5
        learner.follow(task.estimate(x, y, estimator, Noise(0), learner.state))
    return learner


def decays(rule: Recipe, part: float) -> float:
    """What the recipe's optimiser makes of 1 over the steps without a gradient."""
    one = torch.nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    peak = rule.lr * part
    group = {"params": [one], "lr": peak, "weight_decay": rule.weight_decay}
    twin = optimizer(rule.optimizer, [group], rule.momentum, rule.nesterov)
    for k in range(STEPS):
        twin.param_groups[0]["lr"] = peak * rule.factor(k, STEPS)
        one.grad = torch.zeros_like(one)
        twin.step()
    return float(one.detach())


def separation(task: Task, state: Any) -> dict[str, torch.Tensor]:
    own = dict(task.chain.named_parameters())
    return {f"{o}/{n}": own[n].detach() - b for o, bs in state.items() for n, b in bs.items()}


def off(task: Task, learner: Learner, before: Any, rule: Recipe) -> float:
    """The largest entry of W − B that is not the decayed one of the start, relative to the largest."""
    found, worst_ = separation(task, learner.state), 0.0
    for name, d in before.items():
        final = rule.final_lr if "readouts.final" in name else 1.0
        gap = found[name] - decays(rule, final) * d
        worst_ = max(worst_, float(gap.abs().max() / d.abs().max()))
    return worst_


@pytest.mark.parametrize(
    ("name", "locality"),
    [
        *((name, "end") for name in RECIPES),
        *(pytest.param(name, "overlap", marks=pytest.mark.slow) for name in RECIPES),
    ],
)
def test_the_separation_of_weights_and_feedback_decays_by_one_number(
    name: str, locality: str
) -> None:
    task, kp, noise = build("mlp-3x5", f"kolen_pollack/{locality}", SHAPE)
    before = separation(task, task.init_state(kp, noise))
    rule = recipe(name)
    weights = {n: p.detach().clone() for n, p in task.chain.named_parameters()}
    learner = trained(task, kp, rule)
    assert (
        max(float((p.detach() - weights[n]).abs().max()) for n, p in task.chain.named_parameters())
        > 0.05
    )
    assert off(task, learner, before, rule) < 1e-12


def test_at_a_constant_rate_the_number_is_a_power() -> None:
    rule = recipe("constant")
    assert decays(rule, 1.0) == pytest.approx((1 - 0.1 * 0.3) ** STEPS, rel=1e-13)
    paced = recipe("schedule")
    product = 1.0
    for k in range(STEPS):
        product *= 1 - 0.3 * 0.1 * paced.factor(k, STEPS)
    assert decays(paced, 1.0) == pytest.approx(product, rel=1e-13)
    adamw = recipe("adamw")
    assert 0.9 < decays(adamw, 1.0) < 1.0


@dataclass(frozen=True)
class OwnRate(KolenPollack):
    """The planted fault: plain steps at the peak rate, without the schedule or the decay."""

    state_optimizer: Any = ("sgd", 0.1)


@pytest.mark.parametrize("name", ["schedule", "momentum"])
def test_steps_of_another_kind_break_the_law(name: str) -> None:
    task, _, noise = build("mlp-3x5", "kolen_pollack/end", SHAPE)
    before = separation(task, task.init_state(OwnRate(), noise))
    rule = recipe(name)
    assert off(task, trained(task, OwnRate(), rule), before, rule) > 1e-2


def test_from_the_weights_themselves_it_is_backprop_for_the_whole_run() -> None:
    rule = recipe("momentum")

    def copied(learner: Learner) -> None:
        own = dict(task.chain.named_parameters())
        for state in learner.state.values():
            for name, b in state.items():
                b.copy_(own[name].detach())

    task, kp, _ = build("mlp-3x5", "kolen_pollack/local", SHAPE)
    trained(task, kp, rule, copied)
    twin, bp, _ = build("mlp-3x5", "bp/local", SHAPE)
    trained(twin, bp, rule)
    found, truth = ({n: p.detach() for n, p in t.chain.named_parameters()} for t in (task, twin))
    assert worst(found, truth) < 1e-12


def test_given_its_feedback_it_is_feedback_alignment() -> None:
    task, kp, state = made("cnn-tiny[width=4]", "kolen_pollack/end")
    fa = registry.make("estimators", "fa").thing
    same = task.init_state(fa, Noise(0, dtype=torch.float64))
    x, y = batch(3, SHAPE)
    assert worst(grads_of(task, kp, x, y, state), grads_of(task, fa, x, y, same)) == 0.0


def test_it_goes_on_from_a_checkpoint_with_its_momentum() -> None:
    rule = recipe("nesterov")
    task, kp, _ = build("mlp-2x5", "kolen_pollack/overlap", SHAPE)
    learner = trained(task, kp, rule)
    saved = {n: t.detach().clone() for n, t in learner.tensors().items()}
    assert any(name.startswith("teacher") for name in saved)
    again, _, _ = build("mlp-2x5", "kolen_pollack/overlap", SHAPE)
    restored = Learner(again, kp, rule, Noise(0, dtype=torch.float64))
    restored.restore(saved)
    for one, at in ((learner, task), (restored, again)):
        one.pace(0.5)
        x, y = batch(4, SHAPE)
        one.follow(at.estimate(x, y, kp, Noise(0), one.state))
    for name, t in learner.tensors().items():
        assert torch.equal(t, restored.tensors()[name]), name


@dataclass(frozen=True)
class Misnamed(KolenPollack):
    """State with the names of no parameters, or of another shape."""

    rename: str = "weights"

    def init_state(self, scheme: Any, noise: Noise) -> Any:
        own = super().init_state(scheme, noise)
        if self.rename == "shape":
            return {o: {n: b[:1] for n, b in s.items()} for o, s in own.items()}
        return {o: {n.replace("weight", "wieght"): b for n, b in s.items()} for o, s in own.items()}


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ("weights", "did you mean 'body.0.l0.weight'"),
        ("shape", r"has shape \[1, 48\], its parameter \[5, 48\]"),
    ],
)
def test_state_that_fits_no_parameter_is_named(rename: str, words: str) -> None:
    task, _, _ = build("mlp-2x5", "kolen_pollack/end", SHAPE)
    with pytest.raises(UsageError, match=words):
        Learner(task, Misnamed(rename=rename), recipe("constant"), Noise(0, dtype=torch.float64))


def test_an_update_rule_that_would_move_the_weights_alone_is_refused() -> None:
    task, kp, _ = build("mlp-2x5", "kolen_pollack/end", SHAPE)
    with pytest.raises(UsageError, match="takes the steps of the weights"):
        Learner(task, kp, recipe("constant").but(update="sign"), Noise(0, dtype=torch.float64))


def test_stages_of_training_keep_the_law_for_the_modules_that_learn() -> None:
    """Greedy stages give feedback of one module after another its gradients."""
    task, kp, noise = build("mlp-3x5", "kolen_pollack/greedy_sequential", SHAPE)
    rule = recipe("momentum")
    before = separation(task, task.init_state(kp, noise))
    learner = Learner(task, kp, rule, Noise(0, dtype=torch.float64))
    for k in range(STEPS):
        learner.pace(rule.factor(k, STEPS))
        x, y = batch(4, SHAPE)
        now = task.at(Clock(step=k, steps=STEPS))
        learner.follow(now.estimate(x, y, kp, Noise(0), learner.state))
    found = separation(task, learner.state)
    assert all(bool(d.isfinite().all()) for d in found.values())
    for name, d in found.items():  # one number for all entries, whenever the module learned
        ratio = d / before[name]
        torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-9, atol=0)
