"""The studies of ``make calibrate`` with few runs, the faults they must see, and the table it left.

One rule judges all: runs are fixed in advance, and a share is refused if a binomial at the edge of its
band would give it with probability below 1e-6 a side, so that all checks here raise less than one
false alarm in 10,000 changes of the seed; the seed is fixed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgbench.measurement import calibrate
from fgbench.stats import (
    aggregate,
    bias,
    blocks,
    change_points,
    intervals,
    mean_direction,
    replicates,
    variance,
)
from fgbench.stats.calibration import command, comparisons, laws, measuring, page, simulate
from fgbench.stats.calibration.laws import directions, estimates, frame
from fgbench.stats.calibration.simulate import Row
from fgbench.stats.calibration.study import Answers, Study
from tests.makers.binomial import refused
from tests.makers.cases import mostly_slow
from tests.makers.paths import ROOT

STUDIES = {study.name: study for study in simulate.everything()}
FAST = {
    "fg_w gaussian, d = 20, K = 64": 120,
    "fg_w sphere, d = 20, K = 64": 60,
    "fg_w rademacher, d = 20, K = 64": 60,
    "coupled gaussian, d = 20, K = 256": 60,
    "5 inits x 2 batches, many points vary": 150,
    "10 inits x 1 batches, many points vary": 150,
    "1 init x 4 batches": 200,
    "10 inits, two estimators": 300,
    "fg_w gaussian, d = 20, 32 draws x 2 batches": 100,
    "fg_a gaussian, heavy tails, 32 draws x 2 batches": 100,
    "fg_a rademacher, heavy tails, 16 draws x 1 batches": 10,
    "10 inits x 64 draws, two estimators": 100,
    "mean of fg_w gaussian, bias 0.5, d = 20, K = 256": 60,
    "16 truths, 4 batches, apart": 60,
    "12 sites, 4 biased, K = 256": 30,
    "9 methods, 10 seeds, examples": 100,
    "9 methods, 10 seeds": 100,
    "1 method, 10 seeds": 500,
    "3 tasks x 10 runs": 100,
    "change points, normal, 8 commits": 300,
    "change points, heavy tails, 12 commits": 200,
}


def faults(name: str, runs: int, bands: dict[str, tuple[float, float]] | None = None) -> list[str]:
    """The answers of a study that lie outside their bands beyond chance."""
    study = STUDIES[name]
    sums = simulate.total(study, range(runs))
    asked = bands or study.bands
    return [a for a, band in asked.items() if refused(sums[a] / runs, runs, band)]


@pytest.mark.parametrize("name", mostly_slow(list(FAST), 2))
def test_intervals_and_tests_do_what_they_claim(name: str) -> None:
    assert faults(name, FAST[name]) == []


def halved(quantile: Callable[[float], float]) -> Callable[[float], float]:
    return lambda df: 0.5 * quantile(df)


FORWARD = "fg_w gaussian, d = 20, K = 64"


def test_intervals_of_half_the_width_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (intervals, bias, variance):
        monkeypatch.setattr(module, "t_quantile", halved(intervals.t_quantile))
    found = faults(FORWARD, 100)
    intervals_of = ["efficiency", "efficiency, controlled", "relative variance", "scale", "bias"]
    assert set(intervals_of) < set(found)
    assert "bias test, no bias" not in found


def test_means_and_splits_of_half_the_width_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (intervals, bias, variance, mean_direction):
        monkeypatch.setattr(module, "t_quantile", halved(intervals.t_quantile))
    found = faults("mean of fg_w gaussian, bias 0.5, d = 20, K = 256", 120)
    assert {"normalised error", "signal-to-noise", "cosine of the mean"} <= set(found)
    assert "variance over batches" in faults("16 truths, 4 batches, apart", 120)


@pytest.mark.slow
def test_a_biased_estimator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale of 1.5, to which efficiency is blind and relative variance is not."""
    monkeypatch.setattr(measuring, "estimates", partial(estimates, factor=1.5))
    found = faults(FORWARD, 200)
    assert {"scale", "relative variance", "bias test, no bias"} < set(found)
    assert "efficiency" not in found


def test_a_verdict_from_too_few_draws_and_a_bold_one_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bias, "JUDGED", 6)
    assert faults("fg_w gaussian, d = 20, 16 draws x 1 batches", 10) == ["bias test, a verdict"]
    sound = blocks.sign_flip_p
    monkeypatch.setattr(bias, "sign_flip_p", lambda gram: 0.1 * sound(gram))
    assert faults("fg_a gaussian, heavy tails, 32 draws x 2 batches", 100) == ["bias test, no bias"]


@pytest.mark.slow
def test_a_narrow_interval_over_draws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias, "t_quantile", halved(halved(intervals.t_quantile)))
    assert faults("fg_w gaussian, d = 20, 32 draws x 2 batches", 200) == ["bias, over draws"]


