"""Sheets: styles, widths, formats, captions beside the file, axes of the caller; titles, legends, notes."""

from __future__ import annotations

import itertools
import os
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import fgbench
from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.reporting.figures import (
    bias,
    layers,
    learning_curves,
    relative_variance,
    scaling,
    variance_and_learning,
)
from fgbench.reporting.figures import sites as sites_figure
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.draw import draw
from fgbench.reporting.frames.load import load
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.sheet import STYLES, Sheet
from tests.makers.layout import faults, picture, texts
from tests.makers.paths import ROOT
from tests.makers.records import a_curve, a_measure, a_train, measured, stored
from tests.makers.swept import unique

LABORATORY = ROOT / "analysis" / "reproduction" / "variance"
REPRODUCTION = ROOT / "analysis" / "reproduction" / "records"
LEAST = 0.8  # of the size of text: what is smaller than 6.4 points cannot be read in print
SWEPT = ("batch", "directions", "distance", "patches", "size")
TRAINED = ("groups", "learning_curves", "local_losses", "profiles", "progress", "stop_gradient")
COMMITTED = {
    **{name: LABORATORY / name for name in SWEPT},
    **dict.fromkeys(
        ("bias", "efficiency", "layers", "relative_variance", "split"), LABORATORY / "mnist"
    ),
    **dict.fromkeys(("advantage", "fan_in"), LABORATORY / "fan-in"),
    **{"channel_groups": LABORATORY / "groups", "parameters": LABORATORY / "size"},
    **dict.fromkeys((*TRAINED, "time_to_target", "trials"), REPRODUCTION),
}
"""Figures of which records are committed."""
SHEETS = {
    "paper": Sheet(),
    "column": Sheet(width=3.25),
    "talk": Sheet(style="talk"),
    "caption": Sheet(caption=True),
}
FEW = [("size", "paper"), ("size", "talk"), ("layers", "column"), ("bias", "talk")]
WHOLE = list(itertools.product(COMMITTED, SHEETS))
DRAWN = WHOLE if os.environ.get("FGBENCH_FIGURES") == "all" else FEW
"""A sample; FGBENCH_FIGURES=all draws every committed figure on every sheet, in some minutes."""


@cache
def read(folder: Path) -> Any:
    """The records of a committed folder."""
    return load(folder)


def sites(method: str, **changes: Any) -> dict[str, Any]:
    numbers = {"relative_variance": measured(9.0), "predicted_variance": 9.5}
    return a_measure(method, per_site={f"body.{at}.l0": numbers for at in range(3)}, **changes)


def sizes(fig: Figure) -> list[float]:
    """Points of all text that is seen."""
    seen = [each for each in fig.findobj(Text) if each.get_visible() and each.get_text().strip()]
    return [each.get_fontsize() for each in seen]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "sheet"), DRAWN)
def test_on_every_sheet_nothing_overlaps_and_all_can_be_read(name: str, sheet: str) -> None:
    """Exponents of powers of ten are 0.7 of the text beside them, as everywhere in print."""
    on = SHEETS[sheet]
    drawing = FIGURES[name].draw().drawing(read(COMMITTED[name]), sheet=on)
    assert faults(drawing.figure) == []
    assert min(sizes(drawing.figure)) >= LEAST * on.sizes.font
    assert drawing.figure.get_figwidth() in {on.width, on.sizes.column, on.sizes.page}
    assert all("\n" not in ax.get_title(loc="left") for ax in drawing.figure.axes)
    burnt = any(drawing.caption[-30:] in text.replace("\n", " ") for text in texts(drawing.figure))
    assert burnt == on.caption
    assert not any(
        ax.patches for ax in drawing.figure.axes if "log" in {ax.get_xscale(), ax.get_yscale()}
    )


@pytest.mark.parametrize("name", ["size", "layers", "distance", "advantage"])
def test_the_numbers_of_a_figure_are_the_committed_ones(name: str) -> None:
    """To 1e-12, since numpy's exp differs between processors."""
    drawn = FIGURES[name].draw()
    now = drawn.plotted(drawn.source(read(COMMITTED[name])))
    now = pd.read_csv(StringIO(now.to_csv(index=False)))
    committed = pd.read_csv(COMMITTED[name] / f"{name}.csv")
    assert list(now) == list(committed)
    pd.testing.assert_frame_equal(now, committed, check_exact=False, rtol=1e-12, atol=0)


