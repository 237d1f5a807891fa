"""Memory against time: the numbers of records, the references, and the front of exact backprop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.registry import PRESETS
from fgbench.reporting.figures import time_and_memory
from fgbench.reporting.figures.time_and_memory import exact, plotted
from tests.makers.layout import faults, picture, texts
from tests.makers.records import a_speed, measured, stored
from tests.makers.swept import unique

REFERENCE = {
    "reference": "compiled",
    "reference_ms": {"plain": measured(15.0), "compiled": measured(10.0)},
    "reference_ratio_to_bp": {"plain": measured(1.5), "compiled": measured(1.0, 0.0)},
    "reference_peak_mb": {"plain": 40.0, "compiled": 30.0},
}
POINTS = {
    "BP": (1.6, 1.05),
    "BP-CKPT": (1.9, 0.6),
    "BP-ACC": (2.5, 0.3),
    "LG-BP": (1.5, 0.2),
    "FG-A": (4.0, 1.2),
    "LG-FG-A": (1.2, 0.5),
    "LG-FG-W": (2.4, 0.35),
}


def a_point(method: str, time: float, memory: float, **more: Any) -> dict[str, Any]:
    estimator, locality = PRESETS[method].split("/")
    found = {**a_speed(method, time), "estimator": estimator, "locality": locality}
    return found | {"peak_mb": 40 * memory, "peak_ratio_to_plain": memory} | REFERENCE | more


def test_every_method_and_reference_is_a_point(tmp_path: Path) -> None:
    runs = [a_point(name, *at) for name, at in POINTS.items()]
    table = plotted(stored(tmp_path, *unique(runs))).set_index("method")
    found = table[["time_ratio", "memory_ratio"]]
    assert {name: tuple(found.loc[name]) for name in POINTS} == POINTS
    assert tuple(found.loc["PyTorch, plain"]) == (1.5, 1.0)
    assert tuple(found.loc["PyTorch, compiled"]) == (1.0, 0.75)
    assert len(table) == len(POINTS) + 2
    assert table.loc["FG-A", "time_ratio_low"] == pytest.approx(4.0 * 0.88)
    assert set(table.index[table["exact"].astype(bool)]) == {
        *("BP", "BP-CKPT", "BP-ACC", "PyTorch, plain", "PyTorch, compiled")
    }
    # nothing beats these; the plain step and BP are slower than the compiled one and hold more
    assert set(table.index[table["front"]]) == {"PyTorch, compiled", "BP-CKPT", "BP-ACC"}
    assert set(table["others"]) == {0}


def test_backprop_of_other_losses_is_not_exact() -> None:
    names = ["BP", "BP-CKPT", "BP-ACC", "L-BP", "LG-BP", "FA", "FG-A"]
    parts = ("estimator", "locality")
    rows = {name: dict(zip(parts, PRESETS[name].split("/"), strict=True)) for name in names}
    assert [name for name in names if exact(rows[name])] == ["BP", "BP-CKPT", "BP-ACC"]
    assert exact({"estimator": "bp[parts=4,recompute=2]", "locality": "end"})
    assert exact({"estimator": "bp", "locality": "contrastive"})


def test_the_picture_names_its_points_and_says_what_they_are(tmp_path: Path) -> None:
    runs = [a_point(name, *at) for name, at in POINTS.items()]
    fig = picture(time_and_memory, stored(tmp_path, *unique(runs)))
    assert faults(fig) == []
    (ax,) = fig.axes
    written = texts(fig)
    assert {*POINTS, "PyTorch, plain", "PyTorch, compiled"} <= set(written)
    assert ax.get_xlabel() == "time of a step / compiled backprop"
    assert ax.get_ylabel() == "peak memory / plain backprop"
    words = " ".join(written).replace("\n", " ")
    for part in ("batch 128", "n = 256 interleaved rounds", "95 % interval of the median"):
        assert part in words
    assert "Of several timings" not in words
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "front of exact backprop",
        "exact backprop is as fast and as lean",
    ]


def test_the_front_is_drawn_through_its_corners(tmp_path: Path) -> None:
    runs = [a_point(name, *at) for name, at in POINTS.items()]
    fig = picture(time_and_memory, stored(tmp_path, *unique(runs)))
    (ax,) = fig.axes
    lines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    (front,) = ({*zip(*line.get_data(), strict=True)} for line in lines)
    corners = {(1.0, 0.75), (1.9, 0.75), (1.9, 0.6), (2.5, 0.6), (2.5, 0.3)}
    assert corners <= front


def test_runs_that_are_timed_differently_have_panels_of_their_own(tmp_path: Path) -> None:
    plain = {"settings": {"reference": "plain"}, "batch": 32}
    late = {"started": "2026-01-01T00:00:00+00:00", "seed": 1}
    runs = [
        a_point("BP", 1.6, 1.0, settings={"reference": "faster"}),
        a_point("BP", 1.7, 1.0, settings={"reference": "faster"}, **late),
        a_point("BP", 1.1, 1.0, **plain, reference="plain"),
        a_point("FG-A", 3.0, 1.2, settings={"reference": "faster"}),
    ]
    table = plotted(stored(tmp_path, *unique(runs)))
    where = table[table["method"].eq("BP")].set_index("setting")["time_ratio"]
    assert where.to_dict() == {"reference=faster": 1.7, "reference=plain": 1.1}
    others = table.set_index(["setting", "method"])["others"]
    assert others["reference=faster", "BP"] == 1
    assert others["reference=faster", "PyTorch, plain"] == 0
    fig = picture(time_and_memory, stored(tmp_path / "again", *unique(runs)))
    assert faults(fig) == []
    assert len(fig.axes) == 2
    words = " ".join(texts(fig)).replace("\n", " ")
    assert "up to 1 more are not" in words


def test_records_older_than_peaks_of_references_are_drawn(tmp_path: Path) -> None:
    """Theirs is the reference they name, plain where they name none, and its memory is known where it is."""
    table = plotted(stored(tmp_path / "plain", a_speed("FG-A", 2.0))).set_index("method")
    assert table[["time_ratio", "memory_ratio"]].to_numpy().tolist() == [[2.0, 2.0], [1.0, 1.0]]
    compiled = {**a_speed("FG-A", 2.0), "reference": "compiled"}
    assert plotted(stored(tmp_path / "compiled", compiled)).empty
    with pytest.raises(UsageError, match=r"no timed step in .*; run fgbench speed -o"):
        time_and_memory.draw(stored(tmp_path / "none", compiled), tmp_path)


def test_many_methods_are_named_in_the_legend(tmp_path: Path) -> None:
    runs = [
        a_point("FG-A", 1.0 + k / 9, 0.3 + k / 40) | {"method": f"fg_a[directions={k}]/end"}
        for k in range(1, 20)
    ]
    fig = picture(time_and_memory, stored(tmp_path, *unique(runs)))
    assert faults(fig) == []
    assert not fig.axes[0].texts
    assert len(fig.legends[0].get_texts()) == 19 + 2 + 2
