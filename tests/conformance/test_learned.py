"""State is taken through learned steps: what is wrong only there is found, what is right is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fgbench.conformance import estimator, learned
from fgbench.conformance.nets import TINY, Case
from fgbench.conformance.outcome import Fault, NotJudged, Outcome
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import make
from tests.makers.stateful import Learned, Plain


@dataclass(frozen=True)
class Grows(Defaults):
    """Activity perturbation with a gain that grows from 1 to 2 with its state."""

    growth: float = 1.0
    by: str = "new_state"
    bias: Any = "none"

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias=self.bias, backward="segment")

    def init_state(self, scheme: Any, noise: Any) -> Any:
        zero = torch.zeros(1, dtype=noise.dtype)
        return {o.name: {"n": zero.clone()} for o in scheme.objectives if o.updates}

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites)
        n = state["n"]
        gain = 1 + self.growth * n / (1 + n)
        credit = {k: gain * c for k, c in view.credit(view.slopes(u), u).items()}
        if self.by == "gradients":
            return Estimate(credit=credit, state_grads={"n": -torch.ones_like(n)})
        return Estimate(credit=credit, new_state={"n": n + 1})


def case(made: Any, locality: str = "end") -> Case:
    return Case.build(TINY, locality, made)


def judged_again(made: Any) -> list[Outcome]:
    return list(estimator.bias_learned(made, [case(made)]))


@pytest.mark.parametrize("by", ["new_state", "gradients"])
def test_a_gain_that_grows_with_the_state_is_found(by: str) -> None:
    made = Grows(by=by)
    (first, *_) = estimator.bias(made, [case(made)])
    assert first.held  # in its first state it is right
    (found,) = judged_again(made)
    assert found.check == "unbiased on mlp-2x4/end after 13 learned steps"
    assert not found.held
    assert "it is 1.929 times the gradient everywhere" in found.detail  # 1 + 13/14


@dataclass(frozen=True)
class Renewed(Defaults):
    """A forward gradient that is right at every `period`-th age of its state, and doubled at the others."""

    period: int = 2

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="segment")

    def init_state(self, scheme: Any, noise: Any) -> Any:
        zero = torch.zeros(1, dtype=noise.dtype)
        return {o.name: {"age": zero} for o in scheme.objectives if o.updates}

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites)
        factor = 2.0 if float(state["age"]) % self.period else 1.0
        credit = {name: factor * c for name, c in view.credit(view.slopes(u), u).items()}
        return Estimate(credit=credit, new_state={"age": state["age"] + 1})


@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 8])
def test_a_fault_between_renewals_of_the_state_is_found(period: int) -> None:
    made = Renewed(period)
    (first, *_) = estimator.bias(made, [case(made)])
    assert first.held
    (found,) = judged_again(made)
    assert "it is 2 times the gradient everywhere" in found.detail


@pytest.mark.parametrize("by", ["new_state", "gradients"])
def test_a_state_that_biases_nothing_passes(by: str) -> None:
    made = Grows(growth=0.0, by=by)
    assert "n moves over 13 learned steps" in learned.state(case(made))
    assert [o.held for o in judged_again(made)] == [True]
    assert judged_again(Grows(bias="some")) == []


@pytest.mark.parametrize("kind", [Learned, Plain])
def test_state_of_both_kinds_learns_and_is_restored(kind: Any) -> None:
    for locality in ("end", "local"):  # where objectives share a tensor
        assert "mean, scale moves over" in learned.state(case(kind(), locality))


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_fixed_state_stays_as_it_is(name: str) -> None:
    assert "it stays as it is" in learned.state(case(make("estimators", name).thing))


def test_no_state_is_not_judged() -> None:
    with pytest.raises(NotJudged, match="it keeps none"):
        learned.state(case(make("estimators", "fg_a").thing))


def test_a_memory_outside_its_state_is_found() -> None:
    memory = {"calls": 0}

    class Remembers(Grows):
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            memory["calls"] += 1
            return Estimate(
                credit=super().__call__(view, noise, state).credit,
                new_state={"n": state["n"] + memory["calls"]},
            )

    with pytest.raises(
        Fault, match="arrives at another n of end: something it learns is not in its"
    ):
        learned.state(case(Remembers(growth=0.0)))


def test_state_that_diverges_is_named() -> None:
    class Bursts(Grows):
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            found = super().__call__(view, noise, state)
            return Estimate(credit=found.credit, new_state={"n": (state["n"] + 1) * 1e30})

    with pytest.raises(Fault, match="state 'n' of end is not finite after 13 learned steps"):
        learned.state(case(Bursts(growth=0.0)))


def test_the_case_itself_is_left_as_it_was() -> None:
    own = case(Grows())
    before = {n: p.detach().clone() for n, p in own.task.chain.named_parameters()}
    after = learned.learned(own)
    assert all(torch.equal(p, before[n]) for n, p in own.task.chain.named_parameters())
    assert all(p.grad is None for p in after.task.chain.parameters())
    assert own.state["end"]["n"].item() == 0.0
    assert after.state["end"]["n"].item() == 13.0
