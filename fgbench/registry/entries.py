"""Everything that has a name: the plug-in folders, entry points of other packages, and the presets."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from fgbench.errors import UsageError, one_line, pass_on, reason, undone, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from importlib.metadata import EntryPoint

T = TypeVar("T", bound="Callable[..., Any]")

FOLDERS = {
    "estimators": "fgbench.estimators",
    "localities": "fgbench.localities",
    "architectures": "fgbench.architectures",
    "datasets": "fgbench.data",
    "updates": "fgbench.updates",
}

SINGULAR = {
    "estimators": "estimator",
    "localities": "locality",
    "architectures": "architecture",
    "datasets": "dataset",
    "updates": "update",
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
    "DGL": "bp/dgl",
    "PREDSIM": "bp/predsim",
    "MONO-FORWARD": "bp/mono_forward",
    "FF": "bp/forward_forward",
    "NOPROP-DT": "bp/noprop_dt",
    "BP-CKPT": "bp-ckpt/end",
    "BP-ACC": "bp-acc/end",
}


@dataclass(frozen=True)
class Entry:
    """A registered class or function with its name.

    Args:
        name: what the user types.
        make: the class or function, called with the options.
        owner: the module that registered it.
        variants: ending of the name to options, such as ``{"m/8/16": {...}}`` for ``localmixer-m/8/16``.
        pattern: regular expression for endings; its named groups are options.
        error: why the entry of another package or file cannot be used, "" if it can.

    Example:
        >>> def ring(*, size: int = 8):
        ...     '''A ring of layers.'''
        >>> entry = Entry("ring", ring, "mine")
        >>> entry.summary, entry.options
        ('A ring of layers.', {'size': 8})
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
        """First line of the documentation, or the import error."""
        return one_line(self.error or self.documentation.partition("\n")[0])

    @property
    def documentation(self) -> str:
        """Docstring of the class or function."""
        return documentation(self.make)

    @property
    def promises(self) -> str:
        """Docstring of an estimator's ``claims``, "" for other kinds."""
        return documentation(getattr(self.make, "claims", None))

    @property
    def subject(self) -> str:
        """First line of the docstring of the module that defines it."""
        module = sys.modules.get(getattr(self.make, "__module__", ""))
        return documentation(module).partition("\n")[0]


def documentation(thing: Any) -> str:
    """Return the docstring that was written for an object.

    Args:
        thing: a class, function or module; None has no docstring.

    Returns:
        The docstring, "" where there is none. An inherited docstring does not count, and neither does
        the signature that ``dataclass`` writes.

    Example:
        >>> documentation(documentation).partition(".")[0]
        'Return the docstring that was written for an object'
    """
    try:
        written = thing.__doc__
        generated = inspect.isclass(thing) and str(written).startswith(f"{thing.__name__}(")
    except BaseException as error:  # of an attribute that is computed
        pass_on(error)
        return ""
    return "" if generated or not isinstance(written, str) else inspect.cleandoc(written)


_registered: dict[str, dict[str, Entry]] = {kind: {} for kind in FOLDERS}
_loaded: set[str] = set()
_brought: set[str] = set()  # kinds whose entry points have been imported
_visited: list[str] = []  # the package or file of others that is being imported


@contextlib.contextmanager
def visiting(owner: str) -> Iterator[None]:
    """Import code of others in this context: a name that it cannot have is listed with the reason.

    Args:
        owner: the package or file, for the list.

    Example:
        >>> with visiting("./mine.py"):
        ...     _ = register("estimators", "bp")(int)
        >>> entries("estimators")["bp"].owner, entries("estimators")["bp of ./mine.py"].error
        ('fgbench.estimators.bp', "registered twice: 'bp' is taken by fgbench.estimators.bp")
        >>> del _registered["estimators"]["bp of ./mine.py"]
    """
    _visited.append(owner)
    try:
        yield
    finally:
        _visited.pop()


