"""A sample of many cases, or all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def some(cases: Iterable[T], every: int) -> list[T]:
    """Return every so many-th case; all of them where FGBENCH_CASES is ``all``."""
    return list(islice(cases, 0, None, 1 if os.environ.get("FGBENCH_CASES") == "all" else every))


def slow_if(cases: Iterable[T], slow: Callable[[T], bool]) -> list[Any]:
    """Return all cases; those that take long are marked, and run in CI and by make test-all alone."""
    marks = pytest.mark.slow
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=marks if slow(case) else ()
        )
        for case in cases
    ]


def mostly_slow(cases: Sequence[T], every: int) -> list[Any]:
    """Return all cases; those that are not every so many-th are marked slow."""
    kept = [id(case) for case in cases[::every]]
    return slow_if(cases, lambda case: id(case) not in kept)
