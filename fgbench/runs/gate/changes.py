"""How the numbers of one exact cell differ between two trees."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from fgbench.runs.gate.finding import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROUNDING = 1e-9
"""Relative difference of float64 numbers up to which two sums differ in the order of their terms."""
EQUAL_RATIOS = 1e-7
"""Relative difference of ratios that are one."""
_ENDS = re.compile(
    r"(^|\.)(low|high|draws_low|draws_high|n|p_value|p|detectable|half|error|df|reason)$"
)
_PRICE = re.compile(r"^(ledger|cost)\.|_per_forward(\.|$)")


PRICES = ("ledger.forward_equivalents", "cost.forward_equivalents")
"""The price of an estimate in passes."""


@dataclass(frozen=True)
class Change:
    """One cell that is not the same in both trees.

    Args:
        cell: the cell; its kind is that of the numbers that moved.
        how: ``numbers``, ``nan`` (numbers that are none after, and were before), ``failed`` (its code raises
            after), ``gone``, ``new``, or ``mended`` (its code raised before).
        reason: of a cell that failed or is gone.
        paths: numbers that moved.
        before: all numbers before.
        after: all numbers after.
        files: of the second tree from which a failure comes, the likeliest first.

    Example:
        >>> before, after = {"body.w.along": 2.0}, {"body.w.along": 1.96}
        >>> change = Change(Cell("estimate", "one"), "numbers", "", ("body.w.along",), before, after)
        >>> change.ratio, change.rounding
        (0.98, False)
    """

    cell: Cell
    how: str
    reason: str = ""
    paths: tuple[str, ...] = ()
    before: Mapping[str, Any] = None  # type: ignore[assignment]
    after: Mapping[str, Any] = None  # type: ignore[assignment]
    files: tuple[str, ...] = ()

    def pairs(self, ending: str = "") -> Iterator[tuple[float, float]]:
        """Yield the numbers that moved, before and after.

        Args:
            ending: of their paths.
        """
        for path in self.paths:
            one, other = self.before.get(path), self.after.get(path)
            if path.endswith(ending) and _real(one) and _real(other):
                yield float(one), float(other)  # type: ignore[arg-type]

    @property
    def size(self) -> float:
        """The largest relative difference of its numbers; infinite where texts or missing numbers differ."""
        sizes = [abs(b - a) / max(abs(a), abs(b)) for a, b in self.pairs() if a != b]
        whole = all(
            path.endswith("bytes") or (_real(self.before.get(path)) and _real(self.after.get(path)))
            for path in self.paths
        )
        return max(sizes, default=0.0) if whole else math.inf

    @property
    def rounding(self) -> bool:
        """Whether the difference is one of rounding alone."""
        return self.how == "numbers" and self.size <= ROUNDING

    @property
    def ratio(self) -> float | None:
        """The factor of all that moved in an estimate, None where there is no common one."""
        found = [b / a for a, b in self.pairs("along") if a]
        if not found or any(
            path.endswith("along") and not path.startswith("body") for path in self.paths
        ):
            return None
        middle = median(found)
        near = all(abs(each - middle) <= EQUAL_RATIOS * abs(middle) for each in found)
        still = any(
            path.startswith("body") and path.endswith("along") and path not in self.paths and value
            for path, value in self.before.items()
        )
        return round(middle, 9) if near and not still and abs(middle - 1) > EQUAL_RATIOS else None

    @property
    def width(self) -> float | None:
        """The factor of the widths of all intervals that moved, None where there is no common one."""
        found = []
        for path in self.paths:
            if not path.endswith("low"):
                continue
            ends = [f"{path[:-3]}{end}" for end in ("low", "high")]
            numbers = [side.get(end) for side in (self.before, self.after) for end in ends]
            if all(map(_real, numbers)) and numbers[1] != numbers[0]:
                found.append((numbers[3] - numbers[2]) / (numbers[1] - numbers[0]))  # type: ignore[operator]
        return median(found) if found else None

    @property
    def first_step(self) -> int | None:
        """The first epoch of a training whose numbers moved, from 1."""
        steps = [int(path.split(".")[1]) + 1 for path in self.paths if path.startswith("history.")]
        return min(steps, default=None)


def changes(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> list[Change]:
    """Compare the cells of two trees.

    Args:
        before: cells of the first tree, as the probe ``exact`` returns them.
        after: cells of the second.

    Returns:
        Those that are not the same, in order.

    Example:
        >>> one, other = ({"kind": "data", "name": "d", "numbers": {"x": x}} for x in (1.0, 2.0))
        >>> [(change.cell.name, change.paths) for change in changes([one], [other])]
        [('d', ('x',))]
    """
    first = {cell["name"]: cell for cell in before}
    second = {cell["name"]: cell for cell in after}
    found = []
    for name in dict.fromkeys((*first, *second)):
        change = _change(first.get(name, {}), second.get(name, {}))
        if change is not None:
            found += [change, *_dearer(change)]
    return found


def _dearer(change: Change) -> list[Change]:
    """Return the higher price of an estimate whose numbers moved too: less noise may have been bought."""
    if change.how != "numbers" or change.cell.kind != "estimate":
        return []
    prices = tuple(path for path in change.paths if _PRICE.search(path))
    if not any(b > a for path in PRICES for a, b in change.pairs(path)):
        return []
    return [replace(change, cell=replace(change.cell, kind="ledger"), paths=prices)]


def _change(one: Mapping[str, Any], other: Mapping[str, Any]) -> Change | None:
    """Return how a cell changed, None where it did not."""
    if one.get("digest") == other.get("digest") and one.get("digest"):
        return None
    known = one or other
    facts = {name: known.get(name, "") for name in ("method", "arch", "data", "about")}
    cell = Cell(known["kind"], known["name"], **facts)
    had, has = "numbers" in one, "numbers" in other
    if had and has:
        return _moved(cell, one["numbers"], other["numbers"])
    if "failed" in other:
        return None if one.get("failed") == other["failed"] else _failed(cell, other)
    if had:
        return Change(cell, "gone", other.get("n/a", "it does not exist"))
    if has:
        return Change(cell, "mended" if "failed" in one else "new", one.get("failed", ""))
    return None


def _failed(cell: Cell, answer: Mapping[str, Any]) -> Change:
    """Return the change of a cell whose code raises in the second tree, with the place that it comes from."""
    places = answer.get("places", ())
    files = dict.fromkeys(place.partition(":")[0] for place in places)
    where = f" ({places[0]})" if places else ""
    return Change(cell, "failed", answer["failed"] + where, files=tuple(files))


def _moved(cell: Cell, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    """Return the change of a cell that has numbers in both trees."""
    paths = tuple(
        path
        for path in dict.fromkeys((*before, *after))
        if not _equal(before.get(path), after.get(path)) or (path in before) != (path in after)
    )
    if not paths:
        return None
    lost = any(_nan(after.get(path)) and not _nan(before.get(path)) for path in paths)
    moved = Cell(_kind(cell.kind, paths), cell.name, cell.method, cell.arch, cell.data, cell.about)
    return Change(moved, "nan" if lost else "numbers", "", paths, before, after)


def _kind(kind: str, paths: Iterable[str]) -> str:
    """Return what moved in a cell: only prices, only ends of intervals, or what it computes."""
    if kind != "estimate":
        return kind
    others = [path for path in paths if not _PRICE.search(path)]
    if not others:
        return "ledger"
    return "intervals" if all(_ENDS.search(path) for path in others) else kind


def _real(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nan(value: Any) -> bool:
    """Return whether a value is a number that is none."""
    return isinstance(value, float) and math.isnan(value)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same, bit for bit."""
    return one == other or (_nan(one) and _nan(other))
