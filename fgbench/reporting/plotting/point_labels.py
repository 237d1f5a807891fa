"""Names beside points, where they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from fgbench.reporting.plotting import style

SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Where a name may stand from its point, the best first."""
GAPS = (1.5, 5.0, 10.0, 16.0, 24.0, 34.0)
"""Points of the paper style between a marker and its name, the best first."""
LEADER = 10.0  # from this gap on a thin line joins the two
COVERED, NEAR = 50.0, 1.5
"""Weights of the area that a name covers, beside that of lines, and of its distance."""
MARKER = 3.5  # points of the paper style from the middle of a marker to its edge


class Named(NamedTuple):
    """A point with its name.

    Args:
        x: in units of the data.
        y: likewise.
        text: the name.
        low: lower end of its horizontal bar.
        high: upper end of it.

    Example:
        >>> Named(1.0, 2.0, "BP", 0.9, 1.1).text
        'BP'
    """

    x: float
    y: float
    text: str
    low: float
    high: float


Segment = tuple[tuple[float, float], tuple[float, float]]
"""Ends of a horizontal or vertical line, in units of the data."""


def name_points(ax: Axes, points: Sequence[Named], lines: Sequence[Segment] = ()) -> None:
    """Write the name of every point beside it; call after the panel has its place and its scales.

    Names stand at the nearest place that is free; they rather cross a line than stand far off, unless it
    strikes them through. A name that stands farther off has a thin line to its point. Where no place is free,
    the one that is covered least is taken.

    Args:
        ax: the panel.
        points: those that are drawn in it.
        lines: that names keep off as far as that is easy.

    Example:
        >>> from fgbench.reporting.plotting import panels
        >>> ax = panels.layout(1).axes[0]
        >>> name_points(ax, [Named(0.5, 0.5, "BP", 0.4, 0.6), Named(0.5, 0.5, "FG-A", 0.5, 0.5)])
        >>> [text.get_text() for text in ax.texts]
        ['BP', 'FG-A']
    """
    fig = ax.get_figure(root=True)
    assert fig is not None
    pixel = fig.dpi / 72 * style.pt(1.0)  # of a point of the paper style
    taken = [_marks(ax, point, pixel) for point in points]
    thin = [Bbox(sorted(ax.transData.transform(ends).tolist())).padded(pixel) for ends in lines]
    for point in sorted(points, key=lambda each: len(each.text)):  # short ones stand near
        how: dict[str, Any] = {"fontsize": style.pt(6.5), "color": style.INK}
        text = ax.text(
            point.x, point.y, point.text, ha="center", va="center", parse_math=False, **how
        )
        size = text.get_window_extent()
        text.remove()
        box, gap = _place(ax, point, (size.width, size.height), taken, thin, pixel)
        taken.append(box)
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        x, y = ax.transData.transform((point.x, point.y))
        offset = ((middle[0] - x) * 72 / fig.dpi, (middle[1] - y) * 72 / fig.dpi)
        ax.annotate(
            point.text, (point.x, point.y), offset, textcoords="offset points", ha="center", va="center",
            parse_math=False, annotation_clip=False, zorder=5, **how,
        )  # fmt: skip
        if gap >= LEADER:
            end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
            to = ax.transData.inverted().transform(end)
            ax.plot(
                (point.x, to[0]), (point.y, to[1]), color=style.FAINT, lw=style.pt(0.4), zorder=1
            )


def _marks(ax: Axes, point: Named, pixel: float) -> Bbox:
    """Return the box of a marker with its horizontal bar, in pixels."""
    (x, y), (low, _), (high, _) = ax.transData.transform(
        [(point.x, point.y), (point.low, point.y), (point.high, point.y)]
    )
    edge = MARKER * pixel
    return Bbox.from_extents(min(low, x - edge), y - edge, max(high, x + edge), y + edge)


def _place(
    ax: Axes,
    point: Named,
    size: tuple[float, float],
    taken: Sequence[Bbox],
    thin: Sequence[Bbox],
    pixel: float,
) -> tuple[Bbox, float]:
    """Return the box of a name in pixels, and the gap between it and its point."""
    inside, own = ax.bbox.padded(-pixel), _marks(ax, point, pixel)
    x, y = ax.transData.transform((point.x, point.y))
    width, height = size
    places: list[tuple[float, Bbox, float]] = []
    for gap, (at, (right, up)) in product(GAPS, enumerate(SIDES)):
        away = gap * pixel
        dx, dy = right * (away + width / 2), up * (MARKER * pixel + away + height / 2)
        if not up:  # beside the bar
            dx += own.x1 - x if right > 0 else own.x0 - x
        box = Bbox.from_bounds(x + dx - width / 2, y + dy - height / 2, width, height)
        covered = sum(_shared(box.padded(pixel), each) for each in taken)
        covered += _area(box) - _shared(box, inside)
        crossed = sum(_shared(box, each) for each in thin)
        places.append((COVERED * covered + crossed + pixel * (NEAR * away + at), box, gap))
    _, box, gap = min(places, key=lambda place: place[0])
    return box, gap


def _area(box: Bbox) -> float:
    """Return the area of a box."""
    return float(box.width * box.height)


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else _area(both)
