"""``feedsign``: one direction times one bit, by majority."""

from __future__ import annotations

from math import pi
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.errors import UsageError
from tests.makers.networks import batch, build
from tests.makers.signs import signs


def estimate(options: str = "", loss: Any = None, b: int = 5, draw: int = 0) -> tuple[Any, Any]:
    """The estimate by name, and the directions it is along."""
    task, estimator, noise = build("mlp-2x5", f"feedsign[{options}]/end")
    if loss is not None:
        task.chain.criterion = loss(task.chain.criterion)
    x, y = batch(b)
    noise = noise.redrawn(draw)
    found = dict(task.estimate(x, y, estimator, noise).body)
    v = noise.directions({n: tuple(g.shape) for n, g in found.items()}, 1)
    return found, v.chunk(0, 1)


def bit(found: dict[str, Tensor], v: dict[str, Tensor]) -> float:
    """The number by which a direction was multiplied."""
    bits = {float(b) for n, g in found.items() for b in (g / v[n][0]).flatten().round(decimals=9)}
    assert len(bits) == 1
    return bits.pop()


def test_it_is_the_direction_times_the_sign_of_its_slope() -> None:
    seen = set()
    for draw in range(8):
        found, v = estimate(draw=draw)
        task, _, _ = build("mlp-2x5", "bp/end")
        truth = task.scheme_truth(*batch(5))
        slope = sum(float((v[n][0] * g).sum()) for n, g in truth.items())
        assert bit(found, v) == (1.0 if slope > 0 else -1.0)
        assert all(torch.equal(g.abs(), v[n][0].abs()) for n, g in found.items())
        seen.add(bit(found, v))
    assert seen == {1.0, -1.0}


def test_no_positive_factor_of_the_loss_changes_a_bit_and_a_negative_one_turns_all() -> None:
    plain, _ = estimate()
    for scale in (1e-4, 1.0, 1e4):
        same, _ = estimate(loss=lambda own: lambda p, y: scale * own(p, y))  # noqa: B023
        assert all(torch.equal(g, plain[n]) for n, g in same.items())
    turned, _ = estimate(loss=lambda own: lambda p, y: -own(p, y))
    assert all(torch.equal(g, -plain[n]) for n, g in turned.items())
    flat, _ = estimate(loss=lambda own: lambda p, y: 0 * own(p, y))
    assert all(not bool(g.any()) for g in flat.values())


@pytest.mark.parametrize(
    ("clients", "byzantine", "sign"),
    [(1, 0, 1), (5, 0, 1), (5, 1, 1), (5, 2, 1), (5, 3, -1), (4, 2, 0)],
)
def test_clients_with_one_minibatch_vote_alike_and_a_majority_decides(
    clients: int, byzantine: int, sign: int
) -> None:
    estimator = registry.make(
        "estimators", f"feedsign[clients={clients},byzantine={byzantine}]"
    ).thing
    change = torch.full((20,), 0.1, dtype=torch.float64)
    assert float(estimator.majority(change)) == sign
    assert float(estimator.majority(-change)) == -sign


def test_every_client_has_one_vote_whatever_its_slope() -> None:
    estimator = registry.make("estimators", "feedsign[clients=3]").thing
    change = torch.tensor([100.0, 100.0, -0.1, -0.1, -0.1, -0.1])
    assert float(estimator.majority(change)) == -1.0
    assert float(change.sum()) > 0


def test_over_all_signs_it_is_the_mean_of_signed_directions() -> None:
    task, estimator, _ = build(
        "mlp-1x2[activation=tanh]", "feedsign[law=rademacher,step=1e-4]/end", (1, 1, 2), 3
    )
    x, y = batch(3, (1, 1, 2), 3)
    truth = task.scheme_truth(x, y)
    v = signs({n: tuple(g.shape) for n, g in truth.items()})
    slopes = sum((v[n] * g).flatten(1).sum(1) for n, g in truth.items())
    found = task.estimate(x, y, estimator, DesignedNoise(0, dtype=torch.float64, given=v)).body
    for name, rows in v.items():
        want = torch.einsum("n,n...->...", slopes.sign(), rows) / len(rows)
        torch.testing.assert_close(found[name], want, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_with_gaussian_noise_its_mean_is_a_normalised_gradient() -> None:
    """E f v = √(2/π) g/|g|: of n = 1,200 draws each entry has a standard error below 1/√n = .029.

    At 4.5 of them a sound estimate of 6 entries fails once in 25,000 runs; the planted one of twice the mean
    is 10 away.
    """
    task, estimator, _ = build("mlp-1x2[activation=tanh]", "feedsign[step=1e-4]/end", (1, 1, 2), 3)
    x, y = batch(3, (1, 1, 2), 3)
    want = task.expected(x, y, estimator, {})
    norm = torch.cat([g.flatten() for g in want.values()]).norm()
    assert float(norm) == pytest.approx((2 / pi) ** 0.5, rel=1e-12)
    noise, n = Noise(8, dtype=torch.float64), 1200
    total = {name: torch.zeros_like(g) for name, g in want.items()}
    for draw in range(n):
        for name, g in task.estimate(x, y, estimator, noise.redrawn(draw)).body.items():
            total[name] += g
    off = {name: float((t / n - want[name]).abs().max()) for name, t in total.items()}
    assert max(off.values()) < 4.5 / n**0.5
    assert (
        max(float((t / n - 2 * want[name]).abs().max()) for name, t in total.items()) > 10 / n**0.5
    )


def test_more_byzantine_clients_than_clients_are_refused() -> None:
    with pytest.raises(UsageError, match="byzantine=3 of clients=2"):
        registry.make("estimators", "feedsign[clients=2,byzantine=3]")


def test_clients_do_not_share_losses() -> None:
    task, estimator, _ = build("mlp-2x5", "feedsign[clients=2]/contrastive[stop_keys=false]")
    assert "compare examples with each other" in estimator.supports(task.scheme)


def test_only_one_client_under_gaussian_noise_documents_its_mean() -> None:
    for options in ("clients=3", "clients=1,byzantine=1", "law=rademacher"):
        task, estimator, _ = build("mlp-1x2", f"feedsign[{options}]/end", (1, 1, 2), 3)
        assert task.expected(*batch(3, (1, 1, 2), 3), estimator, {}) is None
