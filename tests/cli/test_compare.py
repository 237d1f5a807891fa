"""The commands compare and leaderboard: plans, pages, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgbench.cli.main import run
from fgbench.records.store import Store
from tests.makers.compared import a_compare, against

NET = [
    "--arch",
    "mlp-1x4",
    "--data",
    "synthetic[train=64,test=32]",
    "--device",
    "cpu",
    "--jobs",
    "1",
]


def test_a_plan_says_what_is_run_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["compare", "FG-A", *NET, "--plan", "--forwards", "6", "--set", "batch=16"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "Tuning: 2 methods x 12 rates" in out
    assert "at least 6 seeds are needed" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "FG-A", *NET, "--plan"], "give a smaller batch"),
        (["compare", "BP", *NET], "nothing to compare BP with"),
        (["compare", "FG-A", *NET, "--set", "lr=0.1"], "compare chooses lr itself"),
        (["compare", "FG-A", *NET, "--set", "rate=0.1"], "unknown recipe value 'rate'"),
        (["train", "FG-A", *NET[:-2], "--margin", "0.1"], "--margin belongs to --against"),
        (["leaderboard", "--records", "nowhere"], "no such folder"),
        (["leaderboard", "verify", "0", "--records", "nowhere"], "no record of compare"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("fgbench: ")]
    assert says in line


def test_the_leaderboard_is_written_from_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for record in (a_compare("BP", 0.03, against(own=True)), a_compare("FG-A", 0.13, against())):
        Store(tmp_path / "kept").write(record)
    assert run(["leaderboard", "--records", "kept", "-o", "board.md"]) == 0
    assert capsys.readouterr().out.strip() == "board.md"
    assert "## mlp-2x128 on digits" in (tmp_path / "board.md").read_text("utf-8")
    assert run(["leaderboard", "verify", "zz", "--records", "kept"]) == 2
    assert "unknown row 'zz'" in capsys.readouterr().err
