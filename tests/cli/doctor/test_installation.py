"""Libraries, extras, git, asv: what is planted broken is found, with the command that mends it."""

from __future__ import annotations

import json
import platform
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fgbench.cli.doctor import installation
from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, WARN
from tests.makers.paths import ROOT

ASV = ".asv-machine.json"


def test_a_library_that_is_missing_or_too_old_fails() -> None:
    found = installation.libraries(
        [Requirement(text) for text in ("no-such-thing", "numpy>=99", "rich")]
    )
    assert found.state == FAIL
    assert "no-such-thing is not installed; numpy is" in found.finding
    assert found.mend.endswith("-m pip install no-such-thing 'numpy>=99'")
    assert installation.libraries([Requirement("numpy")]).state == OK


def test_an_extra_that_is_missing_is_no_failure() -> None:
    found = installation.extra_of("tune", "compare needs it", [Requirement("no-such-thing")])
    assert (found.what, found.state) == ("extra tune", ABSENT)
    assert found.mend.endswith("pip install no-such-thing")


def test_every_extra_of_users_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(installation.EXTRAS) <= set(project["optional-dependencies"])
    needed = installation._required()
    assert {"torch", "pydantic"} <= {each.name for each in needed[""]}


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        (None, WARN, "would stop and ask"),
        ("{", WARN, "cannot be read"),
        ("[]", WARN, "does not know this machine"),
        ('{"another": {}}', WARN, "does not know this machine"),
        (json.dumps({platform.node(): {}, "version": 1}), OK, platform.node()),
    ],
)
def test_the_machine_file_of_asv(
    content: str | None, state: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(installation.metadata, "version", lambda name: "0.6.6")
    if content is not None:
        (tmp_path / ASV).write_text(content)
    found = installation.asv()
    assert found.state == state
    assert words in found.finding
    assert ("asv machine --yes" in found.mend) == (state == WARN)


def test_without_git_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = installation.git()
    assert (found.state, found.mend) == (WARN, "apt-get install git")


def test_without_a_browser_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installation.browser().state == ABSENT
