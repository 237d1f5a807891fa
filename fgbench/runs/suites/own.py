"""The estimators that somebody's own repository has, without importing it."""

from __future__ import annotations

import ast
import os
import tomllib
import warnings
from pathlib import Path

from fgbench.errors import Notice, one_line

HIDDEN = {
    "suites",
    "benchmarks",
    "tests",
    "build",
    "dist",
    "node_modules",
    "site-packages",
    "env",
    "venv",
}
"""Folders that are not looked into, beside those that begin with a dot or an underscore."""
PARTS = {"claims", "__call__"}
"""Methods of an estimator."""


def methods(folder: Path) -> list[str]:
    """Return the METHODs of the estimators of a repository.

    Args:
        folder: of the repository.

    Returns:
        Entry points of its ``pyproject.toml``, then ``./file.py:Class/end`` of every class that derives
        from ``Defaults`` or has the methods of an estimator, and is no entry point. A file that is not
        readable is named in a :class:`fgbench.errors.Notice`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     _ = Path(place, "mine.py").write_text("class Mine(Defaults): ...")
        ...     methods(Path(place))
        ['./mine.py:Mine/end']
    """
    points = entry_points(folder)
    named = {target.rpartition(":")[2] for target in points.values()}
    found = [f"{name}/end" for name in points]
    for path in _files(folder):
        try:
            here = classes(path.read_text("utf-8"))
        except (OSError, SyntaxError, ValueError) as error:
            why = one_line(str(error))
            warnings.warn(Notice(f"{path} is passed over: {why}"), stacklevel=2)
            continue
        found += [
            f"./{path.relative_to(folder).as_posix()}:{name}/end"
            for name in here
            if name not in named
        ]
    return found


def entry_points(folder: Path) -> dict[str, str]:
    """Return the estimators that a repository registers as entry points.

    Args:
        folder: of the repository.

    Returns:
        Name to ``module:Class``; none where there is no ``pyproject.toml`` or it cannot be read.

    Example:
        >>> entry_points(Path("no-such-folder"))
        {}
    """
    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text("utf-8")).get("project", {})
        return dict(project.get("entry-points", {}).get("fgbench.estimators", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def packaged(folder: Path) -> bool:
    """Return whether a repository is a package that pip can install.

    Example:
        >>> packaged(Path("no-such-folder"))
        False
    """
    return (folder / "setup.py").is_file() or "[build-system]" in _text(folder / "pyproject.toml")


def classes(source: str) -> list[str]:
    r"""Return the public classes of a source that are estimators, by their bases and methods.

    Args:
        source: Python code.

    Returns:
        Their names.

    Raises:
        SyntaxError: it cannot be parsed.

    Example:
        >>> classes("class A(Defaults): pass\nclass B: pass\nclass _C(fgbench.Defaults): pass")
        ['A']
    """
    found: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            parts = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if "Defaults" in bases or bases & set(found) or parts >= PARTS:
                found.append(node.name)
    return found


def _files(folder: Path) -> list[Path]:
    """Return the Python files of a repository that may hold estimators."""
    found = []
    for place, inside, files in os.walk(folder):
        inside[:] = sorted(n for n in inside if n not in HIDDEN and not n.startswith((".", "_")))
        for name in sorted(files):
            path = Path(place, name)
            wanted = name.endswith(".py") and not name.startswith(("test_", "_", "conftest."))
            if wanted and path.is_file():  # no pipe, whose reading never ends
                found.append(path)
    return found


def _text(path: Path) -> str:
    """Return the text of a file, "" where there is none."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
