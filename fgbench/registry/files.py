"""A user's own files: the class or function that ``path.py:Name`` names, and the files that it imports."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, pass_on, reason, unknown
from fgbench.registry.entries import visiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType

PACKAGE = Path(__file__).resolve().parents[1]
OURS = ("estimators", "localities", "architectures", "data")
"""Folders of fgbench that a user's file may build on and that no key covers by itself."""
_siblings: dict[
    str, Path
] = {}  # name of an imported module that lies beside a user's file -> its folder


def load(text: str) -> tuple[Callable[..., Any], Path]:
    r"""Import the class or function that ``path.py:Name`` names.

    The file is read anew at each call. Its folder is importable while it runs, as in ``python file.py``;
    the files beside it are read anew too. What it prints goes to stderr, since stdout is for results.

    Args:
        text: the path and the name.

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
    path, _, name = text.rpartition(":")
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
        if not (public := _estimators(module)):
            raise UsageError(f"{path} has no class {name!r}, and defines no estimator")
        raise unknown(f"class in {path}", name, public)
    if not callable(found):
        kind = type(found).__name__
        raise UsageError(f"{text}: expected a class or function, got {kind} {name!r}")
    return found, file


def beside(file: Path) -> set[Path]:
    r"""Return the files that decide what a user's file does: those that it imports and that no key covers.

    These are modules in its folder or in the package that it belongs to, those that they import in turn,
    and fgbench's own estimators, localities, architectures and data sets. The imports are read from the
    text of the files, those inside functions too. For a file of fgbench itself there are none.

    Args:
        file: the user's file.

    Returns:
        Full paths, without the file itself.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "width.py").write_text("WIDTH = 3")
        ...     _ = Path(folder, "mine.py").write_text("def mine():\n    from width import WIDTH")
        ...     sorted(path.name for path in beside(Path(folder, "mine.py")))
        ['width.py']
    """
    start = file.resolve()
    found: set[Path] = set()
    waiting = [] if start.is_relative_to(PACKAGE) else [start]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in found and path != start:
                found.add(path)
                waiting += [] if path.is_relative_to(PACKAGE) else [path]
    return found


class _Fresh(SourceFileLoader):
    """Compiles a file each time: a cached one is recognised by second and size, which an edit may keep."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _run(file: Path) -> ModuleType:
    """Run a file as a module of its own."""
    name = f"fgbench_file_{abs(hash(file))}"
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
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if place in sys.path:
            sys.path.remove(place)
        if place not in sys.path:
            sys.path.append(place)  # for what is imported while an estimate is made
        for name in {n.partition(".")[0] for n in set(sys.modules) - before}:
            if _at(folder, name):
                _siblings[name] = folder


def _at(folder: Path, name: str) -> list[Path]:
    """Return the files of a module or package of this name in a folder; none where there is none."""
    package = folder / name
    if (package / "__init__.py").is_file():
        return sorted(package.rglob("*.py"))
    file = folder / f"{name}.py"
    return [file] if file.is_file() else []


def _imported(file: Path) -> Iterator[Path]:
    """Yield the files beside a file, or in its package, that its import statements name."""
    top = file.parent  # of the outermost package that the file lies in
    while (top / "__init__.py").is_file():
        top = top.parent
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        for level, dotted in _names(node):
            folders = [file.parents[level - 1]] if 0 < level <= len(file.parents) else []
            for folder in folders or [file.parent, top]:
                yield from (path.resolve() for path in _along(folder, dotted))
            yield from (f / "__init__.py" for f in folders if (f / "__init__.py").is_file())
            if dotted.split(".")[:1] == ["fgbench"] and dotted.split(".")[1:2] in (
                [o] for o in OURS
            ):
                yield from _along(PACKAGE, dotted.partition(".")[2])


def _names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the modules that an import statement may name: the dots before, and the dotted name."""
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        start = node.module or ""
        for alias in node.names:  # a name is a module of the package, or an attribute of the module
            yield node.level, f"{start}.{alias.name}".strip(".")


def _along(folder: Path, dotted: str) -> Iterator[Path]:
    """Yield the files that Python runs for a dotted name below a folder."""
    for name in dotted.split("."):
        if (init := folder / name / "__init__.py").is_file():
            yield init
        elif (file := folder / f"{name}.py").is_file():
            yield file
            return
        folder /= name


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
