"""Git commands about a folder: without the variables of a hook that runs this, and without git's locks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

KEPT = ("GIT_CONFIG", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH")
"""Beginnings of variables that do not name a repository; a hook's GIT_DIR and others do."""


def environment() -> dict[str, str]:
    """Return the environment variables of this process without those by which git names a repository.

    Example:
        >>> "GIT_DIR" in environment()
        False
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(KEPT)
    }


def run(
    folder: Path, *words: str, timeout: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder.

    Args:
        folder: in a checkout.
        words: of the command.
        timeout: seconds that it may take.

    Returns:
        The process, which has ended; its messages are English.

    Raises:
        FileNotFoundError: git is not installed.

    Example:
        >>> run(Path("."), "--version").stdout.split()[0]
        b'git'
    """
    env = environment() | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, check=False, env=env, timeout=timeout)


def git(folder: Path, *words: str, timeout: float | None = 20) -> str:
    """Return what a git command prints.

    Args:
        folder: in a checkout.
        words: of the command.
        timeout: seconds that it may take.

    Returns:
        Its output without white space at the ends; "" where it fails or is not there.

    Example:
        >>> git(Path("."), "no-such-command")
        ''
    """
    try:
        done = run(folder, *words, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="replace").strip()
