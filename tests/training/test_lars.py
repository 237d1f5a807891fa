"""LARS: steps by hand, what does not change them, and what it must share with plain momentum."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench.training.lars import LARS
from fgbench.training.optimizers import optimizer, param_groups


def weights(*values: list[float]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in values]


def taken(params: list[nn.Parameter], grads: list[list[list[float]]], **options: Any) -> None:
    """Take one step per entry of ``grads``: one gradient for every parameter."""
    rule = LARS(params, **options)
    for each in grads:
        for p, grad in zip(params, each, strict=True):
            p.grad = torch.tensor(grad, dtype=torch.float64)
        rule.step()


def close(found: Tensor, expected: list[float], rtol: float = 1e-15) -> None:
    torch.testing.assert_close(
        found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=1e-17
    )


def test_two_steps_by_hand() -> None:
    """|w| = 5, d = g + w/2 = (4, 3), |d| = 5: λ = 0.01; then the same by plain arithmetic."""
    (w,) = weights([3.0, 4.0])
    options = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.5, "trust": 0.01}
    first, second = [2.5, 1.0], [1.0, -2.0]
    taken([w], [[first]], **options)
    close(w, [3 - 0.5 * 0.01 * 4, 4 - 0.5 * 0.01 * 3])

    (w,) = weights([3.0, 4.0])
    taken([w], [[first], [second]], **options)
    at, m = (2.98, 3.985), (0.02, 0.015)
    d = (1.0 + 0.5 * at[0], -2.0 + 0.5 * at[1])
    ratio = 0.01 * sqrt(at[0] ** 2 + at[1] ** 2) / sqrt(d[0] ** 2 + d[1] ** 2)
    m = (0.9 * m[0] + 0.5 * ratio * d[0], 0.9 * m[1] + 0.5 * ratio * d[1])
    close(w, [at[0] - m[0], at[1] - m[1]], rtol=1e-14)


def test_every_parameter_has_a_norm_of_its_own() -> None:
    """Two at once go where each goes alone; one norm over both would move them elsewhere."""
    both = weights([3.0, 4.0], [0.1, 0.2])
    alone = weights([3.0, 4.0], [0.1, 0.2])
    grads = [[1.0, 2.0], [30.0, -5.0]]
    taken(both, [grads], lr=0.3, weight_decay=0.1)
    for p, grad in zip(alone, grads, strict=True):
        taken([p], [[grad]], lr=0.3, weight_decay=0.1)
    for a, b in zip(both, alone, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**30])
def test_the_scale_of_a_gradient_does_not_matter(factor: float) -> None:
    """Exact for powers of two without decay; with decay, or unadapted, it does matter."""

    def moved(scale: float, **options: Any) -> Tensor:
        (w,) = weights([3.0, 4.0, -1.0])
        grads = [[[scale * g for g in one]] for one in ([1.0, -7.0, 2.0], [0.5, 0.25, 3.0])]
        taken([w], grads, lr=0.1, **options)
        return w.detach()

    assert torch.equal(moved(1.0), moved(factor))
    assert not torch.equal(moved(1.0, weight_decay=0.1), moved(factor, weight_decay=0.1))
    assert not torch.equal(moved(1.0, adapt=False), moved(factor, adapt=False))


def test_weights_at_zero_leave_it_and_a_zero_gradient_moves_nothing() -> None:
    start, still = weights([0.0, 0.0], [3.0, 4.0])
    taken([start, still], [[[1.0, -2.0], [0.0, 0.0]]], lr=0.5)
    close(start, [-0.5, 1.0])
    close(still, [3.0, 4.0])
    (w,) = weights([3.0, 4.0])  # decay alone: d = w/2, λ = η |w| / |w/2|
    taken([w], [[[0.0, 0.0]]], lr=0.5, weight_decay=0.5, trust=0.01)
    close(w, [3 * (1 - 0.5 * 0.01), 4 * (1 - 0.5 * 0.01)])


def test_unadapted_it_is_momentum() -> None:
    """At a constant rate, a rate within the momentum or outside is the same."""
    (w,), (twin,) = weights([3.0, 4.0]), weights([3.0, 4.0])
    grads = [[1.0, 2.0], [-3.0, 0.5], [0.0, 1.0]]
    taken([w], [[g] for g in grads], lr=0.1, weight_decay=0.01, adapt=False)
    rule = torch.optim.SGD([twin], lr=0.1, momentum=0.9, weight_decay=0.01)
    for g in grads:
        twin.grad = torch.tensor(g, dtype=torch.float64)
        rule.step()
    close(w, twin.detach().tolist(), rtol=1e-14)


def test_a_rate_acts_on_the_steps_after_it() -> None:
    """The momentum of a step at rate 1 goes on at rate 0; outside the momentum it would stop."""
    (w,) = weights([0.0])
    rule = LARS([w], lr=1.0, adapt=False)
    w.grad = torch.ones(1, dtype=torch.float64)
    rule.step()
    rule.param_groups[0]["lr"] = 0.0
    rule.step()
    close(w, [-1.9])


def test_gradients_stay_as_they_are_and_none_is_left_alone() -> None:
    w, other = weights([3.0, 4.0], [1.0, 1.0])
    rule = LARS([w, other], lr=torch.tensor(0.1, dtype=torch.float64), weight_decay=0.1)
    w.grad = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert rule.step(lambda: 7.0) == 7.0
    close(w.grad, [1.0, 2.0])
    close(other, [1.0, 1.0])
    assert other not in rule.state


@pytest.mark.parametrize(
    "options", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"trust": 0.0}]
)
def test_nonsense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="LARS: lr"):
        LARS(weights([1.0]), **{"lr": 0.1, **options})


def test_a_step_never_waits_for_the_device() -> None:
    """Meta tensors have no values: reading one raises."""
    params = [nn.Parameter(torch.ones(3, 2, device="meta")) for _ in range(2)]
    rule = LARS(params, lr=0.1, weight_decay=0.1)
    for p in params:
        p.grad = torch.ones_like(p)
    rule.step()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        params[0].sum().item()  # the fault it would find


def test_biases_are_not_adapted() -> None:
    from fgbench.training.recipe import Recipe
    from tests.makers.networks import build

    task, _, _ = build("localmixer-xs/2/4", "LG-FG-A")
    recipe = Recipe(epochs=1, batch=512, lr=0.1, lr_batch=256, optimizer="lars", weight_decay=0.3)
    rule = optimizer("lars", param_groups(task.chain, recipe), 0.8)
    assert isinstance(rule, LARS)
    groups = {group["name"]: group for group in rule.param_groups}
    assert {n: g["adapt"] for n, g in groups.items()} == {n: "weights" in n for n in groups}
    assert {(g["lr"], g["momentum"]) for g in groups.values()} == {(0.2, 0.8)}
    assert groups["body weights"]["weight_decay"] == 0.3
    assert groups["body biases"]["weight_decay"] == 0.0