def register(
    kind: str,
    name: str,
    *,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    pattern: str = "",
) -> Callable[[T], T]:
    """Register a class or function under a name.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.
        name: what the user types.
        variants: endings of the name with their options; None for those that the class or function has
            as its attribute ``variants``, if any.
        pattern: regular expression for endings; its named groups are options. Where "", the attribute
            ``pattern``, if any.

    Returns:
        A decorator that returns its argument unchanged.

    Raises:
        UsageError: if the name is taken, or is no name of this kind; the message names both owners. In a
            package or file that fgbench imports itself, the name is listed with the reason instead.

    Example:
        A class is registered by ``@register("estimators", "mine")`` above its definition. A taken name
        is refused:

        >>> entries("estimators")["fg_a"].owner
        'fgbench.estimators.fg_a'
        >>> try:
        ...     register("estimators", "fg_a")(dict)
        ... except UsageError as error:
        ...     print(error)
        estimator 'fg_a' is registered twice: by fgbench.estimators.fg_a and by builtins
    """

    def take(make: T) -> T:
        if kind not in FOLDERS:
            raise unknown("kind", str(kind), FOLDERS)
        owner = str(getattr(make, "__module__", None) or "an unknown module")
        if _visited and not owner.startswith("fgbench."):
            _import_folder(kind)  # whose names come first
            owner = _visited[-1]
        _add(kind, entry_of(str(name), make, owner, variants, pattern))
        return make

    return take


def _add(kind: str, entry: Entry) -> None:
    """Store an entry, unless it is there already; refuse a name that something else has taken."""
    taken = _registered[kind].get(entry.name)
    if taken is None or (taken.owner == entry.owner and not _beside(taken.make, entry.make)):
        wrong = entry.error or _unusable(entry)
    elif _same(taken.make, entry.make):
        return
    elif not _visited:
        raise UsageError(
            f"{SINGULAR[kind]} {entry.name!r} is registered twice: "
            f"by {taken.owner} and by {entry.owner}"
        )
    else:
        wrong = entry.error or f"registered twice: {entry.name!r} is taken by {taken.owner}"
        entry = replace(entry, name=f"{entry.name} of {_visited[-1]}")
    if wrong:
        if not _visited:
            raise UsageError(f"{SINGULAR[kind]} {entry.name!r} {wrong}")
        make = _broken(entry.name, _visited[-1], wrong)
        entry = Entry(entry.name, make, entry.owner, error=wrong)
    _registered[kind][entry.name] = entry


def entry_of(
    name: str,
    make: Any,
    owner: str,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    pattern: str = "",
) -> Entry:
    """Return an entry; forms of the name that are not given are those that the thing brings."""
    try:
        forms = brought(make, "variants") if variants is None else variants
        pattern = pattern or brought(make, "pattern") or ""
        if not isinstance(forms, Mapping | None):
            raise UsageError(f"variants: expected a mapping, got {type(forms).__name__}")
        if not isinstance(pattern, str):
            raise UsageError(f"pattern: expected a text, got {type(pattern).__name__}")
        return Entry(name, make, owner, dict(forms or {}), pattern)
    except BaseException as error:  # of an attribute that is computed
        pass_on(error)
        return Entry(name, make, owner, error=f"cannot be used: {reason(error)}")


def brought(make: Any, name: str) -> Any:
    """Return an attribute that a class or function brings beside its options.

    Args:
        make: the class or function.
        name: ``variants``, ``pattern`` or ``recipe``.

    Returns:
        The attribute; None where there is none, and where an option has this name.

    Example:
        >>> class Mine:
        ...     variants = {"wide": {"width": 9}}
        ...     pattern: str = "stripes"
        >>> brought(Mine, "variants"), brought(Mine, "pattern")
        ({'wide': {'width': 9}}, None)
    """
    for cls in make.__mro__ if inspect.isclass(make) else ():
        annotation = inspect.get_annotations(cls).get(name)
        if annotation is not None:
            if "ClassVar" not in str(annotation):
                return None
            break
    return getattr(make, name, None)


def _beside(one: Any, other: Any) -> bool:
    """Return whether two different things stand in one module, so that neither replaces the other."""
    if _same(one, other):
        return False
    module = sys.modules.get(str(getattr(one, "__module__", "")))
    return getattr(module, str(getattr(one, "__qualname__", "")), None) is one


