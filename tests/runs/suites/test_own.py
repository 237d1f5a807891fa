"""The estimators of somebody's own repository, found without importing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fgbench.errors import Notice
from fgbench.runs.suites import own

PROJECT = """
[build-system]
requires = ["setuptools"]
[project]
name = "mine"
[project.entry-points."fgbench.estimators"]
theirs = "package.rule:Theirs"
"""


def test_entry_points_and_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for place in ("package", "tests", ".venv", "suites"):
        (tmp_path / place).mkdir()
    (tmp_path / "package" / "rule.py").write_text("class Theirs(fgbench.Defaults): ...")
    (tmp_path / "mine.py").write_text(
        "class Mine(Defaults): ...\nclass More(Mine): ...\nclass _Part(Defaults): ...\n"
        "class Duck:\n    def claims(self, scheme): ...\n    def __call__(self): ...\nclass Other: ...\n"
    )
    for name in ("tests/x.py", ".venv/x.py", "suites/x.py", "test_x.py"):
        (tmp_path / name).write_text("class Hidden(Defaults): ...")
    found = ["theirs/end", "./mine.py:Mine/end", "./mine.py:More/end", "./mine.py:Duck/end"]
    assert own.methods(tmp_path) == found
    assert own.packaged(tmp_path)


def test_a_project_file_that_is_none_has_no_entry_points(tmp_path: Path) -> None:
    for text in ("[project", "project = 3", '[project]\nentry-points = "x"'):
        (tmp_path / "pyproject.toml").write_text(text)
        assert own.entry_points(tmp_path) == {}


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine(Defaults): ...")
    (tmp_path / "broken.py").write_text("class Broken(Defaults:\n")
    (tmp_path / "latin.py").write_bytes("x = 'é'".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.warns(Notice, match="is passed over") as told:
        assert own.methods(tmp_path) == ["./mine.py:Mine/end"]
    assert sorted(str(w.message).split(" is ")[0] for w in told) == [
        str(tmp_path / name) for name in ("broken.py", "latin.py")
    ]
