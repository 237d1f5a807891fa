"""Whether a function is being traced for a compiler."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_traced: ContextVar[bool] = ContextVar("fgbench_traced", default=False)


@contextmanager
def traced() -> Iterator[None]:
    """Mark the block as one in which a function is traced.

    Example:
        >>> with traced():
        ...     tracing()
        True
    """
    token = _traced.set(True)
    try:
        yield
    finally:
        _traced.reset(token)


def tracing() -> bool:
    """Return whether a function is being traced: a kernel that is slow by itself costs nothing there.

    Example:
        >>> tracing()
        False
    """
    return _traced.get()
