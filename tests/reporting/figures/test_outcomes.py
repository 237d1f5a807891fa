"""Figures of what training reaches: numbers against cases worked by hand, each with a planted fault."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fgbench.errors import UsageError
from fgbench.registry import PRESETS
from fgbench.reporting.figures import (
    cost,
    draw,
    files,
    history,
    layers,
    learning_curves,
    profiles,
    scaling,
    time_to_target,
    trials,
    variance_and_learning,
)
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.files import everything
from fgbench.reporting.frames import workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.results import cells
from fgbench.reporting.plotting import style
from tests.makers.layout import faults, picture, texts
from tests.makers.paths import ROOT
from tests.makers.records import a_measure, a_speed, a_train, measured, stored
from tests.makers.swept import unique

pytestmark = pytest.mark.slow

FOUR = [0.3, 0.1, 0.4, 0.2]


def preset(method: str) -> dict[str, str]:
    return dict(zip(("estimator", "locality"), PRESETS[method].split("/"), strict=True))


def words(fig: Any) -> str:
    return " ".join(texts(fig)).replace("\n", " ")


# the list of figures


def test_every_figure_is_listed_with_what_makes_it() -> None:
    assert list(FIGURES) == sorted(FIGURES)
    for name, each in FIGURES.items():
        assert name in scaling.FACTORS or name == each.module().NAME
        assert callable(each.draw())
        assert each.shows
        assert "\n" not in each.shows
        assert each.made_by.startswith(("fgbench ", "asv "))
    folder = Path(draw.__file__).parent
    texts = {file.stem: file.read_text("utf-8") for file in folder.glob("*.py")}
    drawing = {
        name for name, text in texts.items() if re.search(r"^(def )?draw(_\w+)?( =|\()", text, re.M)
    }
    assert {each.function.partition(":")[0] for each in FIGURES.values()} == drawing - {"draw"}
    assert {name for name, each in FIGURES.items() if each.module() is scaling} == set(
        scaling.FACTORS
    )


def test_an_unknown_figure_is_named_with_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'groups'"):
        draw.draw("group", tmp_path, tmp_path)


def test_a_list_of_figures_loads_neither_pandas_nor_matplotlib() -> None:
    code = """
import sys
from fgbench.reporting.figures.catalogue import FIGURES
print(FIGURES["cosine"].shows, FIGURES["cosine"].made_by)
sys.exit(any(name in sys.modules for name in ("matplotlib", "pandas", "torch")))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_table_of_a_figure_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(measures: pd.DataFrame) -> pd.DataFrame:
        calls.append("plotted")
        return layers.plotted(measures)

    monkeypatch.setattr(style, "save", lambda *_: [])
    records = stored(tmp_path, a_measure("FG-A"))
    write = files.writer("layers", Records.measures, counted, layers.figure)
    assert write(records, tmp_path / "out") == []
    assert calls == ["plotted"]
    with pytest.raises(UsageError, match=r"^no variance measured at sites in .*; run fgbench meas"):
        write(stored(tmp_path / "none", a_train("BP")), tmp_path / "out")


# trials


def a_trial(lr: float, error: float, seed: int = 1000, **changes: Any) -> dict[str, Any]:
    settings = {"lr": lr, "validation": 100, "epochs": 3} | changes.pop("settings", {})
    return a_train("FG-A", seed, settings=settings, epochs=3, **{"test_error": error, **changes})


def test_the_best_so_far_is_the_mean_over_all_orders() -> None:
    orders = np.minimum.accumulate(list(itertools.permutations(FOUR)), axis=1)
    mean, low, high = trials.best(FOUR)
    np.testing.assert_allclose(mean, orders.mean(0), rtol=1e-12)
    assert mean[0] == pytest.approx(0.25)
    assert mean[-1] == low[-1] == high[-1] == 0.1
    for share in (0.9, 0.4):
        _, low, high = trials.best(FOUR, share)
        tails = [(1 - share) / 2, (1 + share) / 2]
        found = np.quantile(orders, tails, axis=0, method="inverted_cdf")
        np.testing.assert_array_equal([low, high], found)
    in_order = np.minimum.accumulate(FOUR)  # one order alone is another curve
    assert not np.allclose(mean, in_order)
    again = trials.best([0.2, 0.2, 0.5])  # ties
    np.testing.assert_allclose(again[0], [0.3, 0.2, 0.2])


