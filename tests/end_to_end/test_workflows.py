"""The workflows for hosted CI call make targets only, and those exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.makers.asv_results import commit, git
from tests.makers.paths import ROOT

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.MULTILINE))


def workflow(name: str) -> dict[str, Any]:
    """A workflow; YAML reads its key "on" as true."""
    loaded: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return {"on" if key is True else str(key): value for key, value in loaded.items()}


def commands(job: dict[str, Any]) -> Iterator[str]:
    """The ``run`` lines of a job, one for each value of the matrix that they name."""
    matrix = job.get("strategy", {}).get("matrix", {})
    for step in job["steps"]:
        lines = step.get("run", "").splitlines()
        for line in lines:
            listed = [line]
            for name, values in matrix.items():
                spelled = "${{ matrix." + name + " }}"
                listed = [each.replace(spelled, str(v)) for each in listed for v in values]
            yield from dict.fromkeys(listed)


def wrong(command: str) -> str:
    """Why a command is no call of an existing make target, "" if it is one."""
    words = re.sub(r"\$\{\{[^}]*\}\}", "x", command).split()
    if words[:1] != ["make"]:
        return f"no make target: {command}"
    given = [word.partition("=")[0] for word in words[1:] if "=" in word]
    unknown = [w for w in words[1:] if "=" not in w and w not in TARGETS]
    unknown += [name for name in given if name not in VARIABLES]
    return f"not in the Makefile: {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_that_runs_calls_an_existing_make_target(file: Any) -> None:
    jobs = workflow(file.name)["jobs"].values()
    listed = [command for job in jobs for command in commands(job)]
    assert listed
    assert [why for command in listed if (why := wrong(command))] == []


def test_a_line_that_calls_something_else_is_seen() -> None:
    assert wrong("make test TORCH=${{ matrix.torch }}") == ""
    assert wrong("make tests") == "not in the Makefile: tests"
    assert wrong("make test TROCH=2.11.0") == "not in the Makefile: TROCH"
    assert wrong("pytest -q") == "no make target: pytest -q"


def test_tests_run_under_three_pythons_and_two_versions_of_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    matrix = workflow("tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    oldest = project["requires-python"].removeprefix(">=")
    assert len(matrix["python"]) == 3
    assert min(matrix["python"], key=lambda v: [*map(int, v.split("."))]) == oldest
    (torch,) = (text for text in project["dependencies"] if text.startswith("torch"))
    pinned = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert matrix["torch"] == [torch.removeprefix("torch>=") + ".0", pinned[1]]


def test_the_gate_waits_for_its_label_and_may_comment() -> None:
    gate = workflow("gate.yml")
    assert (
        "labeled" in gate["on"]["pull_request"]["types"]
    )  # not pull_request_target: it runs foreign code
    assert gate["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "'gate'" in gate["jobs"]["gate"]["if"]


def test_the_gate_compares_with_where_the_branch_began(tmp_path: Path) -> None:
    """The base of a pull request is the tip of its branch, which may have gone on."""
    (step,) = (s["run"] for s in workflow("gate.yml")["jobs"]["gate"]["steps"] if "run" in s)
    checkout = workflow("gate.yml")["jobs"]["gate"]["steps"][0]
    assert checkout["with"]["fetch-depth"] == 0

    git(tmp_path, "init", "--quiet", "-b", "main")
    began = commit(tmp_path, "Begin")
    git(tmp_path, "checkout", "--quiet", "-b", "work")
    commit(tmp_path, "Work")
    git(tmp_path, "checkout", "--quiet", "main")
    tip = commit(tmp_path, "Go on")
    git(tmp_path, "checkout", "--quiet", "work")
    gate = tmp_path / "bin" / "fgbench"
    gate.parent.mkdir()
    gate.write_text('#!/bin/sh\necho "$@"\n')
    gate.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt", "stamp"):
        (tmp_path / name).touch()
    words = re.sub(r"\$\{\{[^}]*\}\}", tip, step).split()
    command = [words[0], "-f", str(ROOT / "Makefile"), *words[1:], "BIN=bin", "STAMP=stamp"]

    def called(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)

    assert called().returncode == 0
    assert (tmp_path / "gate.md").read_text() == f"gate {began} HEAD --markdown\n"
    assert called("BASE=", "FROM=HEAD~1").returncode == 0
    assert (tmp_path / "gate.md").read_text() == "gate HEAD~1 HEAD --markdown\n"
    (tmp_path / "gate.md").unlink()
    assert called("BASE=nowhere").returncode != 0  # nothing is compared with something else
    assert not (tmp_path / "gate.md").exists()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_jobs_end_and_may_only_read(file: Any) -> None:
    found = workflow(file.name)
    assert found["permissions"]["contents"] == "read"
    assert all(job["timeout-minutes"] <= 180 for job in found["jobs"].values())
