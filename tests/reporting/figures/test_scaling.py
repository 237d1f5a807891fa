"""Figures over a swept quantity and over sites, from records as the verb writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from fgbench.errors import UsageError
from fgbench.reporting.figures import (
    advantage,
    bias,
    efficiency,
    layers,
    progress,
    scaling,
)
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.plotting.power_law import Power, power
from fgbench.runs.sweep import read
from fgbench.runs.sweep.cells import count, expand
from tests.makers.layout import faults, picture, texts
from tests.makers.records import a_measure, a_train, measured, stored
from tests.makers.swept import swept, unique

SWEEPS = [
    f"variance-{name}"
    for name in (
        *("directions", "size", "batch", "fan-in"),
        *("patches", "groups", "distance", "law", "mnist"),
    )
]


def sampled(exponent: float, runs: int, seed: int) -> list[Power]:
    """Fits to planted power laws: 5 points of 5 lognormal replicates, of unequal spread."""
    points = replicates = 5
    rng = np.random.default_rng(seed)
    x = 2.0 ** np.arange(points)
    spread = np.geomspace(0.05, 0.4, points)
    found = []
    for _ in range(runs):
        logs = exponent * np.log(x) + spread * rng.normal(size=(replicates, points))
        error = logs.std(0, ddof=1) / replicates**0.5
        half = 2.7764451052 * error  # t with 4 degrees of freedom
        mean = logs.mean(0)
        ends = np.exp(mean), np.exp(mean - half), np.exp(mean + half)
        found.append(power(x, *ends, np.full(points, replicates)))
    return found


def test_an_exact_law_is_found_exactly() -> None:
    x = np.array([1.0, 3.0, 10.0, 40.0])
    y = 7 * x**-1.5
    law = power(x, y, 0.9 * y, 1.1 * y, np.full(4, 5))
    assert law.exponent == pytest.approx(-1.5, abs=1e-12)
    assert law.scale == pytest.approx(7)
    np.testing.assert_allclose(law.at(x), y)
    # weights equal: Var = s² / Σ(u − ū)², t of Satterthwaite's 16 to 4 degrees of freedom
    u = np.log(x)
    error = np.log(1.1 / 0.9) / 2 / 2.7764451052 / ((u - u.mean()) ** 2).sum() ** 0.5
    assert 1.96 * error < law.high - law.exponent < 2.78 * error


def test_the_interval_holds_the_planted_exponent_and_rejects_another() -> None:
    """400 runs; coverage is .95 or more, so that fewer than 365 have odds below 1e-3."""
    laws = sampled(-1.0, 400, seed=1)
    assert sum(law.low <= -1.0 <= law.high for law in laws) >= 365
    assert sum(law.low <= -0.5 <= law.high for law in laws) <= 20


def test_a_precise_point_weighs_more_and_misfit_widens() -> None:
    x, y, n = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 8.0]), np.full(3, 5)
    wide = np.array([1.01, 1.01, 3.0])
    law = power(x, y, y / wide, y * wide, n)
    assert law.exponent == pytest.approx(1.0, abs=0.01)
    alike = power(x, y, np.full(3, np.nan), np.full(3, np.nan), n)
    assert alike.exponent == pytest.approx(1.5)
    narrow = power(x, y, y / 1.0001, y * 1.0001, n)
    assert narrow.low < 1.0 < 2.0 < narrow.high  # the points are on no line: scatter decides
    exact = power(x, x**2, x**2, x**2, n)
    assert exact.exponent == pytest.approx(2)
    assert np.isfinite([exact.low, exact.high]).all()


def test_two_points_have_no_slope() -> None:
    law = power([1, 2, 2], [1, 2, 2.1], [1, 2, 2], [1, 2, 2], [5, 5, 5])
    assert np.isnan(law.exponent)
    assert str(Power(-1.0, -1.02, -0.98)) == "−1.00 [−1.02, −0.98]"
    assert str(Power(-1.0, -1.002, -0.998)) == "−1.0000 [−1.0020, −0.9980]"


@pytest.fixture(scope="module")
def by_directions(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    runs = [swept(k, m, v) for m, v in (("FG-W", 4161.0), ("FG-A", 280.0)) for k in (1, 4, 16)]
    runs.append(a_measure("BP", arch="mlp-1x8"))  # exact: nothing to draw
    return stored(tmp_path_factory.mktemp("directions"), *unique(runs)).measures()


def test_directions_are_one_series_whose_slope_is_minus_one(by_directions: pd.DataFrame) -> None:
    table = scaling.plotted(by_directions, "directions")
    assert table["method"].tolist() == ["FG-W"] * 3 + ["FG-A"] * 3
    assert table["x"].tolist() == [1, 4, 16] * 2
    np.testing.assert_allclose(table["slope"], -1)
    np.testing.assert_allclose(table["slope_predicted"], -1)
    assert (table["slope_low"] < -1).all()
    assert (table["slope_high"] > -1).all()
    fig = picture(scaling, by_directions, name="directions")
    assert fig.get_figwidth() == 3.25
    assert faults(fig) == []
    words = " ".join(texts(fig)).replace("\n", " ")
    (ax,) = fig.axes
    head, *fits = (text.get_text() for text in ax.texts)
    assert head == "slope [95 %]"
    assert len(fits) == 2
    assert all(re.fullmatch(r"−1\.00 \[.*\]\ntheory −1\.00", fit) for fit in fits)
    assert "64 draws" not in words
    assert "256 draws × 5 inits × 1 batch" in words
    bars = [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    assert len(bars) == 6
    theory = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [list(map(float, line.get_ydata())) for line in theory] == [  # type: ignore[arg-type]
        [v / k for k in (1, 4, 16)] for v in (4161.0, 280.0)
    ]


def test_points_of_one_line_are_measured_alike_and_count_once(tmp_path: Path) -> None:
    runs = [swept(k, "FG-A", 280.0, inits=1, batches=4) for k in (1, 2, 4)]
    runs += [swept(k, "FG-A", 9.0, inits=4, batches=1, draws=32) for k in (8, 16)]
    runs[4] |= {"settings": {"cost": 10.0}}  # as if 16 directions had been stated
    again = {"relative_variance": measured(100.0, 0.1, 5)}
    runs += [{**runs[2], **again, "draws": 512, "settings": {"draws": 512}}]
    runs += [{**runs[2], "draws": 16, "settings": {"draws": 16}}]
    runs += [swept(32, "FG-A", 7.0, inits=1, batches=4, settings={"precision": 0.1})]  # alone
    table = scaling.plotted(stored(tmp_path / "a", *unique(runs)).measures(), "directions")
    assert list(table[["method", "x", "value"]].itertuples(index=False, name=None)) == [
        ("FG-A, batches=1, inits=4", 8, 9 / 8),
        ("FG-A, batches=1, inits=4", 16, 9 / 16),
        ("FG-A, batches=4, inits=1", 1, 280),
        ("FG-A, batches=4, inits=1", 2, 140),
        ("FG-A, batches=4, inits=1", 4, 100),
    ]
    runs = [swept(1, "FG-A", 9.0, batch=b, settings={"cost": 4.0}) for b in (4, 16)]
    runs = [run | {"directions": k} for run, k in zip(runs, (1, 8), strict=True)]
    table = scaling.plotted(stored(tmp_path / "b", *unique(runs)).measures(), "batch")
    assert table["x"].tolist() == [4, 16]  # at one cost
    runs = [run | {"settings": {}} for run in runs]
    assert scaling.plotted(stored(tmp_path / "c", *unique(runs)).measures(), "batch").empty


def test_theory_is_drawn_only_where_there_is_one(tmp_path: Path) -> None:
    runs = [swept(k, "FG-A", 9.0) | {"predicted_variance": None} for k in (1, 2, 4)]
    fig = picture(scaling, stored(tmp_path, *unique(runs)).measures(), name="directions")
    found = " ".join(texts(fig))
    assert "theory" not in found.partition("Slopes")[0]
    assert "Dashed" not in found
    assert np.isnan(
        scaling.plotted(stored(tmp_path).measures(), "directions")["slope_predicted"]
    ).all()


def sizes() -> list[dict[str, Any]]:
    found = []
    for method in ("FG-W", "FG-A"):
        for depth, width in ((3, 16), (3, 32), (3, 64), (1, 32), (2, 32)):
            d = 65 * width + (depth - 1) * (width + 1) * width
            value = d + 1.0 if method == "FG-W" else 3.0 * width
            arch = f"mlp-{depth}x{width}"
            found.append(swept(1, method, value, arch=arch, data="digits", elements=d))
    return unique(found)


def test_width_and_depth_are_panels_and_all_sizes_one_series(tmp_path: Path) -> None:
    measures = stored(tmp_path, *sizes()).measures()
    table = scaling.plotted(measures, "size")
    assert table.groupby(["factor", "arch"], sort=False).size().to_dict() == {
        ("width", "mlp-3x*"): 6,
        ("depth", "mlp-*x32"): 6,
    }
    activity = table[(table["method"] == "FG-A") & (table["factor"] == "width")]
    np.testing.assert_allclose(activity["slope"], 1)
    whole = scaling.plotted(measures, "parameters")
    assert whole.groupby("method").size().to_dict() == {"FG-A": 5, "FG-W": 5}
    assert whole["slope"].isna().all()  # width and depth mixed are no power law
    for fig, width in (
        (picture(scaling, measures, name="size"), 6.75),
        (picture(scaling, measures, name="parameters"), 3.25),
    ):
        assert fig.get_figwidth() == width
        assert faults(fig) == []


def test_networks_of_two_kinds_are_no_line(tmp_path: Path) -> None:
    sized = {"mlp-1x8": 80, "mlp-1x16": 160, "mlp-1x16[activation=tanh]": 160, "cnn": 320}
    sized |= {"localmixer-xs/2/4": 500, "localmixer-xs/2/4[channels=64]": 900}
    runs = [swept(1, "FG-A", 9.0, arch=arch, elements=d) for arch, d in sized.items()]
    table = scaling.plotted(stored(tmp_path, *unique(runs)).measures(), "parameters")
    assert table.groupby("arch")["x"].apply(list).to_dict() == {
        "mlp-*": [80, 160],
        "localmixer-*": [500, 900],
    }


def test_the_batch_and_fan_in_are_read(tmp_path: Path) -> None:
    runs = [swept(1, "FG-A", 9.0, batch=b) for b in (4, 16, 64)]
    table = scaling.plotted(stored(tmp_path / "batch", *unique(runs)).measures(), "batch")
    assert table["x"].tolist() == [4, 16, 64]
    np.testing.assert_allclose(table["slope"], 0, atol=1e-12)
    runs = [
        swept(1, "FG-W", 8.0 * (n + 1) + 1, arch="mlp-1x8", data=f"synthetic[size={s}]")
        | {"elements": 8 * (n + 1)}
        for s, n in ((2, 4), (4, 16), (8, 64))
    ]
    runs.append(swept(1, "FG-W", 99.0, arch="mlp-2x8"))  # no one fan-in
    table = scaling.plotted(stored(tmp_path / "fan", *unique(runs)).measures(), "fan_in")
    assert table["x"].tolist() == [4, 16, 64]
    assert table["data"].unique().tolist() == ["synthetic, batch 16"]


def test_other_batches_and_moments_are_other_panels(tmp_path: Path) -> None:
    runs = [
        swept(k, "FG-A", 9.0, batch=b, moments=[m]) for k in (1, 4) for b in (4, 8) for m in (0, 5)
    ]
    table = scaling.plotted(stored(tmp_path, *unique(runs)).measures(), "directions")
    assert sorted(set(table["data"])) == [
        "mnist, batch 4",
        "mnist, batch 4, after epochs 5",
        "mnist, batch 8",
        "mnist, batch 8, after epochs 5",
    ]


def test_the_advantage_is_a_quotient_of_records_that_differ_by_method_alone(tmp_path: Path) -> None:
    runs = [
        swept(1, method, value, arch=arch)
        for arch, pair in {"mlp-1x8": (600.0, 12.0), "mlp-1x16": (1200.0, 25.0)}.items()
        for method, value in zip(("FG-W", "FG-A"), pair, strict=True)
    ]
    runs.append(swept(1, "FG-W", 70.0, arch="mlp-1x8", batch=4))  # nothing to divide it by
    runs.append(swept(1, "FG-W", 70.0, arch="mlp-1x8", inits=2, settings={"inits": 2}))
    fewer = {"draws": 16, "settings": {"draws": 16}}  # of runs[0], no second pair
    runs.append(runs[0] | fewer | {"relative_variance": measured(70.0, 0.1, 5)})
    share = {"fg_w": {"share": "b"}, "fg_a": {"share": "none"}}  # what each is by itself
    runs = [run | {"options": share[run["estimator"]]} for run in runs]
    measures = stored(tmp_path, *unique(runs)).measures()
    table = advantage.plotted(measures)
    assert table["factor"].tolist() == table["predicted"].tolist() == [48.0, 50.0]
    half = 2**0.5 * np.log(1.1 / 0.9) / 2
    np.testing.assert_allclose(np.log(table["high"] / table["factor"]), half)
    np.testing.assert_allclose(np.log(table["factor"] / table["low"]), half)
    fig = picture(advantage, measures)
    assert faults(fig) == []
    assert any("2 pairs of records" in text.replace("\n", " ") for text in texts(fig))


@pytest.fixture(scope="module")
def by_site(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    places: dict[str, Any] = {}
    for at, (value, adjusted) in enumerate(((0.2, 0.01), (None, 0.9), (0.4, 0.06))):
        found = {**measured(value), "p_value": 0.01, "p_adjusted": adjusted, "detectable": 0.3}
        found |= {"low": 0.0, "high": 0.9}
        variance = {"relative_variance": measured(9.0 - at), "predicted_variance": 9.5 - at}
        places[f"body.{at}.l0"] = {"bias": found, **variance}
    runs = [
        a_measure(m, per_site=places, data=d) for m in ("FG-A", "DFA") for d in ("mnist", "digits")
    ]
    return stored(tmp_path_factory.mktemp("sites"), *runs).measures()


def test_sites_are_in_the_order_of_the_network(by_site: pd.DataFrame) -> None:
    table = layers.plotted(by_site)
    assert len(table) == 4 * 3
    assert table["position"].tolist() == [1, 2, 3] * 4
    assert table["value"].tolist() == [9.0, 8.0, 7.0] * 4
    assert table["predicted"].tolist() == [9.5, 8.5, 7.5] * 4
    fig = picture(layers, by_site)
    assert faults(fig) == []
    assert {ax.get_yscale() for ax in fig.axes} == {"log"}
    theory = [line for line in fig.axes[0].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in theory] == [[9.5, 8.5, 7.5]] * 2  # type: ignore[arg-type]


def test_a_bias_is_filled_where_it_is_found_after_adjustment(by_site: pd.DataFrame) -> None:
    table = bias.plotted(by_site)
    assert table["found"].tolist() == [True, False, False] * 4
    fig = picture(bias, by_site)
    assert faults(fig) == []
    ax = fig.axes[0]
    marks = {
        float(y): line.get_markerfacecolor()
        for line in ax.lines
        if line.get_marker() not in ("_", "None")
        for y in np.asarray(line.get_ydata(), dtype=float)
        if np.isfinite(y)
    }
    assert marks[0.4] == "w"
    assert marks[0.2] != "w"
    dashes = [line for line in ax.lines if line.get_marker() == "_"]
    assert [list(line.get_ydata()) for line in dashes] == [[0.3] * 3] * 2  # type: ignore[arg-type]
    assert ax.get_ylim()[0] == 0
    assert set(table["over"]) == {"points"}
    assert "95 % intervals (over inits, moments and" in " ".join(texts(fig)).replace("\n", " ")
    ends = by_site.assign(draws_low=0.05, draws_high=0.7).where(
        by_site["quantity"].eq("bias"), by_site
    )
    of_draws = bias.plotted(ends)
    assert set(of_draws["over"]) == {"draws"}
    assert set(of_draws["low"]) == {0.05}
    assert set(of_draws["high"]) == {0.7}
    found = " ".join(texts(picture(bias, ends))).replace("\n", " ")
    assert "95 % intervals (over draws, as the test is)" in found
    assert ax.get_ylim()[1] >= 0.9  # no bar is cut


def test_efficiency_is_drawn_over_its_cost_and_what_is_unresolved_is_named(tmp_path: Path) -> None:
    price = {"forward_equivalents": 4.0}
    runs = [a_measure(m, cost=price) for m in ("BP", "FG-A", "NP")]
    runs.append(a_measure("FG-W", cost=price, efficiency=measured(None)))
    measures = stored(tmp_path, *runs).measures()
    table = efficiency.plotted(measures)
    assert table["method"].tolist() == ["BP", "FG-A", "NP"]
    np.testing.assert_allclose(table["per_forward"], table["value"] / 4)
    fig = picture(efficiency, measures)
    assert faults(fig) == []
    found = " ".join(texts(fig)).replace("\n", " ")
    assert "Not resolved, so without a point: FG-W." in found


def test_progress_counts_seconds_and_forward_passes(tmp_path: Path) -> None:
    price = {"forward_equivalents": 3.0}
    runs = [a_train(m, s, epochs=4, cost=price) for m in ("BP", "FG-A") for s in range(3)]
    lost = {"status": "diverged", "reason": "loss not finite"}
    runs.append(a_train("FG-A", 3, epochs=4, cost=price, **lost))
    curves = stored(tmp_path, *runs).curves()
    table = progress.plotted(curves)
    assert table.groupby(["method", "run"]).size().to_dict() == {
        ("BP", "mean"): 5,
        ("FG-A", "mean"): 5,
        ("FG-A", "seed 3"): 5,
    }
    np.testing.assert_allclose(table["passes"], 3 * table["epoch"])
    np.testing.assert_allclose(table["seconds"], 2.5 * table["epoch"])
    fig = picture(progress, curves)
    assert faults(fig) == []
    assert [ax.get_xlabel().partition("\n")[0] for ax in fig.axes] == [
        "epochs",
        "seconds of training",
        "forward equivalents",
    ]
    bare = stored(tmp_path / "old", *[a_train("BP", s, epochs=4) for s in range(3)]).curves()
    assert len(picture(progress, bare).axes) == 2  # a record that tells no cost has no such panel


@pytest.mark.parametrize(
    "name",
    [
        "directions",
        "size",
        "parameters",
        "batch",
        "fan_in",
        "advantage",
        "alignment",
        "layers",
        "bias",
        "efficiency",
        "progress",
        "cosine",
        "split",
        "distance",
        "patches",
        "channel_groups",
    ],
)
def test_without_what_it_shows_a_figure_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    records = stored(tmp_path, a_train("BP", history=[]))
    with pytest.raises(UsageError, match=r"^no .*; run fgbench ") as caught:
        FIGURES[name].draw()(records, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SWEEPS)
def test_measuring_sweeps_are_small(name: str) -> None:
    plan = read.read(name)
    assert plan.verb == "measure"
    cells = expand(plan)
    assert 6 <= count(cells) <= 40
    assert all(cell.options["inits"] >= 5 for cell in cells)
