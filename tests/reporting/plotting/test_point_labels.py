"""Names beside points: none covers another, a point or a line, and all are inside the panel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.point_labels import Named, name_points
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAMES = ["BP", "PyTorch, plain", "LG-FG-A[law=rademacher]", "fg_a/module", "DFA", "NP", "FG-W"]


def panel(sheet: Sheet = PAPER) -> Axes:
    page = panels.layout(1, 2.7, sheet=sheet)
    (ax,) = page.axes
    ax.set_xlim(0.5, 8.0)
    ax.set_ylim(0.1, 2.0)
    panels.place(page.figure)
    return ax


def boxes(ax: Axes) -> list[Bbox]:
    return [text.get_window_extent() for text in ax.texts]


@pytest.mark.parametrize("kind", ["paper", "talk"])
@pytest.mark.parametrize("seed", range(5))
def test_none_covers_another_nor_a_point(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(1.0, 6.0, 10), rng.uniform(0.3, 1.7, 10)
    x[1], y[1] = x[0], y[0]  # two at one place
    points = [
        Named(a, b, NAMES[k % len(NAMES)], 0.97 * a, 1.03 * a)
        for k, (a, b) in enumerate(zip(x, y, strict=True))
    ]
    sheet = Sheet(style=kind)
    with style.context(sheet):
        ax = panel(sheet)
        name_points(ax, points)
        found = boxes(ax)
        marks = ax.transData.transform(np.c_[x, y])
    assert sorted(text.get_text() for text in ax.texts) == sorted(p.text for p in points)
    for one, other in itertools.combinations(found, 2):
        assert not one.padded(-0.5).overlaps(other.padded(-0.5))
    assert not any(box.contains(*at) for box in found for at in marks)
    assert all(ax.bbox.contains(*corner) for box in found for corner in (box.min, box.max))


def test_names_are_near_and_keep_off_lines() -> None:
    with style.context():
        ax = panel()
        point = Named(4.0, 1.0, "BP", 4.0, 4.0)
        name_points(ax, [point])
        (free,) = boxes(ax)
        ax.texts[0].remove()
        line = ((4.0, 1.0), (8.0, 1.0))  # where it stood
        name_points(ax, [point], [line])
        (moved,) = boxes(ax)
        x, y = ax.transData.transform((4.0, 1.0))
        assert free.y0 < y < free.y1
        assert 0 < free.x0 - x < 12 * ax.figure.dpi / 72
        assert not moved.y0 < y < moved.y1 or moved.x1 < x
        assert not ax.lines  # near enough without a line to its point


def test_a_name_that_stands_off_has_a_line_to_its_point() -> None:
    with style.context():
        ax = panel()
        name_points(ax, [Named(4.0, 1.0, f"method {k}", 4.0, 4.0) for k in range(12)])
        assert len(ax.lines) > 0
        for line in ax.lines:
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (4.0, 1.0)