def test_trials_are_counted_by_setting_and_averaged_over_seeds(tmp_path: Path) -> None:
    runs = [a_trial(lr, error) for lr, error in zip((0.01, 0.03, 0.1, 0.3), FOUR, strict=True)]
    runs += [a_trial(0.3, 0.6, seed=1001), a_trial(0.3, 0.05, settings={"momentum": 0.5})]
    runs.append(a_trial(1.0, 0.0, status="diverged", reason="loss"))
    runs.append(a_trial(0.01, 0.01, settings={"epochs": 9}))  # another search, of one trial
    runs.append(a_train("FG-A", 0))  # a result, no trial
    table = trials.plotted(stored(tmp_path, *unique(runs)))
    assert set(table["epochs"]) == {3}
    tried = table[table["what"] == "trials"]
    assert tried["x"].tolist() == [1, 2, 3, 4, 5, 6]
    settings = [30.0, 10.0, 40.0, 40.0, 5.0, 90.0]  # a seed apart is the same one; lost is chance
    np.testing.assert_allclose(tried["error_percent"], trials.best(settings)[0])
    rated = table[table["what"] == "rate"].set_index("x")["error_percent"]
    np.testing.assert_allclose(rated, [30, 10, 40, 5, 90])
    assert rated.index.tolist() == [0.01, 0.03, 0.1, 0.3, 1.0]


def test_trials_are_drawn(tmp_path: Path) -> None:
    runs = [
        a_trial(lr, error, seed, settings={"lr": lr})
        for lr, error in zip((0.01, 0.03, 0.1, 0.3), FOUR, strict=True)
        for seed in range(3)
    ]
    records = stored(tmp_path, *unique(runs))
    fig = picture(trials, records)
    assert faults(fig) == []
    assert "n = 4 trials; band: 90 % of these orders" in words(fig)
    assert "mean over 3 seeds; bar: 95 % t interval" in words(fig)
    assert len(trials.draw(records, tmp_path / "out")) == 4
    with pytest.raises(UsageError, match=r"^no two trials .*; run fgbench sweep paper-table3"):
        trials.draw(stored(tmp_path / "one", a_trial(0.1, 0.2)), tmp_path)


# time to target


def a_run(method: str, seed: int, errors: list[float], **changes: Any) -> dict[str, Any]:
    history = [
        {"epoch": at, "test_error": error, "seconds": 10.0 * at}
        for at, error in enumerate(errors, 1)
    ]
    price = {"cost": {"forward_equivalents": 3.0}, "test_error": errors[-1]}
    run = a_train("BP", seed, **{"history": history, **price, **preset(method), **changes})
    return run | {"method": method}


def raced(folder: Path) -> Any:
    """Chance is .9 and backprop ends at .10: .8 of the way lies at .9 - .8 * .8 = .26."""
    runs = [a_run("BP", 0, [0.3, 0.2, 0.08]), a_run("BP", 1, [0.26, 0.2, 0.12])]
    runs += [a_run("FG-A", 0, [0.5, 0.4, 0.25]), a_run("FG-A", 1, [0.5, 0.4, 0.27])]
    lost = {"status": "diverged", "reason": "loss not finite"}
    runs += [a_run("FG-A", 2, [0.5, 0.2, 0.9], **lost), a_run("FG-A", 3, [0.7], **lost)]
    runs.append(a_run("FG-A", 0, [0.1], data="cifar10"))  # nothing to set a target by
    return stored(folder, *unique(runs))


def test_a_run_arrives_once_it_is_at_the_target(tmp_path: Path) -> None:
    curves = workloads.finished(raced(tmp_path))
    table = time_to_target.reached(curves, 0.8)
    np.testing.assert_allclose(table["target"], 0.26)
    assert table["reached"].tolist() == [True, True, True, False, True, False]
    np.testing.assert_array_equal(table["epoch"], [2, 1, 3, np.nan, 2, np.nan])
    np.testing.assert_array_equal(table["seconds"], 10 * table["epoch"])
    np.testing.assert_array_equal(table["passes"], 3 * table["epoch"])
    steps = time_to_target.shares(table, "epoch").set_index("method")
    assert steps.loc["BP", ["x", "share"]].to_numpy().tolist() == [[1, 0.5], [2, 1]]
    assert steps.loc["FG-A", ["x", "share"]].to_numpy().tolist() == [[2, 0.25], [3, 0.5]]
    assert (steps.loc["FG-A", "n"] == 4).all()  # misses too: the curve stays at one half
    without = table[table["reached"]]
    assert time_to_target.shares(without, "epoch")["share"].max() == 1  # the fault this rejects
    assert steps.loc["FG-A", "low"].lt(steps.loc["FG-A", "share"]).all()
    stricter = time_to_target.reached(curves, 1.0)  # 0.1 within 0.08 and 0.12
    assert stricter["reached"].sum() == 1


