"""Tables, figures and the report, from records as the verbs write them."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from fgbench.errors import UsageError
from fgbench.records.schema import SCHEMA
from fgbench.reporting.figures import cost, layers, learning_curves, relative_variance
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import load
from fgbench.reporting.frames.method_names import called
from fgbench.reporting.frames.seed_means import mean_interval
from fgbench.reporting.frames.settings import labels
from fgbench.reporting.plotting import style
from fgbench.reporting.site import build, plotly_figures
from tests.makers.compared import a_compare, against
from tests.makers.layout import faults, picture, texts
from tests.makers.paths import ROOT
from tests.makers.records import (
    FINAL,
    VARIANCES,
    WHERE,
    a_curve,
    a_measure,
    a_speed,
    a_train,
    measured,
    record,
    stored,
)

# loading


def test_a_folder_without_records_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no readable record in .*; write some"):
        load(tmp_path)
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(UsageError, match=r"no readable record .*cut\.json: not readable") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_measures_have_a_row_per_place_and_quantity(tmp_path: Path) -> None:
    table = stored(tmp_path, a_measure("FG-A", seed=3)).measures()
    assert len(table) == 9 + 1
    assert set(table["method"]) == set(table["label"]) == {"FG-A"}
    assert set(table["seed"]) == {3}
    by = table.set_index(["place", "quantity"])
    whole = by.loc["all", "relative_variance"]
    assert whole[["value", "low", "high", "n"]].tolist() == [2290, 2290 * 0.88, 2290 * 1.12, 10]
    assert whole["predicted"] == 2304
    assert whole[["draws", "inits", "batches", "moments"]].tolist() == [256, 10, 1, "end"]
    assert by.loc["body.0.l0", "relative_variance"]["predicted"] == 5.1
    bias = by.loc["all", "bias"]
    assert bias[["p_value", "detectable"]].tolist() == [0.4, 0.2]
    assert np.isnan(bias["predicted"])
    assert by.loc["all", "expected_cosine"]["value"] == 0.1  # a bare number
    assert np.isnan(by.loc["all", "expected_cosine"]["low"])
    assert table["predicted"].notna().sum() == 2


def test_a_null_is_nan_and_a_missing_number_has_no_row(tmp_path: Path) -> None:
    record = a_measure("FG-A", efficiency={"value": None, "low": 0.0, "high": 0.01, "n": 64})
    del record["cosine"]
    table = stored(tmp_path, record).measures().set_index("quantity")
    assert np.isnan(table.loc["efficiency", "value"])
    assert table.loc["efficiency", "high"] == 0.01
    assert "cosine" not in table.index


def test_curves_have_a_row_per_epoch_and_split(tmp_path: Path) -> None:
    record = a_train("FG-A", seed=2, epochs=3)
    table = stored(tmp_path, record).curves()
    assert len(table) == 2 * 4
    last = table.set_index(["split", "epoch"]).loc["test", 3]
    assert last["error"] == record["test_error"]
    assert last["loss"] == record["test_loss"]
    assert last["seconds"] == 7.5
    assert last["seed"] == 2
    assert last["chance"] == 0.9


def test_speeds_have_a_row_per_quantity(tmp_path: Path) -> None:
    table = stored(tmp_path, a_speed("FG-A", 0.8)).speeds().set_index("quantity")
    assert table["value"].to_dict() == {
        "step_ms": 10.0,
        "ratio_to_bp": 0.8,
        "peak_mb": 81.0 * 0.8,
        "peak_ratio_to_bp": 0.8,
    }
    assert set(table["batch"]) == {128}


def test_other_verbs_and_empty_tables_keep_their_columns(tmp_path: Path) -> None:
    records = stored(tmp_path, a_compare("FG-A", 0.1, against()))
    for table, column in [
        (records.measures(), "relative"),
        (records.curves(), "error"),
        (records.speeds(), "value"),
    ]:
        assert table.empty
        assert column in {*table.columns, "relative"}


@pytest.mark.slow
def test_what_is_old_or_missing_is_read_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", lambda *_: [])  # figures are drawn, not rendered
    old = a_measure("FG-A", schema=0)
    bare = {"schema": 0, "verb": "measure", "method": "NP", "status": "ok"}
    bare["relative_variance"] = 5.0
    newer = a_measure("FG-A", started="2025-01-02T00:00:00", relative_variance=measured(7.0))
    odd = {**a_train("BP"), "history": "lost", "settings": None}
    part = a_train("FG-A")
    del part["history"], part["test_error"]
    failed = record("measure", "FA", status="failed", reason="out of memory")
    for at, each in enumerate([newer, old, bare, odd, part, failed]):
        (tmp_path / f"{at}.json").write_text(json.dumps(each))
    records = load(tmp_path)
    assert len(records.rows) == 5
    assert list(records.damaged) == ["3.json"]  # a history that is no list
    notes = "\n".join(records.notes)
    assert f"2 records of measure: schema 0, this version writes {SCHEMA}" in notes
    assert "1 record of measure: not used, there is a later run of the same case" in notes
    assert "1 record of train: without test_error, history" in notes
    assert "without key, case_key, estimator" in notes
    assert "about" not in notes  # which matters where it is shown
    assert "FA" not in notes  # a failed run owes no numbers
    values = records.measures().query("quantity == 'relative_variance' and place == 'all'")
    assert sorted(values["value"]) == [5.0, 7.0]
    assert records.curves().empty
    assert build.write(tmp_path, tmp_path / "site").exists()


def test_labels_name_only_the_settings_that_vary() -> None:
    slow = a_train("FG-A", settings={"lr": 0.01, "optimizer": "sgd"})
    fast = a_train("FG-A", settings={"lr": 0.1, "optimizer": "sgd"})
    other = a_train("BP", settings={"lr": 1.0})
    elsewhere = a_train("BP", settings={"lr": 0.5}, arch="cnn-small")
    assert labels([slow, fast, other, elsewhere]) == ["FG-A, lr=0.01", "FG-A, lr=0.1", "BP", "BP"]
    assert labels([a_train("FG-A", seed=s) for s in range(3)]) == ["FG-A"] * 3
    alone, four = (a_speed("BP", 1.0) | {"where": {**WHERE, "threads": n}} for n in (1, 4))
    assert labels([alone, four]) == ["BP, threads=1", "BP, threads=4"]
    other = {"where": {**WHERE, "threads": 4}}
    assert labels([a_train("BP"), a_train("BP", 1, **other)]) == ["BP"] * 2  # errors are the same
    moved = {"where": {**WHERE, "data_fingerprint": "beef"}}
    prints = [f"BP, data_fingerprint={name}" for name in ("f00d", "beef")]
    assert labels([a_train("BP"), a_train("BP", **moved)]) == prints
    paid: dict[str, Any] = {"budget": {"asked": 50.0}}
    bought = [a_measure("FG-A", options={"directions": n}, **paid) for n in (48, None, "many")]
    assert [labels([row])[0] for row in bought] == ["FG-A[directions=48]", "FG-A", "FG-A"]
    old = a_measure("FG-A", settings={"draws": 64})
    new = a_measure("FG-A", settings={"draws": 64, "cost": None, "along": "backprop"})
    dear = a_measure("FG-A", settings={"draws": 64, "cost": 64.0, "along": "own"})
    assert labels([old, new]) == ["FG-A"] * 2  # what was not set, or is set to what it always was
    few, many = (
        a_measure("FG-A", settings={"draws": n, "precision": 0.02}, draws=457) for n in (64, 99)
    )
    assert labels([few, many]) == ["FG-A"] * 2  # a precision decides the draws
    assert labels([old, few]) == ["FG-A, draws=64", "FG-A, precision=0.02"]
    assert labels([old, new, dear]) == ["FG-A"] * 2 + ["FG-A, along=own, cost=64"]


# style

# Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB
SIGHT = {
    "normal": np.eye(3),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def lab(colour: str, sight: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE Lab of a colour as somebody sees it."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(sight @ linear, 0, 1) / XYZ.sum(1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours: list[str], sight: str) -> float:
    pairs = itertools.combinations([lab(colour, SIGHT[sight]) for colour in colours], 2)
    return min(float(np.linalg.norm(a - b)) for a, b in pairs)


@pytest.mark.parametrize("sight", SIGHT)
def test_preset_colours_differ_in_every_kind_of_sight(sight: str) -> None:
    assert nearest([look.colour for look in style.PRESETS.values()], sight) > 13


def test_the_check_of_sight_rejects_red_and_green() -> None:
    assert nearest(["#a05000", "#607000"], "normal") > 13
    assert nearest(["#a05000", "#607000"], "deutan") < 13


def test_presets_also_differ_by_marker_and_from_all_other_methods() -> None:
    presets = {str(look.marker) for look in style.PRESETS.values()}
    assert len(presets) == len(style.PRESETS)
    assert not presets & {str(marker) for marker in style.OTHER_MARKERS}


@pytest.mark.slow
def test_a_method_has_one_look_in_every_process_and_none_loads_torch() -> None:
    assert list(style.PRESETS)[:7] == "BP L-BP LG-BP FG-W LG-FG-W FG-A LG-FG-A".split()  # noqa: SIM905
    assert style.look("FG-A") == style.Look("#d55e00", "8")
    names = ["mine/end", "fg_a[directions=4]/local-pg", "cv[base=dfa]/end"]
    code = f"""
