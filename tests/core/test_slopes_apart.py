"""Slopes of every example along weight directions of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench.core.cost import CostCounter
from fgbench.core.noise.directions import FixedDirections
from fgbench.errors import UsageError
from tests.makers.networks import batch, build

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


def directions(view: Any, noise: Any, n: int = 2) -> Any:
    """Return what gives every example directions of its own."""
    return lambda i: noise.child(f"example{i}").directions(view.shapes, n)


@pytest.mark.parametrize("step", [None, 1e-3])
@pytest.mark.parametrize("locality", ["end", "local-pg"])
@pytest.mark.parametrize("arch", ["mlp-2x8[activation=tanh]", MIXER, "cnn-tiny[width=4]"])
def test_each_example_has_the_slope_of_its_own_weights(
    arch: str, locality: str, step: float | None
) -> None:
    """The score of example i is the one that the whole batch gives along i's directions."""
    task, _, noise = build(arch, f"fg_w/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    for view in task.views(x, y, CostCounter()):
        if not view.objective.updates:
            continue
        each = directions(view, noise)
        apart = view.slopes_apart(each, step)
        for i in range(3):
            whole = view.slopes(each(i), step)
            torch.testing.assert_close(apart[:, i], whole[:, i], rtol=1e-9, atol=1e-9)
        assert float((apart[:, 0] - view.slopes(each(1), step)[:, 0]).abs().max()) > 1e-4


@pytest.mark.parametrize(("step", "forwards", "slopes"), [(None, 1.0, 4.0), (1e-3, 3.0, 0.0)])
def test_the_price_is_that_of_shared_directions(
    step: float | None, forwards: float, slopes: float
) -> None:
    task, _, noise = build("mlp-2x8", "fg_w/end", SHAPE)
    ledger = CostCounter()
    (view,) = task.views(*batch(3, SHAPE), ledger)
    view.slopes_apart(directions(view, noise), step)
    assert (ledger.forwards, ledger.slopes) == pytest.approx((forwards, slopes))
    clean = view.losses()  # the pass has noted the clean values
    assert ledger.forwards == pytest.approx(forwards)
    (other,) = task.views(*batch(3, SHAPE), CostCounter())
    torch.testing.assert_close(clean, other.losses())


def test_directions_along_sites_are_refused() -> None:
    task, _, noise = build("mlp-2x8", "fg_w/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    u = noise.directions(view.sites)
    with pytest.raises(UsageError, match="weight directions of their own, got directions along"):
        view.slopes_apart(lambda i: u)


def test_clean_outputs_reach_the_next_window() -> None:
    """Under cut losses a window starts from what the one before it left, not from a perturbed value."""
    task, _, noise = build("mlp-3x8[activation=tanh]", "fg_w/local", SHAPE)
    x, y = batch(3, SHAPE)
    plain = [view.losses() for view in task.views(x, y, CostCounter())]
    for step in (None, 0.5):
        found = []
        for view in task.views(x, y, CostCounter()):
            if view.objective.updates:
                view.slopes_apart(directions(view, noise), step)
            found.append(view.losses())
        for a, b in zip(plain, found, strict=True):
            torch.testing.assert_close(a, b)


def test_no_direction_is_no_slope() -> None:
    task, _, _ = build("mlp-2x8", "fg_w/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    still = FixedDirections(
        {n: torch.zeros(1, *s, dtype=torch.float64) for n, s in view.shapes.items()}
    )
    assert float(view.slopes_apart(lambda i: still).abs().max()) == 0.0