def test_workloads_of_the_same_methods_are_one_suite(tmp_path: Path) -> None:
    runs = [a_run(m, 0, [0.1], data=d) for m in ("BP", "FG-A") for d in ("mnist", "digits")]
    runs += [a_run(m, 0, [0.1], data="cifar10") for m in ("BP", "FG-A", "FG-W")]
    table = time_to_target.plotted(stored(tmp_path, *unique(runs)))
    found = dict(table[["data", "suite"]].drop_duplicates().to_numpy())
    assert found["mnist"] == found["digits"] != found["cifar10"]


def test_a_target_that_backprop_never_sets_or_a_start_beyond_it_are_no_trouble(
    tmp_path: Path,
) -> None:
    runs = [a_run(m, 0, [0.9], data="cifar10") for m in ("BP", "FG-A")]  # backprop at chance
    runs += [a_run("BP", 0, [0.2, 0.1]), a_run("FG-A", 0, [0.3, 0.2])]
    started = [{"epoch": 0, "test_error": 0.1, "seconds": 0.0}]
    runs.append(a_run("FG-A", 1, [0.1], history=started))
    records = stored(tmp_path, *unique(runs))
    table = time_to_target.plotted(records)
    assert set(table["data"]) == set(profiles.scores(records)["data"]) == {"mnist"}
    assert table["epoch"].dropna().tolist() == [2, 0]
    assert faults(picture(time_to_target, records)) == []
    perfect = [a_trial(lr, error) for lr, error in ((0.1, 0.0), (0.3, 0.2))]
    (ax, _) = picture(trials, stored(tmp_path / "trials", *unique(perfect))).axes
    assert ax.get_yscale() == "linear"


def test_time_to_target_is_drawn(tmp_path: Path) -> None:
    records = raced(tmp_path)
    fig = picture(time_to_target, records)
    assert faults(fig) == []
    assert len(fig.axes) == 3
    assert "95 % of the way from chance" in words(fig)
    assert "n = 2 to 4 runs per method" in words(fig)
    assert len(time_to_target.draw(records, tmp_path / "out")) == 4
    with pytest.raises(UsageError, match=r"^no workload .*; run fgbench train BP"):
        time_to_target.draw(stored(tmp_path / "one", a_train("FG-A")), tmp_path)


# profiles


def scored(folder: Path) -> Any:
    """Chance .9 and backprop .1 on one workload, .4 on the other: scores .5 and 1, and .2."""
    runs = [
        a_run("BP", seed, [0.1 if data == "mnist" else 0.4], data=data)
        for seed in (0, 1)
        for data in ("mnist", "digits")
    ]
    errors = {"mnist": (0.5, 0.1, 0.3), "digits": (0.8, 0.65, 0.15)}
    runs += [a_run("FG-A", s, [e], data=d) for d, es in errors.items() for s, e in enumerate(es)]
    lost = {"status": "diverged", "reason": "loss not finite"}
    runs.append(a_run("FG-A", 3, [0.2], **lost))
    return stored(folder, *unique(runs))


