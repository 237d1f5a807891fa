"""One style for all figures: a method has one colour in each of them, its settings differ by their marks."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from fgbench.records import atomic
from fgbench.reporting.frames.csv_files import write_csv
from fgbench.reporting.frames.method_names import family
from fgbench.reporting.frames.ordering import order

COLUMN, PAGE = 3.4, 7.0  # inches: one column and two columns of a printed page
INK, FAINT = "#1a1a1a", "#6b6b6b"

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
}


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
def context() -> Iterator[None]:
    """Use this style, whatever the user's settings, and restore those afterwards.

    Yields:
        Nothing.

    Example:
        >>> with context():
        ...     mpl.rcParams["font.size"]
        7.0
    """
    with mpl.rc_context(), warnings.catch_warnings():
        # seaborn 0.13 passes pandas a keyword that pandas 3 deprecates
        warnings.filterwarnings("ignore", "copy keyword is deprecated")
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def save(fig: Figure, folder: Path, name: str, table: pd.DataFrame) -> list[Path]:
    """Write a figure as PNG (200 dpi) and PDF, and its numbers as CSV.

    The files hold no date, so the same records give the same bytes.

    Args:
        fig: drawn inside `context`.
        folder: created if missing.
        name: without a suffix.
        table: the drawn numbers.

    Returns:
        The three files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     files = save(Figure(), Path(folder), "empty", pd.DataFrame({"x": [1]}))
        ...     [file.name for file in files]
        ['empty.png', 'empty.pdf', 'empty.csv']
    """
    folder.mkdir(parents=True, exist_ok=True)
    png, pdf, csv = (folder / f"{name}.{suffix}" for suffix in ("png", "pdf", "csv"))
    about = {png: {"Software": None}, pdf: dict.fromkeys(("CreationDate", "Producer", "Creator"))}
    with context():
        for path, metadata in about.items():
            drawn = BytesIO()
            fig.savefig(drawn, format=path.suffix[1:], metadata=metadata)
            atomic.write_bytes(path, drawn.getvalue())  # a killed drawing leaves no half file
    write_csv(table, csv)
    return [png, pdf, csv]
