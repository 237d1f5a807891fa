"""``fgbench suites init``: suites for asv that track the estimators of somebody's own repository."""

from __future__ import annotations

import contextlib
import json
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.records.git import git
from fgbench.runs.suites import own
from fgbench.runs.suites.folder import CONFIGURATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUITES = "suites"
FILES = {
    CONFIGURATION: "suites_conf",
    f"{SUITES}/__init__.py": "suites_init",
    f"{SUITES}/environment.py": "suites_environment",
    f"{SUITES}/estimators.py": "suites_estimators",
}
"""The files that are written, with their templates."""
BUILD = '"python -m pip wheel --no-deps --no-build-isolation -w {build_cache_dir} {build_dir}"'
INSTALL = (
    '"in-dir={env_dir} python -m pip install --no-deps --force-reinstall {wheel_file}",\n        '
)


def write(folder: Path, methods: Sequence[str]) -> list[Path]:
    """Write a configuration of asv and suites into a repository.

    Args:
        folder: of the repository.
        methods: METHODs to track, files relative to the folder; all its estimators where empty.

    Returns:
        The files.

    Raises:
        UsageError: if there is no such folder, one of the files exists, or a METHOD cannot be made; then
            nothing is written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     [path.name for path in write(Path(place), ["FG-A"])]
        ['asv.conf.json', '__init__.py', 'environment.py', 'estimators.py']
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {str(folder)!r}")
    paths = [folder / name for name in FILES]
    present = [path for path in (paths[0], folder / SUITES) if path.exists()]
    if present:
        raise UsageError(f"{present[0]} exists already; nothing was written")
    tracked = list(dict.fromkeys(methods or own.methods(folder)))
    if not tracked:
        raise UsageError(
            f"no estimator found in {folder.resolve()}; name one by --method ./file.py:Class/end"
        )
    require_methods(folder, tracked)
    texts = list(_texts(folder, tracked))
    (folder / SUITES).mkdir()
    for path, text in zip(paths, texts, strict=True):
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return paths


def require_methods(folder: Path, methods: Sequence[str]) -> None:
    """Require METHODs that can be made in a folder, and whose files are part of it.

    Args:
        folder: of the repository.
        methods: METHODs.

    Raises:
        UsageError: for one that cannot, or a file outside the repository, which no commit of it has.

    Example:
        >>> require_methods(Path(), ["FG-A", "fg_a/local-pg"])
    """
    root = folder.resolve()
    with contextlib.chdir(folder):
        for text in methods:
            made = registry.method(text)
            for part in (made.estimator, made.locality):
                if part.file and not Path(part.file).resolve().is_relative_to(root):
                    raise UsageError(
                        f"{part.file} is not in {root}, so no commit of it has that file"
                    )
                if part.file and not part.name.startswith("./"):
                    raise UsageError(
                        f"method {text!r}: begin the path with ./, such as ./{Path(part.file).name}"
                    )


def next_steps(folder: Path) -> Iterator[str]:
    """Yield what to do next.

    Args:
        folder: of the repository.

    Yields:
        Lines.

    Example:
        >>> [line for line in next_steps(Path()) if "asv machine" in line]
        ['      asv machine --yes']
    """
    ignored = folder / ".gitignore"
    if not (ignored.is_file() and ".asv" in ignored.read_text("utf-8", errors="replace")):
        yield "Next: add .asv/ to .gitignore, where asv keeps its environment and results"
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    yield "Next: commit these files, then"
    yield f"      {where}asv machine --yes"
    yield f"      {where}asv continuous HEAD~1 HEAD"
    yield f"      or both by: {where}fgbench suites run HEAD~1 HEAD"


def _texts(folder: Path, methods: Sequence[str]) -> Iterator[str]:
    """Yield the texts of the files."""
    packaged = own.packaged(folder)
    branch = git(folder, "symbolic-ref", "--short", "HEAD") or "main"
    words = {
        "project": json.dumps(folder.resolve().name)[1:-1],
        "branch": json.dumps(branch)[1:-1],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "build": BUILD * packaged,
        "install": INSTALL * packaged,
        "methods": "[\n"
        + "".join(f"    {json.dumps(m, ensure_ascii=False)},\n" for m in methods)
        + "]",
    }
    for name in FILES.values():
        text = (files("fgbench.cli") / "templates" / f"{name}.txt").read_text("utf-8")
        yield Template(text).substitute(words)
