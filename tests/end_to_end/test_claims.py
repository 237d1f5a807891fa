"""The claims audit: a verdict per script, from committed records, and the page of all of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers.paths import ROOT

CLAIMS = ROOT / "analysis" / "claims"
SCRIPTS = sorted(path for path in CLAIMS.glob("*.py") if path.stem not in ("audit", "page"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder in which every script and the page have run, in one process."""
    folder = tmp_path_factory.mktemp("copy") / "analysis"
    shutil.copytree(ROOT / "analysis" / "records" / "claims", folder / "records" / "claims")
    (folder / "claims").mkdir()
    for script in CLAIMS.glob("*.py"):
        shutil.copy(script, folder / "claims")
    code = "import runpy, sys; sys.path.insert(0, '.'); names, sys.argv = sys.argv[1:], ['x'];"
    code += "[runpy.run_path(name, run_name='__main__') for name in names]"
    names = [script.name for script in SCRIPTS] + ["page.py"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=folder / "claims", env=env,
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "claims"


@pytest.mark.slow
def test_the_committed_verdicts_and_page_are_those_of_the_committed_records(copied: Path) -> None:
    assert len(SCRIPTS) >= 10
    for script in SCRIPTS:
        name = f"{script.stem}.json"
        assert (copied / name).read_text("utf-8") == (CLAIMS / name).read_text("utf-8")
    assert (copied / "README.md").read_text("utf-8") == (CLAIMS / "README.md").read_text("utf-8")
    assert {p.stem for p in CLAIMS.glob("*.json")} == {p.stem for p in SCRIPTS}


def test_every_verdict_has_source_number_and_interval() -> None:
    for script in SCRIPTS:
        claim = json.loads(script.with_suffix(".json").read_text("utf-8"))
        verdict = claim["verdict"]
        assert verdict["words"] in (
            *("holds", "holds in part", "does not hold", "undecided", "not judged"),
        )
        assert verdict["low"] <= verdict["value"] <= verdict["high"]
        assert verdict["n"] >= 8
        assert "arXiv" in claim["source"] or "ICLR" in claim["source"]
        page = (CLAIMS / "README.md").read_text("utf-8")
        assert claim["sentence"] in page
        assert claim["changes"] in page
        assert claim["commands"]
        assert all(f"\nfgbench {command}\n" in page for command in claim["commands"])
        assert script.with_suffix(".png").exists()
