"""``fzoo``: differences along signs over the spread of the losses."""

from __future__ import annotations

from math import exp, lgamma
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core.noise.keyed import DesignedNoise, Noise
from tests.makers.networks import batch, build, worst

STEP = 0.01


def hadamard(n: int) -> Tensor:
    """n orthogonal vectors of n signs, n a power of two."""
    rows = torch.ones(1, 1, dtype=torch.float64)
    while len(rows) < n:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    return rows


def linear(options: str = "", loss: Any = None, inputs: int = 8) -> Any:
    """A linear network of one output, whose loss is a function of the prediction."""
    method = f"fzoo[step={STEP}{',' * bool(options)}{options}]/end"
    task, estimator, noise = build("linear", method, (inputs,), 1)
    task.chain.criterion = loss or (lambda prediction, y: prediction.sum(1))
    return task, estimator, noise


def designed(rows: Tensor) -> DesignedNoise:
    given = {"body.0.l0.weight": rows.unsqueeze(1)}
    return DesignedNoise(0, dtype=torch.float64, given=given)


def test_it_is_its_formula_from_losses_at_moved_parameters() -> None:
    for baseline in ("clean", "mean"):
        task, estimator, noise = build(
            "mlp-2x5", f"fzoo[directions=5,step=0.01,baseline={baseline}]/end"
        )
        x, y = batch()
        found = task.estimate(x, y, estimator, noise).body
        view = next(iter(task.views(x, y, task.chain.counter())))
        u = noise.directions(view.shapes, 5, "rademacher")
        own = {n: p.detach() for n, p in view.params.items()}
        moved = torch.stack(
            [
                view.with_(
                    params={n: own[n] + 0.01 * u.rows(n, i, i + 1)[0] for n in own}
                ).losses().mean()
                for i in range(5)
            ]
        )  # fmt: skip
        base = view.losses().mean() if baseline == "clean" else moved.mean()
        c = (moved - base) / moved.std() / 5
        want = {n: torch.einsum("n,n...->...", c, u.rows(n, 0, 5)) for n in own}
        assert worst(dict(found), want) < 1e-9


def test_of_a_linear_loss_and_orthogonal_signs_it_is_the_normalised_gradient() -> None:
    """(1/n) Σ (g·u_i) u_i = g for n = d orthogonal signs, and Σ (g·u_i)² = d |g|²."""
    task, estimator, _ = linear()
    x, _ = batch(3, (8,), 1)
    y = torch.zeros(3, dtype=torch.long)
    g = task.scheme_truth(x, y)["body.0.l0.weight"]
    rows = hadamard(8)
    found = task.estimate(x, y, estimator, designed(rows)).body["body.0.l0.weight"]
    slopes = rows @ g[0]
    spread = slopes.std()
    torch.testing.assert_close(found, g / spread, rtol=1e-9, atol=1e-11)
    assert float(slopes.square().sum()) == pytest.approx(8 * float(g.square().sum()), rel=1e-12)


def estimate_of(loss: Any, options: str = "", rows: Tensor | None = None) -> Tensor:
    task, estimator, noise = linear(options, loss)
    x, _ = batch(3, (8,), 1)
    y = torch.zeros(3, dtype=torch.long)
    noise = noise if rows is None else designed(rows)
    found: Tensor = task.estimate(x, y, estimator, noise).body["body.0.l0.weight"]
    return found


def curved(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction.square() + prediction).sum(1)


def test_neither_scale_nor_offset_of_the_loss_matters() -> None:
    plain = estimate_of(curved)
    for scale, offset in ((1e-3, 0.0), (50.0, 0.0), (1.0, 7.0)):
        other = estimate_of(lambda p, y: scale * curved(p, y) + offset)  # noqa: B023
        torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-9)
    flat = estimate_of(lambda p, y: 0 * p.sum(1) + 3.0)
    assert float(flat.abs().max()) == 0.0  # and not NaN


def test_curvature_shifts_the_clean_baseline_and_not_the_mean() -> None:
    """On a quadratic tr(H) is in every L_i: the two differ by (mean L − L_0)/s times the mean direction."""
    rows = hadamard(8)[:5]  # the first is all ones: the mean is no zero
    clean, mean = (
        estimate_of(curved, f"directions=5,baseline={b}", rows) for b in ("clean", "mean")
    )
    shift = clean - mean
    along = rows.mean(0, keepdim=True)
    factor = float((shift * along).sum() / (along * along).sum())
    torch.testing.assert_close(shift, factor * along, rtol=1e-8, atol=1e-10)
    x, _ = batch(3, (8,), 1)
    hessian = 2 * x.T @ x / 3  # of the mean over the batch of (w·x)² + w·x
    task, _, _ = linear("", curved)
    g = task.scheme_truth(x, torch.zeros(3, dtype=torch.long))["body.0.l0.weight"][0]
    changes = STEP * rows @ g + STEP**2 / 2 * ((rows @ hessian) * rows).sum(1)
    assert factor == pytest.approx(float(changes.mean() / changes.std()), rel=1e-8)


@pytest.mark.slow
def test_its_mean_length_is_k_n() -> None:
    """E[e]·g/|g| = k_n for many weights: .985 at n = 8, .988 at n = 16, 1.036 at n = 4.

    Of m = 400 draws at d = 400 the projection has a standard deviation of about √(1/n) = .35 at n = 8, the
    mean one of .018: at 4 of them a sound form fails once in 16,000 runs. A division by s/√n is planted.
    """
    k = {}
    for n in (4, 8, 16):
        c4 = (2 / (n - 1)) ** 0.5 * exp(lgamma(n / 2) - lgamma((n - 1) / 2))
        own = ((n - 1) / 2) ** 0.5 * exp(lgamma((n - 2) / 2) - lgamma((n - 1) / 2)) / n
        k[n] = (n - 1) / n * c4 + own
    assert k == pytest.approx({4: 1.036, 8: 0.985, 16: 0.988}, abs=6e-4)
    task, estimator, _ = linear("directions=8", inputs=400)
    x, _ = batch(2, (400,), 1)
    y = torch.zeros(2, dtype=torch.long)
    g = task.scheme_truth(x, y)["body.0.l0.weight"]
    unit, noise, total = g / g.norm(), Noise(4, dtype=torch.float64), 0.0
    for draw in range(400):
        e = task.estimate(x, y, estimator, noise.redrawn(draw)).body["body.0.l0.weight"]
        total += float((e * unit).sum())
    assert abs(total / 400 - k[8]) < 4 * 0.35 / 400**0.5
    assert abs(8**0.5 * total / 400 - k[8]) > 1


def test_it_costs_a_pass_per_direction_and_the_clean_one() -> None:
    task, estimator, noise = build("mlp-2x6", "fzoo[directions=4]/end")
    x, y = batch()
    ledger = task.estimate(x, y, estimator, noise).ledger
    assert (ledger.forwards, ledger.slopes, ledger.backwards) == (5.0, 0.0, 0.0)
