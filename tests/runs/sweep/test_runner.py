"""Sweeps as they run: choosing on held-out images, workers that die, kills, and what is left behind."""

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

from fgbench.cli.sweep_progress import at_edges
from fgbench.errors import UsageError
from fgbench.records.store import Store
from fgbench.runs.sweep import read
from fgbench.runs.sweep.cells import expand
from fgbench.runs.sweep.runner import Settings, Sweep, place
from fgbench.runs.sweep.runner import choice as choice_of
from fgbench.runs.sweep.workers import Pool, Slot

TUNED = """
[[grid]]
name = "tuned"
methods = ["BP"]
arch = ["mlp-1x8"]
data = ["digits"]
seeds = 2
set = { epochs = 2, train_size = 300 }
[[grid.rule]]
tune = { lr = [1e-5, 0.1] }
[grid.tuning]
validation = 100
set = { epochs = 1 }
"""
PLUGIN = """
import os, signal
from dataclasses import dataclass
from fgbench.core.estimator import Defaults, Estimate

@dataclass(frozen=True)
class Bad(Defaults):
    how: str = "raise"

    def __call__(self, view, noise, state):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "memory":
            raise MemoryError("no room")
        raise ValueError("no such thing")
"""
TIMES = {"seconds", "started", "elapsed_s"}


def swept(text: str, folder: Path, jobs: int = 1) -> Sweep:
    (folder / "plan.toml").write_text(text)
    cells = expand(read.read(str(folder / "plan.toml")))
    sweep = Sweep(cells, Settings(folder / "records", jobs, "cpu"), lambda s: None)
    sweep.run()
    return sweep


def timeless(value: Any) -> Any:
    """A record without what differs between two runs of the same case."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def written(folder: Path) -> dict[str, Any]:
    return {r["key"]: timeless(r) for r in Store(folder).all()}


NOTHING_TRAINS = TUNED.replace("tuned", "absurd").replace("1e-5, 0.1", "1e30, 1e31")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    """One sweep of two methods that train and one grid in which nothing does, and its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    both = TUNED.replace('["BP"]', '["BP", "FA"]')
    return swept(both + NOTHING_TRAINS.replace("300", "200"), folder), folder


def choices(folder: Path, size: int) -> list[dict[str, Any]]:
    """The tunings with so many training images, in the order of their methods."""
    found = [r for r in Store(folder / "records").all() if r["verb"] == "tune"]
    chosen = [r for r in found if r["settings"]["train_size"] == size]
    return sorted(chosen, key=lambda r: str(r["method"]))


@pytest.mark.slow
def test_values_are_chosen_on_held_out_images_and_written_down(tuned: tuple[Sweep, Path]) -> None:
    sweep, folder = tuned
    records = [r for r in Store(folder / "records").all() if r["method"] == "BP"]
    records = [r for r in records if r["settings"]["train_size"] == 300]
    (choice,) = [r for r in records if r["verb"] == "tune"]
    assert choice["chosen"] == {"lr": 0.1}
    assert choice["grid"] == {"lr": [1e-5, 0.1]}
    errors = {t["values"]["lr"]: t["validation_error"] for t in choice["trials"]}
    assert errors[0.1] < errors[1e-5]
    trials = [r for r in records if r["settings"].get("validation") and r["verb"] == "train"]
    assert {t["key"] for t in choice["trials"]} == {r["key"] for r in trials}
    assert all(r["examples"] == {"train": 200, "test": 100} for r in trials)
    results = [r for r in records if r["verb"] == "train" and not r["settings"]["validation"]]
    assert [(r["settings"]["lr"], r["examples"]["train"]) for r in results] == [(0.1, 300)] * 2
    before = written(folder / "records")
    again = swept((folder / "plan.toml").read_text(), folder)  # found, and nothing run or written
    assert written(folder / "records") == before
    assert [r["key"] for r in again.records()] == [r["key"] for r in sweep.records()]
    assert again.records()[0]["started"] == choice["started"]