def test_a_score_is_the_way_from_chance_to_backprop(tmp_path: Path) -> None:
    table = profiles.scores(scored(tmp_path))
    mine = table[table["method"] == "FG-A"].set_index("data")["score"]
    np.testing.assert_allclose(mine["mnist"], [0.5, 1.0, 0.75, 0.0])  # diverged: at chance
    np.testing.assert_allclose(mine["digits"], [0.2, 0.5, 1.5])
    found = profiles.plotted(table).set_index(["method", "what"])
    # sorted 0 .2 .5 .5 .75 1 1.5, without the lowest and the highest: trim_mean cuts int(7/4) = 1
    assert found.loc[("FG-A", "iqm"), "value"] == pytest.approx(2.95 / 5)
    assert found.loc[("FG-A", "gap"), "value"] == pytest.approx((1 + 0.8 + 0.5 + 0.5 + 0.25) / 7)
    assert found.loc[("FG-A", "iqm"), ["n", "tasks"]].tolist() == [3, 2]
    low, high = found.loc[("FG-A", "iqm"), ["low", "high"]]
    assert low < 2.95 / 5 < high
    assert profiles.gap(np.array([0.5, 3.0])) == 0.25  # a run beyond 1 pays for no other
    assert 1 - np.mean([0.5, 3.0]) < 0  # the fault this rejects


def test_a_workload_has_one_chance_though_old_records_do_not_tell_it(tmp_path: Path) -> None:
    old: dict[str, Any] = {"classes": None}
    lost = {"status": "diverged", "reason": "loss not finite"}
    runs = [a_run("BP", 0, [0.1], **old), a_run("FG-A", 0, [0.5], **old), a_run("FG-A", 1, [0.5])]
    runs.append(a_run("FG-A", 2, [0.5], **old, **lost))
    table = profiles.scores(stored(tmp_path, *unique(runs)))
    np.testing.assert_allclose(table["chance"], 0.9)
    np.testing.assert_allclose(table["score"], [1, 0.5, 0.5, 0])
    tried = [a_trial(0.1, 0.2), a_trial(0.3, 0.2, **old, **lost)]
    records = stored(tmp_path / "trials", *unique(tried))
    (cell,) = cells(records)
    np.testing.assert_allclose(
        workloads.trials(cell, *records.chances().values())["error"], [0.2, 0.9]
    )


def test_profiles_are_drawn(tmp_path: Path) -> None:
    records = scored(tmp_path)
    fig = picture(profiles, profiles.scores(records))
    assert faults(fig) == []
    curve = next(line for line in fig.axes[0].lines if line.get_color() == "#d55e00")
    x, y = np.asarray(curve.get_xdata(), float), np.asarray(curve.get_ydata(), float)
    at = np.searchsorted(x, [0.1, 0.35, 0.6])  # of 4 runs above: 3, 3, 2; of 3 runs: 3, 2, 1
    np.testing.assert_allclose(y[at], [(3 / 4 + 1) / 2, (3 / 4 + 2 / 3) / 2, (2 / 4 + 1 / 3) / 2])
    assert "n = 2 to 4 runs per method on each" in words(fig)
    assert "suite 1: 2 workloads" in words(fig)
    assert len(profiles.draw(records, tmp_path / "out")) == 4


def test_rows_and_suites_of_one_workload_are_named(tmp_path: Path) -> None:
    long = {"estimator": "AntitheticNP", "locality": "local-pg"}
    name = "localmixer-xs/2/4"
    runs = [a_run("BP", s, [0.1], arch=name) for s in (0, 1)]
    runs += [
        a_run("FG-A", s, [0.3], arch=name) | long | {"method": "AntitheticNP/local-pg"}
        for s in (0, 1)
    ]
    records = stored(tmp_path, *unique(runs))
    fig = picture(profiles, profiles.scores(records))
    assert faults(fig) == []
    for ax, rows in zip(fig.axes[1:], (["BP", "AntitheticNP/local-pg"], ["", ""]), strict=True):
        assert [tick.get_text() for tick in ax.get_yticklabels()] == rows
    for each in (fig, picture(time_to_target, records)):
        assert faults(each) == []
        assert f"suite 1: supervised, {name} on mnist" in words(each)


def test_where_no_training_has_a_curve_it_is_said_how_they_ended(tmp_path: Path) -> None:
    ends = [("failed", "out of memory"), ("failed", "no"), ("diverged", "loss not finite")]
    runs = [
        a_train("FG-A", s, history=[], status=how, reason=why) for s, (how, why) in enumerate(ends)
    ]
    records = stored(tmp_path, *unique(runs))
    with pytest.raises(
        UsageError, match=r"of 3 trainings 1 diverged, 2 failed\) in .*; run fgbench"
    ):
        learning_curves.draw(records, tmp_path / "out")


# cost


