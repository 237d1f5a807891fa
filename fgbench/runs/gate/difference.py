"""Which files of two trees differ in more than docstrings, comments and layout."""

from __future__ import annotations

import ast
import hashlib
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "fgbench"
IGNORED = ("__pycache__",)


@dataclass(frozen=True)
class Difference:
    """The files that differ between two trees, by their path.

    Args:
        code: differ in code, data or requirements.
        words: differ in docstrings, comments and layout alone.

    Example:
        >>> Difference(code=(), words=("fgbench/api.py",)).equal
        True
    """

    code: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both trees compute the same."""
        return not self.code


def difference(a: Path, b: Path) -> Difference:
    """Compare the package of two trees: modules by their syntax, all other files by their bytes.

    Args:
        a: one tree.
        b: the other.

    Returns:
        The files that differ; ``pyproject.toml`` where the packages that are required differ.

    Cost: modules that are equal byte for byte are not parsed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for tree, text in (("a", "x = 1"), ("b", "x = 1  # one")):
        ...         Path(folder, tree, "fgbench").mkdir(parents=True)
        ...         _ = Path(folder, tree, "fgbench", "m.py").write_text(text)
        ...     difference(Path(folder, "a"), Path(folder, "b"))
        Difference(code=(), words=('fgbench/m.py',))
    """
    before, after = files(a), files(b)
    code, words = [], []
    for name in sorted(before.keys() | after.keys()):
        one, other = (side[name].read_bytes() if name in side else None for side in (before, after))
        if one == other:
            continue
        if (
            name.endswith(".py")
            and one is not None
            and other is not None
            and _same_code(one, other)
        ):
            words.append(name)
        else:
            code.append(name)
    if _requirements(a) != _requirements(b):
        code.append("pyproject.toml")
    return Difference(tuple(code), tuple(words))


def files(tree: Path) -> dict[str, Path]:
    """Return the files of a tree's package by their path in the tree.

    Args:
        tree: folder that holds the package.

    Returns:
        Path in POSIX form to file.

    Example:
        >>> from pathlib import Path
        >>> files(Path("no-such-folder"))
        {}
    """
    return {
        path.relative_to(tree).as_posix(): path
        for path in sorted((tree / PACKAGE).rglob("*"))
        if path.is_file() and not {*IGNORED} & {*path.parts}
    }


def tree_digest(tree: Path) -> str:
    """Return a hash of all files of a tree's package.

    Args:
        tree: folder that holds the package.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> from pathlib import Path
        >>> len(tree_digest(Path("no-such-folder")))
        32
    """
    digest = hashlib.sha256()
    for name, path in files(tree).items():
        content = path.read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _same_code(one: bytes, other: bytes) -> bool:
    """Return whether two modules are equal but for docstrings, comments and layout."""
    try:
        return _code(one) == _code(other)
    except (SyntaxError, ValueError, RecursionError):
        return False


def _code(source: bytes) -> str:
    """Return the syntax of a module without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _requirements(tree: Path) -> list[str]:
    """Return the packages that a tree requires."""
    try:
        project = tomllib.loads((tree / "pyproject.toml").read_text("utf-8")).get("project", {})
    except (OSError, ValueError):
        return []
    return sorted(project.get("dependencies", []))
