"""Panels in rows, with one legend above and one caption below: the layout of most figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from fgbench.reporting.frames.seed_means import bands, seeds
from fgbench.reporting.plotting import style

EDGE = 0.06  # inches beside, above and below a legend or a caption
MOST = 7  # columns of a legend
SHORT_NAME = 12  # letters of a name that leave room for a note on the same line
TITLE_LETTERS = 54  # of a line of small print that fits above a panel
LETTERS = (42, 28, 18)  # in a line of a legend, the first that fits


@dataclass(frozen=True)
class Page:
    """A figure with its panels.

    Args:
        figure: 3.4 in wide for one panel, else 7 in.
        axes: the panels, row by row.
        height: of all rows of panels, in inches.

    Example:
        >>> layout(3).height
        3.8
    """

    figure: Figure
    axes: tuple[Axes, ...]
    height: float

    def finish(self, handles: Sequence[Artist], text: str) -> None:
        """Add the legend above the panels and the caption below, and make the figure taller by both."""
        self.figure.set_figheight(
            self.height + legend(self.figure, handles) + caption(self.figure, text)
        )


def layout(count: int, height: float = 1.9, most: int = 2) -> Page:
    """Create a figure of panels.

    Args:
        count: number of panels.
        height: of a panel, in inches.
        most: panels in a row.

    Returns:
        The figure and its panels; call inside `style.context`.

    Example:
        >>> page = layout(3)
        >>> len(page.axes), float(page.figure.get_figwidth())
        (3, 7.0)
    """
    columns = min(most, count)
    rows = -(-count // columns)
    width = style.COLUMN if columns == 1 else style.PAGE
    fig = Figure(figsize=(width, height * rows), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False)
    for ax in grid.flat[count:]:
        ax.remove()
    return Page(fig, tuple(grid.flat[:count]), height * rows)


def legend(fig: Figure, handles: Sequence[Artist]) -> float:
    """Add a legend above the panels, in as many columns as fit, with long names broken into lines.

    Args:
        fig: made inside `style.context`.
        handles: its entries; the labels of those with long names are changed.

    Returns:
        The height of the legend in inches, with its margins.

    Example:
        >>> legend(layout(1).figure, handles(style.looks(["BP"]))) > 2 * EDGE
        True
    """
    room = fig.bbox.width - 2 * EDGE * fig.dpi
    names = [str(each.get_label()) for each in handles]
    for letters in LETTERS:
        for each, name in zip(handles, names, strict=True):
            each.set_label(broken(name, letters))
        for columns in range(min(len(handles), MOST), 0, -1):
            frame = fig.legend(handles=handles, loc="outside upper left", ncols=columns)
            box = frame.get_window_extent()
            if box.width <= room or (letters, columns) == (LETTERS[-1], 1):
                return float(box.height / fig.dpi) + 2 * EDGE
            frame.remove()
    raise AssertionError("a legend of one column ends the search")


def heading(ax: Axes, arch: object, data: object, task: str = "", letters: int = 46) -> None:
    """Set the title of a panel: its network and data, in lines of at most so many letters.

    Args:
        ax: the panel.
        arch: the network.
        data: the data set.
        task: "supervised" or "contrastive", "" to leave it out.
        letters: of a line.

    Example:
        >>> ax = layout(1).axes[0]
        >>> heading(ax, "mlp-2x8", "digits")
        >>> ax.get_title(loc="left")
        'mlp-2x8 on digits'
    """
    parts = f"{task}, {arch}".removeprefix(", "), f"on {data}"
    words = " ".join(parts)
    lines = words if len(words) <= letters else "\n".join(broken(part, letters) for part in parts)
    ax.set_title(lines, loc="left")


def broken(name: str, letters: int) -> str:
    """Break a name into lines at options, slashes and spaces.

    Args:
        name: of a method or network.
        letters: of a line, at most.

    Returns:
        The lines, joined by line feeds.

    Example:
        >>> broken("FG-A[directions=4], lr=0.1", 20).splitlines()
        ['FG-A[directions=4],', 'lr=0.1']
    """
    lines = [""]
    for piece in re.findall(rf"\[?[^,/\s\[]{{1,{letters - 2}}}[,/\s]*|[,/\s\[]+", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > letters:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def drawn(
    table: pd.DataFrame,
    by: Sequence[str],
    looks: Mapping[str, style.Look],
    panel: Callable[[Axes, tuple[Any, ...], pd.DataFrame], None],
    text: str,
    *,
    height: float = 1.9,
    line: bool = True,
    most: int = 2,
) -> Figure:
    """Draw one panel per group of rows, with the legend above and the caption below.

    Args:
        table: the drawn numbers.
        by: columns that define the panels, in the order of the rows.
        looks: label to how it is drawn.
        panel: draws one panel, from its axes, its group and its rows.
        text: the caption.
        height: of a panel, in inches.
        line: whether legend entries are lines with markers, else markers alone.
        most: panels in a row.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.

    Example:
        >>> table = pd.DataFrame({"data": ["mnist", "digits"], "x": [1, 2]})
        >>> looks = style.looks(["BP"])
        >>> fig = drawn(table, ["data"], looks, lambda ax, group, part: None, "No numbers.")
        >>> len(fig.axes)
        2
    """
    parts = list(table.groupby(list(by), sort=False))
    with style.context():
        page = layout(len(parts), height, most)
        for ax, (group, part) in zip(page.axes, parts, strict=True):
            panel(ax, group, part)
        page.finish(handles(looks, line), text)
    return page.figure


def handles(looks: Mapping[str, style.Look], line: bool = True) -> list[Line2D]:
    """Create a legend entry per label: a line with its marker, or the marker alone.

    Args:
        looks: label to how it is drawn.
        line: whether entries have a line.

    Returns:
        The entries.

    Example:
        >>> [handle.get_label() for handle in handles(style.looks(["NP", "BP"]))]
        ['BP', 'NP']
    """
    entries = []
    for label, look in looks.items():
        drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker}
        drawn |= {"mfc": look.colour if look.filled else "w", "mew": 0 if look.filled else 0.9}
        drawn["ls"] = look.dashes if line else ""
        entries.append(Line2D([], [], label=label, lw=1.2, ms=4, **drawn))
    return entries


def caption(fig: Figure, text: str) -> float:
    """Add a caption below the panels, in lines that fit the width, and return its height in inches.

    Args:
        fig: the figure.
        text: the caption.

    Returns:
        Its height, with its margins.

    Example:
        >>> fig = layout(1).figure
        >>> caption(fig, "Bars: 95 % intervals.") > 2 * EDGE, fig.get_supxlabel()
        (True, 'Bars: 95 % intervals.')
    """
    words = fill(text, int(fig.get_figwidth() * 21))
    label = fig.supxlabel(words, fontsize=6, color=style.FAINT, x=0.01, ha="left")
    return float(label.get_window_extent().height / fig.dpi) + 2 * EDGE


def points(
    ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look, line: bool = False
) -> None:
    """Draw means with their intervals, as points or joined by a line.

    Args:
        ax: the panel.
        x: horizontal position of each row.
        part: ``mean low high``; rows whose mean is NaN are left out.
        look: of the method.
        line: whether the points are joined.

    Example:
        >>> ax = layout(1).axes[0]
        >>> part = pd.DataFrame({"mean": [2.0], "low": [1.0], "high": [3.0]})
        >>> points(ax, pd.Series([0.0]), part, style.look("BP"))
        >>> ax.lines[0].get_ydata().tolist()
        [2.0]
    """
    face = look.colour if look.filled else "w"
    mark: dict[str, Any] = {"marker": look.marker, "mfc": face, "mec": look.colour, "ms": 4}
    ax.vlines(x, part["low"], part["high"], color=look.colour, lw=1.2)
    ax.plot(x, part["mean"], color=look.colour, ls=look.dashes if line else "", lw=1.1, **mark)


def crossed(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    """Cross out points that are not comparable, see `fgbench.reporting.figures.relative_variance.caption`.

    Args:
        ax: the panel.
        x: horizontal positions of the crossed points alone.
        y: vertical positions of all points, with the same index.

    Example:
        >>> ax = layout(1).axes[0]
        >>> crossed(ax, pd.Series([1.0], index=[1]), pd.Series([5.0, 6.0]))
        >>> ax.lines[0].get_xydata().tolist()
        [[1.0, 6.0]]
    """
    ax.plot(x, y[x.index], "x", color=style.INK, ms=7, mew=0.9, zorder=4)


def log_scale(ax: Axes) -> None:
    """Set a logarithmic vertical axis with plain numbers at 1, 2 and 5.

    Args:
        ax: the panel.

    Example:
        >>> ax = layout(1).axes[0]
        >>> log_scale(ax)
        >>> ax.get_yscale(), ax.yaxis.get_major_formatter()(0.5)
        ('log', '0.5')
    """
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def log_axis(ax: Axes, values: Iterable[float]) -> None:
    """Set a logarithmic vertical axis, labelled with plain numbers, or with decades where there are many.

    Args:
        ax: the panel.
        values: all that is drawn, positive.

    Example:
        >>> ax = layout(1).axes[0]
        >>> log_axis(ax, [1.0, 1000.0])
        >>> ax.get_yscale()
        'log'
    """
    shown = sorted(values)
    if shown[-1] < 500 * shown[0]:
        log_scale(ax)
    else:
        ax.set_yscale("log")
        ax.yaxis.set_minor_locator(NullLocator())


def log_log_axes(ax: Axes, x: Iterable[float], y: Iterable[float]) -> None:
    """Set two logarithmic axes, with ticks at the measured x, as far as they fit.

    Args:
        ax: the panel.
        x: where something was measured, positive.
        y: all that is drawn, positive.

    Example:
        >>> ax = layout(1).axes[0]
        >>> log_log_axes(ax, [1, 4, 16], [2.0, 8.0])
        >>> ax.get_xscale(), ax.get_yscale()
        ('log', 'log')
    """
    log_axis(ax, y)
    ax.set_xscale("log")
    values: list[float] = sorted(set(x))
    ticks: list[float] = []
    for value in values:
        if not ticks or value >= ticks[-1] * (values[-1] / values[0]) ** 0.12:
            ticks.append(value)
    ax.set_xticks(ticks, [f"{tick:.0f}" if tick >= 10 else f"{tick:.2g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def note(name: str, text: str) -> str:
    """Return a note on a method for the title of a panel, below the name where that is long.

    Args:
        name: of the method.
        text: what is noted, such as its slope.

    Returns:
        One line, or more lines of at most `TITLE_LETTERS` and a colon.

    Example:
        >>> note("FG-A", "slope 1")
        'FG-A: slope 1'
    """
    if len(name) < SHORT_NAME:
        return f"{name}: {text}"
    return f"{broken(name, TITLE_LETTERS)}:\n    {text}"


def note_lines(name: str) -> int:
    """Count the lines of a `note` on a method.

    Args:
        name: of the method.

    Returns:
        1, or more where the name is long.

    Example:
        >>> note_lines("FG-A"), note_lines("fg_a[directions=4]")
        (1, 2)
    """
    return note(name, "").count("\n") + 1


def counted(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Describe the seeds behind points, their bars, and which runs did not finish.

    Args:
        table: ``n band lost runs`` and the names of the rows.
        names: columns that name a point.

    Returns:
        Sentences for a caption.

    Example:
        >>> row = {"method": "BP", "n": 2, "band": "range", "lost": 1, "runs": 3}
        >>> counted(pd.DataFrame([row]), ["method"])
        'Mean over finished runs, n = 2 seeds; bar: range of two seeds. Not finished: BP 1 of 3.'
    """
    run = table[table["n"] > 0]
    parts = ["No run finished."]
    if not run.empty:
        counts = f"n = {seeds(run['n'])}; bar: {bands(run['band'])}"
        parts = [f"Mean over finished runs, {counts}."]
    lost = table[table["lost"] > 0].drop_duplicates(list(names))
    counted = [
        f"{' '.join(str(row[name]).replace(chr(10), ' ') for name in names)} "
        f"{row['lost']} of {row['runs']}"
        for _, row in lost.iterrows()
    ]
    return " ".join([*parts, *([f"Not finished: {'; '.join(counted)}."] if counted else [])])