def test_the_front_is_what_nothing_beats() -> None:
    time, error = [1.0, 2.0, 2.0, 3.0, 3.0, 0.5], [0.5, 0.2, 0.2, 0.3, 0.1, 0.9]
    assert cost.front(time, error).tolist() == [True, True, True, False, True, True]
    cheap_only = np.asarray(time) == min(time)  # the fault this rejects
    assert cost.front(time, error).tolist() != cheap_only.tolist()
    assert cost.front(time, [-e for e in error]).tolist() == [False] * 5 + [True]


def priced(folder: Path) -> Any:
    places = [("mlp-1x8", 100, 1.0), ("mlp-2x8", 1000, 2.0)]
    runs = []
    for arch, elements, factor in places:
        for method, error in {"BP": 0.02, "FG-A": 0.2}.items():
            runs += [a_run(method, s, [error * (1 + s)], arch=arch) for s in range(3)]
            slow = 1.0 if method == "BP" else 3.0
            runs.append(a_speed(method, slow * factor) | preset(method) | {"arch": arch})
        runs.append(a_measure("FG-A", arch=arch, elements=elements) | preset("FG-A"))
    runs.append(a_speed("FG-W", 1.0) | preset("FG-W"))  # not trained
    return stored(folder, *unique(runs))


@pytest.mark.slow
def test_cost_joins_training_and_timing(tmp_path: Path) -> None:
    records = priced(tmp_path)
    table = cost.plotted(records)
    assert len(table) == 2 * 4
    time = table[table["what"] == "step_ms"].set_index(["arch", "method"])
    assert time["cost"].tolist() == [12.5, 37.5, 25.0, 75.0]
    np.testing.assert_allclose(time.loc[("mlp-1x8", "FG-A"), "error_percent"], 40)
    quartiles = time.loc[("mlp-1x8", "FG-A"), ["low_percent", "high_percent"]].tolist()
    np.testing.assert_allclose(quartiles, [30, 50])
    assert time["parameters"].tolist() == [100, 100, 1000, 1000]
    assert time["front"].tolist() == [True, False, False, False]
    fig = picture(cost, records)
    assert faults(fig) == []
    assert "mlp-1x8 (100), mlp-2x8 (1,000)" in words(fig)
    assert "n = 3 seeds" in words(fig)
    assert len(cost.draw(records, tmp_path / "out")) == 4
    with pytest.raises(UsageError, match=r"^no method both .*; run fgbench train and"):
        cost.draw(stored(tmp_path / "one", a_train("BP")), tmp_path)


def test_of_several_timings_the_latest_is_drawn_and_the_others_are_counted(tmp_path: Path) -> None:
    late = {"started": "2026-01-01T00:00:00+00:00", "seed": 1}
    runs = [a_run("BP", 0, [0.1]), a_speed("BP", 2.0) | preset("BP") | late]
    runs += [a_speed("BP", r) | preset("BP") | {"seed": s} for s, r in ((0, 1.0), (2, 3.0))]
    for order in (runs, runs[::-1]):
        records = stored(tmp_path / order[0]["verb"], *unique(order))
        table = cost.plotted(records)
        assert table[["cost", "others"]].to_numpy().tolist() == [[25, 2], [162, 2]]
        assert "the latest is drawn, up to 2 others" in words(picture(cost, records))


def test_data_are_joined_with_their_options(tmp_path: Path) -> None:
    small, large = ({"data": f"synthetic[size={n}]"} for n in (2, 16))
    runs = [a_run("BP", 0, [0.1], **small), a_speed("BP", 1.0) | preset("BP") | large]
    assert cost.plotted(stored(tmp_path / "other", *unique(runs))).empty
    runs.append(a_speed("BP", 2.0) | preset("BP") | small)
    runs += [a_measure("BP", elements=n, **data) for n, data in ((7, large), (5, small))]
    table = cost.plotted(stored(tmp_path / "same", *unique(runs)))
    assert table[["cost", "parameters"]].to_numpy().tolist() == [[25, 5], [162, 5]]
    assert set(table["data"]) == {small["data"]}


# variance and learning


