"""The rule ``shrink``: the estimate times the number that brings it nearest to the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core.noise.keyed import Noise
from fgbench.registry import make
from tests.makers.moves import move, weights
from tests.makers.signs import signs


def rule(**options: Any) -> Any:
    text = ",".join(f"{k}={v}" for k, v in options.items())
    return make("updates", f"shrink[{text}]" if text else "shrink").thing


def factors(chosen: Any, estimates: list[Tensor]) -> list[float]:
    """By what each of several estimates was multiplied."""
    w, found = weights(*[0.0] * estimates[0].numel()), []
    state = chosen.start(w, {})
    for e in estimates:
        before = w["w"].detach().clone()
        state = chosen.step(move(w, {"w": e}), state)
        step = before - w["w"].detach()
        found.append(float(step @ e / (e @ e)))
        torch.testing.assert_close(step, found[-1] * e, rtol=1e-12, atol=1e-14)
    return found


@pytest.mark.parametrize(("n", "d"), [(1, 4), (3, 4), (8, 1)])
def test_of_perturbations_by_signs_the_factor_is_known(n: int, d: int) -> None:
    e = Noise(0, dtype=torch.float64).normal("e", (d,))
    assert factors(rule(directions=n), [e]) == pytest.approx([n / (n + d - 1)], rel=1e-12)
    assert factors(rule(directions=n, root="true"), [e]) == pytest.approx(
        [(n / (n + d - 1)) ** 0.5], rel=1e-12
    )


def test_it_is_the_least_square_factor_by_every_sign() -> None:
    """E|c e − g|² over all signs is (1 − c)² |g|² + c² V with V = (d − 1)|g|², least at c = 1/d."""
    g = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    v = signs({"w": (3,)})["w"]
    e = (v @ g).unsqueeze(1) * v
    c = torch.linspace(0, 1, 1001, dtype=torch.float64)
    error = ((c.view(-1, 1, 1) * e - g) ** 2).sum(2).mean(1)
    assert float(c[error.argmin()]) == pytest.approx(1 / 3, abs=1e-3)
    assert float(error.min() / (g @ g)) == pytest.approx(2 / 3, rel=1e-5)  # (d − 1)/(n + d − 1)


def test_exact_gradients_are_left_alone() -> None:
    g = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert factors(rule(), [g] * 4) == pytest.approx([1.0] * 4, rel=1e-15)


def test_the_factor_is_the_ratio_of_the_two_means() -> None:
    noise = Noise(3, dtype=torch.float64)
    e = [noise.at(k).normal("e", (3,)) + 1 for k in range(6)]
    found = factors(rule(steps=3), e)
    product = square = 0.0
    for k in range(1, 6):
        share = 1 / min(k, 3)
        product += share * (float(e[k] @ e[k - 1]) - product)
        square += share * (float(e[k] @ e[k]) - square)
        assert found[k] == pytest.approx(min(max(product / square, 0.0), 1.0), rel=1e-12)
    assert found[0] == 1.0
    assert 0 < min(found) < 1


def test_of_noise_alone_nothing_is_left() -> None:
    """Opposite estimates have a negative product: c = 0; of zeros the step is 0 and not NaN."""
    e = torch.tensor([1.0, 2.0], dtype=torch.float64)
    w = weights(0.0, 0.0)
    chosen = rule()
    state = chosen.step(move(w, {"w": e}), chosen.start(w, {}))
    assert w["w"].tolist() == [-1.0, -2.0]
    state = chosen.step(move(w, {"w": -e}), state)
    assert w["w"].tolist() == [-1.0, -2.0]
    zeros = weights(0.0, 0.0)
    state = chosen.start(zeros, {})
    for _ in range(3):
        state = chosen.step(move(zeros, {"w": torch.zeros(2, dtype=torch.float64)}), state)
    assert zeros["w"].tolist() == [0.0, 0.0]
