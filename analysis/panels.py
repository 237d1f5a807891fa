"""Panels side by side with one legend above and one caption below: the frame of several figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fgbench.analysis import style


@dataclass(frozen=True)
class Page:
    """A figure with its panels.

    Args:
        figure: 3.4 in wide for one panel, else 7 in.
        axes: the panels, row by row.
        entries: legend entries in a row.
    """

    figure: Figure
    axes: tuple[Axes, ...]
    entries: int

    def finish(self, looks: Mapping[str, style.Look], text: str) -> None:
        """Put the legend above the panels and the caption below."""
        handles = [handle(look, label) for label, look in looks.items()]
        self.figure.legend(handles=handles, loc="outside upper left", ncols=self.entries)
        caption(self.figure, text)


def layout(count: int, labels: Sequence[str], height: float = 1.9) -> Page:
    """Make a figure of panels, at most two in a row.

    Args:
        count: number of panels.
        labels: of the legend to come, which decide how many fit in a row.
        height: of a panel, in inches.

    Returns:
        The figure and its panels; call inside `style.context`.
    """
    columns = min(2, count)
    rows = -(-count // columns)
    width = style.COLUMN if columns == 1 else style.PAGE
    entries = max(1, int(width * 72 / (40 + 4.1 * max(map(len, labels)))))
    size = width, height * rows + 0.14 * -(-len(labels) // entries) + 0.6
    fig = Figure(figsize=size, layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False)
    for ax in grid.flat[count:]:
        ax.remove()
    return Page(fig, tuple(grid.flat[:count]), entries)


def handle(look: style.Look, label: str) -> Line2D:
    """Make a legend entry."""
    line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "marker": look.marker}
    line["mfc"] = look.colour if look.filled else "w"
    return Line2D([], [], label=label, lw=1.2, ms=4, mew=0 if look.filled else 0.9, **line)


def caption(fig: Figure, text: str) -> None:
    """Write what the figure shows below it, in lines that fit its width."""
    words = fill(text, int(fig.get_figwidth() * 21))
    fig.supxlabel(words, fontsize=6, color=style.FAINT, x=0.01, ha="left")