def test_the_rank_correlation_and_its_interval_are_exact() -> None:
    x, y = [1, 10, 100, 1000, 1e4], [0.1, 0.3, 0.2, 0.4, 0.5]
    rho, low, high = variance_and_learning.rank_correlation(x, y)
    assert rho == pytest.approx(1 - 6 * 2 / (5 * 24))  # squared differences of ranks: 0 1 1 0 0
    half = 1.959963984540054 * ((1 + 0.81 / 2) / 2) ** 0.5
    np.testing.assert_allclose([low, high], np.tanh(np.arctanh(0.9) + np.array([-half, half])))
    assert np.corrcoef(x, y)[0, 1] != pytest.approx(rho, abs=0.05)  # not of the numbers themselves
    whole = variance_and_learning.rank_correlation(x, x)
    assert whole[0] == pytest.approx(1)
    assert np.isnan(whole[1:]).all()
    assert np.isnan(variance_and_learning.rank_correlation(x[:3], y[:3])).all()
    assert np.isnan(variance_and_learning.rank_correlation(x, [1] * 5)).all()


def paired(folder: Path) -> Any:
    """Errors above backprop's, seed by seed: the same 5 points, though both vary by 10 between seeds."""
    bp = [0.1, 0.2, 0.15]
    gaps = {"FG-W": 0.3, "FG-A": 0.05, "LG-FG-A": 0.02, "NP": 0.1, "DFA": 0.04, "LG-FG-W": 0.35}
    runs = [a_run("BP", s, [e]) for s, e in enumerate(bp)]
    for method, gap in gaps.items():
        runs += [a_run(method, s, [e + gap]) for s, e in enumerate(bp)]
        runs.append(a_measure(method, moments=[0.0]) | preset(method))
    late = {"moments": [5.0], "relative_variance": measured(1.0)}
    runs.append(a_measure("FG-A", **late) | preset("FG-A"))
    runs.append(a_run("FG-A", 9, [0.9]))  # backprop has no such seed
    return stored(folder, *unique(runs))


def test_variance_and_learning_are_joined_and_paired(tmp_path: Path) -> None:
    records = paired(tmp_path)
    table = variance_and_learning.plotted(records).set_index("method")
    assert len(table) == 6
    assert table.loc["FG-A", "value"] == 2290  # the moment of the others
    assert table["others"].to_dict() == dict.fromkeys(table.index, 0) | {"FG-A": 1}
    ends = table.loc["FG-A", ["gap_points", "gap_low", "gap_high"]].astype(float)
    np.testing.assert_allclose(ends, 5)  # paired: no spread
    assert set(table["n"]) == {3}
    assert table.loc["DFA", "value"] == 0
    fig = picture(variance_and_learning, records)
    assert faults(fig) == []
    noisy = table[table["value"] > 0]
    rho, *_ = variance_and_learning.rank_correlation(noisy["value"], noisy["gap_points"])
    assert f"over 5 configurations with noise: {rho:.2f}, 95 % interval [" in words(fig)
    assert "no noise" in words(fig)
    assert len(variance_and_learning.draw(records, tmp_path / "out")) == 4
    with pytest.raises(UsageError, match=r"^no method both .*; run fgbench measure and"):
        variance_and_learning.draw(stored(tmp_path / "one", a_train("BP")), tmp_path)


def test_variances_drawn_together_are_measured_alike_as_far_as_they_can_be(tmp_path: Path) -> None:
    runs = [a_run("BP", 0, [0.1])]
    runs += [a_run(method, 0, [0.3]) for method in ("FG-A", "NP", "FG-W", "LG-FG-W")]

    def at(method: str, value: float, when: list[float], draws: int = 256, **settings: Any) -> None:
        known = {"moments": when, "draws": draws, "settings": {"draws": draws, **settings}}
        found = a_measure(method, relative_variance=measured(value), **known)
        runs.append(found | preset(method))

    for method in ("FG-A", "NP"):
        at(method, 5.0, [1.0, 5.0])
    at("FG-W", 6.0, [1.0, 5.0], along="own")
    at("FG-A", 1.0, [0.0], draws=4096)
    at("FG-A", 2.0, [1.0, 5.0], draws=8)
    at("FG-A", 3.0, [1.0, 5.0], draws=4096, along="own")
    at("LG-FG-W", 7.0, [0.0])
    records = stored(tmp_path, *unique(runs))
    table = variance_and_learning.plotted(records).set_index("method")
    assert table["value"].to_dict() == {"FG-A": 5, "NP": 5, "FG-W": 6, "LG-FG-W": 7}
    assert table["others"].to_dict() == {"FG-A": 3, "NP": 0, "FG-W": 0, "LG-FG-W": 0}
    found = words(picture(variance_and_learning, records))
    assert "It pools variances of 3 kinds of moments" in found
    kinds = "at epoch 0; over epochs 1, 5; over epochs 1, 5 along own training"
    assert f"Horizontal: variance {kinds} and" in found
    assert "up to 3 others are not: the one along the trajectory that all share" in found
    found = words(picture(variance_and_learning, paired(tmp_path / "alike")))
    assert "pools" not in found


