"""Replace an earlier site in its folder by a new one and leave all other files there alone."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from fgbench.errors import UsageError
from fgbench.records import atomic

MANIFEST = "fgbench-report.sha256"  # files of the site, in the format of sha256sum --check


def publish(source: Path, out: Path) -> None:
    """Move a new site into its folder.

    Files of an earlier site are replaced. Those that the new site no longer has are removed, unless
    somebody has edited them. A manifest lists the files of the site with their hashes. It is written
    before any file is moved, so that after an interrupted run the next one recognises its files.

    Args:
        source: folder of the new site; its files are moved away.
        out: folder of the published site, created if missing.

    Raises:
        UsageError: a file of the site would overwrite one that no report wrote; nothing is changed then.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "new").mkdir()
        >>> (folder / "new" / "index.html").write_text("hello")
        5
        >>> publish(folder / "new", folder / "site")
        >>> sorted(path.name for path in (folder / "site").iterdir())
        ['fgbench-report.sha256', 'index.html']
    """
    new = {path.relative_to(source).as_posix(): _digest(path) for path in _files(source)}
    out.mkdir(parents=True, exist_ok=True)
    old = _read(out)
    for name in (*new, MANIFEST):
        target = out / name
        if target.is_symlink() or (target.exists() and name not in {*old, MANIFEST}):
            raise UsageError(
                f"{str(target)!r} exists and was not written by fgbench report; choose another folder"
            )
    _write(out, {**old, **new})
    for name in new:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / name, out / name)
    for name in sorted(old.keys() - new.keys()):
        _remove(out, name, old[name])
    _write(out, new)


def others(out: Path) -> list[str]:
    """List what lies in the folder of a site and is not of the site; all of it is kept.

    Args:
        out: folder of a published site.

    Returns:
        Names of files and folders directly in it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "notes.txt").write_text("mine")
        4
        >>> others(folder)
        ['notes.txt']
    """
    mine = {name.partition("/")[0] for name in _read(out)} | {MANIFEST}
    return sorted(path.name for path in out.iterdir() if path.name not in mine)


def _files(folder: Path) -> list[Path]:
    """List all files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(out: Path) -> dict[str, str]:
    """Return the files in the manifest of a folder with their hashes; lines of another form are ignored."""
    path = out / MANIFEST
    if not path.is_file():
        return {}
    lines = re.findall(r"(?m)^([0-9a-f]{64})  (\S.*)$", path.read_text(encoding="utf-8"))
    return {name: digest for digest, name in lines}


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Write the manifest of a folder."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    atomic.write_text(out / MANIFEST, "".join(lines))


def _remove(out: Path, name: str, digest: str) -> None:
    """Remove a file of the folder if it was not edited, and its own folder if that is then empty."""
    path = out / name
    inside = path.resolve().is_relative_to(out.resolve()) and not path.is_symlink()
    if not inside or not path.is_file() or _digest(path) != digest:
        return
    path.unlink()
    if path.parent != out and not any(path.parent.iterdir()):
        path.parent.rmdir()
