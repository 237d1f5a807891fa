"""Git is asked about the folder that is given, also inside a hook of another repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgbench.records.git import environment, git
from tests.makers.repository import repository


def test_a_hook_of_another_repository_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = repository(tmp_path / "one")
    head = git(made, "rev-parse", "HEAD")
    for name in ("GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert len(head) == 40
    assert git(made, "rev-parse", "HEAD") == head
    assert git(made, "status", "--porcelain") == ""


def test_settings_of_git_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container lets git read a folder of another user by these."""
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert settings.items() <= environment().items()


def test_what_git_cannot_do_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git(tmp_path / "nowhere", "status") == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path, "--version") == ""
