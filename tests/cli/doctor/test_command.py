"""``fgbench doctor`` as a command: lines, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.doctor import examine
from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, STATES, WARN, Finding
from fgbench.cli.main import run
from tests.makers.paths import ROOT

Text = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (WARN, 0), (ABSENT, 0), (FAIL, 1)])
def test_only_a_failure_is_an_exit_code(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Text
) -> None:
    planted = [Finding("git", state, "planted", "mend it")]
    monkeypatch.setattr(examine, "examine", lambda *given: planted)
    assert run(["doctor"]) == code
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.split() == [state, "git", "planted"]
    assert second.split() == ["->", "mend", "it"]
    assert last.startswith("1 ok" if state == OK else "0 ok")
    assert run(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == [
        {"what": "git", "state": state, "finding": "planted", "mend": "mend it"}
    ]


def doctor(folder: Path, **changes: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, findings by name and stderr of a process in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), **changes}
    environment |= {"FGBENCH_DATA": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "fgbench", "doctor", "--json"], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    return done.returncode, {f["what"]: f for f in json.loads(done.stdout)}, done.stderr


@pytest.mark.slow
def test_this_machine_is_examined_and_nothing_stays(tmp_path: Path) -> None:
    code, found, err = doctor(tmp_path, LC_ALL="C")
    assert [f for f in found.values() if f["state"] == FAIL] == []
    assert (code, err) == (0, "")
    assert all(f["state"] in STATES for f in found.values())
    for name in (
        "torch",
        "forward mode",
        "custom operations",
        "an estimate",
        "digits",
        "libraries",
    ):
        assert found[name]["state"] == OK, found[name]
    assert {
        "compiled duals",
        "gpu",
        "mnist",
        "imagenet",
        "plug-ins",
        "records locks",
    } <= found.keys()
    assert found["asv"]["mend"] == "asv machine --yes"
    assert found["characters"]["mend"] == "export LC_ALL=C.UTF-8"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_broken_things_fail_in_one_line_each(tmp_path: Path) -> None:
    """A torch that cannot be imported, a truncated data file, a file in the place of the records."""
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "torch.py").write_text("raise ImportError('libtorch_cpu.so: no such file')\n")
    text = tmp_path / "data" / "shakespeare" / "input.txt"
    text.parent.mkdir(parents=True)
    text.write_text("To be")
    (tmp_path / "records").write_text("")
    code, found, err = doctor(tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{planted}")
    assert code == 1
    assert "Traceback" not in err
    assert found["torch"]["state"] == FAIL
    assert "libtorch_cpu.so: no such file" in found["torch"]["finding"]
    assert "pip install" in found["torch"]["mend"]
    assert found["records folder"]["state"] == FAIL
    code, found, _ = doctor(tmp_path)
    assert code == 1
    assert found["shakespeare"] == {
        **found["shakespeare"], "state": FAIL, "mend": f"rm {text}"
    }  # fmt: skip
