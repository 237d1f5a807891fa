"""Two commits compared by asv: what is missing is one line, and exit codes are told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fgbench.errors import UsageError
from fgbench.runs.suites import two_commits
from fgbench.runs.suites.two_commits import Asked, NotRun, compare, gone

CONF = {
    "version": 1,
    "project": "mine",
    "repo": ".",
    "branches": ["main"],
    "benchmark_dir": "suites",
}
AUTHOR = ["-c", "user.name=t", "-c", "user.email=t@t"]


def git(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["git", *AUTHOR, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of two commits on main."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "asv.conf.json").write_text(json.dumps(CONF))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "commit", "-q", "--allow-empty", "-m", "two")
    return folder


@pytest.fixture
def asv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for asv: it prints the lines of a file and ends with the number on the first."""
    said = tmp_path / "said"
    said.write_text("0\nBENCHMARKS NOT SIGNIFICANTLY CHANGED.")
    program = tmp_path / "asv.py"
    program.write_text(
        "import sys; code, *lines = open(sys.argv[1]).read().splitlines(); print(*lines, sep='\\n'); "
        "sys.exit(0 if sys.argv[2] != 'continuous' else int(code))"
    )
    monkeypatch.setattr(two_commits, "command", lambda: [sys.executable, str(program), str(said)])
    monkeypatch.setattr(two_commits, "MACHINES", tmp_path / "machines.json")
    return said


def told(asked: Asked) -> tuple[int, list[str]]:
    lines: list[str] = []
    return compare(asked, lines.append), lines


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("0\nBENCHMARKS NOT SIGNIFICANTLY CHANGED.", 0),
        ("0\nPERFORMANCE INCREASED.", 0),
        ("1\nPERFORMANCE DECREASED.", 1),
        ("1\nUnknown commit x", 4),
        ("2\nfailed", 3),
    ],
)
def test_exit_codes(repository: Path, asv: Path, said: str, code: int) -> None:
    asv.write_text(said)
    assert told(Asked(repository, "HEAD~1", "HEAD"))[0] == code


def test_a_number_that_is_gone_is_an_alarm(repository: Path, asv: Path) -> None:
    row = "|          | 1.0                  | n/a                 | n/a     | estimates.Noise.x('fg_a') |"
    asv.write_text(f"0\n{row}\nBENCHMARKS NOT SIGNIFICANTLY CHANGED.")
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert code == 1
    assert any("n/a at HEAD, 1.0 at HEAD~1: estimates.Noise.x('fg_a')" in line for line in lines)


def test_a_number_that_is_new_is_none() -> None:
    assert gone(["|  | n/a  | 1.0 | n/a | a |", "|  | n/a | n/a | n/a | b |", "n/a"]) == []


def test_a_machine_without_a_profile_gets_one(repository: Path, asv: Path, tmp_path: Path) -> None:
    lines = told(Asked(repository, "HEAD~1", "HEAD"))[1]
    assert any(line.startswith("no machine profile: `asv machine --yes` wrote") for line in lines)
    name = two_commits.socket.gethostname()
    (tmp_path / "machines.json").write_text(json.dumps({name: {}, "version": 1}))
    assert not any("profile" in line for line in told(Asked(repository, "HEAD~1", "HEAD"))[1])


def test_one_commit_twice_is_no_comparison(repository: Path, asv: Path) -> None:
    code, lines = told(Asked(repository, "main", "HEAD"))
    assert code == 0
    assert "are the same commit" in lines[-1]


def test_changes_that_are_not_committed_are_said(repository: Path, asv: Path) -> None:
    (repository / "asv.conf.json").write_text(json.dumps({**CONF, "project": "other"}))
    assert told(Asked(repository, "HEAD~1", "HEAD"))[1][0].startswith(
        "1 changed file not committed"
    )


def test_a_shallow_clone_is_refused_with_what_mends_it(
    repository: Path, asv: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    with pytest.raises(NotRun, match="git fetch --unshallow"):
        compare(Asked(tmp_path / "shallow", "HEAD~1", "HEAD"), print)


def test_a_missing_main_is_said_and_no_obstacle(repository: Path, asv: Path) -> None:
    git(repository, "checkout", "-q", "-b", "work")
    git(repository, "branch", "-q", "-D", "main")
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert code == 0
    assert lines[0].startswith("no local branch main, which asv's pages show")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HEAD~7", "no commit 'HEAD~7': HEAD has 2 commits with itself"),
        ("mian", "unknown revision 'mian'; did you mean 'main'"),
        ("--all", "a name does not begin with a dash"),
    ],
)
def test_an_unknown_revision_is_one_line(
    repository: Path, asv: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        compare(Asked(repository, name, "HEAD"), print)


def test_no_repository_no_configuration_no_tier(
    repository: Path, asv: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no .*asv\.conf\.json; `fgbench suites init"):
        compare(Asked(tmp_path, "HEAD~1", "HEAD"), print)
    (tmp_path / "asv.conf.json").write_text(json.dumps(CONF))
    with pytest.raises(NotRun, match="is no git repository"):
        compare(Asked(tmp_path, "HEAD~1", "HEAD"), print)
    with pytest.raises(UsageError, match="unknown tier 'fast'"):
        compare(Asked(repository, "HEAD~1", "HEAD", tier="fast"), print)
