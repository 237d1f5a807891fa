"""How a site gets into its folder: what was written before goes, what others put there stays."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from fgbench.errors import UsageError
from fgbench.records import atomic

MANIFEST = "fgbench-report.sha256"  # what was written, as sha256sum --check reads it


def publish(made: Path, out: Path) -> None:
    """Move a site into its folder.

    Files of an earlier site are replaced, and removed where the new one has none of that name and
    nobody changed them. Which those are stands in a manifest, written before they are, so that an
    interrupted run leaves no file that the next one takes for somebody else's.

    Args:
        made: folder of the new site.
        out: made if missing.

    Raises:
        UsageError: a file of that name is there which no report wrote; nothing is changed then.
    """
    new = {path.relative_to(made).as_posix(): _digest(path) for path in _files(made)}
    out.mkdir(parents=True, exist_ok=True)
    old = _read(out)
    for name in (*new, MANIFEST):
        there = out / name
        if there.is_symlink() or (there.exists() and name not in {*old, MANIFEST}):
            raise UsageError(
                f"{str(there)!r} is there and no report wrote it; choose another folder"
            )
    _write(out, {**old, **new})
    for name in new:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / name, out / name)
    for name in sorted(old.keys() - new.keys()):
        _remove(out, name, old[name])
    _write(out, new)


def _files(folder: Path) -> list[Path]:
    """List every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(out: Path) -> dict[str, str]:
    """Read which files a report wrote, with their hashes; a line that is none is passed over."""
    path = out / MANIFEST
    if not path.is_file():
        return {}
    lines = re.findall(r"(?m)^([0-9a-f]{64})  (\S.*)$", path.read_text(encoding="utf-8"))
    return {name: digest for digest, name in lines}


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Write down which files are a report's."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    atomic.write_text(out / MANIFEST, "".join(lines))


def _remove(out: Path, name: str, digest: str) -> None:
    """Remove a file below the folder that is as it was written, and its folder if that is empty."""
    path = out / name
    inside = path.resolve().is_relative_to(out.resolve()) and not path.is_symlink()
    if not inside or not path.is_file() or _digest(path) != digest:
        return
    path.unlink()
    if path.parent != out and not any(path.parent.iterdir()):
        path.parent.rmdir()
