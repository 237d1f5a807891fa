"""Compare two commits by asv: what it needs is looked at first, and its exit codes are told apart.

asv ends with 1 both for a number that is worse and for a commit that it does not know, compares nothing once
one benchmark failed, and says nothing about changes that are not committed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, unknown
from fgbench.records.git import environment, git
from fgbench.runs.suites.folder import configuration
from fgbench.runs.suites.tracked import ONE_THREAD, TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAME, WORSE, FAILED, NOT_RUN = 0, 1, 3, 4
"""Exit codes: nothing worse, something worse, a benchmark failed, could not run."""
MACHINES = Path("~/.asv-machine.json")
DECREASED = "PERFORMANCE DECREASED"
CHANGED = ("+", "-", "!")
"""Marks of rows that asv calls changed."""
COMPARED = ("NOT SIGNIFICANTLY CHANGED", "PERFORMANCE INCREASED", DECREASED)


class NotRun(Exception):
    """Raised where two commits cannot be compared here; the message is one line that says what mends it.

    Example:
        >>> str(NotRun("asv is not installed"))
        'asv is not installed'
    """


@dataclass(frozen=True)
class Asked:
    """Which commits are compared, and by which benchmarks.

    Args:
        folder: of the repository, with a configuration of asv.
        base: the commit to compare with, any revision.
        head: the commit that is judged.
        tier: ``smoke``, ``full`` or ``gpu``.
        only: regular expressions of benchmarks; empty for all of the tier.

    Example:
        >>> Asked(Path("."), "HEAD~1", "HEAD").tier
        'smoke'
    """

    folder: Path
    base: str
    head: str
    tier: str = "smoke"
    only: Sequence[str] = ()


def compare(asked: Asked, tell: Callable[[str], None]) -> int:
    """Run ``asv continuous`` over two commits.

    Args:
        asked: the commits and benchmarks.
        tell: called with each line.

    Returns:
        The exit code: 0 nothing is worse, 1 something is, 3 a benchmark failed, 4 asv could not run.

    Raises:
        UsageError: for an unknown tier or revision, or a folder without suites.
        NotRun: if something is missing, with what mends it.

    Example:
        >>> callable(compare)
        True
    """
    if asked.tier not in TIERS:
        raise unknown("tier", asked.tier, TIERS)
    branches = [str(name) for name in configuration(asked.folder).get("branches", [])]
    asv = command()
    require_history(asked.folder)
    base, head = (commit(asked.folder, name) for name in (asked.base, asked.head))
    for line in notes(asked.folder, branches):
        tell(line)
    if base == head:
        tell(f"{asked.base} and {asked.head} are the same commit, {head[:10]}: nothing to compare")
        return SAME
    make_profile(asked.folder, asv, tell)
    begun, used = perf_counter(), _children()
    code = _run(asked, asv, base, head, tell)
    tell(f"took {perf_counter() - begun:.0f} s, {_children() - used:.0f} s of CPU")
    return code


def command() -> list[str]:
    """Return the command that runs the asv of this environment.

    Raises:
        NotRun: if it is not installed.

    Example:
        >>> command()[-1]
        'asv'
    """
    from importlib.util import find_spec

    for module, package in (("asv", "asv"), ("virtualenv", "virtualenv")):
        if find_spec(module) is None:
            raise NotRun(f"{package} is not installed here: pip install 'fgbench[bench]'")
    return [sys.executable, "-m", "asv"]


def require_history(folder: Path) -> None:
    """Require a git repository with its history: asv makes a clone, and a shallow one cannot be cloned whole.

    Args:
        folder: of the repository.

    Raises:
        NotRun: if it is none, or shallow, or git is not installed.

    Example:
        >>> callable(require_history)
        True
    """
    if shutil.which("git") is None:
        raise NotRun("git is not installed")
    if not git(folder, "rev-parse", "--git-dir"):
        raise NotRun(
            f"{folder.resolve()} is no git repository: git init, and commit what is measured"
        )
    if git(folder, "rev-parse", "--is-shallow-repository") == "true":
        raise NotRun("this clone is shallow, and asv needs the history: git fetch --unshallow")


def commit(folder: Path, name: str) -> str:
    """Return the full hash of a revision.

    Args:
        folder: of the repository.
        name: of the revision.

    Returns:
        Its commit.

    Raises:
        UsageError: if there is none, with the nearest branch or tag.

    Example:
        >>> callable(commit)
        True
    """
    if name.startswith("-"):
        raise UsageError(f"revision {name!r}: a name does not begin with a dash")
    found = git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found:
        return found
    known = git(folder, "for-each-ref", "--format=%(refname:short)").split()
    if f"origin/{name}" in known:
        raise UsageError(f"no local branch {name!r}: git branch {name} origin/{name}")
    head = git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        raise UsageError("this repository has no commit yet")
    if "~" in name or "^" in name:
        count = git(folder, "rev-list", "--count", "--first-parent", "HEAD")
        raise UsageError(f"no commit {name!r}: HEAD has {count} commits with itself")
    raise unknown("revision", name, ["HEAD", *known])


def notes(folder: Path, branches: Sequence[str]) -> list[str]:
    """Return what a user should know about the repository before commits are compared.

    Args:
        folder: of the repository.
        branches: those of the configuration, which pages show.

    Returns:
        A line for changes that are no commit, and for each branch that is missing.

    Example:
        >>> callable(notes)
        True
    """
    found = []
    changed = git(
        folder, "status", "--porcelain", "--untracked-files=no", timeout=None
    ).splitlines()
    if changed:
        files = f"{len(changed)} changed file{'s' * (len(changed) > 1)}"
        found.append(
            f"{files} not committed: asv measures the commits, by the suites as they lie here"
        )
    known = git(folder, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    for name in branches:
        if name not in known:
            bring = f": git branch {name} origin/{name} brings it" * bool(
                git(folder, "rev-parse", "--verify", "--quiet", f"origin/{name}")
            )
            found.append(
                f"no local branch {name}, which asv's pages show{bring}; commits are compared anyway"
            )
    return found


def make_profile(folder: Path, asv: Sequence[str], tell: Callable[[str], None]) -> None:
    """Write the profile of this machine if there is none, because asv would ask for it.

    Args:
        folder: of the repository.
        asv: as of :func:`command`.
        tell: called with a line if one is written.

    Raises:
        NotRun: if it cannot be written.

    Example:
        >>> callable(make_profile)
        True
    """
    path = MACHINES.expanduser()
    machines = _json(path)
    if {socket.gethostname(), os.uname().nodename if hasattr(os, "uname") else ""} & set(machines):
        return
    ended = subprocess.run(
        [*asv, "machine", "--yes"], cwd=folder, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        last = (ended.stderr or ended.stdout).strip().rpartition("\n")[2]
        raise NotRun(f"asv machine --yes failed: {last}")
    tell(f"no machine profile: `asv machine --yes` wrote {path}")


def _run(
    asked: Asked, asv: Sequence[str], base: str, head: str, tell: Callable[[str], None]
) -> int:
    """Run asv continuous, print its lines, and return the exit code."""
    # Suites load no torch before they fork, so that a fork is safe, and spares hundreds of imports.
    launch = (
        ["--launch-method", "forkserver"] if hasattr(os, "fork") and asked.tier != "gpu" else []
    )
    only = [part for each in asked.only for part in ("--bench", each)]
    # The table of this run has its benchmarks, machine and environment alone; asv compare reads all results.
    whole = ["--show-stderr", "--no-only-changed"]
    arguments = [*asv, "continuous", base, head, *whole, *launch, *only]
    code, lines = _streamed(arguments, asked, changed_alone(tell))
    if any(words in line for line in lines for words in COMPARED):
        if not any(map(cells, lines)):
            tell("asv printed no table, so numbers that are gone would not be seen")
            return NOT_RUN
        lost = [(name, before) for name, before in gone(lines) if _selected(name, asked.only)]
        for name, before in lost:
            tell(f"n/a at {asked.head}, {before} at {asked.base}: {name}")
        return WORSE if code or lost else SAME
    if code == 2:
        tell("a benchmark failed; the others:")
        _compare_stored(asked, asv, base, head, tell)
        return FAILED
    return NOT_RUN


def _compare_stored(
    asked: Asked, asv: Sequence[str], base: str, head: str, tell: Callable[[str], None]
) -> None:
    """Print what changed by the stored results of this machine, of the benchmarks of this tier."""
    results = asked.folder / str(configuration(asked.folder).get("results_dir", "results"))
    known = _json(results / "benchmarks.json")

    def mine(line: str) -> None:
        """Print a line unless it is a row of a benchmark that was not run."""
        row = cells(line)
        name = row[4] if row else ""
        if not name or (_selected(name, asked.only) and name.partition("(")[0] in known):
            tell(line)

    arguments = [*asv, "compare", "--machine", machine(), base, head]
    code, lines = _streamed(arguments, asked, changed_alone(mine))
    if code:
        tell(f"asv compare ended with code {code}{f': {lines[-1]}' if lines else ''}")


def machine() -> str:
    """Return the name under which asv keeps the results of this machine.

    Example:
        >>> bool(machine())
        True
    """
    host = platform.node()
    profile = _json(MACHINES.expanduser()).get(host)
    return str(profile.get("machine", host)) if isinstance(profile, dict) else host


def changed_alone(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that prints lines of asv without the rows of a table that have not changed.

    Args:
        tell: called with each line that is left. The head of a table comes with its first row.

    Returns:
        The function.

    Example:
        >>> pass_on = changed_alone(print)
        >>> for mark in ("Change", "---", " ", "+"):
        ...     pass_on(f"| {mark} | 1.0 | 2.0 | 2.0 | a.B.c |")
        | Change | 1.0 | 2.0 | 2.0 | a.B.c |
        | --- | 1.0 | 2.0 | 2.0 | a.B.c |
        | + | 1.0 | 2.0 | 2.0 | a.B.c |
    """
    head: list[str] = []

    def pass_on(line: str) -> None:
        """Print a line that counts."""
        row = _parts(line)
        if not row:
            if line != "All benchmarks:":
                tell(line)
        elif row[0] == "Change" or row[0].startswith("--"):
            head.append(line)
        elif row[0] in CHANGED:
            for each in (*head, line):
                tell(each)
            head.clear()

    return pass_on


