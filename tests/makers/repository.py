"""Small git repositories with a package fgbench."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
}


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it prints."""
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | IDENTITY,
    )
    return done.stdout.strip()


def repository(folder: Path, *versions: Mapping[str, str], branch: str = "main") -> Path:
    """Return a repository with a commit for each version; files are named below fgbench/."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch", branch)
    for number, version in enumerate(versions or ({},)):
        commit(folder, version, f"version {number}")
    return folder


def commit(folder: Path, files: Mapping[str, str], subject: str = "change") -> str:
    """Commit files below fgbench/; return the hash."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "fgbench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", subject)
    return git(folder, "rev-parse", "HEAD")
