"""The lines of ``fgbench list``, one per name with its meaning and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.errors import unknown
from fgbench.runs.sweep import read

if TYPE_CHECKING:
    from collections.abc import Iterator


def lines(kind: str) -> Iterator[str]:
    """List the names that can be typed.

    Args:
        kind: a kind of names, "" for all kinds.

    Yields:
        A line for each name with its meaning and options; for all kinds also a line with each kind.

    Raises:
        UsageError: for an unknown kind.

    Example:
        >>> next(lines("presets")).split()
        ['BP', 'bp/end']
    """
    listed = {"presets": registry.PRESETS, "sweeps": read.shipped()}
    kinds = [*registry.FOLDERS, *listed]
    if kind and kind not in kinds:
        raise unknown("kind", kind, kinds)
    for each in [kind] if kind else kinds:
        if not kind:
            yield f"{each}:"
        indent = "" if kind else "  "
        if each in listed:
            yield from (f"{indent}{name:<24}{meaning}" for name, meaning in listed[each].items())
            continue
        entries = registry.entries(each)
        for name in registry.names(each):
            base = registry.base_of(name, entries)
            entry = entries[base]
            ending = entry.variants.get(name[len(base) + 1 :], {})
            options = ", ".join(f"{k}={v}" for k, v in (ending or entry.options).items())
            yield f"{indent}{name:<24}{entry.summary}" + (f" [{options}]" if options else "")
