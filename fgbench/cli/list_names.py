"""``fgbench list``: everything that has a name, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.errors import unknown
from fgbench.runs.sweep import read

if TYPE_CHECKING:
    from collections.abc import Iterator


def lines(kind: str) -> Iterator[str]:
    """List what can be named.

    Args:
        kind: of names, "" for all, kind by kind.

    Yields:
        A line for each name with its meaning and options.

    Raises:
        UsageError: for an unknown kind.
    """
    listed = {"presets": registry.PRESETS, "sweeps": read.shipped()}
    kinds = [*registry.FOLDERS, *listed]
    if kind and kind not in kinds:
        raise unknown("kind", kind, kinds)
    for one in [kind] if kind else kinds:
        if not kind:
            yield f"{one}:"
        indent = "" if kind else "  "
        if one in listed:
            yield from (f"{indent}{name:<24}{meaning}" for name, meaning in listed[one].items())
            continue
        entries = registry.entries(one)
        for name in registry.names(one):
            base = registry.base_of(name, entries)
            entry = entries[base]
            ending = entry.variants.get(name[len(base) + 1 :], {})
            options = ", ".join(f"{k}={v}" for k, v in (ending or entry.options).items())
            yield f"{indent}{name:<24}{entry.summary}" + (f" [{options}]" if options else "")
