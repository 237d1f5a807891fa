"""Errors of the measured code as one line."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters of a message."""
VARIES = re.compile(r"0x[0-9a-f]+|/\S*/fgbench-probe-\w+")
"""What differs from run to run: addresses and temporary folders."""


def line(error: BaseException) -> str:
    """Return the message of an error as one line that is the same in every run.

    Args:
        error: as caught.

    Returns:
        At most 300 characters.

    Example:
        >>> line(ValueError("no  such thing at 0x7f01"))
        'no such thing at ...'
    """
    return VARIES.sub("...", " ".join(str(error).split()))[:LONGEST]


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
