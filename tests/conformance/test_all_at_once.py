"""A basis of directions in one estimate: the same mean as one estimate for each, and no fault is hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.conformance.nets import FEW, TINY, Case
from fgbench.conformance.outcome import Fault
from fgbench.conformance.unbiased import Drawn, NoDesign, jointly, unbiased
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections

FRESH = "all at once"


@dataclass(frozen=True)
class Correlated(Defaults):
    """Slope times v = 0.6 ξ + 0.8 ζ, two draws that meet in products, averaged over directions."""

    directions: int = 1
    factor: float = 1.0
    total: bool = False

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="none")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        n = self.directions
        parts = [noise.child(name).directions(view.shapes, n) for name in ("xi", "zeta")]
        v = {p: 0.6 * parts[0].rows(p, 0, n) + 0.8 * parts[1].rows(p, 0, n) for p in view.shapes}
        slopes = view.slopes(FixedDirections(v)).flatten(1).sum(1)
        count = 1 if self.total else n
        grads = {p: self.factor * torch.tensordot(slopes, t, 1) / count for p, t in v.items()}
        return Estimate(grads=grads)


@pytest.mark.parametrize("text", ["guided_es[step=0]", "guided_es[step=0.1,guides=2]"])
def test_one_estimate_is_the_mean_of_many(text: str) -> None:
    case = Case.build(FEW, "end", registry.make("estimators", text).thing)
    drawn = Drawn.by(case)
    torch.testing.assert_close(
        jointly(case, drawn), drawn.mean(next(drawn.bases())), rtol=1e-10, atol=1e-12
    )


@pytest.mark.slow
def test_it_judges_as_one_by_one() -> None:
    case = Case.build(FEW, "end", Correlated())
    assert FRESH in unbiased(case)
    assert FRESH not in unbiased(case, as_it_is=True)
    assert FRESH not in unbiased(Case.build(TINY, "end", Correlated()))
    with pytest.raises(Fault, match=r"scale 1\.0200 on"):
        unbiased(case.of(Correlated(factor=1.02)))


def test_what_is_no_mean_over_its_directions_is_judged_one_by_one() -> None:
    case = Case.build(FEW, "end", Correlated(total=True))
    found = unbiased(case)
    assert "equals the gradient" in found
    assert FRESH not in found


def test_where_it_does_not_apply_it_says_so() -> None:
    case = Case.build(FEW, "end", Correlated())
    drawn = Drawn.by(case)
    for other in (replace(case.estimator, directions=2), registry.make("estimators", "bp").thing):
        with pytest.raises(NoDesign):
            jointly(case.of(other), drawn)
