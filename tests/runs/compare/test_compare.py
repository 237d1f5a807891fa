"""Comparisons: equal budgets whatever happens, the same result after a kill, verdicts of known answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fgbench.records.store import Store
from fgbench.runs.compare.compare import trained, tune
from fgbench.runs.compare.plan import Contestant, Plan, Question
from fgbench.runs.compare.record import Tuned
from fgbench.runs.compare.setup import Setup
from fgbench.runs.sweep.cells import Case, Cell
from fgbench.runs.sweep.runner import Settings
from tests.makers.paths import ROOT

PACE = {"BP": 0.001, "FG-A": 0.002}


@dataclass
class Journal:
    """Keeps what is asked and told."""

    asked: dict[str, list[float]] = field(default_factory=dict)
    told: dict[str, dict[float, float]] = field(default_factory=dict)

    def ask(self, study: str, rates: list[float], low: float, high: float) -> None:
        assert all(low <= rate <= high for rate in rates)
        self.asked[study] = list(rates)

    def tell(self, study: str, scores: dict[float, float]) -> None:
        self.told.setdefault(study, {}).update(scores)


@dataclass(frozen=True)
class Faked(Setup):
    """A setup whose runs end as a function of their case says."""

    ends: Callable[[Case], dict[str, Any]] = dict
    ran: list[Case] = field(default_factory=list)

    def run(self, cells: Sequence[Cell]) -> Any:
        stages, found = [], {}
        for cell in cells:
            trials = [(v, cell.trials(v)) for v in cell.candidates] if cell.tuning else []
            stages.append(SimpleNamespace(cell=cell, trials=trials, choice={}))
            for case in [*(c for _, cases in trials for c in cases), *cell.results({})]:
                self.ran.append(case)
                found[case.id] = self.ends(case)
        return SimpleNamespace(stages=stages, found=found)


def ending(best: float, limit: float) -> Callable[[Case], dict[str, Any]]:
    """Runs whose error grows with the distance from the best rate, and which diverge above a limit."""

    def ends(case: Case) -> dict[str, Any]:
        lr, steps = case.options["lr"], case.options["steps"]
        run = {"key": case.id, "seed": case.seed, "steps": steps, "elapsed_s": 1.0}
        run |= {"seconds": steps * PACE[case.method], "settings": {"batch": 50}}
        if lr > limit:
            return run | {"status": "diverged", "reason": "loss not finite"}
        error = 0.05 + 0.01 * abs(log10(lr / best))
        return run | {"status": "ok", "reason": "", "test_error": error, "test_loss": error}

    return ends


def faked(best: float, limit: float = 1e9) -> Faked:
    question = Question.of(["FG-A"], "mlp-2x64", "digits")
    both = (Contestant("BP", 3.0), Contestant("FG-A", 4.0))
    plan = Plan(question, both, 90.0, 50, 1437, 287, 0.03)
    return Faked(plan, Settings(Path("records"), 1, "cpu"), lambda sweep: None, ending(best, limit))


@pytest.mark.parametrize(("best", "widened"), [(0.02, ""), (30.0, "upper"), (1e-5, "lower")])
def test_every_method_tries_as_many_rates_wherever_its_best_lies(best: float, widened: str) -> None:
    setup, journal = faked(best), Journal()
    found = tune(setup, journal, lambda line: None)  # type: ignore[arg-type]
    for tuned in found.values():
        assert len(tuned.scores) == 12
        assert tuned.widened == widened
        assert abs(log10((tuned.lr or 0.0) / best)) < 0.4
    assert {len(rates) for rates in journal.asked.values()} == {12}
    assert {len(scores) for scores in journal.told.values()} == {12}


def test_a_range_is_widened_once_and_the_edge_is_flagged() -> None:
    found = tune(faked(1e5), Journal(), lambda line: None)["BP"]  # type: ignore[arg-type]
    assert (found.widened, found.edge) == ("upper", "upper")
    assert len(found.scores) == 12


def test_trials_that_diverge_count_against_the_budget() -> None:
    found = tune(faked(0.5, limit=0.01), Journal(), lambda line: None)["BP"]  # type: ignore[arg-type]
    about = found.described(faked(0.5).plan)
    assert about["configurations"] == 12
    assert 0 < about["diverged"] < 12
    assert found.lr is not None
    assert found.lr <= 0.01
    assert about["scores"].count(None) == about["diverged"]


def test_a_method_that_never_trains_has_no_rate() -> None:
    found = tune(faked(0.5, limit=0.0), Journal(), lambda line: None)["BP"]  # type: ignore[arg-type]
    assert found.lr is None
    assert found.widened == "lower"
    assert trained(faked(0.5), {"BP": found, "FG-A": found}, lambda line: None) == {}


def tuned_at(method: str, lr: float) -> Tuned:
    run = {"steps": 100, "seconds": 100 * PACE[method], "status": "ok"}
    return Tuned({lr: [run]}, {lr: (0.05, 0.05)}, "", {})


def test_lengths_are_equal_forwards_equal_epochs_and_equal_seconds() -> None:
    """FG-A costs 4 passes where BP costs 3, and takes twice its time."""
    tuned = {method: tuned_at(method, 0.1) for method in PACE}
    found = trained(faked(0.1), tuned, lambda line: None)
    steps = {kind: {m: r.steps for m, r in mine.items()} for kind, mine in found.items()}
    assert steps["forwards"] == {"BP": 862, "FG-A": 646}
    assert steps["epochs"] == {"BP": 862, "FG-A": 862}
    assert steps["seconds"] == {"BP": 862, "FG-A": 431}
    assert {len(r.runs) for mine in found.values() for r in mine.values()} == {10}


def test_a_rate_that_diverges_in_the_long_run_is_tried_one_step_lower() -> None:
    tuned = {method: tuned_at(method, 0.1) for method in PACE}
    setup = faked(0.1, limit=0.05)
    found = trained(setup, tuned, lambda line: None)["forwards"]["FG-A"]
    assert found.lowered
    assert found.lr == pytest.approx(0.1 / 10**0.5, rel=1e-2)
    assert {run["status"] for run in found.runs} == {"ok"}
    again = trained(faked(0.1, limit=0.01), tuned, lambda line: None)["forwards"]["FG-A"]
    assert {run["status"] for run in again.runs} == {"diverged"}  # once, no search


SAME = """
from fgbench.estimators.bp import Backprop

