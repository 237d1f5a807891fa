"""Measuring in several processes: the records of one, whatever is asked, and what happens when one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import fgbench
from fgbench import Defaults, Estimate
from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.records.store import Store
from fgbench.runs import parallel
from fgbench.runs.parallel import measure_all
from fgbench.runs.run import opened, run_all
from tests.makers.paths import ROOT

MINE = """
import os, signal, time
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Mine(Defaults):
    how: str = ""

    def claims(self, task):
        return Claims(bias="none", backward="segment", slopes_only=True)

    def __call__(self, view, noise, state):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "raise":
            raise ValueError("no such thing")
        if self.how == "wait":
            time.sleep(100)
        u = noise.directions(view.sites, 1)
        return Estimate(credit=view.credit(view.slopes(u), u))
"""
CASE: dict[str, Any] = {"arch": "mlp-2x4", "data": "synthetic[train=128,test=32]", "threads": 1}
FEW: dict[str, Any] = {"draws": 8, "batches": 2, "batch": 8}
NET = ["--arch", "mlp-2x4", "--data", "synthetic[train=128,test=32]", "--device", "cpu"]
OPTIONS = ["--draws", "8", "--batches", "2", "--batch", "8"]
WAITING = ["measure", "BP", "FG-A", "./mine.py:Mine[how=wait]/end", *NET, *OPTIONS, "-o", "kept"]
"""A command of which two of three methods end."""
TIMES = ("started", "elapsed_s")


@dataclass(frozen=True)
class Own(Defaults):
    """An estimator that no other process can make."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads=view.reverse())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)


def timeless(records: list[dict[str, Any]]) -> str:
    """Records without their times, as text: equal texts are equal bit for bit."""
    kept = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return json.dumps(kept, sort_keys=True)


def written(folder: str) -> dict[str, str]:
    return {record["key"]: timeless([record]) for record in Store(Path(folder)).all()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "more"),
    [
        ([0, 1], {}),
        ([0], {"moments": (0.0, 1.0), "inits": 2}),
        ([0, 3], {"precision": 0.3, "cost": 40.0}),
        ([0], {"moments": (1.0,), "along": "own", "dtype": "float64"}),
    ],
)
def test_records_are_those_of_one_process(seeds: list[int], more: dict[str, Any]) -> None:
    methods = ["FG-A", "BP", "./mine.py:Mine/local-pg", "bp/contrastive", "FG-A[directions=2]"]
    case = {**CASE, **FEW, **more}
    alone = [
        record
        for seed in seeds
        for record in run_all("measure", methods, seed=seed, records="one", **case)
    ]
    lines: list[str] = []
    told: list[dict[str, Any]] = []
    two = measure_all(
        methods, seeds, 2, records="two", progress=lines.append, finished=told.append, **case
    )
    assert timeless(two) == timeless(alone)
    assert all(record["status"] in ("ok", "skipped") for record in two)
    assert written("one") == written("two")
    assert sorted(r["key"] for r in told) == sorted(r["key"] for r in two)
    assert lines[-1] == f"{len(two)} of {len(two)} measured"
    assert any("FG-A, init 0" in line for line in lines)
    assert all("seed" in line for line in lines if "init" in line) == (len(seeds) > 1)


def test_methods_share_the_training_before_they_are_measured() -> None:
    """Of two workers each trains a network once, and of two seeds each worker one."""
    for more, seeds, sizes in (
        ({}, [0], [1] * 5),
        ({"moments": (0.0, 1.0)}, [0], [3, 2]),
        ({"moments": (0.0, 1.0)}, [0, 1], [5, 5]),
        ({"moments": (1.0,), "along": "own"}, [0], [1] * 5),
    ):
        methods = ["BP", "FG-A", "FG-W", "NP", "WP"]
        with opened("measure", methods, seeds, **CASE, **FEW, **more) as begun:
            groups = [g for each in begun for g in parallel._groups(each, len(begun), 2)]
            assert [len(group.jobs) for group in groups] == sizes
            names = [job.method.text for group in groups for job in group.jobs]
            assert sorted(names) == sorted(methods * len(seeds))


