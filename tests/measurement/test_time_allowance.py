"""A method that does not end has failed once its time is up; the others are measured."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.runs.run import run_all

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs alarms")
CASE = {"arch": "mlp-1x4", "data": "synthetic[size=2,train=32,test=16]", "draws": 2, "batches": 1}
MINE = """
from fgbench import Defaults
{top}
class Mine(Defaults):
    def __call__(self, view, noise, state):
        raise NotImplementedError
    def {place}(self, *given):
        while True:
            try:
                {body}
            except Exception:
                pass
"""


def endless(folder: Path, place: str) -> str:
    """Write an estimator one of whose methods does not end, and import what it needs."""
    (folder / "mine.py").write_text(MINE.format(top="", place=place, body="[].pop()"))
    registry.method(f"{folder}/mine.py:Mine")
    return f"{folder}/mine.py:Mine"


@pytest.mark.parametrize("place", ["claims", "supports", "init_state"])
def test_a_method_without_end_fails(place: str, tmp_path: Path) -> None:
    (record,) = run_all("measure", [endless(tmp_path, place)], batch=4, timeout=1.0, **CASE)
    assert (record["status"], record["reason"]) == ("failed", "not finished within 1 s")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


@pytest.mark.slow
def test_the_other_methods_are_measured(tmp_path: Path) -> None:
    methods = ["FG-A", endless(tmp_path, "__call__"), "FG-W"]
    records = run_all("measure", methods, batch=4, timeout=4.0, **CASE)
    assert [record["status"] for record in records] == ["ok", "failed", "ok"]


def test_a_file_without_end_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("while True: pass")
    with pytest.raises(UsageError, match=r"mine\.py:Mine was not finished within 0\.3 s"):
        run_all("measure", [f"{tmp_path}/mine.py:Mine"], batch=4, timeout=0.3, **CASE)


def test_time_changes_no_number_and_is_used_up_over_all_points(tmp_path: Path) -> None:
    without, within = (
        run_all("measure", ["FG-A"], batch=4, timeout=timeout, **CASE)[0] for timeout in (None, 60)
    )
    assert without["key"] == within["key"]
    assert without["relative_variance"] == within["relative_variance"]
    sleepy = MINE.format(
        top="import time", place="predicted_variance", body="time.sleep(0.2); return None"
    )
    (tmp_path / "mine.py").write_text(
        sleepy + "    def __call__(self, view, noise, state):\n"
        "        import torch\n        from fgbench import Estimate\n"
        "        return Estimate(grads={k: torch.ones(s) for k, s in view.shapes.items()})\n"
    )
    slow = [f"{tmp_path}/mine.py:Mine"]
    many = {**CASE, "batches": 50}
    (record,) = run_all("measure", slow, batch=4, timeout=0.5, **many)
    assert record["reason"] == "not finished within 0.5 s"


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(UsageError, match="a time limit is a number of seconds above 0"):
        run_all("measure", ["FG-A"], batch=4, timeout=timeout, **CASE)