def test_a_training_is_paired_with_its_own_directions(tmp_path: Path) -> None:
    one, many = {"options": {"directions": 1}}, {"options": {"directions": 48}}
    many |= {"directions": 48, "budget": {"asked": 50.0, "spent": 50.0, "note": ""}}
    runs = [a_run("BP", 0, [0.1]), a_run("FG-A", 0, [0.2], **one)]
    runs.append(a_measure("FG-A", relative_variance=measured(1.2), **many) | preset("FG-A"))
    assert variance_and_learning.plotted(stored(tmp_path / "many", *unique(runs))).empty
    runs.append(a_measure("FG-A", **one, seed=1) | preset("FG-A"))
    table = variance_and_learning.plotted(stored(tmp_path / "both", *unique(runs)))
    assert table["value"].tolist() == [2290]


def test_captions_say_where_methods_trained_for_other_lengths(tmp_path: Path) -> None:
    runs = [a_run("BP", 0, [0.1], epochs=8), a_run("FG-A", 0, [0.2], epochs=42)]
    runs += [r(m) for m in ("BP", "FG-A") for r in (a_speed_of, a_measure_of)]
    records = stored(tmp_path / "other", *unique(runs))
    rooms: dict[Any, Any] = dict.fromkeys((time_to_target, cost, variance_and_learning), everything)
    rooms[profiles] = profiles.scores
    for room, source in rooms.items():
        assert "Epochs differ: BP 8, FG-A 42." in words(picture(room, source(records)))
    alike = stored(tmp_path / "alike", *unique([{**r, "epochs": 8} for r in runs]))
    for room, source in rooms.items():
        assert "Trained for 8 epochs." in words(picture(room, source(alike)))


def a_speed_of(method: str) -> dict[str, Any]:
    return a_speed(method, 1.0) | preset(method)


def a_measure_of(method: str) -> dict[str, Any]:
    return a_measure(method, moments=[0.0]) | preset(method)


# history

METHODS = ["FG-A", "LG-FG-A"]
TRACKED = "quality.Training.track_test_error"
TIMED = "cost.Step.track_seconds"
ERRORS = [0.10, 0.101, 0.099, 0.1, 0.101, 0.2, 0.199, 0.201, 0.2, 0.199]  # doubles at the sixth


def asv_results(folder: Path) -> Path:
    """Ten commits as asv 0.6 writes them, columns with nothing in them cut off at the end."""
    columns = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a"]
    columns += ["stats_ci_99_b", "stats_q_25", "stats_q_75", "stats_number", "stats_repeat"]
    columns += ["samples", "profile"]
    (folder / "box").mkdir(parents=True)
    (folder / "box" / "machine.json").write_text('{"machine": "box", "version": 1}')
    units = {TRACKED: {"unit": "error fraction"}, TIMED: {"unit": "seconds"}, "version": 2}
    (folder / "benchmarks.json").write_text(json.dumps(units))
    for at, error in enumerate(ERRORS):
        names = [[repr(method) for method in METHODS]]
        both = [error, 0.05]
        spread = [[value * factor for value in both] for factor in (0.9, 1.1, 0.95, 1.05)]
        results = {
            TRACKED: [both, names, "1", 1700000000000, 2.5, *spread, [1, 1], [10, 10]],
            TIMED: [[0.5 + 0.001 * at], [], "1", 1700000000000, 2.5],
            "quality.Training.track_failed": [None, [], "1", 1700000000000, 2.5],
            "quality.Training.track_skipped": [[None, None], names, "1"],
        }
        one = {
            **{"commit_hash": f"{9 - at:x}" * 40, "env_name": "virtualenv-py3.11"},
            **{"date": 1700000000000 + 86400000 * at, "params": {"machine": "box"}},
            **{"python": "3.11", "requirements": {}, "env_vars": {}, "result_columns": columns},
            **{"results": results, "durations": {}, "version": 2},
        }
        name = f"{one['commit_hash'][:8]}-{one['env_name']}.json"
        (folder / "box" / name).write_text(json.dumps(one))
    (folder / "box" / "old.json").write_text('{"version": 1, "results": {}}')
    return folder


