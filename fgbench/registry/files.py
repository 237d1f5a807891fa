"""A user's own files: the class or function that ``path.py:Name`` names."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import OUTSIDE, UsageError, pass_on, reason, undone, unknown
from fgbench.registry.entries import visiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType

_siblings: dict[
    str, Path
] = {}  # name of an imported module that lies beside a user's file -> its folder


def load(text: str) -> tuple[Callable[..., Any], Path]:
    r"""Import the class or function that ``path.py:Name`` names.

    The file is read anew at each call. Its folder is importable while it runs, as in ``python file.py``;
    the files beside it are read anew too. What it prints goes to stderr, since stdout is for results.

    Args:
        text: the path and the name; the ending of a form, as in ``./mine.py:Mine-wide``, does not matter.

    Returns:
        The class or function, and the full path of the file.

    Raises:
        UsageError: if there is no such file or name, or the file cannot be imported; the message names
            the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "width.py").write_text("WIDTH = 3")
        ...     _ = Path(folder, "mine.py").write_text("from width import WIDTH\ndef mine(): return WIDTH")
        ...     made, file = load(f"{folder}/mine.py:mine")
        >>> made(), file.name
        (3, 'mine.py')
    """
    path, _, typed = text.rpartition(":")
    name = typed.partition("-")[0]  # what follows names one of its forms
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise UsageError(f"no file {path!r}; expected path/to/file.py:Class")
    file = file.resolve()
    try:
        with _beside_importable(file.parent), visiting(path):
            module = _run(file)
            found = getattr(module, name, None)
            known = name in vars(module) or found is not None
    except BaseException as error:
        pass_on(error)
        raise UsageError(f"{path} cannot be imported: {reason(error, file)}") from error
    if not known:
        if not (public := [*_estimators(module), *_networks(module)]):
            raise UsageError(f"{path} has no class {name!r}, and defines no estimator")
        raise unknown(f"class in {path}", name, public)
    if not callable(found):
        kind = type(found).__name__
        raise UsageError(f"{text}: expected a class or function, got {kind} {name!r}")
    return found, file


class _Fresh(SourceFileLoader):
    """Compiles a file each time: a cached one is recognised by second and size, which an edit may keep."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _run(file: Path) -> ModuleType:
    """Run a file as a module of its own."""
    name = f"{OUTSIDE}{abs(hash(file))}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _beside_importable(folder: Path) -> Iterator[None]:
    """Put a folder before all others that are searched; afterwards it stays behind them.

    Modules of the same name that an earlier file brought are imported anew: from this folder.
    """
    for name in list(_siblings):
        if _at(folder, name):
            del _siblings[name]
            for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[loaded]
    before, place = set(sys.modules), str(folder)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        with undone(imported=True):
            yield
    finally:
        if place in sys.path:
            sys.path.remove(place)
        if place not in sys.path:
            sys.path.append(place)  # for what is imported while an estimate is made
        for name in {n.partition(".")[0] for n in set(sys.modules) - before}:
            if _at(folder, name):
                _siblings[name] = folder


def _at(folder: Path, name: str) -> bool:
    """Return whether a folder has a module or package of this name."""
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()


def _estimators(module: ModuleType) -> list[str]:
    """List the estimators that a file defines."""
    try:
        defined = [
            c.__name__
            for c in vars(module).values()
            if inspect.isclass(c) and c.__module__ == module.__name__ and hasattr(c, "claims")
        ]
        return [name for name in defined if not name.startswith("_")]
    except Exception:  # of classes whose attributes are not what they should be
        return []


def _networks(module: ModuleType) -> list[str]:
    """List the classes that a file defines with a method ``forward``, as those of networks."""
    try:
        defined = [c for c in vars(module).values() if inspect.isclass(c) and hasattr(c, "forward")]
        return [c.__name__ for c in defined if c.__module__ == module.__name__]
    except Exception:  # of classes whose attributes are not what they should be
        return []
