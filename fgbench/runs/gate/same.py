"""Question 1: does the second tree give the same numbers, bit for bit?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgbench.runs.gate.answers import Replies
from fgbench.runs.gate.changes import changes
from fgbench.runs.gate.naming import rows
from fgbench.runs.suites.tracked import probe as probe_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.runs.gate.answers import Store
    from fgbench.runs.gate.changes import Change
    from fgbench.runs.gate.naming import Row
    from fgbench.runs.gate.side import Side

PROBE = "exact"
BESIDE = tuple(f"fgbench/{room}/" for room in ("cli", "conformance", "reporting", "runs"))
"""Rooms of which a computation imports little; nothing in them is found by its name, as an estimator is."""


@dataclass(frozen=True)
class Same:
    """The answer to the first question.

    Args:
        rows: what changed, causes first; none where both trees are identical.
        changes: of all cells.
        cells: how many were computed in both trees.
        numbers: how many numbers these have.
        unwatched: what no cell watches, with the reason.
        modules: files of the package that were imported for them.
        untouched: whether no file that differs is imported by what is computed: the numbers of one tree are
            those of the other.

    Example:
        >>> Same((), (), 900, 20_000, {}).identical
        True
    """

    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    cells: int
    numbers: int
    unwatched: Mapping[str, str]
    modules: frozenset[str] = frozenset()
    untouched: bool = False

    @property
    def identical(self) -> bool:
        """Whether all numbers of both trees are the same."""
        return not self.changes


def ask(
    a: Side,
    b: Side,
    *,
    files: Sequence[str],
    store: Store | None,
    tell: Callable[[str], None],
    only: Mapping[str, Any] | None = None,
) -> Same:
    """Compute every exact cell in both trees, compare the numbers, and name what changed.

    Args:
        a: the tree before.
        b: the tree after.
        files: that differ between them, for the suspects.
        store: where answers are kept; kept ones are not computed again.
        tell: called with a line of progress now and then.
        only: restricts the cells, see the probe.

    Returns:
        The changes.

    Raises:
        ProbeError: the probe does not run in one of the trees.
    """
    how: dict[str, Any] = {"store": store, "tell": tell, "only": only}
    if files and all(name.startswith(BESIDE) for name in files):
        (first,) = collect([a], **how)
        if not {name.removeprefix("fgbench/") for name in files} & first.modules:
            numbers = [cell["numbers"] for cell in first.cells if "numbers" in cell]
            return Same(
                (),
                (),
                len(numbers),
                sum(map(len, numbers)),
                unwatched(first.cells),
                first.modules,
                True,
            )
    found = collect([a, b], **how)
    before, after = (side.cells for side in found)
    moved = changes(before, after)
    loaded = {module for side in found for module in side.modules}
    both = {cell["name"] for cell in before if "numbers" in cell}
    computed = [cell for cell in after if "numbers" in cell and cell["name"] in both]
    return Same(
        tuple(rows(moved, files, loaded)),
        tuple(moved),
        len(computed),
        sum(len(cell["numbers"]) for cell in computed),
        unwatched(after),
        frozenset(loaded),
    )


@dataclass(frozen=True)
class Exact:
    """The exact cells of one tree.

    Args:
        cells: as the probe returns them.
        modules: files of the package that were imported for them.

    Example:
        >>> Exact([], frozenset()).cells
        []
    """

    cells: list[dict[str, Any]]
    modules: frozenset[str]


def collect(
    sides: Sequence[Side],
    *,
    store: Store | None,
    tell: Callable[[str], None],
    only: Mapping[str, Any] | None = None,
) -> list[Exact]:
    """Compute the exact cells of trees, all trees at the same time.

    Args:
        sides: the trees.
        store: where answers are kept.
        tell: called with a line of progress now and then.
        only: restricts the cells, see the probe.

    Returns:
        The cells of each tree.

    Raises:
        ProbeError: the probe does not run in one of them.
    """
    found: list[Exact] = [Exact([], frozenset()) for _ in sides]
    with ExitStack() as running:
        replies = [running.enter_context(Replies(side, PROBE, store)) for side in sides]
        groups = [group for group in probe_module(PROBE).GROUPS if _wanted(group, only)]
        for number, group in enumerate(groups, 1):
            request = {"ask": "group", "group": group, "only": dict(only or {})}
            computed = [each.send(request) for each in replies]
            if any(computed):
                tell(f"same? {group} ({number} of {len(groups)})")
            got = [each.receive() for each in replies]
            found = [
                Exact([*one.cells, *answer["cells"]], one.modules | {*answer["modules"]})
                for one, answer in zip(found, got, strict=True)
            ]
    return found


def _wanted(group: str, only: Mapping[str, Any] | None) -> bool:
    """Return whether a group of cells is asked for."""
    return not only or group in only.get("groups", [group])


def unwatched(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the estimators, localities, networks and data sets of which no cell has numbers.

    Args:
        cells: of one tree.

    Returns:
        Such as ``estimator cge``, with the first reason.

    Example:
        >>> unwatched([{"kind": "data", "name": "data mnist", "data": "mnist", "n/a": "no files"}])
        {'data mnist': 'no files'}
    """
    watched: set[str] = set()
    reasons: dict[str, str] = {}
    for cell in cells:
        names = _names(cell)
        if "numbers" in cell:
            watched |= {*names}
        for name in names:
            reasons.setdefault(name, cell.get("n/a") or cell.get("failed") or "")
    return {name: why for name, why in reasons.items() if name not in watched}


def _names(cell: Mapping[str, Any]) -> list[str]:
    """Return what a cell watches."""
    estimator, _, locality = cell.get("method", "").partition("/")
    named = {"estimator": estimator, "locality": locality}
    if cell["kind"] in ("data", "weights"):
        named |= {"data": cell.get("data", ""), "architecture": cell.get("arch", "")}
    elif cell.get("arch", "").startswith("wrapped "):
        named["network"] = cell["arch"]
    return [
        f"{what} {name}"
        for what, name in named.items()
        if name and "[" not in name.partition("[")[0]
    ]
