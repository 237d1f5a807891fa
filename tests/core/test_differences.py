"""Differences of values: which powers of the step they remove, on functions whose derivatives are known."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from fgbench.core import differences
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from tests.makers.function_view import FunctionView

A = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
W = torch.tensor([1.0, 0.3, -0.7], dtype=torch.float64)
V = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
NODES, WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(7))
"""Of r on [−1, 1]: exact for polynomials of degree 13."""


def power(p: int) -> FunctionView:
    """Σ a_i w_i^p."""
    return FunctionView(lambda w: (A * w["w"] ** p).sum(), {"w": W})


def fixed(rows: Tensor) -> FixedDirections:
    return FixedDirections({"w": rows})


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6])
def test_a_central_difference_leaves_even_powers_of_the_step(p: int) -> None:
    """(f(w + εv) − f(w − εv))/2ε − f'v = ε² f''' v³/6 + ε⁴ f⁽⁵⁾ v⁵/120, summed over coordinates."""
    view, step = power(p), 0.3
    exact = view.slopes(fixed(V))
    third = p * (p - 1) * (p - 2) * A * W ** max(p - 3, 0) * V**3 / 6
    fifth = p * (p - 1) * (p - 2) * (p - 3) * (p - 4) * A * W ** max(p - 5, 0) * V**5 / 120
    error = step**2 * third.sum() + step**4 * fifth.sum()
    found = differences.central(view, fixed(V), step)
    torch.testing.assert_close(found, exact + error, rtol=0, atol=1e-12)
    extrapolated = differences.extrapolated(view, fixed(V), step)
    expected = exact - step**4 / 4 * fifth.sum()
    torch.testing.assert_close(extrapolated, expected, rtol=0, atol=1e-12)


def test_step_zero_is_the_exact_slope() -> None:
    view = power(3)
    for found in (*differences.both(view, fixed(V), 0), differences.central(view, fixed(V), 0)):
        assert torch.equal(found, view.slopes(fixed(V)))


@pytest.mark.parametrize("order", [1, 3, 5])
def test_moments_of_the_kernels(order: int) -> None:
    """E[r K] = 1, E[r³ K] = 0 from order 3 on, E[r⁵ K] = 0 from 5 on; E[(r K)²] is the price."""
    k, half = differences.KERNELS[order](NODES), WEIGHTS / 2
    moments = [float((half * NODES**p * k).sum()) for p in (1, 3, 5)]
    expected = {1: (1, 3 / 5, 3 / 7), 3: (1, 0, -5 / 21), 5: (1, 0, 0)}[order]
    assert moments == pytest.approx(expected, abs=1e-14)
    price = float((half * (NODES * k) ** 2).sum())
    assert price == pytest.approx({1: 9 / 5, 3: 25 / 4, 5: 53 / 4}[order], abs=0.01)
    misquoted = 195 / 64 / (105 / 64)  # as the constant of K₅ is quoted elsewhere
    assert abs(misquoted * moments[0] - 1) > 0.8


@pytest.mark.parametrize(("p", "order"), [(3, 1), (3, 3), (5, 3), (5, 5), (4, 3)])
def test_the_mean_over_lengths_leaves_the_moments_of_its_kernel(p: int, order: int) -> None:
    view, step = power(p), 0.3
    u = fixed(V.expand(len(NODES), -1))
    slopes = differences.weighted(view, u, step, NODES, order)[:, 0]
    mean = float((WEIGHTS / 2 * slopes).sum())
    k, half = differences.KERNELS[order](NODES), WEIGHTS / 2
    third = p * (p - 1) * (p - 2) * A * W ** max(p - 3, 0) * V[0] ** 3 / 6
    fifth = p * (p - 1) * (p - 2) * (p - 3) * (p - 4) * A * W ** max(p - 5, 0) * V[0] ** 5 / 120
    error = step**2 * float((half * NODES**3 * k).sum()) * float(third.sum())
    error += step**4 * float((half * NODES**5 * k).sum()) * float(fifth.sum())
    assert mean == pytest.approx(float(view.slopes(fixed(V))) + error, abs=1e-12)


def test_a_kernel_of_order_one_at_length_one_is_three_central_differences() -> None:
    view = power(3)
    found = differences.weighted(view, fixed(V), 0.3, torch.ones(1, dtype=V.dtype), 1)
    assert torch.equal(found / 3, differences.central(view, fixed(V), 0.3))


def test_both_forms_of_leave_one_out_are_one() -> None:
    slopes = Noise(0, dtype=torch.float64).normal("s", (6, 2, 3))
    others = [slopes[k] - slopes[[j for j in range(6) if j != k]].mean(0) for k in range(6)]
    found = differences.leave_one_out(slopes)
    torch.testing.assert_close(found, torch.stack(others), rtol=0, atol=1e-14)
    moved = differences.leave_one_out(slopes + 7.0)  # another clean loss
    torch.testing.assert_close(moved, found, rtol=0, atol=1e-13)
    with pytest.raises(UsageError, match="baseline=mean needs two directions at least"):
        differences.leave_one_out(slopes[:1])


def test_extrapolation_keeps_the_variance_of_the_slope_and_a_kernel_does_not() -> None:
    """On a linear function with the four directions of an orthonormal design, r by its nodes."""
    g = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    view = FunctionView(lambda w: (g * w["w"]).sum(), {"w": torch.zeros(4)})
    rows = torch.linalg.qr(Noise(0, dtype=torch.float64).normal("q", (4, 4))).Q * sqrt(4.0)
    exact = view.slopes(fixed(rows))
    found = differences.extrapolated(view, fixed(rows), 0.3)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
    at = rows.repeat_interleave(len(NODES), 0)
    lengths = NODES.repeat(4)
    kernel = differences.weighted(view, fixed(at), 0.3, lengths, 3)[:, 0]
    second = float((WEIGHTS.repeat(4) / 2 * kernel**2).sum() / (exact**2).sum())
    assert second == pytest.approx(6.25, rel=1e-12)