import sys
from fgbench.reporting.figures import learning_curves, relative_variance
from fgbench.reporting.frames import load
from fgbench.reporting.plotting import style
from fgbench.reporting.site import build
print([style.look(name) for name in {names}])
sys.exit("torch" in sys.modules)  # nor is a display needed
"""
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    env["PYTHONHASHSEED"] = "7"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([style.look(name) for name in names])
    assert len({style.look(name) for name in names}) == 3


def test_methods_are_ordered_alike_whatever_the_input() -> None:
    names = ["zz", "NP", "BP", "aa", "FG-A", "BP"]
    assert (
        ordering.order(names) == ordering.order(reversed(names)) == ["BP", "FG-A", "NP", "aa", "zz"]
    )


def test_every_preset_with_a_place_in_the_order_has_a_look_of_its_own() -> None:
    assert set(style.PRESETS) == set(ordering.PRESETS)


def test_settings_never_leak_and_the_users_do_not_matter() -> None:
    with mpl.rc_context({"font.size": 31, "axes.facecolor": "red"}):
        before = dict(mpl.rcParams)
        with style.context():
            assert mpl.rcParams["axes.facecolor"] == "white"
            assert mpl.rcParams["font.size"] == 8
        assert dict(mpl.rcParams) == before
        with pytest.raises(ZeroDivisionError):
            fail_inside()
        assert dict(mpl.rcParams) == before


def fail_inside() -> float:
    with style.context():
        return 1 / 0


def test_a_saved_figure_has_its_numbers_beside_it_and_no_date(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [0.1, 1e-9], "y": ["a, b", None]})
    for folder in ("one", "two"):
        fig = Figure(figsize=(1, 0.5))
        paths = style.save(fig, tmp_path / folder, "empty", table)
        assert [path.name for path in paths] == ["empty.png", "empty.pdf", "empty.csv"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    assert paths[2].read_bytes() == b'x,y\n0.1,"a, b"\n1e-09,\n'
    assert b"CreationDate" not in paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (200, 100)


# figures


def test_the_check_of_layout_rejects_overlap_and_clipping() -> None:
    fig = Figure(figsize=(2, 1))
    ax = fig.subplots()
    ax.set_yticks([0.5, 0.51], ["one", "two"])
    ax.set_title("a title that is much longer than the page is wide")
    fig.supxlabel("x")
    assert "one / two" in faults(fig)
    assert any("longer" in fault for fault in faults(fig))


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    many = [a_measure(method) for method in VARIANCES]
    many = [each | ({} if each["relative_variance"]["value"] else {"draws": 4}) for each in many]
    many += [a_measure("FG-A", seed=1), a_measure("FG-A", arch="mlp-3x256")]
    for name, value in {"FG-W": None, "L-BP": 1e-17, "NP": -0.5}.items():
        many.append(a_measure(name, arch="mlp-3x256", relative_variance=measured(value)))
    return stored(tmp_path_factory.mktemp("measures"), *many).measures()


@pytest.fixture(scope="module")
def variances(measures: pd.DataFrame) -> Figure:
    return picture(relative_variance, measures)


def test_the_drawn_variances_are_these(tmp_path: Path) -> None:
    records = stored(
        tmp_path,
        a_measure("NP", scale=measured(0.5, 0.1)),
        a_measure("LG-FG-W", draws=64, heavy_tail=True),
        a_measure("BP"),
        a_measure("FG-A", arch="cnn-small", relative_variance=measured(2.5, 0.2, 4)),
    )
    golden = """\
