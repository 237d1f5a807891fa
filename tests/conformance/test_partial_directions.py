"""Estimators that perturb a part of the places at a time are judged by their own mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fgbench.conformance import sampled
from fgbench.conformance.nets import TINY, Case
from fgbench.conformance.outcome import Fault
from fgbench.core.estimator import Claims, Defaults, Estimate

FEW = ((256, 1e-5),)  # draws, and the level: a false alarm once in 100,000 seeds


@dataclass(frozen=True)
class OneSite(Defaults):
    """Noise at one random site of n, credit n times as large: unbiased."""

    factor: float = 1.0

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="segment")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        names = list(view.sites)
        name = names[int(noise.permutation("site", len(names))[0])]
        u = noise.directions({name: view.sites[name]})
        (credit,) = view.credit(view.slopes(u), u).values()
        zero = {other: credit.new_zeros(shape) for other, shape in view.sites.items()}
        return Estimate(credit={**zero, name: self.factor * len(names) * credit})


def test_a_part_of_the_gradient_does_not_stand_beside_an_estimate() -> None:
    assert sampled.sample(Case.build(TINY, "end", OneSite()), 4, 0).coupled == []


@pytest.mark.slow
def test_a_random_site_at_a_time_is_unbiased() -> None:
    assert sampled.unbiased(Case.build(TINY, "end", OneSite()), FEW).startswith("256 draws")


@pytest.mark.slow
def test_a_planted_scale_is_found() -> None:
    with pytest.raises(Fault, match="the mean of 256 draws is not the gradient"):
        sampled.unbiased(Case.build(TINY, "end", OneSite(factor=4.0)), FEW)
