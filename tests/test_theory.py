"""Closed forms of the variance: against every sign vector, then against samples.

Enumeration is exact. A sampled check compares mean |e − Ee|² over n draws with the closed form in units
of its own standard error: a bound of 4.5 fails without a fault in 7e-6 of all seeds.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any

import pytest
import torch

from fgbench import axes, theory
from fgbench.directions import FixedDirections
from fgbench.errors import UsageError
from fgbench.ledger import Ledger
from fgbench.noise import Noise
from tests.conftest import batch, build

if TYPE_CHECKING:
    from torch import Tensor

BOUND = 4.5
TINY = (1, 1, 2)


def views(arch: str, method: str, shape: tuple[int, ...], b: int) -> Any:
    """The estimator and the views of its objectives that update something."""
    task, estimator, _ = build(arch, method, shape=shape, classes=3)
    x, y = batch(b, shape, 3)
    found = []
    for view in task.views(x, y, Ledger()):
        if view.objective.updates:
            found.append(view)
        view.output()
    return estimator, found


def signs(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every vector of signs over all places: place to ``[2^d, *place]``."""
    sizes = [torch.Size(s).numel() for s in shapes.values()]
    d = sum(sizes)
    assert d <= 12
    bits = (torch.arange(2**d).unsqueeze(1) >> torch.arange(d)) & 1
    parts = (2.0 * bits.double() - 1).split(sizes, 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def weight_estimates(view: Any, estimator: Any, v: dict[str, Tensor]) -> dict[str, Tensor]:
    """One estimate per direction: ``[n, *parameter]``."""
    slopes = view.slopes(FixedDirections(v))
    found = {}
    for name, rows in v.items():
        cells = estimator._cells(view)(name)
        found[name] = axes.spread(axes.gather(slopes, cells), rows, cells)
    return found


def activity_estimates(view: Any, u: dict[str, Tensor]) -> dict[str, Tensor]:
    """One estimate per direction of a network of fully connected layers, written out."""
    slopes = view.slopes(FixedDirections(u))  # [n, b]
    acts = view.activities()
    found, before = {}, view.start.flatten(1)
    for name in acts:
        if name in u:
            credit = slopes.unsqueeze(-1) * u[name] * (acts[name] != 0)
            found[f"{name}.weight"] = torch.einsum("nbo,bi->noi", credit, before)
            found[f"{name}.bias"] = credit.sum(1)
        before = acts[name]
    return found


def spread_of(e: Tensor) -> Tensor:
    """Squared distance from the mean, per draw."""
    return ((e - e.mean(0)) ** 2).flatten(1).sum(1)


# enumeration


@pytest.mark.parametrize(
    ("arch", "method"),
    [
        ("mlp-2x2", "fg_w[law=rademacher]"),
        ("mlp-2x2[activation=tanh]", "fg_w[law=rademacher]/module"),
        ("mlp-2x2[activation=tanh]", "fg_w[law=rademacher]/local"),
        ("mlp-1x4", "fg_w[law=rademacher]/local-pg"),
        ("mlp-3x2[activation=tanh]", "fg_w[law=rademacher]/overlap"),
        ("mlp-3x2", "fg_w[law=rademacher]/interlocking"),
    ],
)
def test_weight_variance_is_that_over_all_sign_vectors(arch: str, method: str) -> None:
    estimator, found = views(arch, method, TINY, 3)
    for view in found:
        predicted = estimator.predicted_variance(view)
        truth = view.reverse()
        estimates = weight_estimates(view, estimator, signs(view.shapes))
        assert set(predicted) == set(estimates)
        for name, e in estimates.items():
            torch.testing.assert_close(e.mean(0), truth[name], rtol=0, atol=1e-12)
            assert float(predicted[name]) == pytest.approx(float(spread_of(e).mean()), rel=1e-10)
            average = replace(estimator, directions=3).predicted_variance(view)
            assert float(average[name]) == pytest.approx(float(predicted[name]) / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("arch", "method", "b"),
    [
        ("mlp-2x3", "fg_a[law=rademacher]", 2),
        ("mlp-3x2", "fg_a[law=rademacher]", 2),
        ("mlp-2x3[activation=tanh]", "fg_a[law=rademacher]/module", 2),
        ("mlp-2x4[activation=tanh]", "fg_a[law=rademacher]/local", 3),
        ("mlp-1x4", "fg_a[law=rademacher]/local-pg", 3),
        ("mlp-3x2[activation=tanh]", "fg_a[law=rademacher]/overlap", 3),
        ("mlp-3x2", "fg_a[law=rademacher]/interlocking", 3),
    ],
)
def test_activity_variance_is_that_over_all_sign_vectors(arch: str, method: str, b: int) -> None:
    estimator, found = views(arch, method, TINY, b)
    for view in found:
        predicted = estimator.predicted_variance(view)
        truth = view.reverse()
        estimates = activity_estimates(view, signs(view.sites))
        assert set(predicted) == set(estimates)
        for name, e in estimates.items():
            torch.testing.assert_close(e.mean(0), truth[name], rtol=0, atol=1e-12)
            assert float(predicted[name]) == pytest.approx(float(spread_of(e).mean()), rel=1e-10)


def test_enumeration_tells_laws_and_units_apart() -> None:
    _, (view,) = views("mlp-2x3", "fg_a[law=rademacher]", TINY, 2)
    estimates = activity_estimates(view, signs(view.sites))
    exact = {name: float(spread_of(e).mean()) for name, e in estimates.items()}
    off = sum(int((a == 0).sum()) for a in view.activities().values())
    assert off > 0  # units that are off get no credit, so the count of live ones matters
    wrong = theory.activity_variance(view, "gaussian", 1)
    assert wrong is not None
    assert all(float(wrong[n]) > 1.05 * exact[n] for n in exact)


# samples


def close(e: Tensor, predicted: Tensor) -> float:
    """Distance of the sampled variance from the closed form, in standard errors."""
    distance = spread_of(e)
    n = len(distance)
    error = float(distance.std()) / sqrt(n)
    return (float(distance.sum()) / (n - 1) - float(predicted)) / error


def drawn(view: Any, places: dict[str, tuple[int, ...]], law: str, n: int) -> dict[str, Tensor]:
    u = Noise(7, dtype=torch.float64).directions(places, n, law)
    return {name: u.rows(name, 0, n) for name in places}


@pytest.mark.parametrize("law", ["gaussian", "sphere", "uniform", "rademacher"])
@pytest.mark.parametrize("locality", ["end", "local"])
def test_weight_variance_is_that_of_samples(law: str, locality: str) -> None:
    estimator, found = views("mlp-2x4", f"fg_w[law={law}]/{locality}", TINY, 3)
    for view in found:
        predicted = estimator.predicted_variance(view)
        estimates = weight_estimates(view, estimator, drawn(view, view.shapes, law, 2048))
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name


@pytest.mark.parametrize("law", ["gaussian", "sphere", "uniform", "rademacher"])
@pytest.mark.parametrize("locality", ["end", "local"])
def test_activity_variance_is_that_of_samples(law: str, locality: str) -> None:
    estimator, found = views("mlp-2x4", f"fg_a[law={law}]/{locality}", TINY, 3)
    for view in found:
        predicted = estimator.predicted_variance(view)
        estimates = activity_estimates(view, drawn(view, view.sites, law, 2048))
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name


@pytest.mark.parametrize("credit", ["summed", "released"])
def test_scores_kept_apart_on_localmixer_match_samples(credit: str) -> None:
    arch, method = "localmixer-xs/2/4", f"fg_w[law=rademacher,credit={credit}]/local-pg"
    estimator, found = views(arch, method, (3, 8, 8), 2)
    sliced = 0
    for view in found:
        predicted = estimator.predicted_variance(view)
        assert predicted is not None
        estimates = weight_estimates(view, estimator, drawn(view, view.shapes, "rademacher", 512))
        assert set(estimates) == set(predicted)
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name
            sliced += bool(estimator._cells(view)(name).shared)
    assert sliced > 0
    total = sum(float(p) for p in predicted.values())
    other = replace(estimator, credit="summed" if credit == "released" else "released")
    others = other.predicted_variance(view)
    assert total != pytest.approx(sum(float(p) for p in others.values()), rel=0.05)


def test_a_sampled_check_rejects_the_wrong_form() -> None:
    estimator, (view,) = views("mlp-2x4", "fg_w", TINY, 3)
    estimates = weight_estimates(view, estimator, drawn(view, view.shapes, "gaussian", 4096))
    wrong = replace(estimator, law="rademacher").predicted_variance(view)
    half = replace(estimator, directions=2).predicted_variance(view)
    for form in (wrong, half):
        assert max(abs(close(e, form[name])) for name, e in estimates.items()) > BOUND


# where there is no form


def test_where_there_is_no_form_nothing_is_claimed() -> None:
    for arch, method in (
        ("cnn-tiny", "fg_a"),  # sites are not those of fully connected layers
        ("localmixer-xs/2/4", "fg_a/local-p"),  # scores kept apart along patches
        ("localmixer-xs/2/4", "fg_w[law=sphere]/local-pg"),  # a sphere cut into slices
    ):
        estimator, found = views(arch, method, (3, 8, 8), 2)
        assert any(estimator.predicted_variance(view) is None for view in found), (arch, method)


def test_a_prediction_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, found = views("localmixer-xs/2/4", "fg_w/local-pg", (3, 8, 8), 2)
    assert estimator.predicted_variance(found[-1]) is not None
    monkeypatch.setattr(theory, "PULLS", 1)
    assert estimator.predicted_variance(found[-1]) is None


@pytest.mark.parametrize(
    ("law", "expected"), [("gaussian", 11), ("rademacher", 9), ("sphere", 9), ("uniform", 9.8)]
)
def test_the_textbook_numbers(law: str, expected: float) -> None:
    assert theory.relative_variance(10, law) == pytest.approx(expected)
    assert theory.relative_variance(10, law, 4) == pytest.approx(expected / 4)
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        theory.relative_variance(10, "gausian")
