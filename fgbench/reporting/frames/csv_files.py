"""Tables as CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fgbench.records import atomic
from fgbench.records.spreadsheet import inert


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all; no text of it is run by a spreadsheet.

    Numbers are written as they are. A text that a spreadsheet would run begins with an apostrophe, see
    `fgbench.records.spreadsheet.inert`.

    Args:
        table: any table; its index is left out.
        path: of the file, in a folder that exists.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_csv(pd.DataFrame({"method": ["=1+1"], "value": [-1.5]}), Path(folder, "a.csv"))
        ...     Path(folder, "a.csv").read_text().splitlines()
        ['method,value', "'=1+1,-1.5"]
    """
    columns = {str(name): table.iloc[:, at] for at, name in enumerate(table.columns)}
    texts = {
        inert(name): column.map(_inert) if column.dtype.kind not in "biufc" else column
        for name, column in columns.items()
    }
    written = pd.DataFrame(texts, index=table.index)
    atomic.write_text(path, written.to_csv(index=False, lineterminator="\n"))


def _inert(value: object) -> object:
    """Return a value of a table; a text as one that no spreadsheet runs."""
    return inert(value) if isinstance(value, str) else value