def test_results_of_asv_are_read_by_commit_and_parameter(tmp_path: Path) -> None:
    results = history.read(asv_results(tmp_path))
    assert results.damaged == {"box/old.json": "ValueError: version 1 of asv's format"}
    table = history.plotted(results)
    assert set(table["benchmark"]) == {TRACKED, TIMED}
    mine = table[table["label"] == "FG-A"]
    assert mine["value"].tolist() == ERRORS  # by date, not by name of a commit
    assert mine["commit"].str[0].tolist() == list("9876543210")
    assert set(mine["n"]) == {10}
    np.testing.assert_allclose(mine["low"], 0.9 * mine["value"])
    assert set(table[table["label"] == "LG-FG-A"]["value"]) == {0.05}
    assert table[table["benchmark"] == TIMED]["label"].unique().tolist() == ["no parameter"]
    assert table[table["benchmark"] == TIMED]["n"].isna().all()


@pytest.mark.parametrize("text", ['{"a": ', "[1]", '"\\ud800"', "7"])
def test_damaged_units_are_named_and_numbers_read_without_them(text: str, tmp_path: Path) -> None:
    folder = asv_results(tmp_path)
    (folder / "benchmarks.json").write_text(text)
    results = history.read(folder)
    assert set(results.damaged) == {"benchmarks.json", "box/old.json"}
    table = history.plotted(results)
    assert set(table["unit"]) == {""}
    assert table[table["label"] == "FG-A"]["value"].tolist() == ERRORS
    assert "Not readable: benchmarks.json, box/old.json" in words(picture(history, results))


def test_the_format_is_that_of_asv(tmp_path: Path) -> None:
    asv = pytest.importorskip("asv.results", reason="asv is not installed")
    folder = asv_results(tmp_path)
    (folder / "box" / "old.json").unlink()
    mine = history.plotted(history.read(folder))
    for file in (folder / "box").glob("[0-9]*.json"):
        theirs = asv.Results.load(str(file), "box")
        for name in (TRACKED, TIMED):
            values = theirs.get_result_value(name, theirs.get_result_params(name))
            here = mine[mine["commit"].eq(theirs.commit_hash) & mine["benchmark"].eq(name)]
            assert here["value"].tolist() == values


def test_change_points_and_levels_are_drawn(tmp_path: Path) -> None:
    results = history.read(asv_results(tmp_path))
    table = history.plotted(results)
    changed = table[table["changed"] & table["benchmark"].eq(TRACKED)]
    assert changed[["label", "position"]].to_numpy().tolist() == [["FG-A", 5]]
    assert set(table.loc[table["label"].eq("LG-FG-A"), "level"]) == {0.05}
    fig = picture(history, results)
    assert faults(fig) == []
    assert f"change points ({table['changed'].sum()}), a new level of 2 commits or more" in words(
        fig
    )
    assert "Not readable: box/old.json" in words(fig)
    assert len(history.draw(results, tmp_path / "out")) == 4


def test_few_commits_are_joined_without_change_points(tmp_path: Path) -> None:
    folder = asv_results(tmp_path)
    for at in range(3):
        (folder / "box" / f"{8 * str(9 - at)}-virtualenv-py3.11.json").unlink()
    results = history.read(folder)
    table = history.plotted(results)
    assert table["level"].isna().all()
    assert not table["changed"].any()
    assert "change points are looked for from 8 commits on" in words(picture(history, results))


def test_a_folder_of_the_other_kind_is_the_users_mistake(tmp_path: Path) -> None:
    records = stored(tmp_path / "records", a_train("BP"))
    with pytest.raises(UsageError, match=r"^no result of asv in .*; run asv run"):
        draw.draw("history", records.folder, tmp_path)
    folder = asv_results(tmp_path / "asv")
    with pytest.raises(UsageError, match="no readable record in"):
        draw.draw("bias", folder, tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        draw.draw("history", tmp_path / "nowhere", tmp_path)
