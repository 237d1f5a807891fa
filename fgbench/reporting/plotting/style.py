"""One style for all figures: a method has one colour in each of them, its settings differ by their marks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from fgbench.errors import unknown
from fgbench.records import atomic
from fgbench.reporting.frames.csv_files import write_csv
from fgbench.reporting.frames.method_names import family
from fgbench.reporting.frames.ordering import order
from fgbench.reporting.plotting.sheet import BASE, PAPER, Sheet

INK, FAINT = "#1a1a1a", "#5f5f5f"
GRID = "#e3e3e3"
LINE = 100  # letters of a line of a caption's file
FORMATS = ("png", "pdf", "svg")
"""Kinds of pictures that can be written."""
USUAL = ("png", "pdf")
SMALL, TINY = 0.875, 0.8125  # of the size of text: ticks and legends, notes in panels


def rc(font: float = BASE) -> dict[Any, Any]:
    """Return the settings of matplotlib for a size of text; all lengths in points grow with it.

    Args:
        font: size of most text in points.

    Returns:
        Name of a setting to its value.

    Example:
        >>> rc(16.0)["legend.fontsize"]
        14.0
    """
    unit = font / BASE
    return {
        "font.family": "DejaVu Sans",
        "font.size": font,
        "axes.titlesize": font,
        "axes.labelsize": font,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.6 * unit,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlepad": 4.0 * unit,
        "axes.labelpad": 3.0 * unit,
        "grid.color": GRID,
        "grid.linewidth": 0.5 * unit,
        "xtick.labelsize": SMALL * font,
        "ytick.labelsize": SMALL * font,
        "xtick.color": INK,
        "ytick.color": INK,
        **{f"{axis}tick.major.{part}": size * unit for axis in "xy" for part, size in TICK.items()},
        **{
            f"{axis}tick.minor.{part}": 0.6 * size * unit
            for axis in "xy"
            for part, size in TICK.items()
        },
        "legend.fontsize": SMALL * font,
        "legend.frameon": False,
        "legend.handlelength": 2.6,
        "legend.columnspacing": 1.4,
        "lines.linewidth": 1.2 * unit,
        "lines.markersize": 4 * unit,
        "figure.constrained_layout.h_pad": 0.04 * unit,
        "figure.constrained_layout.w_pad": 0.04 * unit,
        "figure.dpi": 200,
        "savefig.dpi": 200,
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "fgbench",  # the same figure gives the same bytes
    }


TICK = {"size": 2.8, "width": 0.6, "pad": 2.6}


def pt(points: float) -> float:
    """Scale a length or size of the paper style to the style in use.

    Args:
        points: of the paper style.

    Returns:
        Points of the style in use: in `context` its own, else that of the caller's text.

    Example:
        >>> from fgbench.reporting.plotting.sheet import Sheet
        >>> with context(Sheet(style="talk")):
        ...     pt(8.0)
        14.0
    """
    return points * float(mpl.rcParams["font.size"]) / BASE


Marker: TypeAlias = str | tuple[int, int, int]
Dashes: TypeAlias = tuple[int, tuple[float, ...]]
SOLID: Dashes = (0, ())
DASHED: Dashes = (0, (4.0, 1.6))
DOTTED: Dashes = (0, (1.2, 1.2))
DASHDOT: Dashes = (0, (5.0, 1.4, 1.2, 1.4))


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Args:
        colour: hexadecimal.
        marker: of matplotlib; presets have different ones, so that grey prints stay readable.
        dashes: matplotlib's line style as (offset, on-off lengths), solid where these are empty.
        filled: whether the marker is.

    Example:
        >>> Look("#0072b2", "^").filled
        True
    """

    colour: str
    marker: Marker
    dashes: Dashes = SOLID
    filled: bool = True


