"""The study of coverage: its network is the package's, and a fast run of it with planted faults."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from fgbench.measurement.draw_statistics.places import ALL, predictions
from fgbench.measurement.studies import coverage
from fgbench.registry import method
from fgbench.stats import intervals, replicates
from fgbench.stats.calibration import simulate
from fgbench.workload import Workload
from tests.makers.binomial import refused

RUNS = 30
FEW = {"SAME": 1, "MANY_BATCHES": 64, "DRAWN_BATCHES": 32, "MANY_NETWORKS": 40, "MORE_BATCHES": 16}


@lru_cache(maxsize=1)
def workload() -> Workload:
    return Workload.of("mlp-2x16", "digits", dtype="float64")


@pytest.mark.parametrize("name", coverage.METHODS)
def test_the_network_in_numpy_is_the_one_that_measure_builds(name: str) -> None:
    """Gradients, closed forms, and the mean and variance of the draws by brute force."""
    task, estimator, noise = workload().task(method(name), 0)
    weights = {n: t.numpy() for n, t in task.chain.state_dict().items()}

    def wide(name: str) -> np.ndarray:
        if f"{name}.weight" not in weights:  # without local losses there is no such head
            name = "readouts.final.linear"
        return np.concatenate([weights[f"{name}.weight"], weights[f"{name}.bias"][:, None]], 1)

    names = ("body.0.l0", "body.1.l0", "readouts.final.linear", "readouts.local0.linear")
    images, labels = coverage.digits()
    rows = torch.arange(64)
    x, y = task.scheme.batch(*workload().data.rows(rows), workload().data, noise)
    np.testing.assert_allclose(x.reshape(64, 64), images[:64], atol=1e-12)
    point = coverage.Point.of(coverage.Network(*map(wide, names)), images[:64], labels[:64])
    truth, end = task.scheme_truth(x, y), task.end_truth(x, y)
    for grads, found in ((truth, point.gradient(name)), (end, point.gradient("FG-A"))):
        layers = [
            torch.cat([grads[f"body.{k}.l0.weight"], grads[f"body.{k}.l0.bias"][:, None]], 1)
            for k in (0, 1)
        ]
        expected = torch.cat([layer.reshape(-1) for layer in layers])
        np.testing.assert_allclose(found, expected, atol=1e-12)
    predicted = predictions(task, estimator, {}, x, y, truth)[ALL]
    variance = point.relative_variance(name)
    if predicted is not None:
        assert variance == pytest.approx(predicted, rel=1e-9)
    e = point.draws(name, point.noise(2000, np.random.default_rng(0))).astype(np.float64)
    g = point.gradient(name)
    # standard errors of about 1 % of the variance, and of .03 or less of the scale
    assert e.var(0, ddof=1).sum() / (g @ g) == pytest.approx(variance, rel=0.06)
    assert (e @ g).mean() / (g @ g) == pytest.approx(1.0, abs=0.15)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in FEW.items():
        monkeypatch.setattr(coverage, name, count)
    for truth in (coverage.truth_of_one, coverage.truth_of_all):
        truth.cache_clear()


def faults(inits: int, batches: int) -> set[str]:
    """The answers outside their bands beyond chance, of a study with few runs and a rougher truth."""
    (study,) = (s for s in coverage.studies() if s.run.args == (inits, batches))
    sums = simulate.total(study, range(RUNS))
    return {a for a, band in study.bands.items() if refused(sums[a] / RUNS, RUNS, band)}


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("design", [(1, 4), pytest.param((5, 1), marks=pytest.mark.slow)])
def test_intervals_cover_and_tests_have_their_size(design: tuple[int, int]) -> None:
    assert faults(*design) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_intervals_of_an_eighth_of_the_width_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "t_quantile", lambda df: intervals.t_quantile(df) / 8.0)
    found = faults(1, 4)
    narrow = ("relative variance", "efficiency", "scale", "cosine")
    assert {f"{name}: {number}" for name in ("FG-W", "FG-A") for number in narrow} <= found
    assert not any("test" in answer for answer in found)
