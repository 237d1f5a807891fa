"""The terms that fgbench uses, each explained in at most five lines."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from textwrap import shorten

from fgbench.errors import unknown

GLOSSARY = "glossary.toml"


@dataclass(frozen=True)
class Term:
    """One explained term.

    Args:
        name: the term.
        text: what it means, at most five lines.
        where: page of the documentation in the repository, with its section.
        also: other words for the same thing.

    Example:
        >>> Term("draw", "One estimate.", "docs/reading-the-numbers.md#notation").also
        ()
    """

    name: str
    text: str
    where: str
    also: tuple[str, ...] = ()


@cache
def glossary() -> dict[str, Term]:
    """Return all terms.

    Returns:
        Name to term; other words for a term lead to it as well.

    Example:
        >>> glossary()["variance"].name
        'relative variance'
    """
    read = tomllib.loads(files("fgbench.cli").joinpath(GLOSSARY).read_text("utf-8"))
    terms = [
        Term(name, entry["text"].strip(), entry["where"], tuple(entry.get("also", ())))
        for name, entry in read.items()
    ]
    return {word: term for term in terms for word in (term.name, *term.also)}


def explain(name: str) -> Term:
    """Return the term with a name.

    Args:
        name: a term or another word for it; upper case, ``_`` for a space and a final s do not matter.

    Returns:
        The term.

    Raises:
        UsageError: for an unknown term, with the nearest one.

    Example:
        >>> explain("Relative_Variance").where
        'docs/reading-the-numbers.md#relative-variance'
        >>> explain("draws").name
        'draw'
    """
    terms = glossary()
    word = " ".join(name.lower().replace("_", " ").split())
    for form in (word, word.removesuffix("s"), word.removesuffix("ies") + "y"):
        if form in terms:
            return terms[form]
    raise unknown("term", name, terms)


def lines(name: str = "") -> list[str]:
    """Return what ``fgbench explain`` prints.

    Args:
        name: a term, "" for the list of all terms.

    Returns:
        The text of a term and the place of its documentation, or one line per term with the first
        words about it.

    Raises:
        UsageError: for an unknown term.

    Example:
        >>> lines("point")[0]
        'point'
        >>> "bias" in " ".join(lines())
        True
    """
    if name:
        term = explain(name)
        heading = " or ".join((term.name, *term.also))
        return [heading, *(f"  {line}" for line in term.text.splitlines()), f"  More: {term.where}"]
    terms = [term for word, term in glossary().items() if word == term.name]
    return [f"{term.name:<18}{shorten(term.text, 80, placeholder=' ...')}" for term in terms]
