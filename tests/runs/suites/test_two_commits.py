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


ROW = "|          | 1.0 | 1.0 | 1.00 | estimates.Noise.x('np') |"
GONE = "|          | 1.0                  | n/a                 | n/a     | estimates.Noise.x('fg_a') |"
WORSENED = "| +        | 1.0 | 2.0 | 2.00 | estimates.Noise.x('fg_w') |"
PROGRAM = """
import json, sys
said, (command, *words) = json.load(open(sys.argv[1])), sys.argv[2:]
if command == "machine":
    sys.exit(0)
compares = command == "compare"
if compares and len(said["machines"]) > 1 and "--machine" not in words:
    sys.exit("Results available for several machines")
rows = said["rows"] + said["stored"] * compares
if not ("--no-only-changed" in words or (compares and "--only-changed" not in words)):
    rows = [row for row in rows if row[2] in "+-!"]
if compares or "CHANGED" in said["end"] or "PERFORMANCE" in said["end"]:
    print("", "All benchmarks:", "", "| Change | Before | After | Ratio | Benchmark |", sep="\\n")
    print("|---|---|---|---|---|", *rows, sep="\\n")
if not compares:
    print(said["end"])
    sys.exit(said["code"])
"""


class Asv:
    """A stand-in for asv over planted results.

    ``continuous`` compares ``rows``, and shows those that changed unless it is asked for all. ``compare``
    takes all ``stored`` rows too, and refuses results of several machines unless one is named.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self.program = folder / "said.json", folder / "asv.py"
        self.program.write_text(PROGRAM)
        self.says()

    def says(
        self,
        code: int = 0,
        end: str = "BENCHMARKS NOT SIGNIFICANTLY CHANGED.",
        rows: tuple[str, ...] = (ROW,),
        stored: tuple[str, ...] = (),
        machines: tuple[str, ...] = ("here",),
    ) -> None:
        said = {"code": code, "end": end, "rows": rows, "stored": stored, "machines": machines}
        self.file.write_text(json.dumps(said))


@pytest.fixture
def asv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asv:
    made = Asv(tmp_path)
    command = [sys.executable, str(made.program), str(made.file)]
    monkeypatch.setattr(two_commits, "command", lambda: command)
    monkeypatch.setattr(two_commits, "MACHINES", tmp_path / "machines.json")
    return made


def told(asked: Asked) -> tuple[int, list[str]]:
    lines: list[str] = []
    return compare(asked, lines.append), lines


@pytest.mark.parametrize(
    ("ends", "said", "code"),
    [
        (0, "BENCHMARKS NOT SIGNIFICANTLY CHANGED.", 0),
        (0, "PERFORMANCE INCREASED.", 0),
        (1, "PERFORMANCE DECREASED.", 1),
        (1, "Unknown commit x", 4),
        (2, "failed", 3),
    ],
)
def test_exit_codes(repository: Path, asv: Asv, ends: int, said: str, code: int) -> None:
    asv.says(ends, said)
    assert told(Asked(repository, "HEAD~1", "HEAD"))[0] == code


LOST = "n/a at HEAD, 1.0 at HEAD~1: estimates.Noise.x('fg_a')"


def test_a_number_that_is_gone_is_an_alarm(repository: Path, asv: Asv) -> None:
    asv.says(rows=(ROW, GONE))
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert code == 1
    assert LOST in lines
    assert not any(line.startswith(("|", "All benchmarks")) for line in lines)


def test_results_of_another_run_are_not_gone(repository: Path, asv: Asv) -> None:
    """The first commit was once measured in full, the second is in smoke."""
    asv.says(stored=(GONE,))
    assert told(Asked(repository, "HEAD~1", "HEAD"))[0] == 0


def test_rows_that_were_not_asked_for_are_not_gone(repository: Path, asv: Asv) -> None:
    """asv keeps the older numbers of the rows that --bench leaves out."""
    asv.says(rows=(ROW, GONE))
    assert told(Asked(repository, "HEAD~1", "HEAD", only=(r"Noise.*\('np'\)$",)))[0] == 0
    assert told(Asked(repository, "HEAD~1", "HEAD", only=("np", "Noise.*fg_a")))[0] == 1


def test_a_number_is_gone_beside_results_of_other_machines(repository: Path, asv: Asv) -> None:
    asv.says(rows=(ROW, GONE), machines=("here", "there"))
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert (code, LOST in lines) == (1, True)


def test_a_table_that_is_not_there_is_no_success(repository: Path, asv: Asv) -> None:
    asv.says(rows=())
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert code == 4
    assert any("asv printed no table" in line for line in lines)


def test_rows_that_changed_are_shown_below_their_head(repository: Path, asv: Asv) -> None:
    asv.says(1, "PERFORMANCE DECREASED.", rows=(ROW, WORSENED))
    table = [line for line in told(Asked(repository, "HEAD~1", "HEAD"))[1] if line[:1] == "|"]
    assert [line.split()[1] for line in table[::2]] == ["Change", "+"]
    assert len(table) == 3


def test_after_a_failure_the_other_rows_of_the_tier_are_shown(repository: Path, asv: Asv) -> None:
    results = repository / "results"
    results.mkdir()
    (results / "benchmarks.json").write_text(json.dumps({"estimates.Noise.x": {}}))
    full = WORSENED.replace("Noise", "NoiseOfMore")
    asv.says(2, "failed", rows=(WORSENED,), stored=(full,), machines=("here", "there"))
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert code == 3
    assert WORSENED in lines
    assert full not in lines
    assert not any("asv compare ended" in line for line in lines)


def test_a_number_that_is_new_is_none() -> None:
    assert gone(["|  | n/a  | 1.0 | n/a | a |", "|  | n/a | n/a | n/a | b |", "n/a"]) == []


def test_a_machine_without_a_profile_gets_one(repository: Path, asv: Asv, tmp_path: Path) -> None:
    lines = told(Asked(repository, "HEAD~1", "HEAD"))[1]
    assert any(line.startswith("no machine profile: `asv machine --yes` wrote") for line in lines)
    name = two_commits.socket.gethostname()
    (tmp_path / "machines.json").write_text(json.dumps({name: {}, "version": 1}))
    assert not any("profile" in line for line in told(Asked(repository, "HEAD~1", "HEAD"))[1])


def test_one_commit_twice_is_no_comparison(repository: Path, asv: Asv) -> None:
    code, lines = told(Asked(repository, "main", "HEAD"))
    assert code == 0
    assert "are the same commit" in lines[-1]


def test_changes_that_are_not_committed_are_said(repository: Path, asv: Asv) -> None:
    (repository / "asv.conf.json").write_text(json.dumps({**CONF, "project": "other"}))
    assert told(Asked(repository, "HEAD~1", "HEAD"))[1][0].startswith(
        "1 changed file not committed"
    )


def test_a_shallow_clone_is_refused_with_what_mends_it(
    repository: Path, asv: Asv, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    with pytest.raises(NotRun, match="git fetch --unshallow"):
        compare(Asked(tmp_path / "shallow", "HEAD~1", "HEAD"), print)


def test_the_repository_of_a_hook_is_not_taken_for_this_one(
    repository: Path, asv: Asv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    asv.says(rows=(ROW, GONE))
    code, lines = told(Asked(repository, "HEAD~1", "HEAD"))
    assert (code, LOST in lines) == (1, True)
    assert not any("not committed" in line for line in lines)


def test_a_missing_main_is_said_and_no_obstacle(repository: Path, asv: Asv) -> None:
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
    repository: Path, asv: Asv, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        compare(Asked(repository, name, "HEAD"), print)


def test_no_repository_no_configuration_no_tier(repository: Path, asv: Asv, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no .*asv\.conf\.json; `fgbench suites init"):
        compare(Asked(tmp_path, "HEAD~1", "HEAD"), print)
    (tmp_path / "asv.conf.json").write_text(json.dumps(CONF))
    with pytest.raises(NotRun, match="is no git repository"):
        compare(Asked(tmp_path, "HEAD~1", "HEAD"), print)
    with pytest.raises(UsageError, match="unknown tier 'fast'"):
        compare(Asked(repository, "HEAD~1", "HEAD", tier="fast"), print)
