"""The figure of alignment over depth: cosines with the true gradient, site by site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from fgbench.errors import UsageError
from fgbench.reporting.figures import alignment
from fgbench.reporting.frames.load import load
from tests.makers.layout import faults, picture, texts
from tests.makers.records import a_measure, measured, stored

COSINES = {"FG-A": (0.02, 0.03, 0.05), "LG-FG-A": (-0.2, 0.4, 0.9), "BP": (1.0, 1.0, 1.0)}
ELEMENTS = (400, 100, 25)


def of(method: str, cosines: tuple[float, ...], **changes: Any) -> dict[str, Any]:
    sites = {
        f"body.{k}.l0": {
            "cosine": measured(c, n=5),
            "elements": d,
            "relative_variance": measured(1.0),
        }
        for k, (c, d) in enumerate(zip(cosines, ELEMENTS, strict=True))
    }
    return a_measure(method, per_site=sites, **changes)


def records(folder: Path) -> Any:
    return stored(folder, *[of(method, cosines) for method, cosines in COSINES.items()])


def test_a_row_per_method_and_site_with_the_chance_of_its_parameters(tmp_path: Path) -> None:
    table = alignment.plotted(records(tmp_path).measures())
    assert len(table) == 9
    for method, cosines in COSINES.items():
        mine = table[table["method"] == method]
        assert mine["site"].tolist() == ["body.0.l0", "body.1.l0", "body.2.l0"]
        np.testing.assert_allclose(mine["value"], cosines)
        np.testing.assert_allclose(
            mine["chance"], (2 / np.pi / np.array(ELEMENTS)) ** 0.5, rtol=0.02
        )
    assert table[["low", "high"]].notna().all(axis=None)


def test_methods_are_lines_over_depth_with_intervals_and_chance(tmp_path: Path) -> None:
    measures = records(tmp_path).measures()
    fig = picture(alignment, measures)
    (ax,) = fig.axes
    lines = {
        tuple(np.round(line.get_ydata(), 6)): line
        for line in ax.lines
        if len(line.get_xdata()) == 3
    }
    for cosines in COSINES.values():
        assert cosines in lines
        assert lines[cosines].get_linestyle() != "None"
        np.testing.assert_allclose(np.round(lines[cosines].get_xdata()), (1, 2, 3))
    bars = [
        np.array(s)
        for c in ax.collections
        if isinstance(c, LineCollection)
        for s in c.get_segments()
    ]
    level = {round(float(s[0, 1]), 6) for s in bars if s[0, 1] == s[1, 1]}
    chances = alignment.plotted(measures)["chance"].unique()
    assert {round(float(c), 6) for c in chances} <= level
    low, high = ax.get_ylim()
    assert low < -0.2
    assert 1 < high < 1.1
    words = " ".join(texts(fig)).replace("\n", " ")
    assert "G: the end-to-end gradient of the same batch" in words
    assert "n per point: 256 draws × 10 inits × 1 batch" in words
    assert "chance" in words
    assert faults(fig) == []


def test_a_record_without_an_end_or_without_sites_is_left_out(tmp_path: Path) -> None:
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    sites = {"body.0.l0": {"cosine": nothing, "elements": 4}}
    blank = a_measure("FG-W", per_site=sites)
    both = stored(tmp_path / "both", of("FG-A", COSINES["FG-A"]), blank)
    assert set(alignment.plotted(both.measures())["method"]) == {"FG-A"}
    alone = stored(tmp_path / "alone", blank)
    with pytest.raises(UsageError, match=r"no cosine measured at sites in .*; run fgbench measure"):
        alignment.draw(alone, tmp_path / "out")


def test_records_of_before_draw_without_chance(tmp_path: Path) -> None:
    old = of("FG-A", COSINES["FG-A"])
    for numbers in old["per_site"].values():
        del numbers["elements"]
    stored(tmp_path / "records", old)
    measures = load(tmp_path / "records").measures()
    assert alignment.plotted(measures)["chance"].isna().all()
    fig = picture(alignment, measures)
    assert not any(text == "chance" for text in texts(fig))
    assert faults(fig) == []
