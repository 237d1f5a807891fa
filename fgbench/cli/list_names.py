"""The lines of ``fgbench list``: each name with its meaning, its options and its other forms."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.errors import unknown
from fgbench.runs.sweep import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fgbench.registry import Entry

COLUMN = 18  # characters for a name
LOCALITIES = {  # those of the presets, in words
    "end": "one loss at the end",
    "module": "a loss on every module, through all modules before it",
    "local": "a loss on every module, through that module alone",
    "local-pg": "a loss on every module, through that module alone, separate per patch and group",
}


def lines(kind: str, width: int = 100) -> Iterator[str]:
    r"""List the names that can be typed.

    Names that differ in their ending, such as ``local``, ``local-p`` and ``local-pg``, are one entry.

    Args:
        kind: a kind of names, "" for all kinds.
        width: characters of a line.

    Yields:
        Lines of text: for each name its meaning, its options with their defaults and its other forms;
        for all kinds also a line with each kind.

    Raises:
        UsageError: for an unknown kind.

    Example:
        >>> next(lines("presets")).split()[:2]
        ['BP', 'bp/end']
        >>> print(*lines("localities", width=60), sep="\n")  # doctest: +ELLIPSIS
        contrastive ...
        local             A loss on every module, each through that
                          module alone (greedy; LG- in the paper's
                          method names). [keep=b]
                          also: local-p, local-pg
        ...
    """
    listed = {"presets": _presets(), "sweeps": read.shipped()}
    kinds = [*registry.FOLDERS, *listed]
    if kind and kind not in kinds:
        raise unknown("kind", kind, kinds)
    for each in [kind] if kind else kinds:
        if not kind:
            yield f"{each}:"
        indent = "" if kind else "  "
        meanings = listed.get(each) or _registered(each)
        for name, paragraphs in meanings.items():
            yield from _entry(name, paragraphs, indent, width)


def _presets() -> dict[str, str]:
    """Return each preset with its method and the meaning of its locality."""
    meanings = {}
    for name, method in registry.PRESETS.items():
        locality = method.partition("/")[2]
        meanings[name] = f"{method:<17} {LOCALITIES.get(locality, locality)}"
    return meanings


def _registered(kind: str) -> dict[str, str]:
    """Return each registered name of a kind with its meaning, options and other forms."""
    entries = registry.entries(kind)
    forms: dict[str, list[str]] = {}
    for name in registry.names(kind):
        forms.setdefault(registry.base_of(name, entries), []).append(name)
    return {names[0]: _meaning(entries[base], names) for base, names in forms.items()}


def _meaning(entry: Entry, names: list[str]) -> str:
    """Return the summary of an entry with its options, and on a line of its own its other names."""
    ending = entry.variants.get(names[0][len(entry.name) + 1 :], {})
    options = ", ".join(f"{k}={v}" for k, v in (ending or entry.options).items() if v != "")
    meaning = _plain(entry.summary) + (f" [{options}]" if options else "")
    return meaning + (f"\nalso: {', '.join(names[1:])}" if names[1:] else "")


def _plain(summary: str) -> str:
    """Return the first line of a docstring without its markup."""
    return summary.replace("``", "")


def _entry(name: str, meaning: str, indent: str, width: int) -> Iterator[str]:
    """Yield the lines of one name, its meaning wrapped in a column of its own."""
    start = f"{indent}{name:<{COLUMN}}" if len(name) < COLUMN else f"{indent}{name}  "
    column = " " * (len(indent) + COLUMN)
    for paragraph in meaning.split("\n"):
        yield from textwrap.wrap(
            paragraph,
            max(width, len(column) + 20),
            initial_indent=start,
            subsequent_indent=column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        start = column
