"""The files whose code decides the numbers of a method: its own, those that options name, their imports."""

from __future__ import annotations

import ast
import re
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.records.provenance import ROOT
from fgbench.registry.grammar import base_of

if TYPE_CHECKING:
    from collections.abc import Iterator

INSIDE = ROOT / "fgbench"
KINDS = ("estimators", "localities", "architectures", "updates")
LIBRARIES = ("site-packages", "dist-packages")


def options(made: registry.Made) -> dict[str, Any]:
    """Return every option of a thing, defaults included.

    Args:
        made: the thing.

    Returns:
        Option name to value.

    Example:
        >>> options(registry.make("estimators", "fg_a[directions=4]"))["law"]
        'gaussian'
    """
    if is_dataclass(made.thing):
        return {f.name: getattr(made.thing, f.name) for f in fields(made.thing)}
    return dict(made.options)


def of(made: registry.Made) -> set[Path]:
    """Return the files that define an estimator or a locality.

    These are the file of its class, the file that was typed, files and things that its options name (a base
    to be nested, a file of numbers), and of all of them what they import from beside them and from the
    plug-in folders of fgbench. Code that is imported by other means than an ``import`` is not seen.

    Args:
        made: the thing.

    Returns:
        Paths of files, and of the folders of packages.

    Example:
        >>> sorted(path.name for path in of(registry.make("estimators", "bp")))
        ['bp.py']
    """
    found = {Path(path) for path in (made.source, made.file) if path}
    for value in options(made).values():
        if isinstance(value, registry.Nested):
            found |= of(value.made)  # with what the options of the base name
        elif isinstance(value, str):
            found |= named(value)
    return imported(found)


def named(text: str) -> set[Path]:
    """Return the files that a text names, by path or by the name of a thing, at any depth of brackets.

    Args:
        text: an option's value, such as ``./base.py:Base[inner=dfa]``.

    Returns:
        Paths of files, and of the folders of packages.

    Example:
        >>> sorted(path.name for path in named("LG-FG-A"))
        ['fg_a.py', 'local.py']
        >>> named("gaussian")
        set()
    """
    found: set[Path] = set()
    for part in filter(None, map(str.strip, re.split(r"[\[\],=]", text))):
        if Path(part).suffix and Path(part).is_file():
            found.add(Path(part).resolve())
            continue
        plain = part
        for typed in re.findall(r"[^:]+\.py:\w+", part):
            before, file = _file(typed.rpartition(":")[0].split("/"))
            found |= file
            plain = plain.replace(typed, before)
        for name in filter(None, registry.PRESETS.get(plain, plain).split("/")):
            for kind in KINDS:
                if base_of(name, registry.entries(kind)) and (source := _source(kind, name)):
                    found.add(Path(source))
    return found


def _file(pieces: list[str]) -> tuple[str, set[Path]]:
    """Return what stands before the longest end of a path that is a file, and the file."""
    for i in range(len(pieces)):
        path = Path("/".join(pieces[i:]))
        if path.is_file():
            return "/".join(pieces[:i]), {path.resolve()}
    return "", set()


def _source(kind: str, name: str) -> str:
    """Return the path of what defines a name, "" where only its beginning is a name."""
    try:
        return registry.source(kind, name)
    except UsageError:
        return ""


def imported(paths: set[Path]) -> set[Path]:
    """Return paths with the files that they import from beside them or from fgbench's plug-in folders.

    Args:
        paths: files and folders.

    Returns:
        The same with what their ``import`` statements reach, however far.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, code in {"a": "import b", "b": "from c import d", "c": "d = 1"}.items():
        ...         _ = (Path(folder) / f"{name}.py").write_text(code)
        ...     sorted(path.name for path in imported({Path(folder) / "a.py"}))
        ['a.py', 'b.py', 'c.py']
    """
    found, left = set[Path](), {path.resolve() for path in paths}
    while left:
        path = left.pop()
        found.add(path)
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            left |= {p.resolve() for p in _imports(file)} - found - {*files}
    return found


def _imports(file: Path) -> Iterator[Path]:
    """Yield the files of the plug-in kind that a file's import statements name."""
    if file.suffix != ".py":
        return
    try:
        statements = _statements(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it says so where it is imported
        return
    for level, name in statements:
        yield from _beside(file, level, name.split("."))


@lru_cache(maxsize=256)
def _statements(code: bytes) -> tuple[tuple[int, str], ...]:
    """Return the level and the name of everything that a file's code imports, the package of a name too."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names += [(node.level, f"{base}.{alias.name}".strip(".")) for alias in node.names]
            names += [(node.level, base)] if base else []
    return tuple(names)


def _beside(file: Path, level: int, name: list[str]) -> Iterator[Path]:
    """Yield the file of a module that is a plug-in of fgbench or lies in the folder or package of a file."""
    if level == 0 and name[0] == "fgbench":
        folders = {f.removeprefix("fgbench.") for f in registry.FOLDERS.values()}
        if name[1:2] and name[1] in folders:
            yield from _module(INSIDE, name[1:])
        return
    if file.is_relative_to(INSIDE):
        return
    if level:
        yield from _module(file.parents[level - 1], name)
        return
    top = file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    if top != file.parent and file.relative_to(top).parts[0] == name[0]:
        yield from _module(top, name)
    elif top.name not in LIBRARIES:
        yield from _module(file.parent, name)


def _module(folder: Path, name: list[str]) -> Iterator[Path]:
    """Yield the file of a module below a folder, or of the package that it is a name in."""
    for depth in range(len(name), 0, -1):
        path = folder.joinpath(*name[:depth])
        for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if candidate.is_file():
                yield candidate
                return
