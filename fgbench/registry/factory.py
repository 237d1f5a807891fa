"""From a text to the object it names: options validated, the class or function called."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, message, pass_on, reason, unknown
from fgbench.registry import files
from fgbench.registry.entries import (
    PRESETS,
    SINGULAR,
    entry_of,
    implied,
    is_name,
    names,
    registration,
    resolve,
)
from fgbench.registry.grammar import optioned, parts, split_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Made:
    """An object made from a text, with the name and options of the text.

    Args:
        name: the name without options.
        options: the options that were given, validated.
        thing: the instance of the class, or what the function returned.
        source: file of the code that defines it, or the folder of its files; of a text such as
            ``./mine.py:Mine`` that file.
        file: full path of the file in a text such as ``./mine.py:Mine``, "" for a name.
        unnamed: whether it was given as an object that no text makes again, so that its records are never
            served for another.

    Example:
        >>> Made("fg_a", {"law": "sphere", "directions": 4}, None, "fg_a.py").text
        'fg_a[directions=4,law=sphere]'
    """

    name: str
    options: dict[str, Any]
    thing: Any
    source: str
    file: str = ""
    unnamed: bool = False

    @property
    def text(self) -> str:
        """Canonical text: the name with its options, sorted."""
        return optioned(self.name, dict(sorted(self.options.items())))


@dataclass(frozen=True)
class Method:
    """An estimator under a locality.

    Args:
        text: what the user typed.
        estimator: the estimator with its name and options.
        locality: the locality with its name and options.

    Example:
        >>> method("DFA").locality.text
        'end'
    """

    text: str
    estimator: Made
    locality: Made


NEEDED = {
    "estimators": ("claims", "supports", "init_state", "__call__"),
    "localities": ("attach", "objectives"),
}
"""Methods without which a thing of a kind cannot run."""


def require_parts(kind: str, made: Made) -> None:
    """Require that an object has the methods of its kind.

    Args:
        kind: ``estimators`` or ``localities``.
        made: the object with its name.

    Raises:
        UsageError: names those that it lacks.

    Example:
        >>> try:
        ...     require_parts("localities", Made("mine", {}, object(), ""))
        ... except UsageError as error:
        ...     print(error)
        mine is no locality: it lacks attach, objectives
    """
    try:
        lacking = [n for n in NEEDED[kind] if not callable(getattr(made.thing, n, None))]
    except BaseException as error:  # of attributes that are computed
        pass_on(error)
        raise UsageError(f"{made.name} cannot be used: {reason(error, made.thing)}") from error
    if lacking:
        hint = "; inherit fgbench.Defaults" * (kind == "estimators")
        what = f"{SINGULAR[kind]}: it lacks {', '.join(lacking)}{hint}"
        raise UsageError(f"{made.name} is no {what}")


def method(text: str) -> Method:
    """Make the estimator and the locality of a METHOD.

    Args:
        text: a preset, or ``estimator[options]/locality[options]``; without a locality, ``end`` is
            meant.

    Returns:
        The method.

    Raises:
        UsageError: for an unknown preset, estimator, locality or option.

    Example:
        >>> made = method("LG-FG-A[directions=4]")
        >>> made.estimator.text, made.locality.name
        ('fg_a[directions=4]', 'local-pg')
    """
    try:
        estimator, locality = parts(text)
    except UsageError as error:
        raise UsageError(_nearer(text, str(error))) from None
    base = split_options(estimator)[0]
    if ".py:" not in base and not _is_method(base):
        if text.partition("[")[0].startswith((".", "/", "~")) or "/:" in text:
            raise UsageError(
                f"method {text!r}: an estimator in a file is named path/to/file.py:Class"
            )
        raise unknown("method", base, [*PRESETS, *names("estimators")])
    first, _, rest = base.partition("/")
    if _is_method(first) and not Path(base.rpartition(":")[0]).exists():
        raise UsageError(f"method {text!r}: for a locality in a file type {first}/./{rest}")
    return Method(text, make("estimators", estimator), make("localities", locality))


def _is_method(name: str) -> bool:
    """Return whether a name without options is a preset or an estimator."""
    return name in PRESETS or is_name("estimators", name)


def _nearer(text: str, message: str) -> str:
    """Return a message that ends in the method to type, with the nearest locality where it has none."""
    ending = text.partition("/")[2]
    typed = split_options(ending)[0] if ending else ""
    if not typed or not message.endswith(f"/{ending}") or "/" in typed:
        return message
    try:
        resolve("localities", typed)
    except UsageError:
        near = get_close_matches(typed.lower(), names("localities"), n=1)
        return f"{message.removesuffix(ending)}{near[0] if near else 'LOCALITY'}"
    return message


def make(kind: str, text: str, *, offered: Mapping[str, Any] | None = None, **more: Any) -> Made:
    """Make the object that a text names.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.
        text: a name or ``path.py:Name``, with options.
        offered: arguments that are passed only where the class or function has a parameter of that name,
            such as the shape of one example. They are no options of the text either.
        more: arguments that are not options of the text, such as the data folder.

    Returns:
        The object with its name and options.

    Raises:
        UsageError: for an unknown name or option, or if the object cannot be made.

    Example:
        >>> make("estimators", "fg_a[directions=4]").thing.directions
        4
        >>> sizes = {"shape": (1, 8, 8), "classes": 10, "vocabulary": None}
        >>> len(make("architectures", "mlp-2x4", offered=sizes).thing)
        2
    """
    name, raw = split_options(text)
    if ".py:" in name:
        made, path = files.load(name)
        more |= _wanted(made, name, offered or {})
        options = validated(made, {**_form(made, name), **raw}, name, more)
        shown = {k: v for k, v in options.items() if k in raw}
        thing = _called(made, name, {**options, **more})
        return Made(name, shown, thing, str(path), str(path))
    entry, form = resolve(kind, name)
    more |= _wanted(entry.make, name, offered or {})
    options = validated(entry.make, {**form, **raw}, name, more) if not entry.error else {}
    shown = {k: v for k, v in options.items() if k in raw}
    thing = _called(entry.make, name, {**options, **more})
    return Made(name, shown, thing, _source(entry.make))


def _form(make: Any, name: str) -> dict[str, Any]:
    """Return the options that the ending of a name such as ``./mine.py:Mine-wide`` stands for."""
    base, hyphen, ending = name.rpartition(":")[2].partition("-")
    if not hyphen:
        return {}
    entry = registration(make)[1] or entry_of(base, make, name)
    options = None if entry.error else implied(entry, ending)
    if options is None:
        if entry.error or not (entry.variants or entry.pattern):
            raise UsageError(f"{name}: {base} {entry.error or 'has no other forms'}")
        forms = [*entry.variants, *filter(None, [entry.pattern])]
        raise unknown(f"form of {name.removesuffix(hyphen + ending)}", ending, forms)
    return options


def _wanted(make: Any, name: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments that a class or function has a parameter for."""
    if not offered:
        return {}
    parameters = _signature(make, name).parameters
    return {key: value for key, value in offered.items() if key in parameters}


