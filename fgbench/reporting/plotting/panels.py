"""Panels in rows with one legend above them: the layout of all figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import offset_copy

from fgbench.errors import UsageError
from fgbench.reporting.frames.seed_means import bands, seeds
from fgbench.reporting.plotting import style
from fgbench.reporting.plotting.sheet import PAPER, Sheet

EDGE = 0.06  # inches beside, above and below a legend or a caption
MOST = 10  # columns of a legend
LEAST = 12  # letters of a title that is shortened
MANY = 6  # entries of a legend that is read at once
LETTERS = (42, 28, 18)  # in a line of a legend, the first that fits
AROUND = 0.62  # inches above and below the axes of a panel: title, ticks, label
LEADING = 1.16  # of the size of text, from one line to the next
Share = Literal["none", "row", "all"]
TOKEN = r"(?<=[\[, ])[a-z_]+=[^,\]\[]+(?=[\],]|$)"
"""An option or a setting in the name of a method."""
CROSSED: dict[str, dict[str, Any]] = {
    "not comparable: scale is not 1": {"ls": "", "marker": "x", "ms": 6, "mew": 0.9}
}
"""Legend entry of `crossed`."""
THEORY: dict[str, dict[str, Any]] = {"theory (closed form)": {"ls": style.DASHED, "lw": 0.9}}
"""Legend entry of dashed lines."""


@dataclass(frozen=True)
class Page:
    """A figure with its panels and its caption.

    Args:
        figure: as wide as its sheet says; the caller's where the sheet has the caller's axes.
        axes: the panels, row by row.
        sheet: that it is drawn on.
        columns: panels in a row.
        height: of all rows of panels, in inches.
        caption: what the marks are, n, and intervals.

    Example:
        >>> layout(3).height
        3.8
    """

    figure: Figure
    axes: tuple[Axes, ...]
    sheet: Sheet
    columns: int
    height: float
    caption: str = ""

    def finish(self, handles: Sequence[Artist], text: str) -> Page:
        """Add the legend above the panels, shorten titles that are too long, and set the caption.

        Args:
            handles: entries of the legend.
            text: the caption. It is printed below the panels where the sheet asks for it.

        Returns:
            The page with its caption. Its figure is taller by what was added.
        """
        if self.sheet.ax is not None:
            if handles:
                self.sheet.ax.legend(handles=list(handles), fontsize=style.pt(7), frameon=False)
            return replace(self, caption=text)
        alike = without_alike(handles) if len(handles) > MANY else ""
        height = self.height + (legend(self.figure, handles) if handles else 0.0)
        self.figure.set_figheight(height)
        text = f"{_fit_titles(self)}{alike}{text}"
        if self.sheet.caption:
            add_caption(self.figure, text)
        return replace(self, caption=text)


class Note(NamedTuple):
    """A text beside a panel, at the height where a curve ends.

    Args:
        y: of the curve at its right end, in units of the data.
        lines: of the text.
        look: of the curve, whose marker stands before the text.

    Example:
        >>> Note(2.0, ("1.00 [0.98, 1.02]",), style.look("BP")).lines
        ('1.00 [0.98, 1.02]',)
    """

    y: float
    lines: tuple[str, ...]
    look: style.Look


def layout(
    count: int,
    height: float = 1.9,
    most: int = 2,
    sheet: Sheet = PAPER,
    share: Share = "none",
    heights: Sequence[float] = (),
) -> Page:
    """Create a figure of panels.

    Args:
        count: number of panels.
        height: of a panel, in inches of the paper style.
        most: panels in a row; fewer where the sheet is narrow.
        sheet: what it is drawn on.
        share: whether the panels of a row, or all, have one vertical axis, labelled at the left.
        heights: of each panel, in place of ``height``; a row is as high as its highest panel.

    Returns:
        The figure and its panels; call inside `style.context`.

    Raises:
        UsageError: there are several panels, and the sheet has the caller's axes.

    Example:
        >>> page = layout(3)
        >>> len(page.axes), float(page.figure.get_figwidth())
        (3, 6.75)
    """
    if sheet.ax is not None:
        if count != 1:
            raise UsageError(
                f"ax: this figure has {count} panels, and one fits into the caller's axes; pick one "
                "network, data set and quantity with only="
            )
        fig = sheet.ax.get_figure(root=True)
        assert fig is not None  # axes that are drawn into belong to a figure
        return Page(fig, (sheet.ax,), sheet, 1, float(fig.get_figheight()))
    columns = sheet.columns(count, most)
    each = list(heights or [height] * count)
    rows = [sheet.scale * max(each[at : at + columns]) for at in range(0, count, columns)]
    fig = blank(sheet.inches(columns), sum(rows))
    joined = share if share != "row" or columns == min(most, count) else "none"
    grid = fig.subplots(
        len(rows), columns, squeeze=False, sharey=joined, gridspec_kw={"height_ratios": rows}
    )
    for ax in grid.flat[count:]:
        ax.remove()
    return Page(fig, tuple(grid.flat[:count]), sheet, columns, sum(rows))


def blank(width: float, height: float) -> Figure:
    """Create an empty figure in which panels make room for each other.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure; call inside `style.context`.

    Example:
        >>> blank(3.0, 2.0).bbox_inches.size.tolist()
        [3.0, 2.0]
    """
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)  # without one every text that is measured makes a renderer of its own
    return fig


def outer(page: Page) -> None:
    """Keep the label of the vertical axis at the left panels alone, where panels share axis and label.

    Args:
        page: with its panels drawn.

    Example:
        >>> page = layout(2, share="all")
        >>> for ax in page.axes:
        ...     _ = ax.set_ylabel("error")
        >>> outer(page)
        >>> [ax.get_ylabel() for ax in page.axes]
        ['error', '']
    """
    labels = [ax.get_ylabel() for ax in page.axes]
    for at, ax in enumerate(page.axes):
        left = page.axes[at - 1]
        joined = at % page.columns and ax.get_shared_y_axes().joined(ax, left)
        if joined and ax.get_ylabel() in ("", labels[at - 1]):
            ax.set_ylabel("")


def legend(fig: Figure, handles: Sequence[Artist]) -> float:
    """Add a legend above the panels that is read along its rows, in as many columns as fit.

    Args:
        fig: made inside `style.context`.
        handles: its entries; the labels of those with long names are changed.

    Returns:
        The height of the legend in inches, with its margins.

    Example:
        >>> with style.context():
        ...     legend(layout(1).figure, handles(style.looks(["BP"]))) > 2 * EDGE
        True
    """
    room = fig.bbox.width - 2 * EDGE * fig.dpi
    lines = [
        each for each in handles if not isinstance(each, Line2D) or each.get_linestyle() != "None"
    ]
    length = mpl.rcParams["legend.handlelength"] if lines else 1.2
    names = [str(each.get_label()) for each in handles]
    how: dict[str, Any] = {"loc": "outside upper left", "handlelength": length}
    best: tuple[int, int, int] | None = None  # lines in all, letters, columns
    for letters in LETTERS:
        widths, tall = _entries(fig, [broken(name, letters) for name in names], length)
        for most in range(min(len(handles), MOST), 0, -1):
            rows = -(-len(handles) // most)
            columns = -(-len(handles) // rows)  # rows of one length, as far as they can be
            gap = mpl.rcParams["legend.columnspacing"] * mpl.rcParams["legend.fontsize"]
            wide = sum(max(widths[at::columns]) for at in range(columns))
            wide += (columns - 1) * gap * fig.dpi / 72
            high = sum(max(tall[at : at + columns]) for at in range(0, len(handles), columns))
            if wide <= room and (best is None or high < best[0]):
                best = high, letters, columns
    _, letters, columns = best or (0, LETTERS[-1], 1)
    for each, name in zip(handles, names, strict=True):
        each.set_label(broken(name, letters))
    frame = fig.legend(handles=by_rows(handles, columns), ncols=columns, **how)
    return float(frame.get_window_extent().height / fig.dpi) + 2 * EDGE


def _entries(fig: Figure, names: Sequence[str], length: float) -> tuple[list[float], list[int]]:
    """Return the width of each entry of a legend in pixels, and its number of lines."""
    size = mpl.rcParams["legend.fontsize"]
    room = (length + mpl.rcParams["legend.handletextpad"] + 0.4) * size * fig.dpi / 72
    widths = []
    for name in names:
        text = fig.text(0, 0, name, fontsize=size)
        widths.append(float(text.get_window_extent().width) + room)
        text.remove()
    return widths, [name.count("\n") + 1 for name in names]


def without_alike(handles: Sequence[Artist]) -> str:
    """Take from the names of a long legend the options that are equal wherever they are stated.

    Args:
        handles: entries, whose labels are changed. They stay different from each other.

    Returns:
        A sentence for the caption that states these options; empty where there are none.

    Example:
        >>> looks = style.looks(["fg_a[cost=4,law=sphere]/end", "fg_a[cost=4]/end"])
        >>> entries = handles(looks)
        >>> without_alike(entries), [entry.get_label() for entry in entries]
        ('In the legend without cost=4. ', ['fg_a[law=sphere]/end', 'fg_a/end'])
    """
    names = [str(each.get_label()) for each in handles]
    stated: dict[str, set[str]] = {}
    for token in (token for name in names for token in re.findall(TOKEN, name)):
        stated.setdefault(token.partition("=")[0], set()).add(token)
    left: list[str] = []
    for token in [next(iter(tokens)) for tokens in stated.values() if len(tokens) == 1]:
        shorter = [_without(name, token) for name in names]
        changed = sum(a != b for a, b in zip(names, shorter, strict=True))
        if changed > 1 and len(set(shorter)) == len(set(names)):
            names, left = shorter, [*left, token]
    for each, name in zip(handles, names, strict=True):
        each.set_label(name)
    return f"In the legend without {', '.join(left)}. " if left else ""


def _without(name: str, token: str) -> str:
    """Remove an option or setting from a name."""
    pieces = rf"(?<=[\[,]){re.escape(token)},|,? ?(?<=[\[, ]){re.escape(token)}(?=[\],]|$)"
    return re.sub(pieces, "", name).replace("[]", "")


def by_rows(entries: Sequence[Any], columns: int) -> list[Any]:
    """Reorder the entries of a legend, which matplotlib fills column by column, so that rows are in order.

    Args:
        entries: as they are to be read, row by row.
        columns: of the legend.

    Returns:
        The entries as matplotlib takes them.

    Example:
        >>> by_rows([1, 2, 3, 4, 5], 2)
        [1, 3, 5, 2, 4]
    """
    return [entry for column in range(columns) for entry in entries[column::columns]]


def heading(ax: Axes, arch: object, data: object, task: str = "") -> None:
    """Set the title of a panel, in one line: its network and data.

    Args:
        ax: the panel.
        arch: the network.
        data: the data set.
        task: "supervised" or "contrastive", "" to leave it out.

    Example:
        >>> ax = layout(1).axes[0]
        >>> heading(ax, "mlp-2x8", "digits")
        >>> ax.get_title(loc="left")
        'mlp-2x8 on digits'
    """
    titled(ax, f"{task}, {arch} on {data}".removeprefix(", "))


def titled(ax: Axes, text: str) -> None:
    """Set the title of a panel, in one line at its left; `Page.finish` shortens it where it is too long.

    Args:
        ax: the panel.
        text: the title.

    Example:
        >>> ax = layout(1).axes[0]
        >>> titled(ax, "mlp-2x8")
        >>> ax.get_title(loc="left")
        'mlp-2x8'
    """
    ax.set_title(" ".join(text.split()), loc="left")


def _fit_titles(page: Page) -> str:
    """Place the panels, shorten titles that are too wide, and return what they lost, for the caption.

    Constrained layout would make room for the middle of a wide title, so it runs once, without titles.
    What all titles share goes first, then options. What is still too long loses its middle.

    Returns:
        Sentences for the caption; empty where no title is shortened.
    """
    fig, drawn = page.figure, [ax for ax in page.axes if ax.get_title(loc="left")]
    titles = [ax.get_title(loc="left") for ax in drawn]
    for ax in drawn:
        ax.set_title("|", loc="left")
    place(fig)
    for ax, title in zip(drawn, titles, strict=True):
        ax.set_title(title, loc="left")
    rooms = {id(ax): _room(ax, drawn) for ax in drawn}
    if all(_width(ax) <= rooms[id(ax)] for ax in drawn):
        return ""
    parts = [re.split(r", | on ", title) for title in titles]
    common = [part for part in parts[0] if all(part in other for other in parts)]
    said = []
    if len(set(titles)) > 1 and common:
        said = [f"All panels: {', '.join(common)}."]
        titles = [", ".join(p for p in names if p not in common) or titles[0] for names in parts]
    whole: dict[str, str] = {}
    brief = [re.sub(r"\[[^][]*\]", "[…]", title) for title in titles]
    if len(set(brief)) < len(set(titles)):  # options tell panels apart
        brief = titles
    for ax, title, rest in zip(drawn, titles, brief, strict=True):
        letters = len(rest)
        ax.set_title(title, loc="left")
        if _width(ax) > rooms[id(ax)]:
            ax.set_title(rest, loc="left")
        while _width(ax) > rooms[id(ax)] and letters > LEAST:
            letters -= 1
            # the end of a title tells panels apart, but not where there is one
            short = shortened(rest, letters) if len(drawn) > 1 else f"{rest[: letters - 1]}…"
            ax.set_title(short, loc="left")
        if (short := ax.get_title(loc="left")) != title:
            whole[short] = title
    said += [f"{short}: {title}." for short, title in whole.items()]
    return " ".join([*said, ""])


def place(fig: Figure) -> None:
    """Give the panels of a figure their places for good.

    Args:
        fig: with constrained layout.

    Example:
        >>> fig = layout(1).figure
        >>> place(fig)
        >>> type(fig.get_layout_engine()).__name__  # which does nothing
        'PlaceHolderLayoutEngine'
    """
    engine = fig.get_layout_engine()
    for _ in range(2):  # panels of another size have other ticks
        if engine is not None:
            engine.execute(fig)
    fig.set_layout_engine("none")


def _width(ax: Axes) -> float:
    """Return the width of the title of a panel, in pixels."""
    return float(ax._left_title.get_window_extent().width)  # type: ignore[attr-defined]


def _room(ax: Axes, drawn: Sequence[Axes]) -> float:
    """Return the pixels from the left end of the axes to the next panel of the row that has a title."""
    fig, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert fig is not None
    assert spec is not None
    places = [other.get_subplotspec() for other in drawn]
    later = [
        place.colspan.start
        for place in places
        if place
        and place.rowspan.start == spec.rowspan.start
        and place.colspan.start > spec.colspan.start
    ]
    columns = spec.get_gridspec().ncols
    right = min(later, default=columns) / columns * fig.bbox.width
    return float(right - ax.bbox.x0 - EDGE * fig.dpi)


def shortened(name: str, letters: int) -> str:
    """Shorten a name to its beginning and its end.

    Args:
        name: to be shortened where it is longer.
        letters: at most.

    Returns:
        The name.

    Example:
        >>> shortened("localmixer-xs/2/4[channels=128]", 20)
        'localmixer…nels=128]'
    """
    if len(name) <= letters:
        return name
    head = (letters + 1) // 2
    return f"{name[:head]}…{name[len(name) - (letters - head - 1) :]}"


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
    sheet: Sheet = PAPER,
    share: Share = "none",
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    heights: Sequence[float] = (),
) -> Page:
    """Draw one panel per group of rows, with the legend above.

    Args:
        table: the drawn numbers.
        by: columns that define the panels, in the order of the rows.
        looks: label to how it is drawn.
        panel: draws one panel, from its axes, its group and its rows.
        text: the caption.
        height: of a panel, in inches of the paper style.
        line: whether legend entries are lines with markers, else markers alone.
        most: panels in a row.
        sheet: what it is drawn on.
        share: whether the panels of a row, or all, have one vertical axis.
        more: legend entries after those of the labels, and the properties of each, as of `key`.
        heights: of each panel, in place of ``height``.

    Returns:
        The page.

    Example:
        >>> table = pd.DataFrame({"data": ["mnist", "digits"], "x": [1, 2]})
        >>> looks = style.looks(["BP"])
        >>> page = drawn(table, ["data"], looks, lambda ax, group, part: None, "No numbers.")
        >>> len(page.axes), page.caption
        (2, 'No numbers.')
    """
    parts = list(table.groupby(list(by), sort=False))
    with style.context(sheet):
        page = layout(len(parts), height, most, sheet, share, heights)
        for ax, (group, part) in zip(page.axes, parts, strict=True):
            panel(ax, group, part)
        outer(page)
        keys = [key(label, **how) for label, how in more.items()]
        return page.finish([*handles(looks, line), *keys], text)


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
        drawn: dict[str, Any] = {"color": look.colour, "ls": look.dashes if line else ""}
        entries.append(Line2D([], [], label=label, lw=style.pt(1.2), **drawn, **mark(look)))
    return entries


def key(label: str, **look: Any) -> Line2D:
    """Create a legend entry of its own, such as that of theory; sizes are in points of the paper style.

    Args:
        label: of the entry.
        look: properties of the line.

    Returns:
        The entry.

    Example:
        >>> key("theory", ls="--").get_label()
        'theory'
    """
    how: dict[str, Any] = {"color": style.FAINT, **look}
    how |= {name: style.pt(how[name]) for name in ("lw", "ms", "mew") if name in how}
    return Line2D([], [], label=label, **how)


def mark(look: style.Look, size: float = 4.0) -> dict[str, Any]:
    """Return the properties of the marker of a method.

    Args:
        look: of the method.
        size: in points of the paper style.

    Returns:
        Properties of a line of matplotlib.

    Example:
        >>> mark(style.look("BP"))["marker"]
        'o'
    """
    face = look.colour if look.filled else "w"
    edge = style.pt(0.7 if look.filled else 0.9)
    return {
        "marker": look.marker,
        "mfc": face,
        "mec": look.colour,
        "ms": style.pt(size),
        "mew": edge,
    }


def add_caption(fig: Figure, text: str) -> None:
    """Print a caption below the panels, in lines that fit the width; the figure grows by as much.

    Args:
        fig: the figure, whose panels have their places.
        text: the caption.

    Example:
        >>> fig = layout(1).figure
        >>> before = fig.get_figheight()
        >>> place(fig)
        >>> add_caption(fig, "Bars: 95 % intervals.")
        >>> bool(fig.get_figheight() > before), fig.get_supxlabel()
        (True, 'Bars: 95 % intervals.')
    """
    size, height = style.pt(6.5), float(fig.get_figheight())
    letters = int(fig.get_figwidth() * 72 / (0.56 * size))
    how: dict[str, Any] = {"fontsize": size, "color": style.FAINT, "ha": "left", "va": "bottom"}
    label = fig.supxlabel(fill(text, letters), x=0.01, y=0.0, **how)
    added = float(label.get_window_extent().height / fig.dpi) + 2 * EDGE
    fig.set_figheight(height + added)
    for ax in fig.axes:
        box = ax.get_position()
        bottom, top = ((end * height + added) / (height + added) for end in (box.y0, box.y1))
        ax.set_position((box.x0, bottom, box.width, top - bottom))
    label.set_y(EDGE / (height + added))


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
    ax.vlines(x, part["low"], part["high"], color=look.colour, lw=style.pt(1.2))
    dashes = look.dashes if line else ""
    ax.plot(x, part["mean"], color=look.colour, ls=dashes, lw=style.pt(1.1), **mark(look))


def strip(ax: Axes, x: Iterable[float], values: Iterable[float], look: style.Look) -> None:
    """Draw single runs as short dashes behind their mean.

    Args:
        ax: the panel.
        x: horizontal position of each run.
        values: a number per run.
        look: of the method.

    Example:
        >>> ax = layout(1).axes[0]
        >>> strip(ax, [0.0, 0.0], [1.0, 3.0], style.look("BP"))
        >>> ax.lines[0].get_ydata().tolist()
        [1.0, 3.0]
    """
    shape: dict[str, Any] = {"ls": "", "marker": "_", "ms": style.pt(6.5), "mew": style.pt(0.7)}
    ax.plot(list(x), list(values), color=look.colour, alpha=0.75, zorder=1.9, **shape)


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
    ax.plot(x, y[x.index], "x", color=style.INK, ms=style.pt(7), mew=style.pt(0.9), zorder=4)


def small_print(ax: Axes, x: float, y: float, text: str, **how: Any) -> None:
    """Write a short note into a panel.

    Args:
        ax: the panel.
        x: in units of the data, or of ``transform``.
        y: likewise.
        text: the note.
        how: properties of the text.

    Example:
        >>> ax = layout(1).axes[0]
        >>> small_print(ax, 0.5, 0.5, "chance")
        >>> ax.texts[0].get_text()
        'chance'
    """
    box = {"fc": "w", "ec": "none", "pad": style.pt(0.4)}
    ax.text(x, y, text, **{"fontsize": style.pt(6.5), "color": style.FAINT, "bbox": box, **how})


def notes(ax: Axes, entries: Sequence[Note], head: str) -> None:
    """Write notes on curves right of a panel, each at the end of its curve or as near as there is room.

    Call after the axes have their scales.

    Args:
        ax: the panel.
        entries: a note per curve.
        head: what the notes are, above them.

    Example:
        >>> ax = layout(1).axes[0]
        >>> notes(ax, [Note(0.5, ("1.00",), style.look("BP"))], "slope")
        >>> [text.get_text() for text in ax.texts]
        ['slope', '1.00']
    """
    if not entries:
        return
    size = style.pt(6.5)
    line = LEADING * size / 72 / _axes_inches(ax)
    tall = [len(entry.lines) * line for entry in entries]
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [float(to_axes.transform((ax.get_xlim()[1], entry.y))[1]) for entry in entries]
    order = sorted(range(len(entries)), key=ends.__getitem__)
    top = 1.0 - (head.count("\n") + 1.2) * line
    places = spread([ends[at] for at in order], [tall[at] for at in order], 0.0, top)
    fig = ax.get_figure(root=True)
    of_mark, of_text = (
        offset_copy(ax.transAxes, fig=fig, x=style.pt(points), units="points") for points in (6, 11)
    )
    words: dict[str, Any] = {"fontsize": size, "linespacing": LEADING, "clip_on": False}
    ax.text(1.0, 1.0, head, va="top", color=style.FAINT, transform=of_mark, **words)
    for at, y in zip(order, places, strict=True):
        entry = entries[at]
        ax.plot(1.0, y, ls="", transform=of_mark, clip_on=False, **mark(entry.look, 3.2))
        text = "\n".join(entry.lines)
        ax.text(1.0, y, text, va="center", color=style.INK, transform=of_text, **words)


def room(counts: pd.Series, lines: int) -> float:
    """Return the height of a panel that has room for its `notes`.

    Args:
        counts: of the notes of each panel.
        lines: of a note.

    Returns:
        Inches of the paper style.

    Example:
        >>> room(pd.Series([2, 4]), 2) > room(pd.Series([2, 4]), 1)
        True
    """
    most = int(counts.max()) if len(counts) else 0
    return AROUND + (most * lines + 1.2) * LEADING * 6.5 / 72


def _axes_inches(ax: Axes) -> float:
    """Estimate the height of the axes of a panel, which is known only after the layout."""
    fig, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert fig is not None
    if spec is None or fig.get_layout_engine() is None:
        return float(ax.get_window_extent().height / fig.dpi)
    ratios = np.array(spec.get_gridspec().get_height_ratios(), dtype=float)
    share = ratios[spec.rowspan.start : spec.rowspan.stop].sum() / ratios.sum()
    return max(0.3, float(fig.get_figheight() * share) - AROUND * style.pt(1.0))


def spread(wanted: Sequence[float], tall: Sequence[float], low: float, high: float) -> list[float]:
    """Move texts apart along one axis as little as needed.

    Args:
        wanted: centres, in ascending order.
        tall: heights.
        low: lower end of the room; where there is too little room, texts go below it.
        high: upper end of the room.

    Returns:
        Centres at which no two overlap.

    Example:
        >>> [round(at, 3) for at in spread([0.5, 0.5], [0.2, 0.2], 0.0, 1.0)]
        [0.4, 0.6]
    """
    blocks: list[tuple[float, float, list[int]]] = []  # centre, height, members
    for at, (centre, height) in enumerate(zip(wanted, tall, strict=True)):
        block = (centre, height, [at])
        while True:
            middle = min(max(block[0], low + block[1] / 2), high - block[1] / 2)
            block = (middle, block[1], block[2])
            if not blocks or blocks[-1][0] + blocks[-1][1] / 2 <= block[0] - block[1] / 2 + 1e-9:
                break
            before = blocks.pop()
            members = before[2] + block[2]
            total = before[1] + block[1]
            mean = sum(wanted[each] for each in members) / len(members)
            block = (mean, total, members)
        blocks.append(block)
    places = [0.0] * len(wanted)
    for centre, height, members in blocks:
        bottom = centre - height / 2
        for each in members:
            places[each] = bottom + tall[each] / 2
            bottom += tall[each]
    return places


def log_scale(ax: Axes, which: Literal["x", "y"] = "y", subs: Sequence[float] = (1, 2, 5)) -> None:
    """Set a logarithmic axis with plain numbers, at 1, 2 and 5 unless others are given.

    Args:
        ax: the panel.
        which: of its axes.
        subs: where ticks are in each decade.

    Example:
        >>> ax = layout(1).axes[0]
        >>> log_scale(ax)
        >>> ax.get_yscale(), ax.yaxis.get_major_formatter()(0.5)
        ('log', '0.5')
    """
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def log_axis(ax: Axes, values: Iterable[float], which: Literal["x", "y"] = "y") -> None:
    """Set a logarithmic axis, labelled with plain numbers, or with decades where there are many.

    Args:
        ax: the panel.
        values: all that is drawn, positive.
        which: of its axes.

    Example:
        >>> ax = layout(1).axes[0]
        >>> log_axis(ax, [1.0, 1000.0])
        >>> ax.get_yscale()
        'log'
    """
    shown = sorted(values)
    if shown[-1] < 5 * shown[0]:
        log_scale(ax, which, (1, 1.5, 2, 3, 4, 5, 6, 8))
    elif shown[-1] < 500 * shown[0]:  # numbers side by side need more room than below each other
        log_scale(ax, which, (1, 3) if which == "x" and shown[-1] > 20 * shown[0] else (1, 2, 5))
    else:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
        (ax.xaxis if which == "x" else ax.yaxis).set_minor_locator(NullLocator())


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
    ticks = fitting(x)
    ax.set_xticks(ticks, [f"{tick:.0f}" if tick >= 10 else f"{tick:.2g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def fitting(x: Iterable[float]) -> list[float]:
    """Select ticks of a logarithmic axis that stand far enough apart for their numbers.

    Args:
        x: where something was measured, positive.

    Returns:
        Some of these, from the smallest.

    Example:
        >>> fitting([3.0, 5.85, 5.9, 9.65])
        [3.0, 5.85, 9.65]
    """
    values: list[float] = sorted(set(x))
    ticks: list[float] = []
    for value in values:
        if not ticks or value >= ticks[-1] * (values[-1] / values[0]) ** 0.14:
            ticks.append(value)
    return ticks


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
