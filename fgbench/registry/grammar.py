"""The grammar of METHOD texts: names with options, and estimators with localities.

``METHOD`` is a preset (``LG-FG-A``; options apply to its estimator) or
``estimator[options]/locality[options]``: ``fg_a[directions=4]/local-pg``, ``cv[base=dfa]/end``,
``./mine.py:Mine/end``. Options are ``key=value`` pairs separated by commas; values may contain brackets.
Either half may be a class in a file; the path of a locality begins with ``./``, ``../``, ``/`` or ``~``,
since ``fg_a/mine.py:Mine`` is an estimator in the folder ``fg_a``. Texts are split here; nothing is imported
or made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError
from fgbench.registry.entries import PRESETS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


def optioned(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with its options in the form that users type.

    Args:
        name: a name without options.
        options: option name to value.

    Returns:
        The text, or the name alone where there are no options.

    Example:
        >>> optioned("fg_a", {"directions": 4, "law": "sphere"})
        'fg_a[directions=4,law=sphere]'
    """
    return f"{name}[{','.join(f'{k}={v}' for k, v in options.items())}]" if options else name


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name[a=1,b=x[y=2]]`` into the name and its options as text.

    Args:
        text: what the user typed.

    Returns:
        The name, and option name to its text.

    Raises:
        UsageError: if brackets do not close, an option is not ``key=value`` or is given twice.

    Example:
        >>> split_options("cv[base=dfa[scale=2],n=3]")
        ('cv', {'base': 'dfa[scale=2]', 'n': '3'})
    """
    name, bracket, rest = text.partition("[")
    if not bracket and "]" not in text:
        return text, {}
    depths = [depth for _, depth in _depths(text)]
    if not depths or depths[-1] != 0 or min(depths[len(name) : -1], default=0) < 1:
        raise UsageError(f"{text!r}: expected name[key=value,...] with closed brackets")
    options: dict[str, str] = {}
    for part in split_outside(rest[:-1], ","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{text!r}: expected key=value, got {part!r}")
        if key.strip() in options:
            raise UsageError(f"{text!r}: option {key.strip()!r} is given twice")
        options[key.strip()] = value.strip()
    return name, options


def split_outside(text: str, at: str, *, empty: bool = False) -> list[str]:
    """Split text at a character, except inside brackets.

    Args:
        text: the text.
        at: the character.
        empty: keep empty parts.

    Returns:
        The parts in order.

    Example:
        >>> split_outside("a/b[c/d]", "/")
        ['a', 'b[c/d]']
    """
    complete, current = [], ""
    for char, depth in _depths(text):
        if char == at and depth == 0:
            complete.append(current)
            current = ""
        else:
            current += char
    return [p for p in [*complete, current] if empty or p.strip()]


def base_of(name: str, entries: Collection[str]) -> str:
    """Return the entry that a name without options belongs to.

    Args:
        name: such as ``localmixer-m/8/16``.
        entries: names of entries.

    Returns:
        The name itself or the longest entry followed by a hyphen, such as ``localmixer``; "" where
        there is none.

    Example:
        >>> base_of("localmixer-m/8/16", ["local", "localmixer"])
        'localmixer'
    """
    return max((b for b in entries if name == b or name.startswith(f"{b}-")), key=len, default="")


def parts(text: str) -> tuple[str, str]:
    """Split a METHOD into the texts of its estimator and its locality, with presets replaced.

    Nothing is looked up or made, so an unknown estimator is not refused.

    Args:
        text: what the user typed; without a locality, ``end`` is meant.

    Returns:
        The estimator and the locality, both with their options.

    Raises:
        UsageError: for a text that is not a METHOD.

    Example:
        >>> parts("LG-FG-A[directions=4]")
        ('fg_a[directions=4]', 'local-pg')
        >>> parts("fa")
        ('fa', 'end')
        >>> parts("cv[base=./b.py:B]/./places.py:Pairs")
        ('cv[base=./b.py:B]', './places.py:Pairs')
    """
    estimator, slash, locality = _halves(text)
    halves = [_bare(half) for half in (estimator, locality)]
    unnamed = any(_MARK.match(half) and ".py:" not in half for half in halves if half != "/")
    if unnamed or any(re.search(r"\.py(?=[/\[]|$)", half) for half in halves):
        raise UsageError(
            f"method {text!r}: expected path/to/file.py:Class in estimator[options]/locality[options]"
        )
    further = ".py:" not in locality and len(split_outside(locality, "/", empty=True)) > 1
    if not estimator or (slash and not locality) or further:
        raise UsageError(
            f"method {text!r}: expected a preset or estimator[options]/locality[options]"
        )
    base, given = split_options(estimator)
    if base not in PRESETS:
        return estimator, locality or "end"
    if slash:
        raise UsageError(
            f"method {text!r}: a preset includes its locality: {base} is {PRESETS[base]}; "
            f"type {PRESETS[base].partition('/')[0]}/{locality}"
        )
    preset, _, locality = PRESETS[base].partition("/")
    return optioned(preset, given), locality


_MARK = re.compile(r"\.{1,2}/|/|~")  # begins a path


def _halves(text: str) -> tuple[str, str, str]:
    """Split a METHOD at the slash before its locality, as ``str.partition`` does."""
    slashes = [at for at, (char, depth) in enumerate(_depths(text)) if char == "/" and depth == 0]
    first = next(iter(slashes), len(text))
    named = not _MARK.match(
        text
    )  # the estimator may be a name, and what follows the path of a locality
    if named and _MARK.match(text, first + 1):
        return text[:first], "/", text[first + 1 :]
    file = _bare(text).find(".py:")
    at = next((at for at in slashes if at > file), len(text))
    return text[:at], text[at : at + 1], text[at + 1 :]


def _bare(text: str) -> str:
    """Return a text of the same length with all that is inside brackets blanked."""
    return "".join(char if depth == 0 else " " for char, depth in _depths(text))


def _depths(text: str) -> Iterator[tuple[str, int]]:
    """Yield the characters of a text, each with the number of brackets open after it."""
    depth = 0
    for char in text:
        depth += (char == "[") - (char == "]")
        yield char, depth