@pytest.mark.parametrize("moments", [pytest.param(None, marks=pytest.mark.slow), (0.0, 1.0)])
@pytest.mark.slow
def test_a_worker_that_dies_takes_nobody_with_it(moments: Any) -> None:
    methods = [
        "BP",
        "./mine.py:Mine[how=kill]/end",
        "FG-A",
        "./mine.py:Mine[how=raise]/end",
        "FG-W",
    ]
    case = {**CASE, **FEW, "moments": moments}
    found = measure_all(methods, [0], 2, records="kept", **case)
    assert [r["method"] for r in found] == methods
    assert [r["status"] for r in found] == ["ok", "failed", "ok", "failed", "ok"]
    assert found[1]["reason"].startswith("the worker was killed by SIGKILL")
    assert found[3]["reason"] == "ValueError: no such thing (mine.py:17)"
    sound = [methods[at] for at in (0, 2, 4)]
    assert timeless(run_all("measure", sound, **case)) == timeless(found[::2])


@pytest.mark.slow
def test_what_is_finished_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_all(["BP", "FG-A"], [0], 2, records="kept", **CASE, **FEW)
    monkeypatch.setattr(parallel, "Pool", None)  # no worker is needed
    assert measure_all(["BP", "FG-A"], [0], 2, records="kept", **CASE, **FEW) == first
    again = measure_all(["BP", "NP", "FG-A"], [0], 2, records="kept", **CASE, **FEW)
    assert [again[0], again[2]] == first


@pytest.mark.slow
def test_mistakes_are_one_line_as_without_workers(capsys: pytest.CaptureFixture[str]) -> None:
    late = ["--along", "own", "--moments", "1e5"]  # which shows only when it is measured
    for methods, more in (
        (["FG-X", "BP"], []),
        (["BP", "FG-A"], late),
        (["BP", "./mine.py:Nobody"], []),
    ):
        command = ["measure", *methods, *NET, *OPTIONS, *more]
        said = []
        for jobs in ("1", "2"):
            assert run([*command, "--jobs", jobs]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            said.append([line for line in err.splitlines() if line.startswith("fgbench:")])
        either = [said[0], [line.replace("of BP end", "of FG-A end") for line in said[0]]]
        assert said[1] in either  # whose worker is the first to see it
        assert len(said[0]) == 1
    assert run(["measure", "BP", *NET, "--jobs", "0"]) == 2
    assert "--jobs" in capsys.readouterr().err


def test_objects_are_refused_where_names_are_needed() -> None:
    data = torch.linspace(0, 1, 512).view(128, 4), torch.arange(128) % 3
    with pytest.raises(UsageError, match="the data was given as an object: use jobs=1"):
        fgbench.measure(["BP", "FG-A"], arch="mlp-2x4", data=data, jobs=2, **FEW)
    with pytest.raises(UsageError, match="the estimator was given as an object"):
        fgbench.measure([Own(), "BP"], jobs=2, **CASE, **FEW)


@pytest.mark.slow
def test_an_interrupt_prints_and_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show = parallel._Spread._show

    def interrupted(self: Any) -> None:
        show(self)
        if self._done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(parallel._Spread, "_show", interrupted)
    assert run([*WAITING, "--jobs", "2"]) == 130
    out, err = capsys.readouterr()
    assert out.startswith("Interrupted: 2 of 3 finished.\n")
    assert "run the same command again to continue" in err
    found = {r["method"]: r for r in Store(Path("kept")).all()}
    assert sorted(found) == ["BP", "FG-A"]
    monkeypatch.setattr(parallel._Spread, "_show", show)
    assert (
        run(["measure", "BP", "FG-A", *NET, *OPTIONS, "-o", "kept", "--jobs", "2", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out) == [found["BP"], found["FG-A"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_in_one_line(number: Any, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fgbench", *WAITING, "--jobs", "2"], text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("kept/*.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out.startswith("Interrupted: 2 of 3 finished.")
    assert [line for line in err.splitlines() if line.startswith("fgbench:")] == [
        "fgbench: interrupted; run the same command again to continue from its folder of records"
    ]
    assert "Traceback" not in err