def _same(one: Any, other: Any) -> bool:
    """Return whether two objects are one thing: a decorator such as ``dataclass`` may have copied it."""
    names = [
        [getattr(each, n, None) for n in ("__module__", "__qualname__")] for each in (one, other)
    ]
    return one is other or (names[0] == names[1] and None not in names[0])


def _unusable(entry: Entry) -> str:
    """Return why an entry cannot be used, "" if it can."""
    if not (isinstance(entry.name, str) and re.fullmatch(r"[^\s\[\]/,=:]+", entry.name)):
        return "cannot be used: a name has no spaces, brackets, slashes, commas, colons or equals signs"
    if not callable(entry.make):
        return f"cannot be used: expected a class or function, got {type(entry.make).__name__}"
    try:
        _ = entry.options, entry.summary, entry.promises, re.compile(entry.pattern)
        _ = [dict(options) for options in entry.variants.values()]
        wrong = [ending for ending in entry.variants if not re.fullmatch(r"[^\s\[\],=:]+", ending)]
        if wrong:
            return f"cannot be used: no name ends in {wrong[0]!r}"
    except BaseException as error:
        pass_on(error)
        return f"cannot be used: {reason(error)}"
    return ""


def entries(kind: str) -> dict[str, Entry]:
    """Return everything that is registered of a kind.

    The folder of the kind and the entry points of other packages are imported at the first call; those of
    all kinds, because a package may register things of several kinds. A module of fgbench that fails to
    import raises. A name of another package that is broken, or taken by something else, is listed with
    its error and harms nothing else; an entry point may name what a decorator has registered already, or
    the module that does so.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.

    Returns:
        Name to entry, sorted by name.

    Raises:
        UsageError: for an unknown kind.

    Example:
        >>> "digits" in entries("datasets")
        True
    """
    if kind not in FOLDERS:
        raise unknown("kind", kind, [*FOLDERS, "presets"])
    if kind not in _loaded:
        _import_folder(kind)
        _loaded.add(kind)
    for each in FOLDERS:
        if each not in _brought:
            _brought.add(each)
            for point in entry_points(group=f"fgbench.{each}"):
                _import_folder(each)  # whose names come first
                owner = f"{point.dist.name if point.dist else '?'} ({point.value})"
                with visiting(owner):
                    _bring(each, point, owner)
    return dict(sorted(_registered[kind].items()))


def _import_folder(kind: str) -> None:
    """Import the modules of fgbench that hold things of a kind."""
    folder = importlib.import_module(FOLDERS[kind])
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{FOLDERS[kind]}.{module.name}")


def _bring(kind: str, point: EntryPoint, owner: str) -> None:
    """Import what an entry point names and register it, or the reason why it cannot be imported."""
    try:
        with undone(imported=True):
            make = point.load()
    except BaseException as error:
        pass_on(error)
        why = f"cannot be imported: {reason(error)}"
        _add(kind, Entry(point.name, _broken(point.name, owner, why), owner, error=why))
        return
    own = _registered[kind].get(point.name)
    decorated = own is not None and (own.owner == owner or _owned(own, make))
    if own is not None and decorated:  # importing what the point names has registered the name
        if inspect.ismodule(make) or own.error:
            return
        _add(kind, entry_of(point.name, make, owner, own.variants or None, own.pattern))
        return
    _add(kind, entry_of(point.name, make, owner))


def _owned(entry: Entry, make: Any) -> bool:
    """Return whether a module, or the thing that an entry holds, has registered that entry."""
    if inspect.ismodule(make):
        return entry.owner.startswith(make.__name__)
    return _same(entry.make, make)


def _broken(name: str, owner: str, why: str) -> Callable[..., Any]:
    """Return a function that raises why an entry cannot be used when it is called."""

    def make(**options: Any) -> Any:
        raise UsageError(f"{name!r} from {owner} {why}")

    return make


def registration(thing: Any) -> tuple[str, Entry | None]:
    """Return the kind under which a class or function is registered, and its entry.

    Args:
        thing: the class or function.

    Returns:
        Both; "" and None where it is not registered. Nothing is imported for the answer.

    Example:
        >>> registration(entries("datasets")["digits"].make)[0], registration(len)
        ('datasets', ('', None))
    """
    for kind, known in _registered.items():
        for entry in known.values():
            if not entry.error and _same(entry.make, thing):
                return kind, entry
    return "", None


