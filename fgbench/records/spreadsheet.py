"""Texts that a spreadsheet shows and does not run."""

from __future__ import annotations

import re

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
STARTS = r"[=+\-@\uff0b\uff0d\uff1d\uff20]"  # the last four: full-width + - = @
RUNS = re.compile(rf"(?:\A|(?<=[;\t\r\n]))(?=\s*{STARTS})|\A(?=[\t\r\n])")


def inert(text: str) -> str:
    r"""Return a text as a cell of a CSV file that no spreadsheet takes for a formula.

    Excel, LibreOffice and Google Sheets run a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a
    carriage return. An apostrophe before it makes it a text. Where the separator is ``;`` or a tab, a cell
    may also begin inside a text, behind one of these. A text that is a number stays one.

    Args:
        text: of a cell.

    Returns:
        The text, with an apostrophe wherever a formula would begin.

    Example:
        >>> inert("=1+1"), inert("-x"), inert("a;@b")
        ("'=1+1", "'-x", "a;'@b")
        >>> inert("-1.5"), inert("FG-A, lr=-1")
        ('-1.5', 'FG-A, lr=-1')
    """
    return text if NUMBER.fullmatch(text) else RUNS.sub("'", text)