def _selected(name: str, only: Sequence[str]) -> bool:
    """Return whether a benchmark with its parameters was asked for, by asv's rule."""
    bare = re.sub(r" \[[^\]]*\]$", "", name)  # without machine and environment
    return not only or any(re.search(each, bare) for each in only)


def _parts(line: str) -> list[str]:
    """Return the five cells of a line of a table, [] of another line."""
    if not line.startswith("|"):
        return []
    row = [part.strip() for part in line.strip().strip("|").split("|")]
    return row if len(row) == 5 else []


def cells(line: str) -> list[str]:
    """Return the mark, both numbers, the ratio and the name in a row of asv's table.

    Args:
        line: that asv prints.

    Returns:
        The five; none of a line that is no row.

    Example:
        >>> cells("| + | 1.0 | 2.0 | 2.0 | a.B.c |"), cells("|---|---|---|---|---|")
        (['+', '1.0', '2.0', '2.0', 'a.B.c'], [])
    """
    row = _parts(line)
    return [] if not row or row[0] == "Change" or row[0].startswith("--") else row


def gone(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return the benchmarks with a number in the first commit and none in the second, which asv passes over.

    Args:
        lines: with the table of all benchmarks.

    Returns:
        Name and number.

    Example:
        >>> gone(["|   | 1.5 | n/a | n/a | a.B.c |", "|   | n/a | 1.5 | n/a | a.B.d |"])
        [('a.B.c', '1.5')]
    """
    rows = [row for row in map(cells, lines) if row]
    return [
        (name, before)
        for _, before, after, _, name in rows
        if after == "n/a" and before not in ("n/a", "failed")
    ]


def _streamed(
    arguments: Sequence[str], asked: Asked, tell: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a command in the repository, and return its exit code and lines."""
    env = {**environment(), **ONE_THREAD, "FGBENCH_TIER": asked.tier, "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(
        arguments,
        cwd=asked.folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            tell(lines[-1])
    return process.returncode, lines


def _json(path: Path) -> dict[str, Any]:
    """Return the entries of a JSON file, none where it cannot be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _children() -> float:
    """Return the CPU seconds of processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