@pytest.mark.slow
def test_tunings_of_two_methods_are_two_cases(tuned: tuple[Sweep, Path]) -> None:
    _, folder = tuned
    found = choices(folder, 300)
    assert [r["method"] for r in found] == ["BP", "FA"]
    assert len(found) == len({r["case_key"] for r in found}) == 2


def test_a_tuning_in_which_nothing_trains_is_a_failure(tuned: tuple[Sweep, Path]) -> None:
    sweep, folder = tuned
    ((_case, why),) = sweep.failures()  # of what the other grid tunes and trains none fails
    assert "none of the 2 combinations" in why
    (choice,) = choices(folder, 200)
    assert choice["status"] == "failed"
    assert choice["chosen"] is None
    assert [len(stage.results) for stage in sweep.stages] == [2, 2, 0]


FAILURES = {
    "raise": "ValueError: no such thing",
    "memory": "MemoryError: no room",
    "kill": "killed by SIGKILL",
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    """One sweep of methods that fail in every way, and of one that does not, on one worker."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "bad.py").write_text(PLUGIN)
    methods = [f"{folder}/bad.py:Bad[how={how}]/end" for how in FAILURES]
    text = f"""
[[grid]]
name = "some"
methods = {json.dumps([*methods, "BP"])}
arch = ["mlp-1x8"]
data = ["digits"]
set = {{ epochs = 1, train_size = 200 }}
"""
    return swept(text, folder), folder


@pytest.mark.slow
@pytest.mark.parametrize("how", FAILURES)
def test_a_run_that_fails_leaves_its_reason_and_the_others_go_on(
    how: str, failing: tuple[Sweep, Path]
) -> None:
    sweep, folder = failing
    status = {r["method"]: r for r in Store(folder / "records").all()}
    (method,) = (name for name in status if f"how={how}]" in name)
    assert status[method]["status"] == "failed"
    assert FAILURES[how] in status[method]["reason"]
    assert status["BP"]["status"] == "ok"
    assert len(sweep.failures()) == len(FAILURES)
    (why,) = (why for case, why in sweep.failures() if case.startswith(method))
    assert FAILURES[how] in why


CHOSEN = [
    (
        {"lr": 0.1},
        ["BP mlp-1x8 digits (tuned): chose lr 0.1 at the upper edge of 0.001, 0.01, 0.1"],
    ),
    (
        {"lr": 0.001},
        ["BP mlp-1x8 digits (tuned): chose lr 0.001 at the lower edge of 0.001, 0.01, 0.1"],
    ),
    ({"lr": 0.01}, []),
    (None, []),
]


@pytest.mark.parametrize(("chosen", "told"), CHOSEN)
def test_a_value_at_the_edge_of_its_grid_is_told_at_the_end(
    chosen: dict[str, float] | None, told: list[str], tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text(TUNED.replace("1e-5, 0.1", "0.001, 0.01, 0.1"))
    cells = expand(read.read(str(tmp_path / "plan.toml")))
    sweep = Sweep(cells, Settings(tmp_path), lambda s: None)
    assert at_edges(sweep) == []  # still being tuned
    sweep.stages[0].choice = {"grid": cells[0].tune, "chosen": chosen}
    assert at_edges(sweep) == [f"{line}; what lies beyond was not tried" for line in told]


def test_steps_that_cannot_be_captured_are_refused_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="graph 'on' was asked for on device 'cpu'"):
        swept(TUNED.replace("train_size", 'graph = "on", train_size'), tmp_path)
    assert not (tmp_path / "records").exists()


def test_how_steps_are_taken_is_no_part_of_a_tuning(tmp_path: Path) -> None:
    names = ("key", "estimator", "locality", "options", "arch", "data", "device", "commit", "where")
    trial = {**dict.fromkeys(names, "x"), "seed": 0, "status": "ok"}
    found = []
    for changed in ("", ', graph = "off"', ", batch = 50"):
        (tmp_path / "plan.toml").write_text(TUNED.replace("= 300", f"= 300{changed}"))
        (cell,) = expand(read.read(str(tmp_path / "plan.toml")))
        found.append(choice_of(cell, [({"lr": 0.1}, [trial])], {"lr": 0.1}, ""))
    plain, off, other = found
    assert (off["key"], off["settings"]) == (plain["key"], plain["settings"])
    assert other["key"] != plain["key"]


MANY = """
[[grid]]
name = "many"
methods = ["BP", "FG-A"]
arch = ["mlp-1x8"]
data = ["digits"]
seeds = 4
set = { epochs = 3, train_size = 400 }
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_killed_and_restarted_it_ends_with_the_same_records(tmp_path: Path) -> None:
    swept(MANY, tmp_path)
    plan, folder = str(tmp_path / "plan.toml"), tmp_path / "killed"
    line = [sys.executable, "-m", "fgbench", "sweep", plan, "-o", str(folder), "--device", "cpu"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    # killed once so many records are there: in the middle of another run
    for wanted, jobs in ((1, "2"), (3, "1")):
        process = subprocess.Popen(
            [*line, "--jobs", jobs],
            start_new_session=True,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while len(list(Store(folder).all())) < wanted and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert wanted <= len(list(Store(folder).all())) < 8
    done = subprocess.run(
        [*line, "--jobs", "1", "--json"], env=env, capture_output=True, text=True, check=True
    )
    assert len(json.loads(done.stdout)) == 8
    assert written(folder) == written(tmp_path / "records")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = (
        "from fgbench.runs.sweep.workers import Pool, Slot\n"
        "if __name__ == '__main__':\n"
        "    pool = Pool([Slot()])\n"
        "    pool.start(0, {'verb': 'train', 'methods': ['BP'], 'arch': 'mlp-2x64', 'data': 'digits',"
        " 'epochs': 100000})\n"
        "    print(pool._workers[0].process.pid, flush=True)\n"
        "    list(pool.wait(120)); print('working', flush=True); list(pool.wait(120))\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert parent.stdout.readline() == "working\n"
    # a group of its own: of two interrupts, its own and its parent's, the second would stop a step midway
    assert os.getpgid(worker) == worker
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists() or not Path("/proc/self").exists()


def _state(pid: int) -> str:
    """The state of a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="states are read from /proc")
def test_workers_stop_and_go_on_with_their_parent(tmp_path: Path) -> None:
    script = (
        "from fgbench.runs.sweep.workers import Pool, Slot\n"
        "if __name__ == '__main__':\n"
        "    with Pool([Slot()]) as pool:\n"
        "        pool.start(0, {'verb': 'train', 'methods': ['BP'], 'arch': 'mlp-2x64',"
        " 'data': 'digits', 'epochs': 3})\n"
        "        print(pool._workers[0].process.pid, flush=True)\n"
        "        while True:\n"
        "            for event in pool.wait(60):\n"
        "                print(event.kind, flush=True)\n"
        "                if event.kind != 'progress': raise SystemExit\n"
    )
    (tmp_path / "parent.py").write_text(script)
    line = [sys.executable, tmp_path / "parent.py"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = parent.pid, int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGTSTP)
        deadline = time.monotonic() + 30
        while "".join(map(_state, pids)) != "TT" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "".join(map(_state, pids)) == "TT"
        os.kill(parent.pid, signal.SIGCONT)
        assert parent.stdout.read().endswith("done\n")


def test_workers_are_pinned_to_cores_and_unpinned_where_they_are_more() -> None:
    kind, slots = place("cpu", None)
    assert kind == "cpu"
    assert len(slots) == len({slot.cores for slot in slots})
    assert place("cpu", 1)[1][0].cores != ()
    assert {slot.cores for slot in place("cpu", len(slots) + 1)[1]} == {()}
    with pytest.raises(UsageError, match="at least 1"):
        place("cpu", 0)


def test_a_dead_worker_is_replaced() -> None:
    with Pool([Slot()]) as pool:
        pool.start(0, {"verb": "train", "methods": ["BP"], "arch": "mlp-1x8", "data": "digits"})
        pid = pool._workers[0].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        event = next(e for _ in range(100) for e in pool.wait(1.0) if e.kind == "lost")
        assert "SIGTERM" in event.text
        assert pool.free == 1
