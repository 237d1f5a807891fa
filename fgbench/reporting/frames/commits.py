"""The line of commits of a repository: first parents only, so that no side branch is strung into it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgbench.records import files
from fgbench.records.git import git

BRANCHES = ("HEAD", "main", "master", "origin/HEAD", "origin/main", "origin/master")
"""Whose first parents may be the line, the first of equals."""


@dataclass(frozen=True)
class Line:
    """Commits in their order, the oldest first.

    Args:
        commits: full hash to the first line of its message, in the order of the line.
        branch: whose first parents they are; "" where only their dates are known.

    Example:
        >>> Line({"c0de": "One", "beef": "Two", "f00d": "Three"}, "main").between("c0de", "f00d")
        ['beef', 'f00d']
    """

    commits: Mapping[str, str]
    branch: str = ""

    def between(self, before: str, after: str) -> list[str]:
        """Return the commits after one and up to another, which made what changed between the two."""
        hashes = list(self.commits)
        return hashes[hashes.index(before) + 1 : hashes.index(after) + 1]


def line(folder: Path, measured: Collection[str], dates: Sequence[str]) -> Line:
    """Return the line on which measured commits lie.

    Args:
        folder: in the repository, such as that of asv's results.
        measured: full hashes of the measured commits.
        dates: the same hashes, the earliest first.

    Returns:
        First parents of the checked out commit, or of main where more measured commits lie on these. Where
        fewer than two are on any, as without a repository, the measured commits by date.

    Example:
        >>> line(Path("nowhere"), ["c0de", "beef"], ["beef", "c0de"]).commits
        {'beef': '', 'c0de': ''}
    """
    lines = [_first_parents(folder, branch) for branch in BRANCHES]
    counts = [sum(commit in found for commit in measured) for found in lines]
    most = max(counts)
    if most < min(2, len(measured)) or not measured:
        return Line(dict.fromkeys(dates, ""))
    at = counts.index(most)
    return Line(lines[at], _name(folder, BRANCHES[at]))


def _first_parents(folder: Path, branch: str) -> dict[str, str]:
    """Return the first parents of a branch with the first lines of their messages, the oldest first."""
    if not folder.is_dir():
        return {}
    text = git(folder, "rev-list", "--first-parent", "--reverse", "--format=%H %s", branch, "--")
    lines = [one for one in text.splitlines() if not one.startswith("commit ")]
    parts = (one.partition(" ") for one in lines)
    return {commit: subject for commit, _, subject in parts}


def _name(folder: Path, branch: str) -> str:
    """Return the name of the branch that is checked out; a detached head stays HEAD."""
    return git(folder, "rev-parse", "--abbrev-ref", branch) or branch


@dataclass(frozen=True)
class Accepted:
    """A change that somebody accepted with ``fgbench gate --accept``.

    Args:
        commit: full hash of the side that was judged, "" where it was no commit.
        when: date and time.
        reason: as typed.
        what: what the gate had found.

    Example:
        >>> Accepted("c0de", "2026-11-30", "a reseed", ()).reason
        'a reseed'
    """

    commit: str
    when: str
    reason: str
    what: tuple[str, ...]


def accepted(folder: Path) -> tuple[list[Accepted], dict[str, str]]:
    """Read what ``fgbench gate`` accepted in the repository of a folder.

    Args:
        folder: in the repository.

    Returns:
        The accepted changes, the latest first, and for each file that could not be read the reason.

    Example:
        >>> accepted(Path("nowhere"))
        ([], {})
    """
    common = git(folder, "rev-parse", "--git-common-dir") if folder.is_dir() else ""
    found, damaged = [], {}
    for file in sorted(
        (folder / common / "fgbench-gate" / "accepted").glob("*.json") if common else ()
    ):
        try:
            found.append(_accepted(json.loads(files.read_text(file))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            damaged[file.name] = f"{type(error).__name__}: {error}"
    return sorted(found, key=lambda one: one.when, reverse=True), damaged


def _accepted(stated: Mapping[str, Any]) -> Accepted:
    """Return an accepted change from the content of its file."""
    what = tuple(f"{one['where']}: {one['what']}" for one in stated.get("findings", ()))
    side = stated["b"]
    return Accepted(str(side.get("commit") or ""), str(stated["when"]), str(stated["reason"]), what)
