"""The methods that suites watch, by tier, and those that they do not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.runs.suites import folder as suites
from fgbench.runs.suites import own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fgbench.runs.suites.folder import Benchmarks

NO_ROW = "no benchmark has a row for it"
SOURCES = "fgbench/estimators"
"""Folder of the repository of fgbench, whose suites watch what is registered."""


@dataclass
class Row:
    """A name and the benchmarks that watch it.

    Args:
        kind: ``estimators`` and so on.
        name: as it is registered, or the METHOD of an estimator of one's own.
        watched: tier to names of classes.
        reason: why none does, or why its exact mean is not tracked.

    Example:
        >>> str(Row("estimators", "fg_a", {"smoke": ["Noise"]})).split()
        ['fg_a', 'smoke:', 'Noise']
    """

    kind: str
    name: str
    watched: dict[str, list[str]] = field(default_factory=dict)
    reason: str = ""

    def __str__(self) -> str:
        """Return a line."""
        tiers = [f"{tier}: {', '.join(names)}" for tier, names in self.watched.items()]
        if not tiers:
            return f"{self.name:<24} not watched: {self.reason}"
        without = f"; no exact mean: {self.reason}" if self.reason else ""
        return f"{self.name:<24} {'; '.join(tiers)}{without}"


def rows(place: Path) -> list[Row]:
    """Return what suites watch, by name.

    Args:
        place: folder with a configuration of asv.

    Returns:
        In the repository of fgbench everything that is registered; elsewhere the estimators of that folder.

    Raises:
        UsageError: if there is no configuration, or the suites cannot be imported.

    Example:
        >>> callable(rows)
        True
    """
    benchmarks = suites.benchmarks(place)
    reasons = suites.reasons(place, "WITHOUT_MEAN") | suites.reasons(place)
    if not (place / SOURCES).is_dir():
        return [_row("estimators", m, benchmarks, reasons) for m in own.methods(place)]
    return [
        _row(kind, name, benchmarks, reasons)
        for kind in registry.FOLDERS
        for name in registry.entries(kind)
    ]


def _row(kind: str, name: str, benchmarks: list[Benchmarks], reasons: dict[str, str]) -> Row:
    """Return a name with the benchmarks that have a row for it."""
    row = Row(kind, name)
    for each in benchmarks:
        if any(name in names_in(text) for text in each.rows):
            row.watched.setdefault(each.tier, []).append(each.name.rpartition(".")[2])
    entry = registry.entries(kind).get(name)
    row.reason = reasons.get(name, "") or (entry.error if entry else "")
    if not row.watched:
        row.reason = row.reason or NO_ROW
    return row


def names_in(text: str) -> set[str]:
    """Return the registered names and METHODs that a row of a benchmark is about.

    Args:
        text: the row, such as ``fg_a/local-pg`` or ``bp/end: momentum``.

    Returns:
        The row without what follows a colon, and of a METHOD its estimator and locality without endings.

    Example:
        >>> sorted(names_in("fg_a[directions=4]/local-pg"))
        ['fg_a', 'fg_a[directions=4]/local-pg', 'local']
        >>> sorted(names_in("fg_a/end: update sign"))
        ['end', 'fg_a', 'fg_a/end', 'sign']
    """
    method, _, about = text.partition(": ")
    found = {method, *_bases(method)}
    if about.startswith("update "):
        found.add(about.partition(" ")[2])
    with suppress(UsageError):
        if "/" not in method and method not in registry.PRESETS:
            return found
        found |= {base for half in registry.parts(method) for base in _bases(half)}
    return found


def _bases(text: str) -> Iterator[str]:
    """Yield the registered names that a text without a slash begins with."""
    name = text.partition("[")[0]
    for kind in registry.FOLDERS:
        if base := registry.base_of(name, registry.entries(kind)):
            yield base


def lines(place: Path) -> Iterator[str]:
    """Yield the lines of ``fgbench suites``.

    Args:
        place: folder with a configuration of asv.

    Yields:
        The benchmarks by tier, then every name with what watches it, and those that are not watched last.

    Example:
        >>> callable(lines)
        True
    """
    benchmarks = suites.benchmarks(place)
    for tier, when in (
        (suites.SMOKE, "by default"),
        (suites.FULL, "with FGBENCH_TIER=full, beside smoke"),
        (suites.GPU, "with FGBENCH_TIER=gpu, alone"),
    ):
        if of_tier := [each for each in benchmarks if each.tier == tier]:
            yield f"{tier} ({when}):"
            for each in of_tier:
                what = ", ".join(each.tracks).replace("_", " ")
                size = f"{len(each.rows)} row{'s' * (len(each.rows) > 1)}"
                yield f"  {each.name:<32} {what}; {size}. {each.about}"
    every = rows(place)
    for kind in dict.fromkeys(row.kind for row in every):
        of_kind = [row for row in every if row.kind == kind]
        yield f"{kind}: {sum(bool(row.watched) for row in of_kind)} of {len(of_kind)} watched"
        for row in sorted(of_kind, key=lambda row: not row.watched):
            yield f"  {row}"