def validated(
    make: Callable[..., Any], raw: Mapping[str, Any], what: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """Convert options from text to the annotated types.

    Args:
        make: the class or function whose annotations state the types.
        raw: option name to text or value.
        what: name for the error.
        given: arguments that come from elsewhere and are no options.

    Returns:
        Option name to value.

    Raises:
        UsageError: for an unknown option, with the nearest valid one, or a value of the wrong type.

    Example:
        >>> def ring(*, size: int = 8, closed: bool = True): ...
        >>> validated(ring, {"size": "4", "closed": "false"}, "ring")
        {'size': 4, 'closed': False}
    """
    signature = _signature(make, what)
    accepted = [name for name in signature.parameters if name not in given]
    options = {}
    for key, value in raw.items():
        if key not in accepted:
            raise unknown(f"option of {what}", key, accepted)
        options[key] = _converted(signature, key, value, f"{what}: option {key}")
    return options


class _Signature:
    """The parameters of a class or function, and what converts their values, once it is asked for.

    Args:
        make: the class or function.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.parameters = inspect.signature(make).parameters
        self._make = make
        self._adapters: dict[str, TypeAdapter[Any] | None] = {}

    def adapter(self, name: str) -> TypeAdapter[Any] | None:
        """Return what converts the value of a parameter; None where any value is taken as it is."""
        if name not in self._adapters:
            self._adapters[name] = self._adapted(name)
        return self._adapters[name]

    def _adapted(self, name: str) -> TypeAdapter[Any] | None:
        """Read the annotation of a parameter."""
        from pydantic import TypeAdapter

        annotation: Any = self.parameters[name].annotation
        if isinstance(annotation, str):  # one at a time: others may be names for type checkers only
            annotation = eval(annotation, _scope(self._make, name))
        return None if annotation in (inspect.Parameter.empty, Any) else TypeAdapter(annotation)


def _signature(make: Callable[..., Any], what: str) -> _Signature:
    """Return the signature of a class or function; an ordinary one is read once."""
    try:
        ordinary = type(make) in (
            type,
            FunctionType,
        )  # compared by identity, and never computed anew
        return _read_once(make) if ordinary else _Signature(make)
    except BaseException as error:  # of a class that computes its signature
        pass_on(error)
        raise UsageError(f"{what} has no signature that can be read: {reason(error)}") from error


_read_once = lru_cache(maxsize=512)(_Signature)


def _converted(signature: _Signature, name: str, value: Any, option: str) -> Any:
    """Return the value of an option in its annotated type; ``None`` as text is None where that is one."""
    from pydantic import ValidationError

    try:
        adapter = signature.adapter(name)
    except BaseException as error:
        pass_on(error)
        annotation = signature.parameters[name].annotation
        why = f"its annotation {annotation!r} cannot be used: {reason(error)}"
        raise UsageError(f"{option}: {why}") from None
    if adapter is None:
        parameter = signature.parameters[name]
        bare = parameter.annotation is inspect.Parameter.empty
        return _by_default(parameter.default, value) if bare else value
    texts = (None, value) if value == "None" else (value, None) if value in NOTHING else (value,)
    problem = ""
    for text in texts:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            problem = problem or error.errors()[0]["msg"]
        except BaseException as error:  # of a validator that somebody else wrote
            pass_on(error)
            problem = problem or reason(error)
    raise UsageError(f"{option}={value!r}: {problem}")


def _by_default(default: Any, value: Any) -> Any:
    """Return a value without an annotation in the type of the default, where that is a number or truth.

    Without such a default, a text that is a literal of Python becomes that: ``64`` a whole number.
    """
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if isinstance(default, bool) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    return float(literal) if type(default) is float and type(literal) is int else literal


NOTHING = ("none", "null")
"""Texts that stand for None, as ``None`` does, where they are no value of an option themselves."""


def _scope(make: Any, name: str) -> dict[str, Any]:
    """Return the names that an annotation may use: those of the module whose class states the option."""
    classes = make.__mro__ if inspect.isclass(make) else (make,)
    own = next((c for c in classes if name in vars(c).get("__annotations__", ())), make)
    module = sys.modules.get(own.__module__)
    return vars(module) if module is not None else vars(sys.modules["builtins"])


def source(kind: str, text: str) -> str:
    """Return the file that defines an object, or the folder of its files, without making it.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.
        text: name, with options or without.

    Returns:
        The path.

    Example:
        >>> Path(source("estimators", "fg_a[directions=4]")).name
        'fg_a.py'
    """
    name = split_options(text)[0]
    if ".py:" in name:
        return str(Path(name.rpartition(":")[0]).expanduser().resolve())
    return _source(maker(kind, text))


def maker(kind: str, text: str) -> Callable[..., Any]:
    """Return the class or function that a text names, without calling it.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        text: a name or ``path.py:Name``, with options or without.

    Returns:
        The class or function.

    Raises:
        UsageError: for an unknown name, or a file that cannot be imported.

    Example:
        >>> maker("architectures", "mlp-2x64").__name__
        'mlp'
    """
    name = split_options(text)[0]
    return files.load(name)[0] if ".py:" in name else resolve(kind, name)[0].make


def _source(make: Any) -> str:
    """Return the file of the module that a class or function comes from, or the folder of a package."""
    module = sys.modules.get(str(getattr(make, "__module__", "")))
    file = Path(getattr(module, "__file__", None) or "")
    return str(file.parent) if file.name == "__init__.py" else str(file) if file.name else ""


def _called(make: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Call a class or function with options; turn a missing option or an error into one line."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = _signature(make, name).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in named]
    if lacking := [f"{n}=..." for n in needed if n not in options]:
        raise UsageError(f"{name} needs options: {name}[{','.join(lacking)}]")
    try:
        thing = make(**options)
        if is_dataclass(thing):
            _ = [repr(getattr(thing, field.name)) for field in fields(thing)]  # the record has them
        return thing
    except BaseException as error:
        pass_on(error)
        if isinstance(error, UsageError):
            where = f"{name}: " if ".py:" in name else ""
            raise UsageError(where + message(error)) from None
        raise UsageError(f"{name} cannot be made: {reason(error, Path(_source(make)))}") from error
