"""Descriptions of methods: docstrings of estimators, split into the parts that a page shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fgbench.registry import Entry, base_of

About = Mapping[str, Mapping[str, Entry]]  # kind, such as "estimators" -> name -> registry entry
HEADED = re.compile(r"(Cost|References): *")
UNSHOWN = re.compile(r"(Returns|Raises|Yields|Examples?):|    ")  # indented: a section goes on


@dataclass(frozen=True)
class MethodText:
    """A docstring, split into its parts.

    Args:
        lead: its first paragraph.
        paragraphs: the other paragraphs, without the sections below.
        options: name of an argument to its description.
        cost: section "Cost".
        references: section "References".
        claims: docstring of the method that returns the claims.
        error: why the module could not be imported; the other parts are empty then.

    Example:
        >>> MethodText(lead="Forward gradient.").paragraphs
        ()
    """

    lead: str = ""
    paragraphs: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    cost: str = ""
    references: str = ""
    claims: str = ""
    error: str = ""


def registered_text(about: About, kind: str, name: str) -> MethodText | None:
    """Return the documentation of an estimator, locality or architecture that a record names.

    Args:
        about: registry entries by kind and name, see `fgbench.registry.entries`.
        kind: such as "estimators".
        name: as in the record, with options and ending.

    Returns:
        The parts of its docstring; None where the name is not registered, such as that of a class in a
        user's file.

    Example:
        >>> registered_text({"estimators": {}}, "estimators", "./mine.py:Mine") is None
        True
    """
    entry = _entry(about, kind, name)
    if entry is None:
        return None
    if entry.error:
        return MethodText(error=entry.error)
    return parse_docstring(entry.documentation, entry.promises)


def subject_line(about: About, kind: str, name: str) -> str:
    """Return one line on what a registered name is, such as the digits of a data set.

    Args:
        about: registry entries by kind and name, see `fgbench.registry.entries`.
        kind: such as "datasets".
        name: as in the record.

    Returns:
        The first line of the docstring of its module; "" where the name is not registered.

    Example:
        >>> subject_line({}, "datasets", "unheard of")
        ''
    """
    entry = _entry(about, kind, name)
    return "" if entry is None or entry.error else entry.subject


def _entry(about: About, kind: str, name: str) -> Entry | None:
    """Return the registry entry of a name in a record, None if there is none."""
    entries = about.get(kind, {})
    return entries.get(base_of(name.partition("[")[0], entries))


def recorded_text(record: Mapping[str, Any]) -> MethodText | None:
    """Return the documentation of the estimator that a record contains.

    Args:
        record: of any age.

    Returns:
        The parts of the docstring; None for an older record without it, and for a class without a
        docstring.

    Example:
        >>> recorded_text({"about": {"documentation": "Forward gradient."}}).lead
        'Forward gradient.'
    """
    about = record.get("about")
    about = about if isinstance(about, Mapping) else {}
    texts = [str(about.get(name) or "") for name in ("documentation", "promises")]
    return parse_docstring(*texts) if any(texts) else None


def parse_docstring(documentation: str, claims: str = "") -> MethodText:
    r"""Split a docstring in Google style into its parts.

    Args:
        documentation: without indentation.
        claims: docstring of the method that returns the claims.

    Returns:
        Its parts, each on one line.

    Example:
        >>> text = parse_docstring("Lead.\n\nMore.\n\nArgs:\n    n: how many.\n\nCost: one pass.")
        >>> text.lead, text.paragraphs, dict(text.options), text.cost
        ('Lead.', ('More.',), {'n': 'how many.'}, 'one pass.')
    """
    lead, *blocks = [b.strip("\n") for b in re.split(r"\n\s*\n", documentation)] or [""]
    parts: dict[str, Any] = {"lead": _flat(lead), "claims": _flat(claims)}
    paragraphs: list[str] = []
    for block in blocks:
        if block.startswith("Args:"):
            parts["options"] = _options(block.partition("\n")[2])
        elif headed := HEADED.match(block):
            parts[headed[1].lower()] = _flat(block[headed.end() :])
        elif not UNSHOWN.match(block):
            paragraphs.append(_flat(block))
    return MethodText(paragraphs=tuple(paragraphs), **parts)


def split_code(text: str) -> list[tuple[bool, str]]:
    """Return the pieces of a text between double backticks, each with whether it is code.

    Example:
        >>> split_code("Set ``n`` to 2.")
        [(False, 'Set '), (True, 'n'), (False, ' to 2.')]
    """
    return [(at % 2 == 1, part) for at, part in enumerate(text.split("``")) if part]


def first_line(text: str) -> tuple[str, str]:
    r"""Return the first line of a note, which small screens show, and the rest with the line break.

    Example:
        >>> first_line("[1, 2]\ntheory 1.5")
        ('[1, 2]', '\ntheory 1.5')
    """
    line, end, rest = text.partition("\n")
    return line, end + rest


def breakable(name: str) -> list[str]:
    """Return the pieces of a name between which a line may be broken.

    Example:
        >>> breakable("fg_a[directions=4]/local")
        ['fg_a', '[directions=4]/', 'local']
    """
    return re.findall(r".+?(?:/+|:(?!\d)|, ?|(?=\[)|\Z)", name, re.DOTALL) or [name]


def unbroken(text: str) -> list[tuple[bool, str]]:
    """Return the pieces of a text, each with whether a line must not end within it.

    A browser would break a line at the hyphen of a name, of an exponent or of an option, and between a number
    and its sign of percent.

    Example:
        >>> unbroken("variance FG-A 3")
        [(False, 'variance '), (True, 'FG-A'), (False, ' 3')]
        >>> unbroken("2 [1e-05, 4] --lr 1.5 %")
        [(False, '2 '), (True, '[1e-05,'), (False, ' 4] '), (True, '--lr'), (False, ' '), (True, '1.5 %')]
    """
    pieces = re.split(r"(?<!\S)((?=\S{3,24}(?!\S))\S*[\w-]-\w\S*|\d\S* %)", text)
    return [(at % 2 == 1, piece) for at, piece in enumerate(pieces) if piece]


def _options(block: str) -> dict[str, str]:
    """Return name and description of the arguments in a section "Args:"."""
    options: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        started = re.match(r"    (\w+): (.*)", line)
        if started:
            name = started[1]
            options[name] = started[2]
        elif name:
            options[name] += " " + line.strip()
    return options


def _flat(text: str) -> str:
    """Join the lines of a text by single spaces."""
    return " ".join(text.split())
