"""Half-order estimates: the exact mean for every place of the ends, in chains and with skips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.directions import Directions, FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.view import View
from fgbench.estimators.rlr import HalfOrder

WIDTH, BATCH = 3, 2


class Skipping(LocalModule):
    """Add tanh(W x + b) to x."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self) -> None:
        super().__init__()
        self.l0 = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        return x + tap("out", "l0", torch.tanh(tap("site", "l0", tap("op", "l0", self.l0(x)))))


@dataclass(frozen=True)
class Designed(Noise):
    """Noise whose directions are √n times an orthonormal basis, and whose orders begin with ``first``."""

    first: int = 0

    def permutation(self, name: str, n: int) -> Tensor:
        return torch.arange(n).roll(-self.first)

    def directions(
        self, places: Mapping[str, tuple[int, ...]], n: int = 1, law: str = "gaussian"
    ) -> Directions:
        """Return a direction for each example's copy of each unit: all examples share the basis."""
        sizes = {name: shape[1] for name, shape in places.items()}
        total, start, found = sum(sizes.values()), 0, {}
        eye = total**0.5 * torch.eye(total, dtype=self.dtype)
        for name, size in sizes.items():
            own = eye[:, start : start + size]
            found[name] = own[:, None].expand(total, BATCH, size).clone()
            start += size
        return FixedDirections(found)


NOISE = Designed(0, dtype=torch.float64)


def build(skips: bool) -> View:
    """Build one objective on four layers of three tanh units."""
    if skips:
        with NOISE.seeded():
            readouts = {"final": LinearReadout("b c", WIDTH, 3)}
            chain = Chain([Skipping() for _ in range(4)], readouts, (WIDTH,), 3)
    else:
        sizes = {"shape": (WIDTH,), "classes": 3}
        with NOISE.seeded():
            made = registry.make("architectures", "mlp-4x3[activation=tanh]", offered=sizes)
        chain = made.thing
    chain.double()
    with torch.no_grad():
        for k, parameter in enumerate(chain.parameters()):
            parameter.copy_(NOISE.normal(f"p{k}", tuple(parameter.shape)))
    end = Objective("end", (0, 4), "final", updates=(0, 1, 2, 3))
    return View(chain, end, NOISE.normal("x", (BATCH, WIDTH)), torch.arange(BATCH), CostCounter())


def limit(view: View, estimator: HalfOrder, noise: Noise) -> dict[str, Tensor]:
    """Return the gradients for step → 0: forward differences at two pairs of steps, extrapolated twice."""
    grads = []
    for step in (4e-4, 2e-4, 1e-4):
        credit = replace(estimator, step=step)(view.with_(), noise, {}).credit
        assert credit is not None
        grads.append(view.with_().pull(credit))
    a, b, c = grads
    first = [{n: 2 * fine[n] - coarse[n] for n in a} for coarse, fine in ((a, b), (b, c))]
    return {n: (4 * first[1][n] - first[0][n]) / 3 for n in a}


@pytest.mark.parametrize("skips", [False, True], ids=["chain", "skips"])
@pytest.mark.parametrize(
    ("length", "first"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (4, 3), (7, 1)]
)
def test_the_mean_is_the_gradient_for_every_place_of_the_ends(
    length: int, first: int, skips: bool
) -> None:
    """Over an orthonormal design."""
    view = build(skips)
    found = limit(view, HalfOrder(length=length), replace(NOISE, first=first))
    for name, grad in view.reverse().items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-7, msg=name)


def test_ways_past_the_ends_are_needed() -> None:
    """Planted: without what the predictions pull back, skips past the last end are lost."""
    view, noise = build(skips=True), replace(NOISE, first=2)
    estimator = HalfOrder(length=4, step=1e-5)
    credit = estimator(view, noise, {}).credit
    assert credit is not None
    (end,) = estimator.ends(view, noise)
    alone = {}
    front: dict[Any, Tensor] = {("site", end): credit[end]}
    while front:
        front = view.pull(front, to="taps")
        for (kind, name), c in front.items():
            if kind == "site":
                alone[name] = alone.get(name, 0) + c
    lost = view.pull({**alone, end: credit[end]})
    truth = view.reverse()["body.0.l0.weight"]
    assert (lost["body.0.l0.weight"] - truth).norm() > 0.1 * truth.norm()


def test_segments_of_one_site_are_node_perturbation() -> None:
    view, noise = build(skips=False), Noise(3, dtype=torch.float64)
    other = registry.make("estimators", "np[directions=2,step=0.01]").thing
    mine = HalfOrder(length=1, directions=2, step=0.01)
    wanted, found = (e(view.with_(), noise, {}).credit for e in (other, mine))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_ends_are_every_third_site_from_a_random_one() -> None:
    view = build(skips=False)
    names = list(view.sites)
    found = [HalfOrder(length=3).ends(view, replace(NOISE, first=k)) for k in range(3)]
    assert found == [[names[0], names[3]], [names[1]], [names[2]]]