arch,data,method,label,seed,directions,draws,inits,moments,batches,batch,truth,value,low,high,n,predicted,heavy_tail,unscaled,exactly,status
cnn-small,mnist,FG-A,FG-A,0,1,256.0,10.0,end,1.0,,scheme,2.5,2.0,3.0,4.0,2304.0,False,,,ok
localmixer-m/8/16,mnist,BP,BP,0,1,256.0,10.0,end,1.0,,scheme,0.0,0.0,0.0,10.0,0.0,False,,unbiased,ok
localmixer-m/8/16,mnist,LG-FG-W,LG-FG-W,0,1,64.0,10.0,end,1.0,,scheme,3870.0,3405.6,4334.4,10.0,,True,,,ok
localmixer-m/8/16,mnist,NP,NP,0,1,256.0,10.0,end,1.0,,scheme,2410.0,2120.8,2699.2,10.0,2304.0,False,0.5,,ok
"""
    found = relative_variance.plotted(records.measures()).to_csv(index=False)
    assert re.sub(r"(\d\.\d)0{6,}\d+", r"\1", found) == golden


def test_what_is_not_comparable_is_crossed_and_what_was_lost_is_named(tmp_path: Path) -> None:
    gone = {"value": None, "low": None, "high": None, "n": 0}
    nan = a_measure(
        "FG-W", status="diverged", reason="a draw is not finite", relative_variance=gone
    )
    runs = [
        a_measure("NP", scale=measured(0.5, 0.1)),
        a_measure("FG-A", scale=measured(0.9, 0.1), relative_variance=measured(24.0)),
        nan,
    ]
    lost = record("measure", "FA", status="failed", reason="out of memory")
    table = relative_variance.source(stored(tmp_path, *runs, lost))
    drawn = relative_variance.plotted(table)
    assert drawn["status"].tolist() == ["diverged", "ok", "failed", "ok"]
    assert drawn["unscaled"].dropna().tolist() == [0.5]
    fig = picture(relative_variance, table)
    assert faults(fig) == []
    (ax,) = fig.axes
    (cross,) = (line for line in ax.lines if line.get_marker() == "x")
    assert list(cross.get_xdata()) == [2410.0]
    found = " ".join(texts(fig)).replace("\n", " ")
    assert {"diverged", "failed"} <= set(texts(fig))
    assert "compare by efficiency: NP (scale 0.5). Diverged: FG-W. Failed: FA." in found
    (spec,) = (plotly_figures.variance(part) for _, part in drawn.groupby("arch"))
    (cross,) = (t for t in spec["data"] if t["name"] == "not comparable")
    assert cross["x"] == [2410.0]
    alone = stored(tmp_path / "alone", lost)
    with pytest.raises(UsageError, match="no measured variance"):
        relative_variance.draw(alone, tmp_path / "out")


def test_points_intervals_and_theory_lie_where_the_numbers_are(
    measures: pd.DataFrame, variances: Figure
) -> None:
    ax = next(ax for ax in variances.axes if "localmixer" in ax.get_title(loc="left"))
    drawn = relative_variance.plotted(measures)
    drawn = drawn[(drawn["arch"] != "mlp-3x256") & (drawn["value"] > 0)]
    (bars,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    segments = sorted(tuple(end[0] for end in s) for s in bars.get_segments())
    np.testing.assert_allclose(segments, sorted(zip(drawn["low"], drawn["high"], strict=True)))
    assert all(start[1] == end[1] for start, end in bars.get_segments())  # level
    theory: Any = next(line for line in ax.lines if line.get_marker() == "D").get_xdata()
    np.testing.assert_array_equal(sorted(theory), sorted(drawn["predicted"].dropna()))
    colours = {mpl.colors.to_hex(c) for c in np.asarray(bars.get_colors())}
    assert colours == {style.look(name).colour for name in drawn["method"]}


def test_no_method_is_dropped_and_n_is_stated(variances: Figure) -> None:
    fig = variances
    found = " ".join(texts(fig)).replace("\n", "").replace("  ", " ")
    for method in VARIANCES:
        assert called(method) in found
    assert texts(fig).count("0 (exact)") == 3  # of backprop alone: the feedback methods are biased
    assert texts(fig).count("0 (no noise, but biased: scale 0.1)") == 2
    for words in ("undefined", "0 (rounding)", "−0.5, not above zero"):
        assert texts(fig).count(words) == 1
    assert "256 draws × 10 inits × 1 batch" in found
    assert "truth (scheme)" in found
    assert "relative variance (dimensionless)\nE|e − Ee|² / |g|²" in texts(fig)
    assert "localmixer-m/8/16 on mnist" in texts(fig)


def test_a_caption_names_the_crosses_that_are_drawn(measures: pd.DataFrame) -> None:
    table = relative_variance.plotted(measures).iloc[:2]
    table = table.assign(heavy_tail=False, unscaled=-0.1, value=[0.0, 2.0], label=["FA", "DFA"])
    assert "compare by efficiency: DFA (scale −0.1)." in relative_variance.caption(table)
    assert "Crossed" not in relative_variance.caption(table.iloc[:1])


def test_a_caption_has_the_size_of_the_batches(measures: pd.DataFrame) -> None:
    table = relative_variance.plotted(measures).iloc[1:3].assign(heavy_tail=False, value=2.0)
    assert "1 batch of 16 examples." in relative_variance.caption(table.assign(batch=16.0))
    assert "1 batch of 8 to 64 examples" in relative_variance.caption(
        table.assign(batch=[8.0, 64.0])
    )
    parts = table.assign(
        batch=0.3, batch_size=32.0
    )  # of a variance split between batches and noise
    assert "1 batch of 32 examples." in relative_variance.caption(parts)


def test_nothing_overlaps_or_sticks_out_of_the_variances(
    measures: pd.DataFrame, variances: Figure
) -> None:
    narrow = picture(relative_variance, measures[measures["arch"] == "localmixer-m/8/16"])
    for fig, width in ((narrow, 3.25), (variances, 6.75)):
        assert fig.get_figwidth() == width
        assert faults(fig) == []


def test_a_long_name_is_broken_and_cut_in_the_figure_only(tmp_path: Path) -> None:
    name = "a" * 30 + "[directions=4]/interlocking[n=2]"
    record = a_measure("FG-A", heavy_tail=True, inits=1) | {"method": name}
    table = stored(tmp_path, record).measures()
    fig = picture(relative_variance, table)
    assert faults(fig) == []
    assert relative_variance.plotted(table)["method"].item() == record["method"]
    found = " ".join(texts(fig)).replace("\n", " ")
    assert "One init: intervals do not include the variation between inits." in found
    assert "Heavy tails, intervals are not reliable" in found


def test_figures_leave_pyplot_alone(measures: pd.DataFrame) -> None:
    before, settings = pyplot.get_fignums(), dict(mpl.rcParams)
    picture(relative_variance, measures[measures["arch"] == "mlp-3x256"])
    assert pyplot.get_fignums() == before
    assert dict(mpl.rcParams) == settings


def test_the_drawn_curves_are_these(tmp_path: Path) -> None:
    lost = {"status": "diverged", "reason": "loss not finite"}
    records = stored(
        tmp_path,
        *[a_curve("FG-A", seed, [0.5, e]) for seed, e in enumerate([0.25, 0.125, 0.375])],
        a_curve("FG-A", 3, [0.5, 0.0625, 0.9], **lost),  # best at epoch 1, then lost
        *[a_curve("BP", seed, [0.25]) for seed in range(2)],
    )
    half = 0.95 * (2 / (1 - 0.95**2)) ** 0.5 * 12.5 / 3**0.5  # t with 2 degrees of freedom, sd 12.5
    low, high = (np.floor(1e6 * 25 * np.exp(side * half / 25)) / 1e6 for side in (-1, 1))
    golden = f"""\
