"""``fgbench new``: a commented file to start a method from, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATES = "templates"
KINDS = {
    "estimator": "estimators",
    "locality": "localities",
    "architecture": "architectures",
    "data": "datasets",
}
"""The kinds that have a template, with their names in the registry."""
NEXT = {
    "estimator": (
        "check {thing}",
        "measure {thing} FG-A --arch mlp-2x64 --data digits",
        "train {thing} --arch mlp-2x64 --data digits",
    ),
    "locality": ("check {thing}", "measure fg_a/{thing} FG-A --arch mlp-4x64 --data digits"),
    "architecture": ("check {thing}", "measure FG-W FG-A --arch {thing} --data digits"),
    "data": ("check {thing}", "train BP FG-A --arch mlp-2x64 --data {thing}"),
}
"""Commands to go on with."""


def write(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write a starting file and its test.

    Args:
        kind: ``estimator``, ``locality``, ``architecture`` or ``data``.
        name: of the file and of what it holds; a class is named in CamelCase.
        folder: where; it must exist.

    Returns:
        The file and its test.

    Raises:
        UsageError: for an unknown kind, a name that Python or fgbench has already, or a file that exists;
            then nothing is written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     [file.name for file in write("locality", "my_pairs", Path(place))]
        ['my_pairs.py', 'test_my_pairs.py']
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    _require_free(kind, name)
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    if present := [path for path in paths if path.exists()]:
        raise UsageError(f"{present[0]} exists already; nothing was written")
    if not folder.is_dir():
        raise UsageError(f"no folder {str(folder)!r}")
    for path, text in zip(paths, _texts(kind, name), strict=True):
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return paths


def _require_free(kind: str, name: str) -> None:
    """Require a name that a file, a class and an entry of the registry can have."""
    from fgbench import registry

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        like = re.sub(r"\W+|(?<=[a-z0-9])(?=[A-Z])", "_", name).strip("_").lower()
        hint = f", such as {like}" if re.fullmatch(r"[a-z][a-z0-9_]*", like) else ""
        raise UsageError(
            f"name {name!r}: expected small letters, digits and _, and no word of Python{hint}"
        )
    entry = registry.entries(KINDS[kind]).get(name)
    if entry is not None:
        raise UsageError(f"{kind} {name!r} exists already: {entry.owner}")
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin and not Path(spec.origin).is_relative_to(Path.cwd()):
        raise UsageError(f"name {name!r}: a file {name}.py would hide the Python module {name}")


def _texts(kind: str, name: str) -> Iterator[str]:
    """Yield the text of the starting file and of its test."""
    words = {"name": name, "Class": _class_name(name)}
    for template in (f"{kind}.txt", f"test_{kind}.txt"):
        text = (files("fgbench.cli") / TEMPLATES / template).read_text("utf-8")
        yield Template(text).substitute(words)


def _class_name(name: str) -> str:
    """Return a name in CamelCase."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def thing(kind: str, name: str, folder: Path) -> str:
    """Return how what a starting file holds is typed.

    Args:
        kind: as of :func:`write`.
        name: as of :func:`write`.
        folder: as of :func:`write`.

    Returns:
        Such as ``./my_rule.py:MyRule``.

    Example:
        >>> thing("estimator", "my_rule", Path("."))
        './my_rule.py:MyRule'
        >>> thing("data", "stripes", Path("mine"))
        './mine/stripes.py:stripes'
    """
    path = (folder / f"{name}.py").as_posix()
    path = path if path.startswith(("/", "~", "../")) else f"./{path}"
    return f"{path}:{_class_name(name) if kind in ('estimator', 'locality') else name}"


def new(
    kind: Annotated[str, typer.Argument(help="estimator, locality, architecture or data.")],
    name: Annotated[
        str, typer.Argument(help="Its name: small letters, digits and _, such as my_rule.")
    ],
    folder: Annotated[Path, typer.Option("-o", help="Folder of the two files.")] = Path(),
) -> None:
    """Write a commented file to start from, NAME.py, and its test; both run as they are.

    No file is replaced. What the file holds is typed by its path, such as ./my_rule.py:MyRule.
    """
    for path in write(kind, name, folder):
        print(path)
    typed = thing(kind, name, folder)
    for k, command in enumerate(NEXT[kind]):
        begin = "      " if k else "Next: "
        print(f"{begin}fgbench {command.format(thing=typed)}")
