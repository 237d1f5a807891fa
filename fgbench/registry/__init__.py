"""Name to thing: the folder walk, entry points, the METHOD grammar and the presets.

``METHOD`` is a preset (``LG-FG-A``, options apply to its estimator) or
``estimator[options]/locality[options]``: ``fg_a[directions=4]/local-pg``, ``cv[base=dfa]/end``,
``./mine.py:Mine/end``. Options are ``key=value`` pairs separated by commas; values may hold brackets.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fgbench.errors import RAISED, UsageError, reason, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

T = TypeVar("T", bound="Callable[..., Any]")

FOLDERS = {
    "estimators": "fgbench.estimators",
    "localities": "fgbench.localities",
    "architectures": "fgbench.architectures",
    "datasets": "fgbench.data",
}

SINGULAR = {
    "estimators": "estimator",
    "localities": "locality",
    "architectures": "architecture",
    "datasets": "dataset",
}

PRESETS = {
    "BP": "bp/end",
    "L-BP": "bp/module",
    "LG-BP": "bp/local",
    "FA": "fa/end",
    "L-FA": "fa/module",
    "LG-FA": "fa/local",
    "DFA": "dfa/end",
    "FG-W": "fg_w/end",
    "FG-A": "fg_a/end",
    "LG-FG-W": "fg_w/local-pg",
    "LG-FG-A": "fg_a/local-pg",
    "NP": "np/end",
    "WP": "wp/end",
}


@dataclass(frozen=True)
class Entry:
    """One registered thing.

    Args:
        name: what the user types.
        make: the class or function called with the options.
        owner: module that registered it.
        variants: ending of the name to options, such as ``{"m/8/16": {...}}`` for ``localmixer-m/8/16``.
        pattern: regular expression for endings whose named groups are options.
        error: why an outside entry could not be imported, "" if it could.
    """

    name: str
    make: Callable[..., Any]
    owner: str
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pattern: str = ""
    error: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Options with their defaults."""
        given = inspect.signature(self.make).parameters.values() if not self.error else ()
        return {p.name: p.default for p in given if p.default not in (p.empty, None)}

    @property
    def summary(self) -> str:
        """First sentence of the documentation, or the import error."""
        return self.error or self.documentation.partition("\n")[0]

    @property
    def documentation(self) -> str:
        """Documentation of the class or function."""
        return documentation(self.make)

    @property
    def promises(self) -> str:
        """What an estimator's class says of its claims, which depend on the task; "" for other things."""
        return documentation(getattr(self.make, "claims", None))

    @property
    def subject(self) -> str:
        """What the module of the thing says that it is about, for a function that documents what it does."""
        module = sys.modules.get(getattr(self.make, "__module__", ""))
        return documentation(module).partition("\n")[0]


def documentation(thing: Any) -> str:
    """Return a thing's own documentation: none that it inherits, nor the signature dataclasses write."""
    written = getattr(thing, "__doc__", None) or ""
    made = inspect.isclass(thing) and written.startswith(f"{thing.__name__}(")
    return "" if made else inspect.cleandoc(written)


_found: dict[str, dict[str, Entry]] = {kind: {} for kind in FOLDERS}
_walked: set[str] = set()


def register(
    kind: str,
    name: str,
    *,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    pattern: str = "",
) -> Callable[[T], T]:
    """Register a class or function under a name.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        name: what the user types.
        variants: endings of the name with their options.
        pattern: regular expression for endings whose named groups are options.

    Returns:
        A decorator that returns its argument unchanged.

    Raises:
        UsageError: if the name is taken, naming both owners.
    """

    def take(make: T) -> T:
        entry = Entry(name, make, make.__module__, dict(variants or {}), pattern)
        _add(kind, entry)
        return make

    return take


def _add(kind: str, entry: Entry) -> None:
    """Store an entry, refusing a taken name."""
    taken = _found[kind].get(entry.name)
    if taken is not None and taken.owner != entry.owner:
        raise UsageError(
            f"{SINGULAR[kind]} {entry.name!r} is registered twice: "
            f"by {taken.owner} and by {entry.owner}"
        )
    _found[kind][entry.name] = entry


def entries(kind: str) -> dict[str, Entry]:
    """Return every registered thing of a kind, walking its folder and entry points once.

    A built-in that fails to import raises; an outside package that does is listed with its error.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.

    Returns:
        Name to entry.

    Raises:
        UsageError: for an unknown kind.
    """
    if kind not in FOLDERS:
        raise unknown("kind", kind, [*FOLDERS, "presets"])
    if kind not in _walked:
        folder = importlib.import_module(FOLDERS[kind])
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{FOLDERS[kind]}.{module.name}")
        _walked.add(kind)
        for point in entry_points(group=f"fgbench.{kind}"):
            owner = f"{point.dist.name if point.dist else '?'} ({point.value})"
            try:
                _add(kind, Entry(point.name, point.load(), owner))
            except UsageError:
                _walked.discard(kind)  # raised again by the next call, not passed over
                raise
            except RAISED as error:
                why = f"cannot be imported: {type(error).__name__}: {error}"
                _add(kind, Entry(point.name, _broken(point.name, owner, why), owner, error=why))
    return dict(sorted(_found[kind].items()))


