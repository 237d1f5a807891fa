"""Errors of the measured code: one line, and the files of the tree that they come from."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

PROBES = Path(__file__).parent
"""The working tree that is measured may be that of the probes."""
LONGEST = 300
"""Characters of a message."""
VARIES = re.compile(r"0x[0-9a-f]+|/\S*/fgbench-probe-[\w-]+")
"""What differs from run to run: addresses and temporary folders."""


def line(error: BaseException) -> str:
    """Return the message of an error as one line that is the same in every run.

    Args:
        error: as caught.

    Returns:
        At most 300 characters; a syntax error is without its place, which :func:`places` gives.

    Example:
        >>> line(ValueError("no  such thing at 0x7f01"))
        'no such thing at ...'
    """
    text = (error.msg or "") if isinstance(error, SyntaxError) else str(error)
    return VARIES.sub("...", " ".join(text.split()))[:LONGEST]


def named(error: BaseException) -> str:
    """Return an error as one line: its type and message.

    Args:
        error: as caught.

    Returns:
        The line.

    Example:
        >>> named(ValueError("no such thing"))
        'ValueError: no such thing'
    """
    return f"{type(error).__name__}: {line(error)}"


def places(error: BaseException) -> list[str]:
    """Return where in the measured tree an error comes from, the innermost place first.

    A syntax error is where it is written, not where the file is imported. Of a name that cannot be imported
    the module that lacks it follows its importer.

    Args:
        error: as caught.

    Returns:
        Such as ``fgbench/core/axes.py:12``, a module that lacks a name without a line; none outside the tree.

    Example:
        >>> places(ValueError("no such thing"))
        []
    """
    found: list[tuple[str, int | None]] = []
    if isinstance(error, SyntaxError) and error.filename:
        found = [(error.filename, error.lineno)]
    else:
        frames = traceback.extract_tb(error.__traceback__)
        found = [(frame.filename, frame.lineno) for frame in reversed(frames)]
    root, shown = _tree(), []
    for name, number in found:
        path = Path(name)
        if root and path.is_relative_to(root) and not path.is_relative_to(PROBES):
            shown.append(f"{path.relative_to(root).as_posix()}:{number}")
    if shown and isinstance(error, ImportError) and (error.name or "").startswith("fgbench."):
        shown.insert(1, f"{(error.name or '').replace('.', '/')}.py")
    return list(dict.fromkeys(shown))


def _tree() -> Path | None:
    """Return the folder of the measured tree; None where fgbench is not imported from any."""
    if tree := os.environ.get("FGBENCH_GATE_TREE"):
        return Path(tree)
    file = getattr(sys.modules.get("fgbench"), "__file__", None)
    return Path(file).parents[1] if file else None
