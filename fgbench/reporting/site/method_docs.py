"""What a method is, from the documentation of its estimator, parted as a page shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fgbench.registry import Entry, base_of

About = Mapping[str, Mapping[str, Entry]]  # kind of thing -> name -> its entry
HEADED = re.compile(r"(Cost|References): *")


@dataclass(frozen=True)
class Text:
    """A documentation.

    Args:
        lead: its first sentence.
        paragraphs: what follows, up to its arguments.
        options: argument to meaning.
        cost: of one estimate.
        references: papers.
        claims: what the class says of its own claims.
        error: why the thing could not be imported.
    """

    lead: str = ""
    paragraphs: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    cost: str = ""
    references: str = ""
    claims: str = ""
    error: str = ""


def described(about: About, kind: str, name: str) -> Text | None:
    """Find the documentation of a thing that a record names.

    Args:
        about: what is registered, as `fgbench.registry.entries` tells it.
        kind: such as "estimators".
        name: with its options and its ending, as it stands in the record.

    Returns:
        None where nothing of that name is registered, such as a class in somebody's file.
    """
    entry = _entry(about, kind, name)
    if entry is None:
        return None
    if entry.error:
        return Text(error=entry.error)
    return parted(entry.documentation, entry.promises)


def subject(about: About, kind: str, name: str) -> str:
    """Say in a line what a thing is whose documentation tells what it does, such as a data set's.

    Args:
        about: as of `described`, like the others.
        kind: such as "datasets".
        name: as it stands in the record.

    Returns:
        The first line of its module; "" where nothing of that name is registered.
    """
    entry = _entry(about, kind, name)
    return "" if entry is None or entry.error else entry.subject


def _entry(about: About, kind: str, name: str) -> Entry | None:
    """Find what a name in a record is registered as."""
    entries = about.get(kind, {})
    return entries.get(base_of(name.partition("[")[0], entries))


def recorded(record: Mapping[str, Any]) -> Text | None:
    """Read what a record says of its estimator.

    Args:
        record: of any age.

    Returns:
        None where it says nothing, as older ones do, and where the class has no documentation.
    """
    about = record.get("about")
    about = about if isinstance(about, Mapping) else {}
    said = [str(about.get(name) or "") for name in ("documentation", "promises")]
    return parted(*said) if any(said) else None


def parted(documentation: str, claims: str = "") -> Text:
    """Part a docstring in Google's style.

    Args:
        documentation: with its indentation taken off.
        claims: of the class.

    Returns:
        Its parts.
    """
    lead, *blocks = [b.strip("\n") for b in re.split(r"\n\s*\n", documentation)] or [""]
    found: dict[str, Any] = {"lead": _flat(lead), "claims": _flat(claims)}
    paragraphs: list[str] = []
    for block in blocks:
        if block.startswith("Args:"):
            found["options"] = _options(block.partition("\n")[2])
        elif headed := HEADED.match(block):
            found[headed[1].lower()] = _flat(block[headed.end() :])
        elif not re.match(r"(Returns|Raises|Yields|Example):", block):
            paragraphs.append(_flat(block))
    return Text(paragraphs=tuple(paragraphs), **found)


def pieces(text: str) -> list[tuple[bool, str]]:
    """Part a text into what is code, between double backticks, and what is not."""
    return [(at % 2 == 1, part) for at, part in enumerate(text.split("``")) if part]


def first_line(text: str) -> tuple[str, str]:
    """Part a note into its first line, which small screens show, and the rest with the end of that line."""
    line, end, rest = text.partition("\n")
    return line, end + rest


def breakable(name: str) -> list[str]:
    """Part a name where a line may end: ``fg_a[``, ``directions=4]/``, ``local``."""
    return re.findall(r".+?(?:[/:\[]+|, ?|$)", name) or [name]


def _options(block: str) -> dict[str, str]:
    """Read the lines below "Args:"."""
    found: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        started = re.match(r"    (\w+): (.*)", line)
        if started:
            name = started[1]
            found[name] = started[2]
        elif name:
            found[name] += " " + line.strip()
    return found


def _flat(text: str) -> str:
    """Write on one line."""
    return " ".join(text.split())
