"""``fgbench new``: the files run and hold as they are written; nothing is replaced, no name is hidden."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgbench import registry
from fgbench.cli.main import run
from fgbench.cli.new import KINDS
from tests.makers.paths import ROOT

NAME = "mine_of_new"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def held(kind: str) -> str:
    return "MineOfNew" if kind in ("estimator", "locality") else NAME


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_commands_name_what_was_written(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new", kind, NAME]) == 0
    first, second, *commands = capsys.readouterr().out.splitlines()
    assert (first, second) == (f"{NAME}.py", f"test_{NAME}.py")
    assert commands[0] == f"Next: fgbench check ./{NAME}.py:{held(kind)}"
    for file in (first, second):
        text = Path(file).read_text()
        assert "$" not in text
        assert max(map(len, text.splitlines())) <= 110
        ast.parse(text)
    assert registry.kind_of(f"./{NAME}.py:{held(kind)}") == KINDS[kind]


def test_what_is_written_is_explained() -> None:
    """More than a tenth of the lines are comments, and every option says how it is typed."""
    for kind in KINDS:
        assert run(["new", kind, f"{NAME}_{kind}"]) == 0
        lines = Path(f"{NAME}_{kind}.py").read_text().splitlines()
        assert sum("# " in line or '"""' in line for line in lines) > len(lines) / 10
        assert any(f"{NAME}_{kind}.py:" in line for line in lines)


@pytest.mark.parametrize("present", [f"{NAME}.py", f"test_{NAME}.py"])
def test_a_file_that_exists_is_left_alone(present: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(present).write_text("mine")
    assert run(["new", "estimator", NAME]) == 2
    assert capsys.readouterr().err == f"fgbench: {present} exists already; nothing was written\n"
    assert [(path.name, path.read_text()) for path in Path().iterdir()] == [(present, "mine")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["estimator", "my-rule"],
            "name 'my-rule': expected small letters, digits and _, and no word",
        ),
        (["estimator", "my-rule"], "such as my_rule"),
        (["estimator", "MyRule"], "such as my_rule"),
        (["estimator", "class"], "no word of Python"),
        (["estimator", "../mine"], "such as mine"),
        (["estimator", ""], "name ''"),
        (["estimator", "fg_a"], "estimator 'fg_a' exists already: fgbench.estimators.fg_a"),
        (["data", "digits"], "data 'digits' exists already: fgbench.data.digits"),
        (["estimator", "torch"], "a file torch.py would hide the Python module torch"),
        (["estimators", NAME], "unknown kind 'estimators'; did you mean 'estimator'?"),
        (["estimator", NAME, "-o", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_a_name_that_cannot_be_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert len(err.splitlines()) == 1
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_starting_file_holds_and_its_test_passes(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, in a folder of its own, by the commands that are printed."""
    Path("mine").mkdir()
    assert run(["new", kind, NAME, "-o", "mine"]) == 0
    capsys.readouterr()
    assert run(["check", f"./mine/{NAME}.py:{held(kind)}"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "checks held" in out
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"mine/test_{NAME}.py"],
        capture_output=True,
        text=True,
        env={**alone, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_planted_fault_fails_the_test_of_a_starting_file() -> None:
    assert run(["new", "estimator", NAME]) == 0
    file = Path(f"{NAME}.py")
    text = file.read_text()
    assert text.count("view.credit(slopes, u)") == 1
    file.write_text(text.replace("view.credit(slopes, u)", "view.credit(1.02 * slopes, u)"))
    assert run(["check", f"./{NAME}.py:MineOfNew/end"]) == 1