def test_the_caption_is_a_file_and_in_the_picture_only_if_asked_for(tmp_path: Path) -> None:
    stored(tmp_path / "records", sites("FG-A"))
    plain = draw("layers", tmp_path / "records", tmp_path / "out", formats=["png"])
    assert [file.name for file in plain.files] == ["layers.png", "layers.csv", "layers.txt"]
    text = (tmp_path / "out" / "layers.txt").read_text("utf-8")
    assert " ".join(text.split()) == plain.caption
    assert "n per point: 256 draws" in text
    assert not any("n per point" in each for each in texts(plain.figure))
    asked = draw("layers", tmp_path / "records", caption=True)
    assert asked.files == ()
    assert any("n per point" in each for each in texts(asked.figure))
    assert asked.figure.get_figheight() > plain.figure.get_figheight()
    assert faults(asked.figure) == []


def test_the_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "records", sites("FG-A"))
    command = ["figure", "layers", str(tmp_path / "records"), "-o", str(tmp_path / "out")]
    options = ["--style", "talk", "--width", "4", "--format", "svg", "--format", "pdf", "--caption"]
    assert run([*command, *options]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == ["layers.svg", "layers.pdf", "layers.csv", "layers.txt"]
    assert 'width="288pt"' in (tmp_path / "out" / "layers.svg").read_text("utf-8")
    for wrong, words in {
        ("--style", "tlak"): "unknown style 'tlak'; did you mean 'talk'?",
        ("--format", "jpg"): "unknown format 'jpg'",
        ("--width", "0"): "expected a width from 1.5 to 60 inches, got 0",
        ("--width", "nan"): "expected a width from 1.5 to 60 inches, got nan",
    }.items():
        assert run([*command, *wrong]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_a_style_scales_all_lengths_and_a_width_decides_the_columns() -> None:
    with style.context(Sheet(style="talk")):
        ratio = STYLES["talk"].font / STYLES["paper"].font
        assert style.pt(4.0) == pytest.approx(4 * ratio)
        assert panels.mark(style.look("BP"))["ms"] == pytest.approx(4 * ratio)
    for sheet, count, columns, width in [
        (Sheet(), 1, 1, 3.25),
        (Sheet(), 6, 3, 6.75),
        (Sheet(width=3.25), 6, 1, 3.25),
        (Sheet(style="talk"), 6, 2, 10.0),
    ]:
        with style.context(sheet):
            page = panels.layout(count, most=3, sheet=sheet)
        assert page.columns == columns
        assert page.figure.get_figwidth() == width


@pytest.mark.slow
@pytest.mark.parametrize("suffix", style.FORMATS)
def test_the_same_figure_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    records = stored(tmp_path / "records", sites("FG-A"))
    for folder in ("one", "two"):
        layers.draw(records, tmp_path / folder, formats=[suffix])
    one, two = (tmp_path / folder / f"layers.{suffix}" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


# axes of the caller


def test_a_figure_of_one_panel_is_drawn_into_the_callers_axes(tmp_path: Path) -> None:
    stored(tmp_path, sites("FG-A"), sites("FG-W"))
    fig = Figure(figsize=(8, 3))
    left, right = fig.subplots(1, 2)
    before = dict(mpl.rcParams), fig.get_size_inches().tolist(), right.get_position().bounds
    drawing = fgbench.figure("layers", tmp_path, ax=left)
    assert drawing.figure is fig
    assert drawing.table["label"].tolist() == ["FG-W"] * 3 + ["FG-A"] * 3
    assert "n per point" in drawing.caption
    assert drawing.files == ()
    assert left.get_legend() is not None
    assert left.get_title(loc="left") == "localmixer-m/8/16 on mnist"
    after = dict(mpl.rcParams), fig.get_size_inches().tolist(), right.get_position().bounds
    assert after == before
    assert not right.has_data()
    fig.savefig(tmp_path / "mine.png")


def test_several_panels_or_a_width_of_its_own_do_not_fit_into_axes(tmp_path: Path) -> None:
    stored(tmp_path, sites("FG-A"), sites("FG-A", arch="mlp-2x8"))
    ax = Figure().subplots()
    with pytest.raises(
        UsageError, match=r"this figure has 2 panels, and one fits .*; pick one"
    ) as caught:
        fgbench.figure("layers", tmp_path, ax=ax)
    assert "\n" not in str(caught.value)
    assert not ax.has_data()
    with pytest.raises(UsageError, match=r"axes of your own have their width"):
        fgbench.figure("layers", tmp_path, ax=ax, width=3.0)


# titles, legends, notes


def test_titles_have_one_line_and_what_they_lose_is_in_the_caption(tmp_path: Path) -> None:
    long = "localmixer[blocks=2,side=4,channels=128,groups=16,norm=layer,hidden=512,pool=mean]"
    runs = [sites("FG-A", arch=arch) for arch in (long, long.replace("512", "1024"))]
    records = stored(tmp_path, *unique(runs))
    page = layers.draw.drawing(records)
    titles = [ax.get_title(loc="left") for ax in page.figure.axes]
    assert all("\n" not in title for title in titles)
    assert faults(page.figure) == []
    assert long in page.caption
    short = layers.draw.drawing(stored(tmp_path / "short", sites("FG-A")))
    assert "All panels" not in short.caption


@pytest.mark.parametrize("widths", [(32,), (32, 64)])
def test_a_long_title_loses_options_first_unless_they_tell_panels_apart(widths: tuple[int]) -> None:
    data = "synthetic[size={},channels=3,train=256,test=32,seed=0,labels=uniform]"
    long = [f"mlp-2x8 on {data.format(width)}, batch 64, cpu" for width in widths]
    with style.context():
        page = panels.layout(len(widths))
        for ax, title in zip(page.axes, long, strict=True):
            panels.titled(ax, title)
        page = page.finish([], "")
    titles = [ax.get_title(loc="left") for ax in page.axes]
    if len(widths) == 1:
        assert titles == ["mlp-2x8 on synthetic[…], batch 64, cpu"]
    assert len(set(titles)) == len(widths)
    assert all(data.format(width) in page.caption for width in widths)


def test_legends_are_read_along_their_rows() -> None:
    names = ["BP", "L-BP", "LG-BP", "FG-W", "LG-FG-W", "FG-A", "LG-FG-A", "FA", "L-FA"]
    with style.context():
        page = panels.layout(1)
        panels.legend(page.figure, panels.handles(style.looks(names)))
        page.figure.draw_without_rendering()
    (legend,) = page.figure.legends
    boxes = [(text.get_window_extent(), text.get_text()) for text in legend.get_texts()]
    found = sorted(boxes, key=lambda each: (-round(each[0].y0), each[0].x0))
    assert [text for _, text in found] == names
    assert len({round(box.y0) for box, _ in boxes}) > 1  # of several rows


def test_options_that_are_alike_are_left_out_of_long_legends_alone() -> None:
    names = [f"fg_a[crop=0.3,cost={k},flip=false]/end, batches=1" for k in range(13)]
    with style.context():
        entries = panels.handles(style.looks(names))
        text = panels.without_alike(entries)
    assert text == "In the legend without crop=0.3, flip=false, batches=1. "
    assert sorted(str(e.get_label()) for e in entries) == sorted(
        f"fg_a[cost={k}]/end" for k in range(13)
    )
    with style.context():  # one that lacks the option would become the same
        entries = panels.handles(
            style.looks(["fg_a[crop=0.3]/end", "fg_a/end", "fa[crop=0.3]/end"])
        )
        assert panels.without_alike(entries) == ""


def test_notes_stand_at_their_curves_and_never_on_each_other() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 9):
        tall = rng.uniform(0.02, 0.1, count)
        wanted = np.sort(rng.uniform(-0.1, 1.1, count))
        found = np.array(panels.spread(wanted.tolist(), tall.tolist(), 0.0, 1.0))
        gaps = found[1:] - found[:-1] - (tall[1:] + tall[:-1]) / 2
        assert (gaps > -1e-9).all()
        assert (found - tall / 2).min() > -1e-9
        assert (found + tall / 2).max() < 1 + 1e-9
    assert panels.spread([0.2, 0.8], [0.1, 0.1], 0.0, 1.0) == [0.2, 0.8]  # as little as needed


def test_six_diverged_seeds_have_one_entry_in_the_legend(tmp_path: Path) -> None:
    lost = {"status": "diverged", "reason": "loss not finite"}
    runs = [a_curve("FG-W", seed, [0.8, 0.9], **lost) for seed in range(6)]
    fig = picture(learning_curves, stored(tmp_path, *unique([*runs, a_train("BP")])).curves())
    (legend,) = fig.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["BP", "FG-W", "diverged run, up to ×"]


def test_bands_of_many_curves_become_intervals_beside_them(tmp_path: Path) -> None:
    runs = [a_train("BP", s, epochs=5, settings={"lr": lr}) for lr in range(1, 9) for s in range(3)]
    fig = picture(learning_curves, stored(tmp_path, *unique(runs)).curves())
    assert faults(fig) == []
    (ax,) = fig.axes
    assert len(ax.collections) == 8  # an interval for each
    assert max(ax.get_xticks()) <= 5.2
    assert any("stand right of the panel" in text.replace("\n", " ") for text in texts(fig))


# what there is nothing to show of


def test_charts_without_a_point_are_the_users_mistake(tmp_path: Path) -> None:
    both = [a_train("BP"), a_train("LG-BP"), a_measure("BP"), a_measure("LG-BP")]
    with pytest.raises(UsageError, match=r"^no method both measured with noise and trained"):
        variance_and_learning.draw(stored(tmp_path / "exact", *unique(both)), tmp_path / "out")
    nothing = {
        "value": None,
        "low": None,
        "high": None,
        "n": 4,
        "p_value": None,
        "detectable": None,
    }
    sites = {"body.0.l0": {"bias": nothing, "relative_variance": measured(None)}}
    with pytest.raises(UsageError, match=r"^no bias measured at sites"):
        bias.draw(stored(tmp_path / "none", a_measure("FG-A", per_site=sites)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_panels_of_one_quantity_share_their_axis(tmp_path: Path) -> None:
    runs = [sites("FG-A"), sites("FG-W", arch="mlp-2x8")]
    fig = picture(layers, stored(tmp_path, *unique(runs)).measures())
    assert len({ax.get_ylim() for ax in fig.axes}) == 1
    assert [bool(ax.get_ylabel()) for ax in fig.axes] == [True, False]


@pytest.mark.parametrize(
    ("count", "names"), [(2, ["body.0.l0", "body.1.l0"]), (9, ["0.l0", "1.l0"])]
)
def test_sites_are_named(count: int, names: list[str]) -> None:
    part = pd.DataFrame(
        {"site": [f"body.{at}.l0" for at in range(count)], "position": range(1, count + 1)}
    )
    ax = panels.layout(1).axes[0]
    sites_figure.named(ax, part)
    assert [text.get_text() for text in ax.get_xticklabels()][:2] == names
    assert ("body." in ax.get_xlabel()) == (count == 9)


def test_fits_are_labels_beside_their_curves_and_theory_is_named() -> None:
    fig = picture(scaling, read(COMMITTED["batch"]).measures(), name="batch")
    assert faults(fig) == []
    assert fig.axes[0].get_title(loc="left").count("slope") == 0
    assert fig.axes[0].texts[0].get_text() == "slope [95 %]"
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert {"power-law fit", "theory (closed form)"} <= set(names)


def test_what_failed_is_named_where_the_picture_does_not_say_it(tmp_path: Path) -> None:
    records = stored(tmp_path, a_measure("FG-A"), a_measure("FG-W", status="diverged", reason="no"))
    assert "Diverged: FG-W." in relative_variance.draw.drawing(records).caption
