"""Tables of a page: cells with what they sort by, and numbers as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import pandas as pd

from fgbench.reporting.frames.method_names import natural

NOTHING = "–"
MEAN = (
    "Mean over seeds of finished runs after the last epoch [95 % t interval, on the log scale; with two "
    "seeds, their range]"
)


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Args:
        text: as it is read.
        sort: the number it sorts by; NaN sorts last, and None by the text.
        link: where the text leads, from the root of the site.
        note: what is said beneath in small print, in lines of its own.
        tone: "good", "bad" or "", for a verdict, which the text says too.
        whole: all of the text where that is its beginning, folded away.
    """

    text: str
    sort: float | None = None
    link: str = ""
    note: str = ""
    tone: str = ""
    whole: str = ""

    @property
    def key(self) -> str | None:
        """The sort key as an attribute: "" for what is not known."""
        if self.sort is None:
            return None
        return repr(float(self.sort)) if isfinite(self.sort) else ""


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        cells: the first one names the row.
        facets: a value for each of the table's facets.
    """

    cells: tuple[Cell, ...]
    facets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table that a page can sort, and filter if it has a search or facets.

    Args:
        name: of its element, unique on a page.
        caption: what it shows, with units.
        head: of its columns.
        rows: top to bottom.
        search: label of the field that filters by text; "" for none.
        whole: whether that field looks at whole rows, not just their first cells.
        facets: columns that can be filtered by one of their values.
        broken: columns whose text may break into lines, by their number.
        folded: whether each row is a card on a narrow screen.
        kinds: short names of the columns, for cards that are laid out by them.
        legend: what the columns are, at length, folded away beneath the caption.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    search: str = ""
    whole: bool = False
    facets: tuple[str, ...] = ()
    broken: tuple[int, ...] = ()
    folded: bool = False
    kinds: tuple[str, ...] = ()
    legend: str = ""

    @property
    def choices(self) -> list[tuple[str, list[str]]]:
        """Every facet with the values that occur."""
        return [
            (facet, sorted({row.facets[at] for row in self.rows}, key=natural))
            for at, facet in enumerate(self.facets)
        ]


def table(
    name: str, caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], **more: Any
) -> Table:
    """Make a table of rows of cells, see `Table`."""
    return Table(name, caption, tuple(head), tuple(Row(tuple(cells)) for cells in rows), **more)


def interval(numbers: Mapping[str, Any]) -> str:
    """Write a number with its interval: ``12.3 [11, 13.9]``, a dash for what is not known."""
    value, low, high = (digits(numbers[name]) for name in ("value", "low", "high"))
    if pd.isna(numbers["low"]) and pd.isna(numbers["high"]):
        return value
    if numbers["low"] == numbers["high"] == numbers["value"]:
        return f"{value} (exact)"
    return f"{value} [{low}, {high}]"


def digits(number: float, places: int = 3) -> str:
    """Round to significant digits, without an exponent for what is read at a glance."""
    if pd.isna(number):
        return NOTHING
    text = f"{number:.{places}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(number) < 1e7 else text


def measured(numbers: Mapping[str, Any] | pd.Series | None, note: str = "") -> Cell:
    """Make the cell of a number with its interval; it sorts by the number."""
    if numbers is None:
        return Cell(NOTHING, nan)
    return Cell(interval(numbers), float(numbers["value"]), note=note)


def plain(number: Any, places: int = 3) -> Cell:
    """Make the cell of a number without an interval."""
    value = float(number) if isinstance(number, int | float) else nan
    return Cell(digits(value, places), value)
