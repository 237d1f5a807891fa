"""Tables of a page: cells with their sort keys, and the format of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

import pandas as pd

from fgbench.reporting.frames.load import EFFICIENCIES
from fgbench.reporting.frames.method_names import natural
from fgbench.stats.scale_verdict import Sign

NOTHING = "–"
MEAN = (
    "Mean over the seeds of finished runs after the last epoch [95 % t interval, on the log scale; with two "
    "seeds, their range]"
)


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Args:
        text: what is displayed.
        sort: number that the column is sorted by; NaN sorts last, None sorts by the text.
        link: target of the text, relative to the root of the site.
        note: small print below the text; it may have several lines.
        tone: colour of a verdict: "good", "bad" or "" for none.
        full_text: the complete text where ``text`` is only its beginning; it can be unfolded.
        incomparable: whether its number must not be compared with those of other rows.

    Example:
        >>> TableCell("0.5", 0.5).key
        '0.5'
        >>> TableCell("–", nan).key
        ''
    """

    text: str
    sort: float | None = None
    link: str = ""
    note: str = ""
    tone: str = ""
    full_text: str = ""
    incomparable: bool = False

    @property
    def key(self) -> str | None:
        """The sort key as an HTML attribute: "" for an unknown number, None to sort by the text."""
        if self.sort is None:
            return None
        return repr(float(self.sort)) if isfinite(self.sort) else ""


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Args:
        cells: from left to right; the first names the row.
        facets: value of each of the table's facets.

    Example:
        >>> TableRow((TableCell("BP"), number_cell(2.0))).cells[1].text
        '2'
    """

    cells: tuple[TableCell, ...]
    facets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table that can be sorted, and filtered if it has a search field or facets.

    Args:
        name: id of its HTML element, unique on a page.
        caption: what it shows, with units.
        head: names of the columns.
        rows: from top to bottom.
        search: label of the search field; "" for none.
        search_rows: whether the search looks at all cells of a row instead of the first one.
        facets: names of the columns that have a menu of their values to filter by.
        broken: indices of the columns whose text may be broken into several lines.
        folded: whether each row is shown as a card on a narrow screen.
        kinds: CSS class of each column; the cards of the leaderboard are laid out by it.
        legend: explanation of the columns, which can be unfolded below the caption.

    Example:
        >>> one = table("t", "Errors.", ["method", "error (%)"], [[TableCell("BP"), number_cell(1.5)]])
        >>> [cell.text for cell in one.rows[0].cells]
        ['BP', '1.5']
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[TableRow, ...]
    search: str = ""
    search_rows: bool = False
    facets: tuple[str, ...] = ()
    broken: tuple[int, ...] = ()
    folded: bool = False
    kinds: tuple[str, ...] = ()
    legend: str = ""

    @property
    def choices(self) -> list[tuple[str, list[str]]]:
        """Facets with the values that occur, in natural order."""
        return [
            (facet, sorted({row.facets[at] for row in self.rows}, key=natural))
            for at, facet in enumerate(self.facets)
        ]


def table(
    name: str, caption: str, head: Sequence[str], rows: Iterable[Sequence[TableCell]], **more: Any
) -> Table:
    """Return a table of rows of cells.

    Args:
        name: id of its HTML element.
        caption: what it shows.
        head: names of the columns.
        rows: cells of each row.
        more: further arguments of `Table`.

    Example:
        >>> table("t", "Errors.", ["method"], [[TableCell("BP")]], search="method").search
        'method'
    """
    return Table(
        name, caption, tuple(head), tuple(TableRow(tuple(cells)) for cells in rows), **more
    )


def interval(numbers: Mapping[str, Any]) -> str:
    """Return a number with its interval as text.

    Args:
        numbers: ``value low high``; NaN for what is unknown.

    Example:
        >>> interval({"value": 12.34, "low": 11.0, "high": 13.9})
        '12.3 [11, 13.9]'
        >>> interval({"value": 2.0, "low": 2.0, "high": 2.0})
        '2'
    """
    value, low, high = (digits(numbers[name]) for name in ("value", "low", "high"))
    if pd.isna(numbers["low"]) and pd.isna(numbers["high"]):
        return value
    if numbers["low"] == numbers["high"] == numbers["value"]:
        return value
    return f"{value} [{low}, {high}]"


def digits(number: float, significant: int = 3) -> str:
    """Return a number as text with some significant digits, without an exponent below ten million.

    Example:
        >>> digits(123456.0), digits(0.012345, 2), digits(nan)
        ('123,000', '0.012', '–')
    """
    if pd.isna(number):
        return NOTHING
    text = f"{number:.{significant}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(number) < 1e7 else text


def interval_cell(numbers: Mapping[str, Any] | pd.Series | None, note: str = "") -> TableCell:
    """Return the cell of a number with its interval; it sorts by the number.

    Args:
        numbers: ``value low high``; None for an unknown number.
        note: small print below.

    Example:
        >>> interval_cell({"value": 2.0, "low": 1.0, "high": 3.0}).text
        '2 [1, 3]'
    """
    if numbers is None:
        return TableCell(NOTHING, nan, note=note)
    return TableCell(interval(numbers), float(numbers["value"]), note=note)


def sign_note(numbers: Mapping[str, Any] | pd.Series | None) -> str:
    """Return the small print below an efficiency about the sign of its scale; "" for other quantities.

    Args:
        numbers: of `fgbench.reporting.frames.load.Records.measures`; None for an unknown number.

    Example:
        >>> sign_note({"quantity": "efficiency", "value": 0.1, "sign": "sign not resolved"})
        'sign not resolved'
    """
    if numbers is None or numbers["quantity"] not in EFFICIENCIES:
        return ""
    return Sign(numbers["sign"]).beside(numbers["value"])


def bias_cell(numbers: Mapping[str, Any] | pd.Series | None, note: str = "") -> TableCell:
    """Return the cell of a bias, of which alone "exact" is said: a variance of 0 may be of a biased estimate.

    Args:
        numbers: as of `interval_cell`.
        note: small print below.

    Example:
        >>> bias_cell({"value": 0.0, "low": 0.0, "high": 0.0}).text
        '0 (exact)'
    """
    cell = interval_cell(numbers, note)
    known = numbers is not None and numbers["low"] == numbers["high"] == numbers["value"]
    return replace(cell, text=f"{cell.text} (exact)") if known else cell


def number_cell(number: Any, significant: int = 3) -> TableCell:
    """Return the cell of a number without an interval; a dash for anything that is not a number.

    Example:
        >>> number_cell(0.5).text, number_cell(None).text
        ('0.5', '–')
    """
    value = float(number) if isinstance(number, int | float) else nan
    return TableCell(digits(value, significant), value)
