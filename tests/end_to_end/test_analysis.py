"""The scripts of analysis/: each draws the committed picture's numbers from the committed records.

Those that begin with a network, an estimator, data or a loop of one's own run as they stand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers.paths import ROOT

OWN = {
    "my_network": ("FG-W", "Cost of a step, Net on digits", "relative variance"),
    "my_estimator": ("10 of 10 checks held", "efficiency / FG-A", "Clipped/local-pg"),
    "my_data": ("test off", "LG-FG-A", "Gradient estimates, net on data"),
    "my_training_loop": ("test error", "goes on after step 481"),
}
"""Script to what it prints, among other things."""
SCRIPTS = sorted((ROOT / "analysis").glob("plot_*.py"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the scripts and records in which every script has run, in one process."""
    folder = tmp_path_factory.mktemp("copy") / "analysis"
    folder.mkdir()
    for script in (ROOT / "analysis").glob("*.py"):
        shutil.copy(script, folder)
    shutil.copytree(ROOT / "analysis" / "records", folder / "records")
    tables = Path("reproduction") / "paper"
    (folder / tables).mkdir(parents=True)
    for table in (ROOT / "analysis" / tables).glob("*.csv"):
        shutil.copy(table, folder / tables)
    code = "import runpy, sys; sys.path.insert(0, '.'); names, sys.argv = sys.argv[1:], ['x'];"
    code += "[runpy.run_path(name) for name in names]"
    names = [script.name for script in SCRIPTS]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=folder, env=env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_there_is_a_script_for_each_of_many_questions() -> None:
    assert len(SCRIPTS) >= 8
    listed = (ROOT / "analysis" / "README.md").read_text("utf-8")
    for script in SCRIPTS:
        assert f"]({script.name})" in listed
        name = script.stem.removeprefix("plot_")
        assert f"]({name}.png)" in listed
        note = (ROOT / "analysis" / f"{name}.txt").read_text("utf-8").strip()
        assert f"*{note}.*" in listed  # n and intervals, which are not in the picture


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
@pytest.mark.slow
def test_a_script_draws_the_committed_numbers(script: Path, copied: Path) -> None:
    name = script.stem.removeprefix("plot_")
    assert (copied / f"{name}.png").stat().st_size > 10_000
    assert (copied / f"{name}.csv").read_bytes() == (ROOT / "analysis" / f"{name}.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_script_with_ones_own_runs_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    script = ROOT / "analysis" / f"{name}.py"
    listed = (ROOT / "analysis" / "README.md").read_text("utf-8")
    question = script.read_text("utf-8").partition("\n")[0].removeprefix('"""')
    assert f"| {question} | [{name}.py]({name}.py) |" in listed
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in OWN[name])
    assert not list(tmp_path.iterdir())


def test_every_script_with_ones_own_is_known() -> None:
    assert {path.stem for path in (ROOT / "analysis").glob("my_*.py")} == set(OWN)
