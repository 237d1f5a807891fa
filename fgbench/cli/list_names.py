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
    "dgl": "a loss on every module, through an auxiliary network",
    "predsim": "a loss on every module, of predictions and similarities",
    "mono_forward": "a loss on every module; the prediction is the sum of all heads",
    "forward_forward": "a training rule: right against wrong labels in every module",
    "noprop_dt": "a training rule: every block denoises a label alone",
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
        auglocal ...
        local             A loss on every module, each through that
                          module alone (greedy; LG- in the paper's
                          method names). [keep=b]
                          also: local-p, local-pg
        ...
    """
    listed = {"presets": _presets, "rules": _rules, "sweeps": read.shipped}
    kinds = [*registry.FOLDERS, *listed]
    if kind and kind not in kinds:
        raise unknown("kind", kind, kinds)
    for each in [kind] if kind else kinds:
        if not kind:
            yield f"{each}:"
        indent = "" if kind else "  "
        meanings = listed[each]() if each in listed else _registered(each)
        for name, paragraphs in meanings.items():
            yield from _entry(name, paragraphs, indent, width)


def _presets() -> dict[str, str]:
    """Return each preset with its method and the meaning of its locality."""
    meanings = {}
    for name, method in registry.PRESETS.items():
        locality = method.partition("/")[2]
        meanings[name] = f"{method:<17} {LOCALITIES.get(locality, locality)}"
    return meanings


def _rules() -> dict[str, str]:
    """Return each training rule, which is a locality, with its meaning and why no bias is measured of it."""
    found = {}
    for name, entry in registry.entries("localities").items():
        if reason := getattr(entry.make, "rule", ""):
            found[name] = f"{_meaning(entry, [name])}\nno bias is measured, because {reason}"
    return found


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
