"""Revisions of any kind of clone are written out whole or not at all, and leave the repository alone."""

from __future__ import annotations

import errno
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.runs.gate.checkout import KEPT, CannotRun, Repository
from tests.makers.repository import commit, git, repository

PYTHON = Path("python")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    versions = [{"m.py": f"x = {k}\n"} for k in range(4)]
    return repository(tmp_path_factory.mktemp("origin") / "r", *versions, branch="trunk/of-work")


def content(where: Repository, name: str) -> str:
    return (where.side(name, PYTHON).tree / "fgbench" / "m.py").read_text()


def test_revisions_by_branch_hash_and_ancestor(origin: Path) -> None:
    where = Repository.of(origin)
    for name in ("HEAD", "trunk/of-work", git(origin, "rev-parse", "HEAD")[:9]):
        assert content(where, name) == "x = 3\n"
    assert content(where, "HEAD~2") == "x = 1\n"
    assert git(origin, "status", "--porcelain") == ""
    assert git(origin, "worktree", "list").count("\n") == 0


def test_a_detached_head_and_a_folder_below(origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(origin), "c")
    git(tmp_path / "c", "checkout", "--quiet", "HEAD~1")
    where = Repository.of(tmp_path / "c" / "fgbench")
    assert content(where, "HEAD") == "x = 2\n"
    assert where.side("HEAD", PYTHON).commit == git(tmp_path / "c", "rev-parse", "HEAD")


def test_a_linked_worktree_shares_the_folder(origin: Path, tmp_path: Path) -> None:
    git(origin, "worktree", "add", "--quiet", "--detach", str(tmp_path / "w"))
    try:
        assert Repository.of(tmp_path / "w").folder == Repository.of(origin).folder
    finally:
        git(origin, "worktree", "remove", str(tmp_path / "w"))


def test_a_shallow_clone_says_what_to_fetch(origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{origin}", "c")
    where = Repository.of(tmp_path / "c")
    assert content(where, "HEAD") == "x = 3\n"
    with pytest.raises(UsageError, match=r"'HEAD~1' is not in this clone.*git fetch --unshallow"):
        where.side("HEAD~1", PYTHON)


@pytest.mark.parametrize("name", ["trunk/of-wark", "", "-x", "HEAD~99", "a b"])
def test_an_unknown_revision_is_named(origin: Path, name: str) -> None:
    with pytest.raises(UsageError, match="unknown revision"):
        Repository.of(origin).side(name, PYTHON)


def test_the_nearest_revision_is_suggested(origin: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'trunk/of-work'"):
        Repository.of(origin).side("trunk/of-wark", PYTHON)


def test_the_working_tree_as_it_lies(origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(origin), "c")
    where = Repository.of(tmp_path / "c")
    assert where.changes() == []
    (tmp_path / "c" / "fgbench" / "m.py").write_text("x = 9\n")
    (tmp_path / "c" / "fgbench" / "n.py").write_text("")
    assert content(where, ".") == content(where, "WORKTREE") == "x = 9\n"
    assert content(where, "HEAD") == "x = 3\n"
    assert where.changes() == ["fgbench/m.py", "fgbench/n.py"]
    assert where.side(".", PYTHON).commit == ""


def test_what_killed_calls_left_is_removed(tmp_path: Path) -> None:
    where = Repository.of(repository(tmp_path / "r", *({"m.py": str(k)} for k in range(KEPT + 3))))
    dead, alive = where.trees / "a.part-999999999", where.trees / f"b.part-{os.getpid()}"
    for part in (dead, alive):
        (part / "fgbench").mkdir(parents=True)
    trees = []
    for k in range(KEPT + 2):
        tree = where.side(f"HEAD~{k}", PYTHON).tree
        os.utime(tree, (k, k))
        trees.append(tree)
    where.tidy()
    assert not dead.exists()
    assert alive.exists()
    assert [tree.exists() for tree in trees] == [False] * 2 + [True] * KEPT


def test_a_full_disk_leaves_nothing(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Repository.of(origin)
    known = git(origin, "rev-parse", "HEAD~3")

    def full(self: Any, path: Path, **options: Any) -> None:
        (path / "fgbench").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(CannotRun, match=r"cannot write .*: No space left on device"):
        where.side("HEAD~3", PYTHON)
    assert not [tree for tree in where.trees.iterdir() if tree.name.startswith(known[:16])]


def test_no_repository_no_package_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotRun, match="is in no git repository"):
        Repository.of(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(
        other,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        "none",
    )
    for name in ("HEAD", "."):
        with pytest.raises(CannotRun, match="has no package fgbench"):
            Repository.of(other).side(name, PYTHON)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="git is not installed"):
        Repository.of(other)


def test_a_new_commit_is_another_tree(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", {"m.py": "x = 1\n"})
    where = Repository.of(folder)
    first = where.side("main", PYTHON)
    commit(folder, {"m.py": "x = 2\n"})
    assert content(where, "main") == "x = 2\n"
    assert first.tree.is_dir()
