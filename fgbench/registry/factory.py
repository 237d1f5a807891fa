"""From a text to the object it names: options validated, the class or function called."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import RAISED, UsageError, reason, unknown
from fgbench.registry.entries import PRESETS, Entry, entries, resolve
from fgbench.registry.grammar import optioned, parts, split_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


@dataclass(frozen=True)
class Made:
    """An object made from a text, with the name and options of the text.

    Args:
        name: the name without options.
        options: the options that were given, validated.
        thing: the instance of the class, or what the function returned.
        source: file of the code that defines it, or the folder of its files.
        file: full path of the file in a text such as ``./mine.py:Mine``, "" for a name.
    """

    name: str
    options: dict[str, Any]
    thing: Any
    source: str
    file: str = ""

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
    """

    text: str
    estimator: Made
    locality: Made


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
    estimator, locality = parts(text)
    base = split_options(estimator)[0]
    if ".py:" not in base and base not in entries("estimators"):
        raise unknown("method", base, [*PRESETS, *entries("estimators")])
    return Method(text, make("estimators", estimator), make("localities", locality))


def make(kind: str, text: str, **more: Any) -> Made:
    """Make the object that a text names.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        text: a name with options, or for estimators ``path.py:Class`` with options.
        more: arguments that are not options of the text, such as the data folder.

    Returns:
        The object with its name and options.

    Raises:
        UsageError: for an unknown name or option, or if the object cannot be made.

    Example:
        >>> make("estimators", "fg_a[directions=4]").thing.directions
        4
    """
    name, raw = split_options(text)
    if ".py:" in name:
        cls = _from_file(name)
        options = validated(cls, raw, name, more)
        thing = _called(cls, name, {**options, **more})
        file = Path(name.rpartition(":")[0]).resolve()
        return Made(name, options, thing, inspect.getsourcefile(cls) or "", str(file))
    entry, implied = resolve(kind, name)
    options = validated(entry.make, {**implied, **raw}, name, more) if not entry.error else {}
    shown = {k: v for k, v in options.items() if k in raw}
    thing = _called(entry.make, name, {**options, **more})
    return Made(name, shown, thing, _source(entry))


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
    from pydantic import TypeAdapter, ValidationError

    accepted = {k: p for k, p in inspect.signature(make).parameters.items() if k not in given}
    scope = vars(sys.modules[make.__module__])
    options = {}
    for key, value in raw.items():
        if key not in accepted:
            raise unknown(f"option of {what}", key, accepted)
        annotation = accepted[key].annotation
        if isinstance(annotation, str):  # one at a time: others may be names for type checkers only
            annotation = eval(annotation, scope)
        expected = Any if annotation is inspect.Parameter.empty else annotation
        try:
            options[key] = TypeAdapter(expected).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise UsageError(f"{what}: option {key}={value!r}: {problem}") from None
    return options


def source(kind: str, text: str) -> str:
    """Return the file that defines an object, or the folder of its files, without making it.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        text: name, with options or without.

    Returns:
        The path.

    Example:
        >>> Path(source("estimators", "fg_a[directions=4]")).name
        'fg_a.py'
    """
    entry, _ = resolve(kind, split_options(text)[0])
    return _source(entry)


def _source(entry: Entry) -> str:
    """Return the file of the module that an entry comes from, or the folder of a package."""
    file = sys.modules[entry.make.__module__].__file__ or ""
    return str(Path(file).parent) if Path(file).name == "__init__.py" else file


def _called(make: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Call a class or function with options; turn a missing option or an error into one line."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(make).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in named]
    if lacking := [f"{n}=..." for n in needed if n not in options]:
        raise UsageError(f"{name} needs options: {name}[{','.join(lacking)}]")
    try:
        return make(**options)
    except UsageError:
        raise
    except RAISED as error:
        raise UsageError(f"{name} cannot be made: {reason(error, make)}") from error


def _from_file(text: str) -> Callable[..., Any]:
    """Import a class from ``path.py:Class``."""
    path, _, attribute = text.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"no file {path!r}; expected path/to/file.py:Class")
    spec = importlib.util.spec_from_file_location(f"fgbench_file_{abs(hash(file.resolve()))}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except RAISED as error:
        raise UsageError(f"{path} cannot be imported: {reason(error)}") from error
    if not hasattr(module, attribute):
        defined = [c for c in vars(module).values() if getattr(c, "__module__", "") == spec.name]
        estimators = [c.__name__ for c in defined if inspect.isclass(c) and hasattr(c, "claims")]
        public = [name for name in estimators if not name.startswith("_")]
        if not public:
            raise UsageError(f"{path} has no class {attribute!r}, and defines no estimator")
        raise unknown(f"class in {path}", attribute, public)
    cls: Callable[..., Any] = getattr(module, attribute)
    if not inspect.isclass(cls):
        raise UsageError(f"{text}: expected a class, got {type(cls).__name__} {attribute!r}")
    return cls
