"""The terms that fgbench uses, each explained in at most five lines."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from textwrap import shorten, wrap

from fgbench import registry
from fgbench.errors import UsageError, unknown
from fgbench.registry.entries import resolve

GLOSSARY = "glossary.toml"
LINES = 5  # of one term
WIDTH = 100


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
        Name to term, in lower case and with a space for ``_``; other words for a term lead to it as well.

    Example:
        >>> glossary()["variance"].name
        'relative variance'
    """
    read = tomllib.loads(files("fgbench.cli").joinpath(GLOSSARY).read_text("utf-8"))
    terms = [
        Term(name, entry["text"].strip(), entry["where"], tuple(entry.get("also", ())))
        for name, entry in read.items()
    ]
    return {_plain(word): term for term in terms for word in (term.name, *term.also)}


def _plain(name: str) -> str:
    """Return a name in lower case, with one space for ``_`` and for several."""
    return " ".join(name.lower().replace("_", " ").split())


def explain(name: str) -> Term:
    """Return the term with a name, or a registered name as a term.

    Args:
        name: a term or another word for it; upper case, ``_`` for a space and a final s do not matter.
            Else an estimator, a locality, an architecture, a data set or a preset.

    Returns:
        The term.

    Raises:
        UsageError: for an unknown term, with the nearest one.

    Example:
        >>> explain("Relative_Variance").where
        'docs/reading-the-numbers.md#relative-variance'
        >>> explain("draws").name
        'draw'
        >>> explain("mlp-3x64").where
        'fgbench list architectures'
    """
    terms, word = glossary(), _plain(name)
    for form in (word, word.removesuffix("s"), word.removesuffix("ies") + "y"):
        if form in terms:
            return terms[form]
    found = _preset(name) or _registered(name)
    if found is not None:
        return found
    kinds = [*registry.PRESETS, *(n for kind in registry.FOLDERS for n in registry.names(kind))]
    near = unknown("term", name, [*terms, *kinds])
    if "; did you mean " in str(near):
        raise near
    raise UsageError(f"{unknown('term', name, terms)}; `fgbench explain` lists all")


def _preset(name: str) -> Term | None:
    """Return a preset as a term, None for another name."""
    method = registry.PRESETS.get(name) or registry.PRESETS.get(name.upper().replace("_", "-"))
    if method is None or name in registry.entries("estimators"):
        return None
    parts = method.partition("/")
    meanings = [
        f"{part}: {resolve(kind, part)[0].summary}"
        for kind, part in zip(("estimators", "localities"), parts[::2], strict=True)
    ]
    text = [line for meaning in meanings for line in _wrapped(meaning, 2)]
    return Term(name, "\n".join([f"The method {method}.", *text]), "fgbench list presets")


def _registered(name: str) -> Term | None:
    """Return a registered name as a term: its first paragraph and its options; None for another name."""
    for kind in registry.FOLDERS:
        try:
            entry, implied = resolve(kind, name.lower())
        except UsageError:
            continue
        options = ", ".join(f"{k}={v}" for k, v in {**entry.options, **implied}.items() if v != "")
        text = _wrapped(entry.documentation.partition("\n\n")[0] or entry.summary, LINES - 1)
        text += _wrapped(f"Options: {options}", 1) if options else []
        return Term(name, "\n".join(text), f"fgbench list {kind}")
    return None


def _wrapped(text: str, most: int) -> list[str]:
    """Return a text without its markup, on a few lines."""
    return wrap(text.replace("``", ""), WIDTH, max_lines=most, placeholder=" ...")


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
    terms = {term.name: term for term in glossary().values()}.values()
    return [f"{term.name:<18}{shorten(term.text, 80, placeholder=' ...')}" for term in terms]
