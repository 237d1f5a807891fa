"""The journal of a tuning: optuna's studies, written by several processes and read after a kill."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from fgbench.errors import Notice

pytest.importorskip("optuna", reason="the extra tune is not installed")

from fgbench.runs.compare.journal import FILE, Journal


def test_trials_are_asked_once_and_told_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.ask("BP", [0.01, 0.1, 1.0], 1e-6, 100.0)
    again = Journal(tmp_path)  # after a kill: the trials are there, without results
    again.ask("BP", [0.01, 0.1, 1.0, 0.3], 1e-6, 100.0)
    again.tell("BP", {0.01: 0.5, 0.1: 0.2, 1.0: inf})
    again.tell("BP", {0.01: 0.9, 0.3: 0.3})  # the first stays
    study = Journal(tmp_path)._study("BP")
    rows = [(t.params["lr"], t.state.name, t.value) for t in study.get_trials()]
    assert rows == [
        (0.01, "COMPLETE", 0.5), (0.1, "COMPLETE", 0.2), (1.0, "FAIL", None), (0.3, "COMPLETE", 0.3)
    ]  # fmt: skip
    assert Journal(tmp_path).best("BP") == {"lr": 0.1}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_journal_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{broken\n{broken again\n")
    with pytest.warns(Notice, match="cannot be read"):
        journal = Journal(tmp_path)
    journal.ask("BP", [0.1], 1e-6, 100.0)
    assert (tmp_path / FILE).with_suffix(".damaged").exists()