arch,data,method,label,run,epoch,n,test_error_percent,low_percent,high_percent,band,diverged,runs
localmixer-m/8/16,mnist,BP,BP,mean,0,2,25.0,25.0,25.0,range,0,2
localmixer-m/8/16,mnist,FG-A,FG-A,mean,0,3,50.0,50.0,50.0,t,1,4
localmixer-m/8/16,mnist,FG-A,FG-A,mean,1,3,25.0,{low:.6f},{high:.6f},t,1,4
localmixer-m/8/16,mnist,FG-A,FG-A,seed 3,0,1,50.0,,,none,1,4
localmixer-m/8/16,mnist,FG-A,FG-A,seed 3,1,1,6.25,,,none,1,4
localmixer-m/8/16,mnist,FG-A,FG-A,seed 3,2,1,90.0,,,none,1,4
"""
    found = learning_curves.plotted(records.curves()).to_csv(index=False)
    assert re.sub(r"(\d\.\d{6})\d+", r"\1", found) == golden
    text = " ".join(texts(picture(learning_curves, records.curves()))).replace("\n", " ")
    assert "n = 2 to 3 seeds" in text
    assert "95 % t interval of the mean (log scale), range of two seeds" in text
    assert "Diverged (thin, up to ×): FG-A 1 of 4" in text


def test_the_interval_of_few_seeds_is_positive_and_first_order_the_plain_one() -> None:
    spread = pd.Series([2.0, 1.0, 30.0])
    found, plain = mean_interval(spread), mean_interval(spread, signed=True)
    assert plain["low"] < 0 < found["low"] < found["mean"] == plain["mean"] == 11
    close = pd.Series([1.0, 1.001, 0.999])
    found, plain = mean_interval(close), mean_interval(close, signed=True)
    for end in ("low", "high"):
        assert found[end] == pytest.approx(plain[end], abs=1e-5)
        assert found[end] != plain[end]
    assert mean_interval(pd.Series([0.0] * 3)) == {
        **dict.fromkeys(["mean", "low", "high"], 0.0),
        "n": 3,
        "band": "t",
    }
    differences = mean_interval(pd.Series([-1.0, 0.0, 1.0]), signed=True)
    assert differences["low"] == -differences["high"] == pytest.approx(-2.484, abs=1e-3)
    assert mean_interval(pd.Series([3.0, 1.0]))["band"] == "range"
    assert mean_interval(pd.Series([3.0]))["band"] == "none"


def test_bands_of_three_seeds_do_not_plunge_on_a_log_axis(tmp_path: Path) -> None:
    runs = [a_curve("BP", s, [0.9, e]) for s, e in enumerate([0.001, 0.002, 0.02])]
    table = stored(tmp_path, *runs).curves()
    (ax,) = picture(learning_curves, table).axes
    assert ax.get_yscale() == "log"
    drawn = learning_curves.plotted(table)
    bottom, top = ax.get_ylim()
    assert bottom < drawn["low_percent"].min()
    assert drawn["high_percent"].max() < top
    assert bottom > 0.01  # the plain interval would end below zero


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    runs = [a_train(m, s, epochs=12) for m in FINAL for s in range(3)]
    runs += [a_train("FG-A", s, arch="mlp-3x256", data="digits") for s in range(2)]
    runs += [a_train("BP", arch="mlp-3x256", data="digits", settings={"lr": 1.0})]
    return stored(tmp_path_factory.mktemp("curves"), *runs).curves()


@pytest.mark.slow
@pytest.mark.parametrize("log", [True, False])
def test_nothing_overlaps_or_sticks_out_of_the_curves(log: bool, curves: pd.DataFrame) -> None:
    fig = learning_curves.figure(curves, learning_curves.plotted(curves), log=log).figure
    assert fig.get_figwidth() == 6.75
    assert faults(fig) == []
    scales = {ax.get_yscale() for ax in fig.axes}
    assert scales == {"log" if log else "linear"}
    assert texts(fig).count("chance 90 %") == 2
    assert {"test error (%)", "epochs", "LG-FG-A"} <= set(texts(fig))


def test_methods_that_learn_nothing_or_everything_are_drawn(tmp_path: Path) -> None:
    perfect = a_curve("BP", 0, [0.0, 0.0])
    lost = a_curve("FG-W", 1, [0.9], arch="cnn-small", status="diverged", reason="at step 9")
    fig = picture(learning_curves, stored(tmp_path, perfect, lost).curves())
    assert faults(fig) == []


@pytest.mark.parametrize("marker", style.OTHER_MARKERS)
def test_every_look_can_be_drawn(marker: style.Marker, tmp_path: Path) -> None:
    name = next(n for n in map(str, range(99)) if style.look(n).marker == marker)
    table = stored(tmp_path, a_measure("FG-A") | {"method": name}).measures()
    picture(relative_variance, table).draw_without_rendering()


def test_chance_is_left_out_where_it_is_unknown_or_would_squeeze(tmp_path: Path) -> None:
    low = a_curve("BP", 0, [0.05, 0.04])
    blind = a_curve("BP", 0, [0.5, 0.4], classes=None, arch="cnn-small")
    table = stored(tmp_path, low, blind).curves()
    for log in (True, False):
        fig = learning_curves.figure(table, learning_curves.plotted(table), log).figure
        assert {ax.get_yscale() for ax in fig.axes} == {"linear"}  # less than a factor of 4
        assert not any("chance" in text for text in texts(fig))
        assert all(ax.get_ylim()[1] < 60 for ax in fig.axes)


def test_settings_of_one_method_differ_by_their_dashes(tmp_path: Path) -> None:
    runs = [a_curve("FG-A", 0, [0.5, 0.1], settings={"lr": lr}) for lr in (0.01, 0.03)]
    fig = picture(learning_curves, stored(tmp_path, *runs).curves())
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == ["FG-A, lr=0.01", "FG-A, lr=0.03"]
    handles: list[Any] = legend.get_lines()
    assert {handle.get_color() for handle in handles} == {"#d55e00"}
    assert handles[0]._dash_pattern != handles[1]._dash_pattern


@pytest.mark.parametrize("room", [relative_variance, learning_curves, cost])
def test_a_figure_without_numbers_is_the_users_mistake(room: Any, tmp_path: Path) -> None:
    records = stored(tmp_path, a_speed("BP", 1.0))
    with pytest.raises(UsageError, match=f"no {FIGURES[room.NAME].needs} in .*; run"):
        room.draw(records, tmp_path / "out")


def test_losses_beside_train_and_test_are_splits_of_their_own(tmp_path: Path) -> None:
    history = [{"epoch": 1, "test_error": 0.5, "contrastive_loss": 4.5}]
    table = stored(tmp_path, a_train("BP", history=history)).curves().set_index("split")
    assert table.index.tolist() == ["train", "test", "contrastive"]
    assert table.loc["contrastive", "loss"] == 4.5
    assert np.isnan(table.loc["contrastive", "error"])


def test_points_of_exactly_checked_methods_are_never_crossed_and_others_by_holm(
    tmp_path: Path,
) -> None:
    """Six of a hundred points of unbiased methods were crossed, and none in the interactive figure."""
    own = {"about": {"module": "fgbench.estimators.fg_a", "file": ""}, "claimed": {"bias": "none"}}
    off = {"value": 0.8, "low": 0.73, "high": 0.87, "n": 5, "p_value": 0.004}
    bad = {**off, "value": 0.5, "p_value": 1e-6}
    one = {"relative_variance": measured(5.0, n=5), "predicted_variance": 5.0}
    runs = [
        a_measure("FG-A", per_site={f"l{k}": {**one, "scale": bad} for k in range(10)}, **own),
        a_measure("NP", per_site={f"l{k}": {**one, "scale": off} for k in range(20)}),
        a_measure("FG-W", per_site={"l0": {**one, "scale": bad}}),
    ]
    table = layers.plotted(stored(tmp_path, *runs).measures())
    assert len(table) == 31
    assert table.loc[table["unscaled"].notna(), ["method", "unscaled"]].values.tolist() == [
        ["FG-W", 0.5]
    ]
    fig = picture(layers, stored(tmp_path / "again", *runs).measures())
    (cross,) = (
        line
        for ax in fig.axes
        for line in ax.lines
        if line.get_marker() == "x" and len(line.get_xdata())
    )
    assert list(cross.get_ydata()) == [5.0]
    (drawn,) = (t for t in plotly_figures.layers(table)["data"] if t["name"] == "not comparable")
    assert drawn["y"] == [5.0]
    assert "FG-W (scale 0.5)." in relative_variance.caption(table)
