"""Where a number was made: the environment and the commit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fgbench.records import provenance
from tests.makers.processes import python


def test_the_environment_needs_no_torch() -> None:
    code = """
        import json, sys
        from fgbench.records.provenance import environment
        where = environment()
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        print(json.dumps(where))
    """
    where = json.loads(python(code).communicate()[0])
    assert set(where) == {
        *("python", "torch", "numpy", "threads", "dtype", "device_name", "platform"),
        *("instructions", "draws"),
        *("data_fingerprint", "data_source", "code"),
    }
    assert where["python"] == sys.version.split()[0]
    assert where["numpy"] == np.__version__
    assert where["threads"] is where["instructions"] is where["draws"] is None
    assert where["device_name"]


def git(folder: Path) -> Callable[..., str]:
    words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]

    def call(*more: str) -> str:
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return call


def test_the_commit_is_of_the_source_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit() -> str:
        return provenance.commit.__wrapped__()

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == ""
    call = git(tmp_path)
    call("init", "-q")
    assert commit() == ""  # nothing committed
    (tmp_path / "fgbench").mkdir()
    (tmp_path / "fgbench" / "a.py").write_text("1")
    call("add", ".")
    call("commit", "-qm", "one")
    head = call("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a hook
    assert commit() == head
    (tmp_path / "records.json").write_text("1")
    assert commit() == head
    (tmp_path / "fgbench" / "b.py").write_text("1")
    assert commit() == head + "+dirty"
    installed = tmp_path / "venv" / "site-packages"  # a wheel inside somebody else's checkout
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert commit() == ""
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