def names(kind: str) -> list[str]:
    """Return every name of a kind that can be typed, variants included.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.

    Returns:
        The names, variants after their base. A base that needs an option which only its variants give
        is left out.

    Example:
        >>> [name for name in names("localities") if name.startswith("local")]
        ['local', 'local-p', 'local-pg']
    """
    typed = []
    for name, entry in entries(kind).items():
        parameters = inspect.signature(entry.make).parameters.values()
        needs = any(p.default is p.empty and p.kind is p.KEYWORD_ONLY for p in parameters)
        if not (entry.variants and needs):
            typed.append(name)
        typed += [f"{name}-{ending}" for ending in entry.variants]
    return typed


def resolve(kind: str, name: str) -> tuple[Entry, dict[str, Any]]:
    """Return the entry of a name and the options that its ending stands for.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.
        name: a name without options.

    Returns:
        The entry, and option name to value.

    Raises:
        UsageError: for an unknown name, with the nearest valid one.

    Example:
        >>> entry, options = resolve("architectures", "mlp-3x256")
        >>> entry.name, options
        ('mlp', {'depth': '3', 'width': '256'})
    """
    registered = entries(kind)
    if name in registered:
        return registered[name], {}
    for base, entry in registered.items():
        if not name.startswith(f"{base}-"):
            continue
        options = implied(entry, name[len(base) + 1 :])
        if options is not None:
            return entry, options
    raise no_such(SINGULAR[kind], name, kind)


def is_name(kind: str, name: str) -> bool:
    """Return whether a name without options is one of a kind, forms of names included.

    Args:
        kind: ``estimators``, ``localities``, ``architectures`` or ``datasets``.
        name: the name.

    Returns:
        Whether it is.

    Example:
        >>> is_name("localities", "local-pg"), is_name("localities", "local-xy")
        (True, False)
    """
    for base, entry in entries(kind).items():
        if name == base or (
            name.startswith(f"{base}-") and implied(entry, name[len(base) + 1 :]) is not None
        ):
            return True
    return False


def implied(entry: Entry, ending: str) -> dict[str, Any] | None:
    """Return the options that an ending of a name stands for.

    Args:
        entry: what the name before the hyphen is.
        ending: what follows it.

    Returns:
        Option name to value, None where the entry has no such form.

    Example:
        >>> implied(entries("architectures")["mlp"], "3x256"), implied(entries("architectures")["mlp"], "x")
        ({'depth': '3', 'width': '256'}, None)
    """
    if ending in entry.variants:
        return dict(entry.variants[ending])
    match = re.fullmatch(entry.pattern, ending) if entry.pattern else None
    if match is None:
        return None
    return {k: v for k, v in match.groupdict().items() if v is not None}


def no_such(what: str, name: str, kind: str, others: Collection[str] = ()) -> UsageError:
    """Build the error for a name that does not exist, with the nearest valid one.

    Args:
        what: what was named, for the message.
        name: what was typed, without options.
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.
        others: names of other kinds that were possible.

    Returns:
        The error, to be raised by the caller. Where names of the kind have a form, such as
        ``mlp-DEPTHxWIDTH``, and the typed name begins with their base, the message states the form.

    Example:
        >>> print(no_such("architecture", "mlp3x256", "architectures"))
        unknown architecture 'mlp3x256'; did you mean 'mlp-3x256'?
    """
    valid = {*names(kind), *others}
    for base, entry in entries(kind).items():
        ending = name[len(base) :].lstrip("-_ ")
        if not entry.pattern or not ending or not name.lower().startswith(base):
            continue
        if re.fullmatch(entry.pattern, ending):
            return unknown(what, name, [f"{base}-{ending}"])
        form = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda group: group[1].upper(), entry.pattern)
        if not entry.variants and re.fullmatch(r"\w+", form):
            return UsageError(f"unknown {what} {name!r}; expected {base} or {base}-{form}")
    return unknown(what, name, valid)