def test_a_paired_ratio_of_half_the_width_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "t_quantile", halved(intervals.t_quantile))
    assert faults("10 inits x 64 draws, two estimators", 100) == ["paired ratio of efficiencies"]


def test_directions_of_another_law_than_the_control_believes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def longer(*args: Any) -> laws.Singles:
        return np.float32(1.3) * directions(*args)

    monkeypatch.setattr(measuring, "directions", longer)
    found = faults(FORWARD, 100)
    assert "efficiency, controlled" in found
    assert "efficiency" not in found


@pytest.mark.slow
def test_a_jackknife_with_a_degree_of_freedom_per_draw_is_seen_with_enough_runs() -> None:
    """Where `freedom` comes from: at d = 20 and K = 64 plain t covers .92 with the control."""
    sums = {"plain": 0.0, "sound": 0.0}
    runs = 4000
    for run in range(runs):
        random = simulate.generator("freedom", run)
        x = random.standard_normal(64) ** 2
        y = x * (x + random.chisquare(19, 64))
        found = intervals.efficiency(x, y, x)
        assert found.value is not None
        assert found.high is not None
        roots = intervals.signed_roots(x, y, x)
        angles = np.arctanh(roots)
        half = intervals.t_quantile(63) * intervals.jackknife_error(angles[1:])
        sums["plain"] += abs(angles[0] - np.arctanh(sqrt(1 / 22))) <= half
        sums["sound"] += measuring.holds(found, 1 / 22)
    assert sums["plain"] / runs < 0.93 < sums["sound"] / runs < 0.97


def test_batches_used_again_for_every_init_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = measuring._logs

    def again(inits: int, batches: int, sd: tuple[float, float, float], random: Any) -> Any:
        logs, which, when = fresh(inits, batches, (sd[0], 0.0, sd[2]), random)
        batch = 3.0 * sd[1] * random.standard_normal((2, batches))
        return logs + np.tile(batch.reshape(-1), inits), which, when

    monkeypatch.setattr(measuring, "_logs", again)
    assert "efficiency over points" in faults("5 inits x 2 batches, many points vary", 200)


@pytest.mark.slow
def test_p_values_without_their_adjustment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("holm", "benjamini_hochberg"):
        monkeypatch.setattr(comparisons.multiple_tests, name, list)
    assert "Holm, any false" in faults("12 sites, none biased, K = 256", 50)
    monkeypatch.setattr(comparisons.paired_seeds, "holm", list)
    assert "any better or worse, equal" in faults("9 methods, 10 seeds, examples", 100)


