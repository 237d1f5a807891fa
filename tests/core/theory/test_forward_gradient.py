"""Closed forms of the variance: against every sign vector, then against samples.

Enumeration is exact. A sampled check compares mean |e − Ee|² over n draws with the closed form in units
of its own standard error: a bound of 4.5 fails without a fault in 7e-6 of all seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import pytest
import torch

from fgbench.core import axes
from fgbench.core.cost import CostCounter
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.noise.laws import LAWS, Law
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.core.theory import forward_gradient
from fgbench.errors import UsageError
from tests.makers.networks import batch, build
from tests.makers.signs import signs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weighted:
    """A locality whose only loss has a factor."""

    weight: float

    def attach(self, chain: Any) -> None:
        """Nothing is added."""

    def objectives(self, chain: Any) -> tuple[Objective, ...]:
        return (
            Objective(
                "end", (0, len(chain)), "final", tuple(range(len(chain))), weight=self.weight
            ),
        )


BOUND = 4.5
TINY = (1, 1, 2)


def views(arch: str, method: str, shape: tuple[int, ...], b: int) -> Any:
    """The estimator and the views of its objectives that update something."""
    task, estimator, _ = build(arch, method, shape=shape, classes=3)
    x, y = batch(b, shape, 3)
    found = []
    for view in task.views(x, y, CostCounter()):
        if view.objective.updates:
            found.append(view)
        view.output()
    return estimator, found


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


OPTIONS = ("law=sphere", "law=uniform", "combine=project,directions=2")


@pytest.mark.parametrize(
    "method",
    [f"{name}[{more}]" for name in ("fg_w", "fg_a") for more in OPTIONS] + ["np[law=sphere]"],
)
def test_variance_grows_with_the_square_of_the_loss(method: str) -> None:
    task, estimator, _ = build("mlp-2x3", f"{method}/end", shape=TINY, classes=3)
    x, y = batch(3, TINY, 3)
    one, large = (
        Task(Scheme(task.chain, Weighted(weight))).views(x, y, CostCounter())
        for weight in (1.0, 1e3)
    )
    found, scaled = (estimator.predicted_variance(next(v), {}) for v in (one, large))
    for name in found:
        assert float(scaled[name]) == pytest.approx(1e6 * float(found[name]), rel=1e-9)


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
        predicted = estimator.predicted_variance(view, {})
        truth = view.reverse()
        estimates = weight_estimates(view, estimator, signs(view.shapes))
        assert set(predicted) == set(estimates)
        for name, e in estimates.items():
            torch.testing.assert_close(e.mean(0), truth[name], rtol=0, atol=1e-12)
            assert float(predicted[name]) == pytest.approx(float(spread_of(e).mean()), rel=1e-10)
            average = replace(estimator, directions=3).predicted_variance(view, {})
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
        predicted = estimator.predicted_variance(view, {})
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
    wrong = forward_gradient.activity_variance(view, "gaussian", 1)
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
        predicted = estimator.predicted_variance(view, {})
        estimates = weight_estimates(view, estimator, drawn(view, view.shapes, law, 2048))
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name


@pytest.mark.parametrize("law", ["gaussian", "sphere", "uniform", "rademacher"])
@pytest.mark.parametrize("locality", ["end", "local"])
def test_activity_variance_is_that_of_samples(law: str, locality: str) -> None:
    estimator, found = views("mlp-2x4", f"fg_a[law={law}]/{locality}", TINY, 3)
    for view in found:
        predicted = estimator.predicted_variance(view, {})
        estimates = activity_estimates(view, drawn(view, view.sites, law, 2048))
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name


@pytest.mark.parametrize("credit", ["summed", "released"])
def test_scores_kept_apart_on_localmixer_match_samples(credit: str) -> None:
    arch, method = "localmixer-xs/2/4", f"fg_w[law=rademacher,credit={credit}]/local-pg"
    estimator, found = views(arch, method, (3, 8, 8), 2)
    sliced = 0
    for view in found:
        predicted = estimator.predicted_variance(view, {})
        assert predicted is not None
        estimates = weight_estimates(view, estimator, drawn(view, view.shapes, "rademacher", 512))
        assert set(estimates) == set(predicted)
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name
            sliced += bool(estimator._cells(view)(name).shared)
    assert sliced > 0
    total = sum(float(p) for p in predicted.values())
    other = replace(estimator, credit="summed" if credit == "released" else "released")
    others = other.predicted_variance(view, {})
    assert total != pytest.approx(sum(float(p) for p in others.values()), rel=0.05)


def test_a_sampled_check_rejects_the_wrong_form() -> None:
    estimator, (view,) = views("mlp-2x4", "fg_w", TINY, 3)
    estimates = weight_estimates(view, estimator, drawn(view, view.shapes, "gaussian", 4096))
    wrong = replace(estimator, law="rademacher").predicted_variance(view, {})
    half = replace(estimator, directions=2).predicted_variance(view, {})
    for form in (wrong, half):
        assert max(abs(close(e, form[name])) for name, e in estimates.items()) > BOUND


@pytest.mark.parametrize("locality", ["end", "local-pg"])
@pytest.mark.parametrize("law", ["sphere", "uniform"])
def test_weights_cut_into_slices_match_samples(law: str, locality: str) -> None:
    # 2 x 2 x 24 parameters at 4.5 standard errors: odds of 7e-4 without a fault
    arch, method = "localmixer-xs/2/4[channels=8,groups=2]", f"fg_w[law={law}]/{locality}"
    estimator, found = views(arch, method, (3, 4, 4), 2)
    for view in found:
        predicted = estimator.predicted_variance(view, {})
        estimates = weight_estimates(view, estimator, drawn(view, view.shapes, law, 1024))
        for name, e in estimates.items():
            assert abs(close(e, predicted[name])) < BOUND, name


# where there is no form


def test_where_there_is_no_form_nothing_is_claimed() -> None:
    for arch, method in (
        ("mlp-2x4", "fg_a[share=b]"),  # examples are correlated
        ("mlp-2x4", "fg_w[mask=random[keep=0.5]]"),  # masks differ from draw to draw
    ):
        estimator, found = views(arch, method, (3, 8, 8), 2)
        assert any(estimator.predicted_variance(view, {}) is None for view in found), (arch, method)


def test_a_prediction_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, found = views("localmixer-xs/2/4", "fg_w/local-pg", (3, 8, 8), 2)
    assert estimator.predicted_variance(found[-1], {}) is not None
    monkeypatch.setattr(forward_gradient, "PULLS", 1)
    assert estimator.predicted_variance(found[-1], {}) is None


# a fixed gradient


KINDS = [
    ("gaussian", "mean", 1),
    ("gaussian", "mean", 3),
    ("rademacher", "mean", 1),
    ("sphere", "mean", 2),
    ("uniform", "mean", 1),
    ("gaussian", "project", 1),
    ("gaussian", "project", 3),
    ("gaussian", "project", 6),
]
G = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 0.25], dtype=torch.float64)
DRAWS = 20_000


@pytest.mark.parametrize(
    ("law", "expected"), [("gaussian", 11), ("rademacher", 9), ("sphere", 9), ("uniform", 9.8)]
)
def test_the_textbook_numbers(law: str, expected: float) -> None:
    assert forward_gradient.relative_variance(10, law) == pytest.approx(expected)
    assert forward_gradient.relative_variance(10, law, 4) == pytest.approx(expected / 4)
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        forward_gradient.relative_variance(10, "gausian")


def test_orthonormal_directions() -> None:
    assert forward_gradient.relative_variance(10, "gaussian", 4, "project") == pytest.approx(
        10 / 4 - 1
    )
    assert forward_gradient.relative_variance(10, "gaussian", 10, "project") == 0
    for k in (1, 6):  # one is a direction of the sphere, all are exact
        found = forward_gradient.coordinate_variance(G, "gaussian", k, "project")
        expected = forward_gradient.coordinate_variance(G, "sphere") if k == 1 else 0 * G
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(UsageError, match="at most as many directions as dimensions"):
        forward_gradient.relative_variance(4, "gaussian", 5, "project")
    with pytest.raises(UsageError, match="all of them on"):
        forward_gradient.relative_variance(4, "gaussian", 2, "project", active=3)


@pytest.mark.parametrize(("law", "combine", "k"), KINDS)
def test_coordinates_add_up_to_the_total(law: str, combine: Any, k: int) -> None:
    total = forward_gradient.relative_variance(6, law, k, combine) * float(G @ G)
    each = forward_gradient.coordinate_variance(G, law, k, combine)
    assert float(each.sum()) == pytest.approx(total, rel=1e-12, abs=1e-12)
    if combine == "mean":
        on = G != 0
        total = forward_gradient.relative_variance(6, law, k, active=5) * float(G @ G)
        each = forward_gradient.coordinate_variance(G, law, k, active=on)
        assert float(each.sum()) == pytest.approx(total, rel=1e-12)
        assert float(each[3]) == 0


def estimates(law: str, combine: str, k: int) -> Tensor:
    """Forward gradients of G: ``[DRAWS, 6]``."""
    noise = Noise(5, dtype=torch.float64)
    if combine == "project":
        q, r = torch.linalg.qr(noise.normal("haar", (DRAWS, 6, k)))
        q = q * torch.diagonal(r, dim1=1, dim2=2).sign().unsqueeze(1)
        return 6 / k * torch.einsum("nik,njk,j->ni", q, q, G)
    v = noise.directions({"g": (6,)}, DRAWS * k, law).rows("g", 0, DRAWS * k)
    return ((v @ G).unsqueeze(1) * v).reshape(DRAWS, k, 6).mean(1)


def errors(e: Tensor, each: Tensor) -> Tensor:
    """Distance of sampled coordinate variances from the form, in standard errors."""
    square = (e - G) ** 2
    return (square.mean(0) - each) / (square.std(0) / sqrt(len(e)) + 1e-12)


@pytest.mark.parametrize(("law", "combine", "k"), KINDS)
def test_coordinate_variance_is_that_of_samples(law: str, combine: Any, k: int) -> None:
    # 48 coordinates at 4.5 standard errors: odds of 3e-4 without a fault
    e = estimates(law, combine, k)
    each = forward_gradient.coordinate_variance(G, law, k, combine)
    assert float(errors(e, each).abs().max()) < BOUND
    if k < 6:
        wrong = forward_gradient.coordinate_variance(G, law, k + 1, combine)
        assert float(errors(e, wrong).abs().max()) > BOUND


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("d", [3, 40])
def test_moments_of_a_law(law: Law, d: int) -> None:
    v = Noise(6, dtype=torch.float64).directions({"x": (d,)}, 40_000, law.name).rows("x", 0, 40_000)
    for sample, expected in zip(
        (v[:, 0] ** 2 * v[:, 1] ** 2, v[:, 0] ** 4), law.moments(d), strict=True
    ):
        error = float(sample.std()) / sqrt(len(v)) + 1e-12
        assert abs(float(sample.mean()) - expected) < BOUND * error


# a minibatch: every batch with every vector of signs

DELTA = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.5]], dtype=torch.float64)
INPUT = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-1.0, 1.0]], dtype=torch.float64)


def all_signs(d: int) -> Tensor:
    """Every vector of d signs: ``[2^d, d]``."""
    return signs({"x": (d,)})["x"]


def batch_estimates(rows: tuple[int, ...], space: str, share: str) -> Tensor:
    """Estimates of one minibatch over all signs, written out: ``[signs, 4]``."""
    b, units = len(rows), 4 if space == "weight" else 2
    u = all_signs(units if share == "b" else units * b).reshape(-1, 1 if share == "b" else b, units)
    u = u.expand(-1, b, -1)
    delta, x = DELTA[list(rows)], INPUT[list(rows)]
    if space == "weight":
        g = torch.einsum("bo,bi->boi", delta, x).flatten(1)
        return torch.einsum("bj,nbj,nbk->nk", g, u, u) / b
    return torch.einsum("bp,nbp,nbo,bi->noi", delta, u, u, x).flatten(1) / b


@pytest.mark.parametrize("space", ["weight", "activity"])
@pytest.mark.parametrize("share", ["b", "none"])
def test_table_1_is_the_variance_over_all_batches_and_signs(space: str, share: Any) -> None:
    units = 4 if space == "weight" else 2
    g = torch.einsum("bo,bi->boi", DELTA, INPUT)
    every = []
    for rows in product(range(3), repeat=2):
        e = batch_estimates(rows, space, share)
        every.append(e)
        given = forward_gradient.Moments.of(g[list(rows)])
        noise = forward_gradient.noise_variance(given, 2, units, "rademacher", share)
        assert noise == pytest.approx(float(spread_of(e).mean()), rel=1e-12)
    e, population = torch.cat(every), forward_gradient.Moments.of(g)
    torch.testing.assert_close(e.mean(0), g.mean(0).flatten(), rtol=0, atol=1e-12)
    total = forward_gradient.total_variance(population, 2, units, "rademacher", share)
    assert total == pytest.approx(float(spread_of(e).mean()), rel=1e-12)
    for law, other in (("gaussian", share), ("rademacher", "none" if share == "b" else "b")):
        wrong = forward_gradient.total_variance(population, 2, units, law, other)  # type: ignore[arg-type]
        assert wrong != pytest.approx(total, rel=0.05)


def test_table_1_as_printed() -> None:
    p, q, n, v, s = 5, 3, 7, 0.7, 1.3
    population = forward_gradient.Moments(mean=s * p * q, spread=v * p * q)
    for units in (p * q, q):
        printed = {
            ("gaussian", "b"): (units + 2) / n * v + (units + 1) * s,
            ("gaussian", "none"): (units + 2) / n * v + (units + 1) / n * s,
            ("rademacher", "b"): units / n * v + (units - 1) * s,
            ("rademacher", "none"): units / n * v + (units - 1) / n * s,
        }
        for (law, share), entry in printed.items():
            found = forward_gradient.total_variance(population, n, units, law, share)  # type: ignore[arg-type]
            assert found / (p * q) == pytest.approx(entry, rel=1e-12)
    exact = forward_gradient.total_variance(
        population, n, q, "gaussian", "b", directions=q, combine="project"
    )
    assert exact / (p * q) == pytest.approx(v / n, rel=1e-12)  # backprop's


@pytest.mark.parametrize("name", ["fg_w", "fg_a"])
@pytest.mark.parametrize("share", ["b", "none"])
def test_noise_given_the_batch_is_that_of_the_estimators(name: str, share: Any) -> None:
    # one layer of fan-in 2 (its input and the bias) and 2 units: every vector of signs is an estimate
    task, estimator, _ = build("mlp-1x2[activation=tanh]", f"{name}[share={share}]", (1, 1, 1), 3)
    x, y = batch(2, (1, 1, 1), 3)
    (view,) = task.views(x, y, CostCounter())
    if name == "fg_w":
        places = {n: ((1 if share == "b" else 2), *s) for n, s in view.shapes.items()}
    else:
        places = {n: (1, 1 if share == "b" else 2, *s[1:]) for n, s in view.sites.items()}
    flat = []
    every = signs(places)
    for k in range(len(next(iter(every.values())))):
        given = {n: t[k] for n, t in every.items()}
        noise = DesignedNoise(0, dtype=torch.float64, given=given)
        step = task.estimate(x, y, estimator, noise)
        flat.append(torch.cat([step.body[n].flatten() for n in view.params]))
    e = torch.stack(flat)
    singles = [task.scheme_truth(x[i : i + 1], y[i : i + 1]) for i in range(2)]
    g = torch.stack([torch.cat([one[n].flatten() for n in view.params]) for one in singles])
    torch.testing.assert_close(e.mean(0), g.mean(0), rtol=0, atol=1e-12)
    units = 4 if name == "fg_w" else 2
    predicted = forward_gradient.noise_variance(
        forward_gradient.Moments.of(g), 2, units, "rademacher", share
    )
    assert float(spread_of(e).mean()) == pytest.approx(predicted, rel=1e-10)


@pytest.mark.parametrize("law", LAWS)
def test_shared_activity_noise_is_one_direction_for_all_examples(law: str) -> None:
    heard: list[Any] = []
    task, estimator, noise = build("mlp-2x16", f"fg_a[share=b,directions=3,law={law}]", TINY, 3)
    x, y = batch(3, TINY, 3)
    task.estimate(x, y, estimator, noise, listen=lambda view, u, slopes: heard.append(u))
    rows = heard[0].rows("body.1.l0", 0, 3)
    assert rows.shape == (3, 3, 16)  # two directions of 16 signs are alike once in 65,536
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert not torch.equal(rows[0], rows[1])
    if law == "sphere":
        torch.testing.assert_close((rows**2).sum(2), torch.full((3, 3), 16.0).double())