def _broken(name: str, owner: str, why: str) -> Callable[..., Any]:
    """Make the thing that raises when an outside entry that failed is asked for."""

    def make(**options: Any) -> Any:
        raise UsageError(f"{name!r} from {owner} {why}")

    return make


def names(kind: str) -> list[str]:
    """Return every name of a kind that can be typed, variants included."""
    found = []
    for name, entry in entries(kind).items():
        parameters = inspect.signature(entry.make).parameters.values()
        needs = any(p.default is p.empty and p.kind is p.KEYWORD_ONLY for p in parameters)
        if not (entry.variants and needs):
            found.append(name)
        found += [f"{name}-{ending}" for ending in entry.variants]
    return found


def base_of(name: str, entries: Collection[str]) -> str:
    """Find the entry that a name without options is of: itself, or the longest before its ending.

    Args:
        name: such as ``localmixer-m/8/16``.
        entries: names of entries.

    Returns:
        Such as ``localmixer``; "" where there is none.
    """
    return max((b for b in entries if name == b or name.startswith(f"{b}-")), key=len, default="")


@dataclass(frozen=True)
class Made:
    """A thing made from text.

    Args:
        name: its name without options.
        options: the options given, validated.
        thing: what was made, or the result of calling a function.
        source: file of the code that defines it, or the folder of its files.
        file: the whole path of the file in a text such as ``./mine.py:Mine``, "" for a name.
    """

    name: str
    options: dict[str, Any]
    thing: Any
    source: str
    file: str = ""

    @property
    def text(self) -> str:
        """Canonical text: the name with its options."""
        return optioned(self.name, dict(sorted(self.options.items())))


def optioned(name: str, options: Mapping[str, Any]) -> str:
    """Write a name with its options as one types them, such as ``fg_a[directions=4]``."""
    return f"{name}[{','.join(f'{k}={v}' for k, v in options.items())}]" if options else name


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name[a=1,b=x[y=2]]`` into the name and its raw options.

    Args:
        text: what the user typed.

    Returns:
        The name, and option name to raw text.

    Raises:
        UsageError: if brackets do not close, an option is not ``key=value`` or is given twice.
    """
    name, bracket, rest = text.partition("[")
    if not bracket:
        return text, {}
    if not rest.endswith("]") or text.count("[") != text.count("]"):
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
    """Split text at a character outside brackets, empty parts left out or kept."""
    found, depth, current = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == at and depth == 0:
            found.append(current)
            current = ""
        else:
            current += char
    return [p for p in [*found, current] if empty or p.strip()]


def validated(
    make: Callable[..., Any], raw: Mapping[str, Any], what: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """Turn raw option texts into values of the annotated types.

    Args:
        make: the class or function whose annotations say what is expected.
        raw: option name to text or value.
        what: name for the error.
        given: arguments that come from elsewhere and are no options.

    Returns:
        Option name to value.

    Raises:
        UsageError: for an unknown option, with the nearest, or a value of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {k: p for k, p in inspect.signature(make).parameters.items() if k not in given}
    scope = vars(sys.modules[make.__module__])
    found = {}
    for key, value in raw.items():
        if key not in known:
            raise unknown(f"option of {what}", key, known)
        annotation = known[key].annotation
        if isinstance(annotation, str):  # one at a time: others may be names for type checkers only
            annotation = eval(annotation, scope)
        expected = Any if annotation is inspect.Parameter.empty else annotation
        try:
            found[key] = TypeAdapter(expected).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise UsageError(f"{what}: option {key}={value!r}: {problem}") from None
    return found


def make(kind: str, text: str, **more: Any) -> Made:
    """Make a thing from its text.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        text: name with options, or for estimators ``path.py:Class`` with options.
        more: arguments that are not options of the text, such as the data folder.

    Returns:
        The thing with its name and options.

    Raises:
        UsageError: for an unknown name or option.
    """
    name, raw = split_options(text)
    if ".py:" in name:
        cls = _from_file(name)
        options = validated(cls, raw, name, more)
        thing = _called(cls, name, {**options, **more})
        file = Path(name.rpartition(":")[0]).resolve()
        return Made(name, options, thing, inspect.getsourcefile(cls) or "", str(file))
    entry, implied = _resolve(kind, name)
    options = validated(entry.make, {**implied, **raw}, name, more) if not entry.error else {}
    shown = {k: v for k, v in options.items() if k in raw}
    thing = _called(entry.make, name, {**options, **more})
    return Made(name, shown, thing, _source(entry))


