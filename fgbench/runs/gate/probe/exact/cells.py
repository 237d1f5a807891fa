"""A cell: one small computation with a name, a kind and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import line, named, places
from .flat import Numbers

Cell = dict[str, Any]


class NotHere(Exception):
    """Raised for a cell that this tree does not have; the message is the reason."""


def cell(kind: str, name: str, make: Callable[[], Numbers], **facts: str) -> Cell:
    """Return a cell with its numbers, or with the reason why it has none.

    Args:
        kind: of what it computes.
        name: of the cell, unique.
        make: computes its numbers.
        facts: ``method``, ``arch``, ``data`` and ``about``, where it has them.

    Returns:
        The facts with ``numbers``, ``n/a`` (this tree does not have it) or ``failed`` (its code raises, or
        cannot be imported) and the ``places`` of the tree from which that comes.

    Example:
        >>> cell("draws", "draws none", lambda: {"x": 1.0})
        {'kind': 'draws', 'name': 'draws none', 'numbers': {'x': 1.0}}
    """
    from fgbench.errors import UsageError

    made: Cell = {"kind": kind, "name": name, **facts}
    try:
        made["numbers"] = make()
    except NotHere as error:
        made["n/a"] = str(error)
    except UsageError as error:
        made["n/a"] = line(error)
    except Exception as error:
        found = places(error)
        if isinstance(error, ImportError) and not (found and "fgbench" in (error.name or "")):
            made["n/a"] = line(error)  # a package that is not installed, or that is asked for here
        else:
            made |= {"failed": named(error), "places": found}
    return made


def chosen(names: Sequence[str], only: Mapping[str, Any], kind: str) -> list[str]:
    """Return those names that a request asks for, all where it does not say.

    Args:
        names: the names there are.
        only: of the request.
        kind: ``estimators``, ``localities``, ``archs`` and so on.

    Returns:
        Some of the names.

    Example:
        >>> chosen(["np", "wp"], {"estimators": ["np"]}, "estimators")
        ['np']
    """
    asked = only.get(kind)
    return [name for name in names if asked is None or name in asked]


def wanted(method: str, only: Mapping[str, Any]) -> bool:
    """Return whether a request asks for a method.

    Args:
        method: METHOD.
        only: of the request.

    Example:
        >>> wanted("FG-A", {"estimators": ["np"]})
        False
    """
    from fgbench import registry

    estimator = registry.parts(method)[0]
    return estimator in only.get("estimators", [estimator])