# Forward gradients have colours of Okabe and Ito; the others keep any two apart in normal, deutan,
# protan and tritan sight. Hue says the estimator; the more local, the lighter.
PRESETS = {
    "BP": Look("#252525", "o", DASHED),
    "L-BP": Look("#676767", "s", DASHED),
    "LG-BP": Look("#b8b8b8", "D", DASHED),
    "FG-W": Look("#0072b2", "^"),
    "LG-FG-W": Look("#56b4e9", "v"),
    "FG-A": Look("#d55e00", "8"),
    "LG-FG-A": Look("#e69f00", "d"),
    "FA": Look("#024414", "P"),
    "L-FA": Look("#3b9756", "X"),
    "LG-FA": Look("#08d367", "p"),
    "DFA": Look("#842673", "*"),
    "NP": Look("#320eab", "h"),
}
OTHER_COLOURS = ("#882255", "#999933", "#7b4b2a", "#44aa99", "#cc6677", "#d39ac4", "#5577aa")
OTHER_MARKERS: tuple[Marker, ...] = ("<", "H", ">", (6, 1, 0))
SETTING_MARKERS: tuple[Marker, ...] = (*OTHER_MARKERS, (4, 1, 0), (4, 1, 45))
ALIKE: tuple[tuple[Marker, ...], ...] = (
    ("o", "8", "h", "H", "p"),
    ("D", "d", (4, 1, 0)),
    ("X", (4, 1, 45)),
    ("*", (6, 1, 0)),
)
"""Markers that look the same where they are small: a method has one of each."""
CYCLE = (SOLID, DASHED, DOTTED, DASHDOT)
MANY = 6  # bands above each other of which every one is still seen


def look(method: str) -> Look:
    """Return the colour, marker and dashes of a method, from its name alone.

    Args:
        method: a METHOD or a label. Its `fgbench.reporting.frames.method_names.family` decides: a preset,
            or another name, whose hash picks among the looks that no preset has.

    Returns:
        The same look in every figure, process and version, and for all settings of a method.

    Example:
        >>> look("FG-A[directions=4]") == look("FG-A") == PRESETS["FG-A"]
        True
    """
    name = family(method)
    if name in PRESETS:
        return PRESETS[name]
    digest = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    digest, colour = divmod(digest, len(OTHER_COLOURS))
    digest, marker = divmod(digest, len(OTHER_MARKERS))
    dashes = (SOLID, DASHED, DOTTED)[digest % 3]
    return Look(OTHER_COLOURS[colour], OTHER_MARKERS[marker], dashes)


def looks(labels: Iterable[str], methods: Iterable[str] | None = None) -> dict[str, Look]:
    """Distinguish everything in one figure: methods by colour, settings of a method by their marks.

    The first setting of a method has its `look`. Each further one has the same colour, other dashes and a
    hollow marker that no other setting has, nor, as long as there are such, a method in the figure; once all
    are used, markers are filled. Its shape is none that the method has (`ALIKE`), as long as there are such.

    Args:
        labels: what is drawn, in the order of the settings of each method, with any repetitions.
        methods: of each label, where labels are not METHODs with settings behind them.

    Returns:
        Label to its look, methods in their usual order, as the legend shows them.

    Example:
        >>> two = looks(["FG-A, lr=0.1", "FG-A, lr=0.3", "BP"])
        >>> list(two)
        ['BP', 'FG-A, lr=0.1', 'FG-A, lr=0.3']
        >>> two["FG-A, lr=0.3"].filled
        False
    """
    labels = list(map(str, labels))
    names = labels if methods is None else list(map(str, methods))
    of = dict(zip(reversed(labels), reversed(names), strict=True))
    first = dict.fromkeys(labels)
    ranks = {name: at for at, name in enumerate(dict.fromkeys(map(family, order(of.values()))))}
    parts: dict[str, list[str]] = {}
    for label in sorted(first, key=lambda label: ranks[family(of[label])]):
        parts.setdefault(family(of[label]), []).append(label)
    bases: dict[Marker, str] = {}
    for name in parts:
        bases.setdefault(look(name).marker, name)
    markers = dict.fromkeys((*SETTING_MARKERS, *(each.marker for each in PRESETS.values())))
    pool = sorted(markers, key=lambda marker: marker in bases)  # those of methods last
    free = [(marker, filled) for filled in (False, True) for marker in pool]
    styles: dict[str, Look] = {}
    used = {(marker, True) for marker in bases}
    for name, mine in parts.items():
        base = look(name)
        start = CYCLE.index(base.dashes)
        shapes: set[object] = {_shape(base.marker)}
        for at, label in enumerate(mine):
            styles[label] = base
            if at or bases[base.marker] != name:  # a second method of one marker has another
                other = [each for each in free if _shape(each[0]) not in shapes]
                left = [each for each in free if each not in used and each[0] != base.marker]
                both = [each for each in other if each in left]
                marker, filled = (both or left or other or free)[0]
                dashes = CYCLE[(start + at) % len(CYCLE)]
                styles[label] = replace(base, marker=marker, dashes=dashes, filled=filled or not at)
                used |= {(marker, filled)}
                shapes |= {_shape(marker)}
    return styles


