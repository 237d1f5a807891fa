"""What tests ask of a figure: its texts, and whether they overlap or stick out."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fgbench.reporting.plotting import style
from fgbench.reporting.plotting.sheet import Sheet

WITH_CAPTION = Sheet(caption=True)


def picture(room: Any, source: Any, sheet: Sheet = WITH_CAPTION, **options: Any) -> Figure:
    """Draw the figure of a module from its table, computed once; by default with its caption."""
    fig: Figure = room.figure(
        source, room.plotted(source, **options), sheet=sheet, **options
    ).figure
    return fig


def texts(fig: Figure) -> list[str]:
    found = fig.findobj(mpl.text.Text)
    return [text.get_text() for text in found if text.get_text() and text.get_visible()]


def faults(fig: Any) -> list[str]:
    """Texts and legends that stick out of the figure, run into each other or cover a panel."""
    with style.context():
        fig.draw_without_rendering()
        page, found = fig.bbox, []
        for ax in fig.axes:
            ticks = [tick for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]
            seen = [tick.label1 for tick in ticks] + list(ax.texts)
            seen += [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
            boxes = {
                t.get_text(): t.get_window_extent()
                for t in seen
                if t.get_text() and t.get_visible()
            }
            found += [text for text, box in boxes.items() if not _inside(box, page)]
            for (a, one), (b, two) in itertools.combinations(boxes.items(), 2):
                if one.padded(-0.5).overlaps(two.padded(-0.5)):
                    found.append(f"{a} / {b}")
        captions = [text for text in [fig._supxlabel] if text is not None]
        others = [*captions, *(t for legend in fig.legends for t in legend.get_texts())]
        found += [t.get_text() for t in others if not _inside(t.get_window_extent(), page)]
        for legend in fig.legends:
            box = legend.get_window_extent()
            covered = [ax for ax in fig.axes if box.padded(-1).overlaps(ax.get_tightbbox())]
            found += ["legend / panel"] * bool(covered) + ["legend"] * (not _inside(box, page))
    return found


def _inside(box: Any, page: Any) -> bool:
    return bool(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1)
