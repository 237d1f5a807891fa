"""Methods from objects: estimators and localities that are made already, beside those that a text names."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, pass_on
from fgbench.registry.entries import SINGULAR, entries
from fgbench.registry.factory import Made, Method, _source, make, method
from fgbench.registry.grammar import optioned
from fgbench.registry.nested import Nested

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKS = {"estimators": ("claims", "__call__"), "localities": ("objectives",)}
"""Methods by which an object of a kind is recognised."""
ONE = "a METHOD such as 'FG-A', an estimator, or a pair (estimator, locality)"


def method_of(given: Any) -> Method:
    """Return the method of a text, an estimator, or a pair of an estimator and a locality.

    Args:
        given: a METHOD; an estimator, which stands for the locality ``end``; or a tuple of both, each as an
            object or as a text.

    Returns:
        The method. An object that a name makes too is the method of that name; any other is marked
        ``unnamed``.

    Raises:
        UsageError: for anything else.

    Example:
        >>> mine = make("estimators", "fg_a[directions=4]").thing
        >>> method_of(mine).text, method_of((mine, "local-pg")).text
        ('fg_a[directions=4]/end', 'fg_a[directions=4]/local-pg')
        >>> method_of(3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a METHOD such as 'FG-A', an estimator, or a pair ... got int 3
    """
    if isinstance(given, Method):
        return given
    if isinstance(given, str):
        return method(given)
    pair = given if isinstance(given, tuple) else (given, "end")
    if len(pair) != 2:
        raise UsageError(f"expected {ONE}, got a tuple of {len(pair)}; several methods are a list")
    if not isinstance(given, tuple) and not _is(given, "estimators"):
        raise UsageError(f"expected {ONE}, got {_described(given)}")
    estimator, locality = (_half(kind, half) for kind, half in zip(MARKS, pair, strict=True))
    return Method(f"{estimator.text}/{locality.text}", estimator, locality)


def methods_of(given: Any) -> list[Method]:
    """Return one method or several, see :func:`method_of`.

    Args:
        given: what :func:`method_of` takes, or a list of these.

    Returns:
        The methods, each once.

    Raises:
        UsageError: for something else, or an empty list.

    Example:
        >>> [each.text for each in methods_of(["BP", "FG-A", "BP"])]
        ['BP', 'FG-A']
    """
    several: Sequence[Any] = given if isinstance(given, list) else [given]
    if not several:
        raise UsageError(f"methods: expected {ONE}, or a list of these, got an empty list")
    once: dict[Any, Method] = {}
    for each in several:
        found = method_of(each)
        alone = found.estimator.unnamed or found.locality.unnamed
        once.setdefault((found.text, id(each) if alone else 0), found)
    return list(once.values())


def _half(kind: str, given: Any) -> Made:
    """Return an estimator or a locality, made from a text or given as an object."""
    if isinstance(given, str):
        return make(kind, given)
    if not _is(given, kind):
        raise UsageError(
            f"expected {_article(SINGULAR[kind])} (its name, or an object with "
            f"{' and '.join(MARKS[kind])}), got {_described(given)}"
        )
    return _named(kind, given) or _unnamed(kind, given)


def _is(given: Any, kind: str) -> bool:
    """Return whether an object has what its kind needs; a class has not been made yet."""
    return not inspect.isclass(given) and all(
        callable(getattr(given, name, None)) for name in MARKS[kind]
    )


def _named(kind: str, thing: Any) -> Made | None:
    """Return what a registered name makes, where that is the same object; None where no name does."""
    names = [name for name, entry in entries(kind).items() if entry.make is type(thing)]
    if not names or not is_dataclass(thing):
        return None
    options = _options(thing)
    if not all(isinstance(value, bool | int | float | str) for value in options.values()):
        return None
    try:
        made = make(kind, optioned(names[0], options))
        return made if made.thing == thing else None
    except BaseException as error:  # a text of an option that reads as something else
        pass_on(error)
        return None


def _unnamed(kind: str, thing: Any) -> Made:
    """Return an object that no name makes, under the name of its class."""
    cls = type(thing)
    names = [name for name, entry in entries(kind).items() if entry.make is cls]
    shown = {name: _shown(value) for name, value in _options(thing).items()}
    source = _source(cls)
    source = source if Path(source).exists() else ""
    return Made(names[0] if names else cls.__name__, shown, thing, source, unnamed=True)


def _options(thing: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults."""
    if not is_dataclass(thing):
        return {}
    found = {}
    for field in fields(thing):
        value, default = getattr(thing, field.name), field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        try:
            same = bool(value is default or value == default)
        except BaseException as error:  # a tensor has no one truth value
            pass_on(error)
            same = False
        if not same:
            found[field.name] = value
    return found


def _shown(value: Any) -> str:
    """Format an option for a label: plain values as typed, other objects by their class."""
    if isinstance(value, Nested):
        return str(value)
    plain = isinstance(value, bool | int | float | str) and not set("[],=/:") & set(str(value))
    return str(value) if plain else type(value).__name__


def _described(given: Any) -> str:
    """Describe what came in place of an object, with the remedy where it is a class."""
    if inspect.isclass(given):
        return f"the class {given.__name__}: write {given.__name__}()"
    text = f"{given!r}"
    return f"{type(given).__name__} {text}" if len(text) <= 40 else type(given).__name__


def _article(noun: str) -> str:
    """Return a noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