@pytest.mark.slow
def test_seeds_without_the_examples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same test set for all methods and seeds: what they share is no evidence."""
    whole = comparisons.paired_seeds.difference

    def seeds_alone(one: Any, two: Any) -> Any:
        return whole(one.mean(1), two.mean(1))

    monkeypatch.setattr(comparisons.paired_seeds, "difference", seeds_alone)
    assert "any better or worse, equal" in faults("9 methods, 10 seeds, examples", 150)


def test_narrow_aggregates_and_a_generous_margin_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aggregate, "t_quantile", halved(intervals.t_quantile))
    monkeypatch.setattr(aggregate, "NORMAL", aggregate.NORMAL / 2)
    assert faults("3 tasks x 10 runs", 100) == ["interquartile mean", "performance profile"]
    sound = comparisons.paired_seeds.equivalence
    monkeypatch.setattr(comparisons.paired_seeds, "equivalence", lambda d, m: sound(d, 1.5 * m))
    assert "two one-sided tests, at the margin" in faults("1 method, 10 seeds", 100)


def test_a_bold_test_of_change_points_and_one_that_sees_none_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_points, "FALSE_ALARM", 0.3)
    assert faults("change points, normal, 8 commits", 100) == ["any change, none there"]
    monkeypatch.setattr(change_points, "FALSE_ALARM", 1e-6)
    missed = ["a step in the middle", "a step of the last two"]
    assert faults("change points, normal, 8 commits", 100) == missed


@pytest.mark.parametrize("law", laws.LAWS)
@pytest.mark.parametrize(("shift", "truth"), [(0.0, 1.0), (0.7, 1.0), (0.0, 0.0)])
def test_facts_are_those_of_the_vectors(law: str, shift: float, truth: float) -> None:
    random = np.random.default_rng(1)
    v = directions(law, 11, 70, random)
    noise = random.standard_normal(70)
    found = estimates(v, 1.5, noise).facts(shift, truth)
    g, u = frame(11)
    wide = v.astype(np.float64)
    e = (1.5 * wide @ g + noise)[:, None] * wide + shift * u
    d = e - truth * g
    sums = np.stack([d[blocks.blocks(70) == i].sum(0) for i in range(32)])
    for one, two in (
        (found.x, e @ g),
        (found.y, (e**2).sum(1)),
        (found.d2, (d**2).sum(1)),
        (found.gram, sums @ sums.T),
        (found.control, (wide @ g) ** 2),
    ):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_relative_variance_of_signs_is_exact_and_norms_are_those_of_the_laws() -> None:
    g, _ = frame(6)
    v = np.array(list(product((-1.0, 1.0), repeat=6)))
    errors = (v @ g)[:, None] * v - g
    assert errors.mean(0) == pytest.approx(np.zeros(6))
    assert (errors**2).sum(1).mean() == pytest.approx(laws.relative_variance("rademacher", 6))
    random = np.random.default_rng(2)
    assert set(directions("rademacher", 13, 5, random).ravel()) == {-1.0, 1.0}
    norms = (directions("sphere", 13, 5, random) ** 2).sum(1)
    assert norms == pytest.approx([13.0] * 5, rel=1e-6)
    with pytest.raises(ValueError, match="one of gaussian, sphere, rademacher"):
        directions("cauchy", 2, 2, random)


def coin(share: float, random: np.random.Generator) -> Answers:
    return {"heads": float(random.random() < share)}


def of_coins(*bands: tuple[float, float]) -> list[Study]:
    return [Study(f"coin {i}", partial(coin, 0.5), 200, {"heads": b}) for i, b in enumerate(bands)]


def test_a_finished_part_is_not_repeated_and_runs_are_keyed(tmp_path: Path) -> None:
    said: list[str] = []
    studies = of_coins((0.4, 0.6), (0.9, 1.0))
    first = simulate.simulate(studies, tmp_path, 1, said.append)
    assert [row.inside for row in first] == [True, False]
    assert len(said) == 2 * simulate.CHUNKS
    next(iter(sorted(tmp_path.glob("*.json")))).unlink()
    assert simulate.simulate(studies, tmp_path, 1, said.append) == first
    assert len(said) == 2 * simulate.CHUNKS + 1
    whole = simulate.total(studies[0], range(200))
    assert first[0].share == whole["heads"] / 200
    assert first[0].low < first[0].share < first[0].high
    one, two = (simulate.generator("coin 0", run).random() for run in (0, 1))
    assert simulate.generator("coin 0", 0).random() == one != two


def test_the_command_writes_the_table_and_fails_where_a_band_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coins = of_coins((0.4, 0.6), (0.9, 1.0))
    rest = ["--cores", "1", "--parts", str(tmp_path / "parts")]
    assert command.main(coins, ["coin 0", *rest, "--out", str(tmp_path)]) == 0
    assert "1 of 1 shares lie in their bands." in (tmp_path / "calibration.md").read_text()
    assert command.main(coins, rest) == 1
    assert "1 of 2 shares lie in their bands; not: coin 1: heads." in capsys.readouterr().out
    assert command.main(coins, ["dice", *rest]) == 2
    assert "coin 1" in capsys.readouterr().err


def committed() -> list[Row]:
    with (ROOT / "analysis" / "reproduction" / "calibration.csv").open(encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    names = ("share", "low", "high", "least", "most")
    return [
        Row(r["study"], r["answer"], *(float(r[n]) for n in names), int(r["runs"])) for r in found
    ]


def test_the_committed_table_is_of_these_studies_and_its_page_of_it() -> None:
    found = committed()
    asked = [
        (s.name, answer, *band, s.runs)
        for s in calibrate.everything()
        for answer, band in s.bands.items()
    ]
    assert [(r.study, r.answer, r.least, r.most, r.runs) for r in found] == asked
    assert (ROOT / "analysis" / "reproduction" / "calibration.md").read_text("utf-8") == page.page(
        found
    )


def test_what_the_issue_asks_is_in_the_committed_table_and_holds() -> None:
    found = {(r.study, r.answer): r for r in committed()}
    for d, draws in product((20, 2000), (64, 256, 1000)):
        for answer in ("efficiency", "relative variance"):
            assert 0.93 <= found[f"fg_w gaussian, d = {d}, K = {draws}", answer].share <= 0.97
        size = found[f"fg_w gaussian, d = {d}, K = {draws}", "bias test, no bias"]
        assert 0.03 <= size.share <= 0.07
    for design, spread in product(("5 inits x 2", "10 inits x 1"), measuring.COMPONENTS):
        row = found[f"{design} batches, {spread} points vary", "efficiency over points"]
        assert 0.93 <= row.share <= 0.97
    power = found["fg_w gaussian, d = 2000, K = 1000", "bias test, bias of 50 %"]
    assert power.share >= 0.95
    for d in (20, 2000):
        assert (
            found[f"coupled gaussian, d = {d}, K = 256", "coupled truth, scale 1.02"].share >= 0.95
        )
