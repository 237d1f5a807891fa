"""Tables that fit narrow terminals without breaking numbers, and the console they are printed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

UNLIMITED = 10_000  # width of a console on which everything fits
LEAST = 20  # below this width a first column is not folded if stacking helps
FOLDED = 7  # below this width, that of LG-FG-A, a first column is never folded


def console(file: IO[str] | None = None) -> Console:
    """Return a console for stdout, 200 columns wide where that is not a terminal.

    Markup is off: brackets in a method are its options.

    Args:
        file: where it writes instead, as wide as it would be on stdout.

    Returns:
        The console.

    Example:
        >>> console().print("fg_a[directions=4]")
        fg_a[directions=4]
    """
    import shutil
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    if file is not None and width is None:
        width = shutil.get_terminal_size().columns
    return Console(file=file, width=width, markup=False, emoji=False)


def network_on_data(record: Mapping[str, Any]) -> str:
    """Return the network and data of a record as text, with how the user had the network cut.

    Args:
        record: of ``measure``, ``train`` or ``speed``.

    Returns:
        The text, for titles of tables.

    Example:
        >>> settings = {"cut": "blocks", "batch": 8}
        >>> network_on_data({"arch": "./net.py:make", "data": "digits", "settings": settings})
        './net.py:make on digits, cut blocks'
    """
    settings = record.get("settings") or {}
    stated = [
        f", {name.replace('_', ' ')} {settings[name]}"
        for name in ("cut", "sites", "out_axes")
        if settings.get(name)
    ]
    return f"{record['arch']} on {record['data']}{''.join(stated)}"


@dataclass
class StackingTable:
    """A table that does not break numbers on a narrow terminal.

    Columns that do not fit side by side are set closer, and the first one is folded. If that is not
    enough they are stacked: several tables, each beginning with the columns that name the rows.

    Args:
        title: text above the table.
        columns: headers; the first column names the rows.
        caption: text below the table.
        rows: cells of every row.
        names: how many of the first columns name the rows.

    Example:
        >>> table = StackingTable("Costs", ["method", "fwd"], "fwd: forward equivalents")
        >>> table.add_row("FG-A", "3")
        >>> table.rows
        [('FG-A', '3')]
    """

    title: str
    columns: Sequence[str]
    caption: str
    rows: list[tuple[str, ...]] = field(default_factory=list)
    names: int = 1

    def add_row(self, *cells: str) -> None:
        """Add one row, a cell per column."""
        self.rows.append(cells)

    def html(self) -> str:
        """Return the table as HTML, for a notebook.

        Returns:
            A title, a ``<table>`` and a caption; all text is escaped.

        Example:
            >>> StackingTable("", ["method"], "", [("FG-A",)]).html()
            '<table><thead><tr><th>method</th></tr></thead><tbody><tr><td>FG-A</td></tr></tbody></table>'
        """
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        title = f"<p><b>{escape(self.title)}</b></p>" if self.title else ""
        caption = f"<p><small>{escape(self.caption)}</small></p>" if self.caption else ""
        return title + table + caption

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Render as one table, or as several below each other."""
        from rich.cells import cell_len
        from rich.measure import Measurement
        from rich.text import Text

        width, every = options.max_width, range(self.names, len(self.columns))

        def wants(columns: Sequence[int], widest: int | None, *, tight: bool = True) -> int:
            table = self._table(columns, widest, tight=tight)
            return Measurement.get(console, options.update(width=UNLIMITED), table).maximum

        loose = wants(every, None, tight=False) <= width
        spare = width - wants(every, 1) + 1  # for the first column, with all others beside it
        names = max(map(cell_len, (self.columns[0], *(row[0] for row in self.rows))))
        if loose or spare >= min(names, LEAST):
            table = self._table(every, None if loose else spare, tight=not loose)
            table.title, table.caption = self.title, self.caption
            yield table
            return
        yield Text(self.title, style="table.title")
        room = width - max(wants([column], 1) for column in every) + 1
        widest = max(min(max(width // 3, LEAST), room), FOLDED)
        stacked: list[int] = []
        for column in every:
            if stacked and wants([*stacked, column], widest) > width:
                yield self._table(stacked, widest)
                stacked = []
            stacked.append(column)
        yield self._table(stacked, widest)
        yield Text(self.caption, style="table.caption")

    def _table(self, columns: Sequence[int], widest: int | None, *, tight: bool = True) -> Table:
        """Return a table of the naming columns, the first at most ``widest`` wide, and of ``columns``."""
        from rich.box import SIMPLE
        from rich.table import Table

        table = Table(box=SIMPLE, title_justify="left", caption_justify="left")
        if tight:
            table.pad_edge, table.padding = False, (0, 1, 0, 0)
        table.add_column(self.columns[0], overflow="fold", max_width=widest)
        shown = [*range(1, self.names), *columns]
        for column in shown:
            table.add_column(self.columns[column], justify="right", overflow="fold")
        for row in self.rows:
            table.add_row(row[0], *(row[column] for column in shown))
        return table


def make(title: str, columns: Sequence[str], caption: str, names: int = 1) -> StackingTable:
    """Return an empty table.

    Args:
        title: text above the table.
        columns: headers; the first column names the rows.
        caption: text below the table.
        names: how many of the first columns name the rows.

    Returns:
        The table.

    Example:
        >>> make("Costs", ["method", "fwd"], "").names
        1
    """
    return StackingTable(title, columns, caption, names=names)