def _shape(marker: Marker) -> object:
    """Return the markers that look like this one where they are small."""
    return next((among for among in ALIKE if marker in among), marker)


def thin(among: int) -> float:
    """Return the opacity of a band: lower where many bands overlap.

    Args:
        among: number of bands in the panel.

    Returns:
        Alpha.

    Example:
        >>> thin(2) > thin(20)
        True
    """
    return 0.18 if among <= MANY else 0.06


@contextmanager
def context(sheet: Sheet = PAPER) -> Iterator[None]:
    """Use the style of a sheet, whatever the user's settings, and restore those afterwards.

    Args:
        sheet: one with the caller's axes keeps the caller's settings.

    Yields:
        Nothing.

    Example:
        >>> with context():
        ...     mpl.rcParams["font.size"]
        8.0
    """
    if sheet.ax is not None:
        yield
        return
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(rc(sheet.sizes.font))
        yield


def checked(formats: Iterable[str]) -> list[str]:
    """Check the names of kinds of pictures, and return each once.

    Args:
        formats: such as "pdf".

    Returns:
        The names.

    Raises:
        UsageError: one is none of `FORMATS`.

    Example:
        >>> checked(["pdf", "svg", "pdf"])
        ['pdf', 'svg']
    """
    once = list(dict.fromkeys(formats))
    for each in once:
        if each not in FORMATS:
            raise unknown("format", each, FORMATS)
    return once


def save(
    fig: Figure,
    folder: Path,
    name: str,
    table: pd.DataFrame,
    formats: Iterable[str] = USUAL,
    caption: str = "",
    sheet: Sheet = PAPER,
) -> list[Path]:
    """Write a figure as pictures (PNG with 200 dpi), its numbers as CSV and its caption as text.

    The files hold no date, so the same records give the same bytes.

    Args:
        fig: drawn inside `context`.
        folder: created if missing.
        name: without a suffix.
        table: the drawn numbers.
        formats: kinds of pictures, of `FORMATS`.
        caption: no file is written where it is empty.
        sheet: that the figure was drawn on.

    Returns:
        The files: pictures, CSV, text.

    Raises:
        UsageError: a format is none of `FORMATS`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     files = save(Figure(), Path(folder), "empty", pd.DataFrame({"x": [1]}), caption="No points.")
        ...     [file.name for file in files]
        ['empty.png', 'empty.pdf', 'empty.csv', 'empty.txt']
    """
    formats = checked(formats)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    about: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": dict.fromkeys(("CreationDate", "Producer", "Creator")),
        "svg": dict.fromkeys(("Date", "Creator")),
    }
    with context(sheet):
        for path, suffix in zip(paths, formats, strict=True):
            drawn = BytesIO()
            fig.savefig(drawn, format=suffix, metadata=about[suffix])
            atomic.write_bytes(path, drawn.getvalue())  # a killed drawing leaves no half file
    csv = folder / f"{name}.csv"
    write_csv(table, csv)
    if not caption:
        return [*paths, csv]
    text = folder / f"{name}.txt"
    text.write_text(fill(caption, LINE) + "\n", encoding="utf-8", newline="\n")
    return [*paths, csv, text]