class Same(Backprop):
    \"\"\"Backprop under another name.\"\"\"
"""
WORDS = (
    "compare ./same.py:Same FG-A --arch mlp-1x8 --data synthetic[train=256,test=64] --forwards 9 "
    "--seeds 6 --set batch=32 --jobs 2 --device cpu -o kept"
)
CLOCKS = (
    "seconds",
    "elapsed_s",
    "started",
    "step_ms",
    "ratio_to_bp",
    "peak_mb",
    "peak_ratio_to_bp",
)


def compared(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "same.py").write_text(SAME)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "fgbench", *WORDS.split()]
    null = subprocess.DEVNULL
    return subprocess.Popen(
        line, cwd=folder, env=env, stdout=null, stderr=null, start_new_session=True
    )


def numbers(folder: Path) -> dict[str, Any]:
    """What a comparison found, times and what follows from them aside."""
    found = {}
    for record in Store(folder / "kept").all():
        if record["verb"] == "compare":
            results = [r for r in record["results"] if r["at"] != "seconds"]
            results = [{k: v for k, v in r.items() if k not in CLOCKS} for r in results]
            found[record["method"]] = results, record["tuned"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    folder = tmp_path_factory.mktemp("compared")
    assert compared(folder).wait(300) == 0
    return folder


@pytest.mark.slow
def test_backprop_under_another_name_is_tuned_alike_and_equivalent(whole: Path) -> None:
    records = {r["method"]: r for r in Store(whole / "kept").all() if r["verb"] == "compare"}
    assert set(records) == {"./same.py:Same", "BP", "FG-A"}
    mine, theirs = records["./same.py:Same"], records["BP"]
    assert mine["tuned"]["lr"] == theirs["tuned"]["lr"]
    assert mine["tuned"]["scores"] == theirs["tuned"]["scores"]
    first = mine["results"][0]
    assert first["at"] == "forwards"
    assert first["against"]["verdict"] == "equivalent within the margin"
    assert first["values"] == theirs["results"][0]["values"]
    spent = {name: record["tuned"]["spent"] for name, record in records.items()}
    assert max(spent.values()) < 1.05 * min(spent.values())
    assert {record["tuned"]["configurations"] for record in records.values()} == {12}
    assert not [path.name for path in (whole / "kept").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("records", [5, 40])
def test_a_comparison_that_was_killed_ends_with_the_same_result(
    whole: Path, tmp_path: Path, records: int
) -> None:
    """Killed in the tuning, and in the results."""
    process = compared(tmp_path)
    while len(list(tmp_path.glob("kept/*.json"))) < records and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not numbers(tmp_path)
    assert compared(tmp_path).wait(300) == 0
    assert json.dumps(numbers(tmp_path), sort_keys=True) == json.dumps(
        numbers(whole), sort_keys=True
    )
