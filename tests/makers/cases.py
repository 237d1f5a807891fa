"""A sample of many cases, or all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def some(cases: Iterable[T], every: int) -> list[T]:
    """Return every so many-th case; all of them where FGBENCH_CASES is ``all``."""
    return list(islice(cases, 0, None, 1 if os.environ.get("FGBENCH_CASES") == "all" else every))
