"""The split of an estimate's variance: truths over batches, draws within them."""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import numpy as np
import pytest
import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.measurement.design import Design
from fgbench.measurement.draw_statistics.places import ALL, products
from fgbench.measurement.loop import measure
from fgbench.registry import method
from fgbench.stats import variance_split
from fgbench.stats.intervals import Number, t_quantile
from fgbench.workload import Workload

DATA = "synthetic[size=4,train=64,test=32]"
ELEMENTS = 8 * 16 + 8


def known() -> np.ndarray[Any, Any]:
    """Gradients of 16 batches."""
    random = np.random.default_rng(2)
    return random.standard_normal((16, 30)) + 1.0


def of(name: str, found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(found[name][k] for k in ("value", "low", "high"))


def test_the_split_is_that_of_the_vectors() -> None:
    g = known()
    size, spread = float((g**2).sum(1).mean()), float(g.var(0, ddof=1).sum())
    mean = float(g.sum(0) @ g.sum(0) - (g**2).sum()) / (16 * 15)
    squares = (g[:3] ** 2).sum(1)
    within = [Number(v, v / 2, v * 2, 64) for v in (100.0, 120.0, 90.0)]
    cell = variance_split.cell(g @ g.T, within, squares.tolist(), 1e-12)
    found = variance_split.numbers([cell], ([0], [0]), 5, 32)
    each = squares * (100.0, 120.0, 90.0)
    perturbation = float(each.mean())
    assert found["batch_variance"]["value"] == pytest.approx(spread / size)
    half = t_quantile(2) * each.std(ddof=1) / sqrt(3) / perturbation
    ends = [perturbation / size * exp(s * half) for s in (0, -1, 1)]
    assert of("perturbation_variance", found) == pytest.approx(tuple(ends))
    assert found["perturbation_over_batch"]["value"] == pytest.approx(perturbation / spread)
    parity = [5 * end for end in of("perturbation_over_batch", found)]
    assert of("directions_for_parity", found) == pytest.approx(tuple(parity))
    assert found["batch_noise_scale"]["value"] == pytest.approx(32 * spread / mean)
    assert found["perturbation_noise_scale"]["value"] == pytest.approx(5 * perturbation / mean)
    assert found["truths"] == 16
    once = variance_split.cell(g @ g.T, within[:1], squares[:1].tolist(), 1e-12).perturbation
    assert (once.low, once.high) == pytest.approx((each[0] / size / 2, each[0] / size * 2))


def test_where_nothing_can_be_divided_there_is_a_reason() -> None:
    same = np.ones((16, 16))
    none = Number.exact(0.0, 6)
    found = variance_split.numbers(
        [variance_split.cell(same, [none], [1.0], 1e-12)], ([0], [0]), 1, 8
    )
    assert variance_split.NO_BATCH_NOISE in found["directions_for_parity"]["reason"]
    assert found["directions_for_parity"]["value"] is None
    still = variance_split.numbers([variance_split.cell(known() @ known().T, [none] * 2, [1.0, 1.0], 1e-12)],
                          ([0], [0]), 1, 8)  # fmt: skip
    assert of("directions_for_parity", still) == (0.0, 0.0, 0.0)
    zero = variance_split.cell(0.0 * same, [Number(None, None, None, 6, "no truth")], [0.0], 1e-12)
    assert zero.batch.reason == "the truth is zero"
    lost = Number(None, None, None, 1, "one draw")
    part = variance_split.cell(
        known() @ known().T, [Number(1.0, 0.5, 2.0, 9), lost], [1.0, 1.0], 1e-12
    )
    assert (part.perturbation.value, part.perturbation.reason) == (None, "one draw")


def build() -> tuple[Task, torch.Tensor, torch.Tensor]:
    """A task in double precision, and all images it learns from."""
    where = Workload.of("mlp-1x8", DATA, dtype="float64")
    task = Task.build(where.chain(0).double(), registry.make("localities", "end").thing, Noise(0))
    return task, where.data.normalise(where.data.train_x, torch.float64), where.data.train_y


def test_products_are_those_of_the_truths_of_each_batch() -> None:
    task, x, y = build()
    found = products(task, [(x[k : k + 8], y[k : k + 8]) for k in (0, 8, 16)])
    g = [task.scheme_truth(x[k : k + 8], y[k : k + 8]) for k in (0, 8, 16)]
    flat = torch.stack([torch.cat([t.flatten() for t in one.values()]) for one in g])
    np.testing.assert_allclose(found[ALL], (flat @ flat.T).numpy(), rtol=1e-12)
    parts = [gram for (kind, _), gram in found.items() if kind == "parameter"]
    assert len(parts) == 2
    np.testing.assert_allclose(sum(parts), found[ALL], rtol=1e-12)


def test_the_variance_over_batches_is_that_of_sampling_without_replacement() -> None:
    """S²/m (1 − m/N), S² the variance over examples; 400 batches: off by 15 % is 5 sd or more."""
    task, x, y = build()
    each = [task.scheme_truth(x[k : k + 1], y[k : k + 1]) for k in range(64)]
    rows = torch.stack([torch.cat([t.flatten() for t in one.values()]) for one in each])
    over = float(rows.var(0).sum())
    picks = [Noise(7).at(k).permutation("batch", 64)[:16] for k in range(400)]
    gram = products(task, [(x[k], y[k]) for k in picks])[ALL]
    cell = variance_split.cell(gram, [Number.exact(0.0, 1)], [1.0], 1e-12)
    assert cell.batch.value is not None
    found = cell.batch.value * float(np.diag(gram).mean())
    assert found == pytest.approx(over / 16 * (1 - 16 / 64), rel=0.15)
    assert found != pytest.approx(over / 16, rel=0.15)


# measured


def measured(name: str, **design: Any) -> dict[str, Any]:
    where = Workload.of("mlp-1x8", DATA, dtype="float64")
    few = {"draws": 64, "batches": 2, "batch": 8}
    (found,) = measure(where, [method(name)], Design(**{**few, **design}))
    return dict(found["split"], relative_variance=found["relative_variance"], whole=found)


def test_parity_does_not_depend_on_the_directions_of_one_estimate() -> None:
    """d + 1 over the variance of batches, from the control without noise where |v|² is fixed."""
    one, four = (measured(f"fg_w[law=rademacher,directions={n}]") for n in (1, 4))
    share = one["batch_variance"]["value"]
    assert one["relative_variance"]["value"] == pytest.approx(ELEMENTS - 1, rel=0.2)
    for found, n in ((one, 1), (four, 4)):
        of_one = found["perturbation_variance"]["value"] * n
        assert found["directions_for_parity"]["value"] == pytest.approx(of_one / share, rel=1e-9)
        assert found["batch_variance"] == one["batch_variance"]
    a, b = (of("directions_for_parity", f) for f in (one, four))
    assert max(a[1], b[1]) < min(a[2], b[2])


def test_exact_methods_need_no_directions_and_whole_batches_have_no_noise() -> None:
    exact = measured("bp")
    assert of("directions_for_parity", exact) == (0.0, 0.0, 0.0)
    whole = measured("fg_w", batch=64)["directions_for_parity"]
    assert whole["value"] is None
    assert variance_split.NO_BATCH_NOISE in whole["reason"]


def test_every_place_and_moment_has_its_split() -> None:
    found = measured("fg_a", moments=(0.0, 1.0), batches=3)["whole"]
    assert found["split"]["truths"] == variance_split.TRUTHS
    for kind in ("per_site", "per_module", "per_parameter"):
        for place in found[kind].values():
            assert 0 < place["split"]["batch_variance"]["value"] < 1
            assert place["split"]["directions_for_parity"]["value"] > 0