def _called(make: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Call with options: a missing one, or what the making raises, such as no memory, is one line."""
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


def source(kind: str, text: str) -> str:
    """Name the file that defines a thing, or the folder of its files, without making it.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        text: name, with options or without.

    Returns:
        The path.
    """
    entry, _ = _resolve(kind, split_options(text)[0])
    return _source(entry)


def _source(entry: Entry) -> str:
    """Return the file of the module that an entry comes from, a package's folder."""
    file = sys.modules[entry.make.__module__].__file__ or ""
    return str(Path(file).parent) if Path(file).name == "__init__.py" else file


def _resolve(kind: str, name: str) -> tuple[Entry, dict[str, Any]]:
    """Find the entry of a name and the options its ending implies."""
    found = entries(kind)
    if name in found:
        return found[name], {}
    for base, entry in found.items():
        if not name.startswith(f"{base}-"):
            continue
        ending = name[len(base) + 1 :]
        if ending in entry.variants:
            return entry, dict(entry.variants[ending])
        match = re.fullmatch(entry.pattern, ending) if entry.pattern else None
        if match is not None:
            return entry, {k: v for k, v in match.groupdict().items() if v is not None}
    raise no_such(SINGULAR[kind], name, kind)


def no_such(what: str, name: str, kind: str, others: Collection[str] = ()) -> UsageError:
    """Build the error for a name that does not exist: the nearest, or with the hyphen that it lacks.

    Args:
        what: what was named, for the message.
        name: what came, without options.
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        others: names of other kinds that were possible.

    Returns:
        The error, to be raised by the caller; where names of a kind have a form, such as
        ``mlp-DEPTHxWIDTH``, and what came begins like them, it says the form.
    """
    valid = {*names(kind), *others}
    for base, entry in entries(kind).items():
        ending = name[len(base) :].lstrip("-_ ")
        if not entry.pattern or not ending or not name.lower().startswith(base):
            continue
        if re.fullmatch(entry.pattern, ending):
            return unknown(what, name, [f"{base}-{ending}"])
        form = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda found: found[1].upper(), entry.pattern)
        if not entry.variants and re.fullmatch(r"\w+", form):
            return UsageError(f"unknown {what} {name!r}; expected {base} or {base}-{form}")
    return unknown(what, name, valid)


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
        own = [c for c in vars(module).values() if getattr(c, "__module__", "") == spec.name]
        named = [c.__name__ for c in own if inspect.isclass(c) and hasattr(c, "claims")]
        public = [name for name in named if not name.startswith("_")]
        if not public:
            raise UsageError(f"{path} has no class {attribute!r}, and defines no estimator")
        raise unknown(f"class in {path}", attribute, public)
    found: Callable[..., Any] = getattr(module, attribute)
    if not inspect.isclass(found):
        raise UsageError(f"{text}: expected a class, got {type(found).__name__} {attribute!r}")
    return found


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


def parts(text: str) -> tuple[str, str]:
    """Split a METHOD into the texts of its estimator and its locality, presets resolved, nothing made.

    Args:
        text: what the user typed; without a locality, ``end`` is meant.

    Returns:
        Estimator and locality, both with their options; an estimator nobody knows is not refused.

    Raises:
        UsageError: for what is no METHOD.
    """
    name, raw = split_options(text) if "/" not in text and ".py:" not in text else (text, {})
    if name in PRESETS:
        estimator, _, locality = PRESETS[name].partition("/")
        return optioned(estimator, raw), locality
    head, file, tail = text.partition(".py:")
    if not file and re.search(r"\.py(?=[/\[]|$)", text):
        raise UsageError(f"method {text!r}: expected path/to/file.py:Class")
    pieces = split_outside(tail if file else text, "/", empty=True)
    if not all(pieces) or len(pieces) > 2:
        raise UsageError(
            f"method {text!r}: expected a preset or estimator[options]/locality[options]"
        )
    first = f"{head}{file}{pieces[0]}" if file else pieces[0]
    locality = pieces[1] if len(pieces) == 2 else "end"
    known = split_options(first)[0]
    if known in PRESETS:
        raise UsageError(
            f"method {text!r}: a preset has its locality: {known} is {PRESETS[known]}; "
            f"type {PRESETS[known].partition('/')[0]}/{locality}"
        )
    return first, locality


def method(text: str) -> Method:
    """Parse a METHOD: a preset, or ``estimator[options]/locality[options]``.

    Args:
        text: what the user typed; without a locality, ``end`` is meant.

    Returns:
        The method.

    Raises:
        UsageError: for an unknown preset, estimator, locality or option.
    """
    estimator, locality = parts(text)
    known = split_options(estimator)[0]
    if ".py:" not in known and known not in entries("estimators"):
        raise unknown("method", known, [*PRESETS, *entries("estimators")])
    return Method(text, make("estimators", estimator), make("localities", locality))
