"""The check on the terminal: a time limit names what was not judged, and nothing untested reads ok."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fgbench.cli import main
from fgbench.cli.check import LESS
from fgbench.conformance import Outcome
from fgbench.conformance.outcome import collected, judge
from fgbench.errors import TimedOut
from tests.makers.paths import ROOT

FILE = """
from time import sleep
from fgbench import Claims, Defaults, Estimate

MET = []

class Hangs(Defaults):
    def claims(self, task):
        return Claims(backward="segment")
    def __call__(self, view, noise, state):
        MET.append(str(view.shapes))
        while MET.count(MET[-1]) > 1:  # from the second estimate on a network
            try:
                sleep(60)
            except Exception:
                pass
        u = noise.directions(view.sites)
        return Estimate(credit=view.credit(view.slopes(u), u))
"""


@pytest.mark.slow
def test_what_hangs_is_named_and_is_no_success(tmp_path: Path) -> None:
    """In a process of its own: an import that the limit interrupts is left half made."""
    file = tmp_path / "hangs.py"
    file.write_text(FILE)
    command = [sys.executable, "-m", "fgbench", "check", f"{file}:Hangs/end", "--timeout", "6"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (LESS, "")
    assert lines[-3].endswith(f"not judged: check {file}:Hangs/end was not finished within 6 s")
    assert lines[-3].startswith("--    ")
    assert lines[-1].endswith("it and what comes after it, for want of time")


def test_a_file_that_hangs_while_it_is_imported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asleep.py"
    file.write_text("import time\ntime.sleep(60)")
    assert main.run(["check", f"{file}:Any", "--timeout", "0.2"]) == 1
    said = capsys.readouterr().err
    assert said == f"fgbench: check {file}:Any was not finished within 0.2 s\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_limit_is_a_positive_number(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["check", "fg_a", "--timeout", seconds]) == 2
    assert "a time limit is a number of seconds above 0" in capsys.readouterr().err


def test_the_check_that_was_running_is_named() -> None:
    def late() -> str:
        raise TimedOut("it was not finished within 1 s")

    found = collected(judge(name, run) for name, run in (("a", lambda: "fine"), ("b", late)))
    left = "it and what comes after it, for want of time"
    late_one = Outcome("b", True, "it was not finished within 1 s", left, judged=False)
    assert found == [Outcome("a", True, "fine"), late_one]
