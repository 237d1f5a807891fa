"""Progress names what takes long while it runs; an interrupt keeps what is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli import progress as room
from fgbench.cli.main import run
from fgbench.cli.progress import Progress
from fgbench.records.store import Store
from tests.makers.paths import ROOT

SLOW = """
import time
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Slow(Defaults):
    def claims(self, task):
        return Claims(bias="none")
    def __call__(self, view, noise, state):
        time.sleep(100)
"""
NET = ["--arch", "mlp-1x4", "--data", "synthetic[train=64,test=32]", "--device", "cpu"]
FEW = ["--draws", "4", "--batches", "2", "--batch", "8"]


def test_an_interrupt_that_meets_the_end_of_an_object_prints_nothing_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is raised again, and is told of then."""

    class Ending:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    with room.asides_in_one_line():
        Ending(KeyboardInterrupt())
        Ending(ValueError("on purpose"))
    assert capsys.readouterr().err == "fgbench: an object ended with ValueError: on purpose\n"


def test_the_last_of_several_lines_is_printed_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.2)
    monkeypatch.setattr(room, "STILL_S", 0.4)
    with Progress("measure") as progress:
        for method in ("FG-A", "FA", "cge"):
            progress(method)
        time.sleep(0.9)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["measure: FG-A", "measure: cge"]
    assert lines[2].startswith("measure: cge (for ")
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kept", [[], ["-o", "kept"]])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_interrupted_measure_shows_what_is_finished(
    kept: list[str], as_json: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("slow.py").write_text(SLOW.replace("time.sleep(100)", "raise KeyboardInterrupt"))
    methods = ["BP", "FG-A", "./slow.py:Slow"]
    assert run(["measure", *methods, *NET, *FEW, *kept, *as_json]) == 130
    out, err = capsys.readouterr()
    if as_json:
        assert [r["method"] for r in json.loads(out)] == ["BP", "FG-A"]
    else:
        assert out.startswith("Interrupted: 2 of 3 finished.\n")
        assert [line.split()[0] for line in out.splitlines() if " batches" in line][:1] == ["BP"]
    told = [line for line in err.splitlines() if line.startswith("fgbench:")]
    hint = "; run the same command again to continue from its folder of records"
    assert told == ["fgbench: interrupted" + hint * bool(kept)]
    if kept:
        found = {r["method"]: r for r in Store(Path("kept")).all()}
        assert sorted(found) == ["BP", "FG-A"]
        assert run(["measure", "BP", "FG-A", *NET, *FEW, *kept, "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert again == [found["BP"], found["FG-A"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_slow_method_runs(number: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = ["measure", "BP", "./slow.py:Slow", *NET, *FEW, "-o", "kept"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fgbench", *command], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.glob("kept/*.json")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(11)  # the line of the slow method is due
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out.startswith("Interrupted: 1 of 2 finished.")
    assert any("slow.py:Slow" in line for line in err.splitlines() if line.startswith("measure"))
    assert "Traceback" not in err
