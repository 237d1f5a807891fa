"""Reused random numbers: tiles, rank, the exact mean over offsets, the norm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.view import View
from fgbench.estimators.pezo import ReusedNumbers


@dataclass(frozen=True)
class Offset(Noise):
    """Noise whose random orders begin with a given number."""

    first: int = 0

    def permutation(self, name: str, n: int) -> torch.Tensor:
        return torch.arange(n).roll(-self.first)


NOISE = Offset(0, dtype=torch.float64)
SHAPE = (1, 2, 2)


@pytest.fixture(scope="module")
def view() -> View:
    """One objective on ``mlp-1x3[activation=tanh]``, in float64: 15 weights."""
    with NOISE.seeded():
        sizes = {"shape": SHAPE, "classes": 3}
        chain = registry.make("architectures", "mlp-1x3[activation=tanh]", offered=sizes).thing
    chain.double()
    with torch.no_grad():
        for k, parameter in enumerate(chain.parameters()):
            parameter.copy_(NOISE.normal(f"p{k}", tuple(parameter.shape)) / 2)
    end = Objective("end", (0, 1), "final", updates=(0,))
    return View(chain, end, NOISE.normal("x", (4, *SHAPE)), torch.arange(4) % 3, CostCounter())


def state(estimator: ReusedNumbers, view: View) -> dict[str, torch.Tensor]:
    scheme = Scheme(view.chain, registry.make("localities", "end").thing)
    return estimator.init_state(scheme, NOISE.child("state")).get("end", {})


def row(view: View, grads: Any) -> torch.Tensor:
    return torch.cat([grads[name].flatten() for name in view.shapes])


def directions(estimator: ReusedNumbers, view: View, noise: Noise, **more: Any) -> torch.Tensor:
    """Return the directions of an estimate as rows: ``[n, d]``."""
    u = replace(estimator, **more).tiled(view, noise, state(estimator, view))
    return torch.cat([u.rows(name, 0, u.n).flatten(1) for name in view.shapes], 1)


def test_a_direction_is_the_pool_again_and_again(view: View) -> None:
    estimator = ReusedNumbers(size=7)
    w = state(estimator, view)["pool"]
    (found,) = directions(estimator, view, replace(NOISE, first=3))
    assert found.tolist() == [w[(3 + j) % 7].item() for j in range(15)]
    long = ReusedNumbers(size=31)
    (found,) = directions(long, view, replace(NOISE, first=0))
    assert torch.equal(found, state(long, view)["pool"][:15])  # P > d: nothing is used twice


def test_many_directions_span_no_more_than_the_pool(view: View) -> None:
    """Keyed offsets: 4 P directions have rank P."""
    found = directions(ReusedNumbers(size=7), view, Noise(0, dtype=torch.float64), directions=28)
    assert torch.linalg.matrix_rank(found) == 7
    fresh = ReusedNumbers(size=7, pool="fresh", directions=28)
    assert torch.linalg.matrix_rank(directions(fresh, view, Noise(0, dtype=torch.float64))) == 7
    more = ReusedNumbers(size=31, directions=28)
    assert torch.linalg.matrix_rank(directions(more, view, Noise(0, dtype=torch.float64))) == 15


@pytest.mark.parametrize("law", ["uniform", "rademacher", "gaussian"])
@pytest.mark.parametrize("size", [1, 5, 7, 31])
def test_the_mean_over_all_offsets_is_the_documented_one(size: int, law: Any, view: View) -> None:
    """To 1e-10: two steps cancel the error of central differences to fourth order."""
    coarse = ReusedNumbers(size=size, law=law, step=1e-3)
    fine = replace(coarse, step=5e-4)
    own = state(coarse, view)
    total = torch.zeros(15, dtype=torch.float64)
    for offset in range(size):
        noise = replace(NOISE, first=offset)
        one, two = (row(view, e(view, noise, own).grads) for e in (coarse, fine))
        total += (4 * two - one) / 3
    documented = fine.expected(view, own)
    assert documented is not None
    torch.testing.assert_close(total / size, row(view, documented), rtol=0, atol=1e-10)
    assert not torch.allclose(
        row(view, documented), row(view, view.reverse()), rtol=0.01
    )  # planted


def test_a_fresh_pool_gives_every_weight_the_sum_of_its_class(view: View) -> None:
    """The mean over √P times the unit vectors as pools is the expectation, for a quadratic form."""
    estimator = ReusedNumbers(size=5, pool="fresh")
    g = row(view, view.reverse())
    classes = [g[k::5].sum() for k in range(5)]
    documented = estimator.expected(view, {})
    assert documented is not None
    wanted = torch.stack([classes[j % 5] for j in range(15)])
    torch.testing.assert_close(row(view, documented), wanted, rtol=1e-12, atol=0)
    pools = 5**0.5 * torch.eye(5, dtype=torch.float64)
    tiles = pools.repeat(1, 3)
    torch.testing.assert_close(
        ((tiles @ g)[:, None] * tiles).mean(0), wanted, rtol=1e-12, atol=1e-15
    )


def test_rescaled_directions_have_the_norm_of_all_weights(view: View) -> None:
    estimator = ReusedNumbers(size=7, rescale=True)
    (found,) = directions(estimator, view, NOISE)
    assert found.square().sum().item() == pytest.approx(15, rel=1e-14)
    assert estimator.expected(view, state(estimator, view)) is None


def test_an_estimate_costs_two_passes_a_direction(view: View) -> None:
    estimator, fresh = ReusedNumbers(size=7, directions=3), view.with_()
    fresh.losses()
    before = fresh.ledger.forwards
    estimator(fresh, NOISE, state(estimator, view))
    assert fresh.ledger.forwards - before == pytest.approx(6 * fresh.share)


def test_the_pool_fills_all_weights_of_the_window(view: View) -> None:
    assert sum(prod(shape) for shape in view.shapes.values()) == 15
