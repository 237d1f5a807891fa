"""Estimates that are no polynomial of degree two in their directions are told, whatever lines are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fgbench import registry
from fgbench.conformance.nets import FEW, TINY, Case
from fgbench.conformance.unbiased import Drawn
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise

SEEDS = 8


@dataclass(frozen=True)
class Bent(Defaults):
    """A function of the slope along weights, times direction."""

    bend: Callable[[Any], Any]

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="none")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        slope = view.slopes(v).sum()
        return Estimate(grads={n: self.bend(slope) * v.rows(n, 0, 1)[0] for n in v.names})


def told(case: Case) -> list[bool]:
    """Whether an estimate passes for one of degree two, under each of some seeds of the lines."""
    cases = [replace(case, noise=Noise(seed, dtype=case.noise.dtype)) for seed in range(SEEDS)]
    return [Drawn.by(one).degree_two() for one in cases]


BENDS: dict[str, Callable[[Any], Any]] = {
    "sign": lambda s: s.sign(),
    "size": lambda s: s.abs(),
    "positive part": lambda s: s.relu(),
    "clip": lambda s: s.clamp(-0.01, 0.01),
}


@pytest.mark.parametrize("name", BENDS)
def test_a_bent_slope_is_told(name: str) -> None:
    """With points on one side of the bend alone, as before, a sign passed in every third case."""
    assert not any(told(Case.build(FEW, "end", Bent(BENDS[name]))))


def test_a_vote_is_told() -> None:
    made = registry.make("estimators", "feedsign[step=1e-6]").thing
    assert not any(told(Case.build(TINY, "end", made)))


@pytest.mark.slow
def test_degree_two_is_what_it_is() -> None:
    assert all(told(Case.build(FEW, "end", Bent(lambda s: s))))
    assert all(told(Case.build(TINY, "local", registry.make("estimators", "fg_a").thing)))
