"""Write a figure of a folder of records: PNG, PDF and CSV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.plotting import style

T = TypeVar("T")


class Folder(Protocol):
    """The content of a folder: records, or results of asv."""

    @property
    def folder(self) -> Path:
        """Where it lies."""


R = TypeVar("R", bound=Folder)


def writer(
    name: str,
    source: Callable[[R], T],
    plotted: Callable[[T], pd.DataFrame],
    figure: Callable[[T, pd.DataFrame], Figure],
) -> Callable[[R, Path], list[Path]]:
    """Return the function that writes a figure, the same for every figure.

    Args:
        name: of the figure and of its files, a key of `fgbench.reporting.figures.catalogue.FIGURES`.
        source: picks what the figure is about from the records.
        plotted: computes the drawn numbers from it, once.
        figure: draws these numbers.

    Returns:
        A function of the content of a folder and of the folder for the files. It returns the PNG, the
        PDF and the CSV, and raises UsageError where there is nothing to draw.

    Example:
        >>> from types import SimpleNamespace
        >>> draw = writer("layers", everything, lambda records: pd.DataFrame(), lambda *_: Figure())
        >>> draw(SimpleNamespace(folder=Path("empty")), Path("out"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: no variance measured at sites in 'empty'; run fgbench measure
    """

    def draw(records: R, out: Path) -> list[Path]:
        content = source(records)
        table = plotted(content)
        if table.empty:
            raise FIGURES[name].missing(records.folder)
        return style.save(figure(content, table), out, name, table)

    return draw


def everything(records: T) -> T:
    """Return its argument: the source of a figure that joins several tables.

    Example:
        >>> everything("records")
        'records'
    """
    return records
