"""Draw a figure by its name from a folder of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, unknown
from fgbench.records.schema import FOREIGN
from fgbench.reporting.figures.catalogue import FIGURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fgbench.reporting.figures.catalogue import Figure
    from fgbench.reporting.figures.files import Drawing, Writer
    from fgbench.reporting.frames.load import Records
    from fgbench.reporting.frames.select import Only
    from fgbench.reporting.plotting.sheet import Sheet


def draw(
    name: str,
    folder: Path | str,
    out: Path | str | None = None,
    tell: Callable[[str], None] | None = None,
    only: Only | None = None,
    *,
    style: str = "paper",
    width: float | None = None,
    formats: Iterable[str] = ("png", "pdf"),
    caption: bool = False,
    ax: Axes | None = None,
) -> Drawing:
    """Draw one figure, and write it where a folder for it is given.

    Args:
        name: a key of `fgbench.reporting.figures.catalogue.FIGURES`.
        folder: of records, or of asv's results for a figure whose module has a ``read`` of its own. It
            is read once.
        out: where the files go: the pictures, the numbers as CSV, and the caption as text.
        tell: called with one line for each file that is damaged and each field that is old or missing.
        only: the records to use, where the folder is of records.
        style: "paper" or "talk".
        width: of the figure in inches; by default a column for one panel and a page for several.
        formats: kinds of pictures to write, of "png", "pdf" and "svg".
        caption: whether the caption is also printed below the panels.
        ax: axes of your own to draw into, for a figure of one panel. Your figure keeps its style and size.

    Returns:
        The figure, its numbers, its caption and its files.

    Raises:
        UsageError: no figure, style or format has this name, the width cannot be used, the folder cannot be
            read or lacks what the figure needs, or a figure of several panels shall be drawn into ``ax``.

    Example:
        >>> draw("layer", Path("records"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown figure 'layer'; did you mean 'layers'?
    """
    figure, sheet, formats = _chosen(name, style, width, formats, caption, ax)
    folder = Path(folder)
    read = getattr(figure.module(), "read", None)
    if read is not None and only:
        raise UsageError(
            f"{name} is not drawn from records: --method, --arch and --data do not narrow it"
        )
    from fgbench.reporting.frames.load import load

    records = (read or load)(folder)
    if tell is not None:
        for file, why in records.damaged.items():
            if not why.startswith(FOREIGN):  # other programs' files
                tell(f"{folder / file}: {why}")
    if only:
        records = only.of(records)
    if tell is not None:
        for note in getattr(records, "notes", ()):
            tell(note)
    writer: Writer[Any] = figure.draw()
    return writer.drawing(records, None if out is None else Path(out), sheet, formats)


def draw_records(
    name: str,
    records: Records,
    *,
    style: str = "paper",
    width: float | None = None,
    caption: bool = False,
    ax: Axes | None = None,
) -> Drawing:
    """Draw one figure from records in memory, and write nothing.

    Args:
        name: a key of `fgbench.reporting.figures.catalogue.FIGURES`.
        records: what is drawn.
        style: as of :func:`draw`.
        width: as of :func:`draw`.
        caption: as of :func:`draw`.
        ax: as of :func:`draw`.

    Returns:
        The figure, its numbers and its caption.

    Raises:
        UsageError: as of :func:`draw`, and for a figure that is not drawn from records.

    Example:
        >>> from fgbench.reporting.frames.load import collect
        >>> draw_records("layers", collect([], Path("these results")))
        Traceback (most recent call last):
        fgbench.errors.UsageError: no variance measured at sites in 'these results'; run fgbench measure
    """
    figure, sheet, formats = _chosen(name, style, width, ("png",), caption, ax)
    if getattr(figure.module(), "read", None) is not None:
        raise UsageError(f"{name} is not drawn from records; use fgbench.figure({name!r}, folder)")
    writer: Writer[Any] = figure.draw()
    return writer.drawing(records, None, sheet, formats)


def _chosen(
    name: str,
    style: str,
    width: float | None,
    formats: Iterable[str],
    caption: bool,
    ax: Axes | None,
) -> tuple[Figure, Sheet, Iterable[str]]:
    """Return the figure of a name, the sheet it is drawn on and the kinds of pictures, all checked."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    from fgbench.reporting.plotting.sheet import Sheet
    from fgbench.reporting.plotting.style import checked

    sheet, kinds = Sheet(style, width, caption, ax), checked(formats)
    if ax is not None and (width is not None or caption):
        raise UsageError("ax: axes of your own have their width; set neither width nor caption")
    return FIGURES[name], sheet, kinds
