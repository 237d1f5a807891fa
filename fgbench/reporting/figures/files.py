"""Draw a figure from the content of a folder, and write it: pictures, numbers and caption."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.plotting import style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Folder(Protocol):
    """The content of a folder: records, or results of asv."""

    @property
    def folder(self) -> Path:
        """Where it lies."""


R = TypeVar("R", bound=Folder)


class Draws(Protocol[T_contra]):
    """A function that draws a table on a sheet."""

    def __call__(self, content: T_contra, table: pd.DataFrame, /, *, sheet: Sheet = ...) -> Page:
        """Return the page."""


@dataclass(frozen=True)
class Drawing:
    """A figure as it was drawn.

    Args:
        figure: of matplotlib; the caller's where it was drawn into the caller's axes.
        table: the drawn numbers.
        caption: what the marks are, n, and intervals.
        files: that were written: pictures, CSV, and the caption as text.

    Example:
        >>> Drawing(Figure(), pd.DataFrame(), "No points.").files
        ()
    """

    figure: Figure
    table: pd.DataFrame
    caption: str
    files: tuple[Path, ...] = ()

    def _repr_png_(self) -> bytes:
        """Return the picture, which a notebook shows."""
        picture = BytesIO()
        self.figure.savefig(picture, format="png", dpi=144, bbox_inches="tight")
        return picture.getvalue()


@dataclass(frozen=True)
class Writer(Generic[R]):
    """Draws and writes a figure, the same for every figure.

    Args:
        name: of the figure and of its files, a key of `fgbench.reporting.figures.catalogue.FIGURES`.
        source: picks what the figure is about from the records.
        plotted: computes the drawn numbers from it, once.
        figure: draws these numbers.
        needs: names what is missing from records without such numbers, where more is known than the
            catalogue says.

    Example:
        >>> from types import SimpleNamespace
        >>> draw = writer("layers", everything, lambda records: pd.DataFrame(), lambda *_, sheet: None)
        >>> draw(SimpleNamespace(folder=Path("empty")), Path("out"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: no variance measured at sites in 'empty'; run fgbench measure
    """

    name: str
    source: Callable[[R], Any]
    plotted: Callable[[Any], pd.DataFrame]
    figure: Draws[Any]
    needs: Callable[[R], str] = lambda _: ""

    def __call__(
        self,
        records: R,
        out: Path,
        sheet: Sheet = PAPER,
        formats: Iterable[str] = style.USUAL,
    ) -> list[Path]:
        """Write the figure.

        Args:
            records: content of a folder.
            out: folder for the files.
            sheet: what it is drawn on.
            formats: kinds of pictures, of `fgbench.reporting.plotting.style.FORMATS`.

        Returns:
            The pictures, the CSV and the caption.

        Raises:
            UsageError: there is nothing to draw.
        """
        return list(self.drawing(records, out, sheet, formats).files)

    def drawing(
        self,
        records: R,
        out: Path | None = None,
        sheet: Sheet = PAPER,
        formats: Iterable[str] = style.USUAL,
    ) -> Drawing:
        """Draw the figure, and write it where a folder is given.

        Args:
            records: content of a folder.
            out: folder for the files; None writes none.
            sheet: what it is drawn on.
            formats: kinds of pictures.

        Returns:
            The figure, its numbers, its caption and its files.

        Raises:
            UsageError: there is nothing to draw.
        """
        content = self.source(records)
        table = self.plotted(content)
        if table.empty:
            raise FIGURES[self.name].missing(records.folder, self.needs(records))
        page = self.figure(content, table, sheet=sheet)
        files: list[Path] = []
        if out is not None:
            files = style.save(page.figure, out, self.name, table, formats, page.caption, sheet)
        return Drawing(page.figure, table, page.caption, tuple(files))


def writer(
    name: str,
    source: Callable[[R], T],
    plotted: Callable[[T], pd.DataFrame],
    figure: Draws[T],
    needs: Callable[[R], str] = lambda _: "",
) -> Writer[R]:
    """Return the `Writer` of a figure, with the types of its parts checked against each other.

    Args:
        name: of the figure.
        source: picks what the figure is about from the records.
        plotted: computes the drawn numbers from it.
        figure: draws these numbers.
        needs: names what is missing from records without such numbers.

    Returns:
        What draws and writes the figure.

    Example:
        >>> writer("layers", everything, lambda records: pd.DataFrame(), lambda *_, sheet: None).name
        'layers'
    """
    return Writer(name, source, plotted, figure, needs)


def everything(records: T) -> T:
    """Return its argument: the source of a figure that joins several tables.

    Example:
        >>> everything("records")
        'records'
    """
    return records
