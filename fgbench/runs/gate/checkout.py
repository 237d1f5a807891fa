"""The two trees: revisions of a git repository, written out beside it, and the working tree as it lies."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fgbench.errors import UsageError, one_line, unknown
from fgbench.records.git import run
from fgbench.runs.gate.side import Side, running

HERE = (".", "WORKTREE")
"""Names of the working tree as it lies."""
WRITTEN = ("fgbench", "pyproject.toml", "constraints.txt")
"""What is written out of a revision."""
KEPT = 6
"""Trees that are kept for the next call."""
FOLDER = "fgbench-gate"


class CannotRun(Exception):
    """The gate could not run at all; the message is one line.

    Example:
        >>> str(CannotRun("git is not installed"))
        'git is not installed'
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Repository:
    """A git repository with the package in its top folder.

    Args:
        root: top folder of the working tree.
        folder: where trees, answers and acceptances are kept, below the git directory that all working trees
            of the repository share.

    Example:
        >>> Repository(Path("/tmp/r"), Path("/tmp/r/.git/fgbench-gate")).trees.name
        'trees'
    """

    root: Path
    folder: Path

    @classmethod
    def of(cls, path: Path) -> Repository:
        """Return the repository that a folder lies in.

        Args:
            path: any folder in its working tree.

        Returns:
            The repository.

        Raises:
            CannotRun: there is no git, or no repository.
        """
        if not path.is_dir():
            raise CannotRun(f"{path} is no folder")
        try:
            found = git(path, "rev-parse", "--show-toplevel", "--git-common-dir")
        except GitFailed as failed:
            raise CannotRun(
                f"{path} is in no git repository ({failed}); run it in a clone"
            ) from None
        top, common = found.splitlines()
        return cls(Path(top), (path / common).resolve() / FOLDER)

    @property
    def trees(self) -> Path:
        """Folder of the trees that are written out."""
        return self.folder / "trees"

    @property
    def answers(self) -> Path:
        """Folder of the answers of exact probes."""
        return self.folder / "answers"

    @property
    def accepted(self) -> Path:
        """Folder of the changes that were accepted."""
        return self.folder / "accepted"

    def side(self, name: str, python: Path) -> Side:
        """Return the tree of a revision, written out if it is not there.

        Args:
            name: a revision such as ``main``, ``HEAD~1`` or a hash; ``.`` or ``WORKTREE`` for the working
                tree as it lies.
            python: interpreter that runs probes in it.

        Returns:
            The side.

        Raises:
            UsageError: there is no such revision.
            CannotRun: it has no package fgbench, or cannot be written out.
        """
        if name in HERE:
            if not (self.root / "fgbench" / "__init__.py").is_file():
                raise CannotRun(f"{self.root} has no package fgbench")
            return Side(name, "", self.root, python)
        commit = self.commit(name)
        try:
            return Side(name, commit, self._written(name, commit), python)
        except OSError as error:
            where = error.filename or self.trees
            raise CannotRun(f"cannot write {where}: {error.strerror or error}") from None
        except GitFailed as failed:
            raise CannotRun(f"{name} ({commit[:10]}) cannot be read: {failed}") from None

    def commit(self, name: str) -> str:
        """Return the full hash of a revision.

        Args:
            name: of a branch, tag or commit, or relative to one.

        Returns:
            The hash.

        Raises:
            UsageError: there is none, with the nearest name, or how a shallow clone gets it.
        """
        if name and not name.startswith("-"):
            with suppress(GitFailed):
                return git(self.root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if git(self.root, "rev-parse", "--is-shallow-repository") == "true":
            raise UsageError(
                f"revision {name!r} is not in this clone, which is shallow; 'git fetch --unshallow' brings "
                "all commits, 'git fetch --deepen 20' the last ones"
            )
        names = git(self.root, "for-each-ref", "--format=%(refname:short)").splitlines()
        raise unknown("revision", name, ["HEAD", *HERE, *names])

    def changes(self) -> list[str]:
        """Return the files of the package that differ from HEAD, new ones included."""
        with suppress(GitFailed):
            lines = git(self.root, "status", "--porcelain", "--", "fgbench").splitlines()
            return [line.strip().partition(" ")[2].strip() for line in lines]
        return []

    def tidy(self) -> None:
        """Remove trees that killed calls left half written, and all but the latest whole ones."""
        if not self.trees.is_dir():
            return
        whole = []
        for tree in self.trees.iterdir():
            _, part, pid = tree.name.partition(".part-")
            if part and not (pid.isdigit() and running(int(pid))):
                shutil.rmtree(tree, ignore_errors=True)
            elif not part:
                with suppress(OSError):
                    whole.append((tree.stat().st_mtime, tree))
        for _, tree in sorted(whole, reverse=True)[KEPT:]:
            shutil.rmtree(tree, ignore_errors=True)

    def _written(self, name: str, commit: str) -> Path:
        """Return the folder of a commit, written out whole or not at all."""
        tree = self.trees / commit[:16]
        if tree.is_dir():
            os.utime(tree)
            return tree
        there = git(self.root, "ls-tree", "--name-only", commit).splitlines()
        if "fgbench" not in there:
            raise CannotRun(
                f"{name} ({commit[:10]}) has no package fgbench; estimators of your own are tracked by "
                "'fgbench suites init'"
            )
        packed = _git(
            self.root, "archive", "--format=tar", commit, *(w for w in WRITTEN if w in there)
        )
        self.trees.mkdir(parents=True, exist_ok=True)
        part = self.trees / f"{commit[:16]}.part-{os.getpid()}"
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(part, filter="data")
            with suppress(OSError):  # another call was faster
                part.rename(tree)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return tree


class GitFailed(Exception):
    """A git command failed; the message is its own, in one line."""


def git(folder: Path, *words: str) -> str:
    """Return what a git command prints.

    Args:
        folder: where it runs.
        words: command and arguments.

    Returns:
        Its output without white space at the ends.

    Raises:
        GitFailed: it failed.
        CannotRun: git is not installed.

    Example:
        >>> git(Path("."), "--version").split()[0]
        'git'
    """
    return _git(folder, *words).decode(errors="surrogateescape").strip()


def _git(folder: Path, *words: str) -> bytes:
    """Run git; return its output."""
    try:
        done = run(folder, *words)
    except FileNotFoundError:
        raise CannotRun("git is not installed, and the gate takes both trees from it") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitFailed(one_line(lines[-1] if lines else f"git {words[0]} failed"))
    return done.stdout
