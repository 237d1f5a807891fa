"""Kills and signals at random moments of small commands: what is left, and what a second call ends with.

``python -m tests.makers.kills --count 200`` runs them all and exits with 1 if one was not answered well.
A trial within the start of the program starts Python; its moment is counted from when the program has its
handlers, because what happens before is that of Python. Other trials fork this process, which has imported
everything, and so cost a tenth of it.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.makers.paths import ROOT

NET = "--arch mlp-1x8 --data synthetic[train=256,test=64]"
COMMANDS = {
    "train": f"train BP LG-FG-A {NET} --epochs 6 --batch 16 -o kept",
    "sweep": "sweep plan.toml -o kept --jobs 1 --device cpu",
    "measure": f"measure FG-W BP {NET} --draws 64 --batches 2 --batch 32 -o kept",
    "workers": f"measure FG-W BP NP {NET} --draws 64 --batches 2 --batch 32 --jobs 2 -o kept",
    "table1": "table1 --fan-in 2,3 --fan-out 2 --batch 2 --laws gaussian --draws 32 -o kept",
    "speed": f"speed BP {NET} --batch 32 --rounds 3 --reference plain -o kept",
    "report": "report records -o kept --jobs 1",
    "figure": "figure learning_curves records -o kept",
    "paper": "paper records -o kept/page.md",
    "list": "list estimators",
}
CYCLE = (
    *(
        "train",
        "measure",
        "table1",
        "train",
        "list",
        "figure",
        "train",
        "measure",
        "paper",
        "table1",
    ),
    *("train", "sweep", "measure", "speed", "report", "workers"),
)
"""The order in which commands are disturbed."""
PLAN = """
[[grid]]
name = "small"
methods = ["BP", "FG-A"]
arch = ["mlp-1x8"]
data = ["synthetic[train=256,test=64]"]
seeds = 1
set = { epochs = 6, batch = 16 }
"""
KINDS = (
    "KILL",
    "INT",
    "INT INT",
    "INT INT INT",
    "TERM",
    "HUP",
    "TERM INT",
    "KILL GROUP",
    "INT GROUP",
)
TIMES = {"started", "elapsed_s", "seconds", "step_ms", "ratio_to_bp", "peak_mb", "peak_ratio_to_bp"}
STARTS = ("train", "sweep", "measure", "table1", "list")
"""Commands whose start is disturbed as well."""
LIMIT_S = 120.0


@dataclass(frozen=True)
class Trial:
    """A command, what is sent to it, and when.

    Args:
        command: a key of `COMMANDS`.
        kind: one of `KINDS`.
        after: seconds since the program hears signals.
        gap: seconds between two signals.
        starts: whether Python is started, or this process forked.
    """

    command: str
    kind: str
    after: float
    gap: float
    starts: bool


class Laboratory:
    """A folder with an undisturbed run of every command.

    Args:
        folder: where to work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lasts: dict[str, float] = {}
        self.whole: dict[str, Any] = {}

    def prepare(self, command: str) -> None:
        """Run a command undisturbed, once."""
        if command in self.whole:
            return
        if command in ("report", "figure", "paper"):
            self.prepare("train")
        place = self.place(f"whole-{command}", command)
        begun = time.monotonic()
        code, err = Running(command, place, starts=False).wait(LIMIT_S)
        assert code == 0, err
        self.lasts[command] = time.monotonic() - begun
        self.whole[command] = content(place / "kept", command)
        assert not strays(place, finished=True), strays(place, finished=True)

    def place(self, name: str, command: str) -> Path:
        """Make the folder in which a command runs."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "plan.toml").write_text(PLAN)
        if command in ("report", "figure", "paper"):
            shutil.copytree(self.folder / "whole-train" / "kept", place / "records")
        return place

    def run(self, trial: Trial) -> list[str]:
        """Disturb a command and repeat it; return what was not answered well."""
        self.prepare(trial.command)
        place = self.place("disturbed", trial.command)
        code, err, left = disturbed(trial, place)
        wrong = [*judged(trial, code, err), *left]
        if "KILL" not in trial.kind:
            wrong += [f"left after the signal: {path}" for path in strays(place)]
        code, err = Running(trial.command, place, starts=False).wait(LIMIT_S)
        if code:
            wrong.append(f"the second call ended with {code}: {err[-300:]}")
        elif content(place / "kept", trial.command) != self.whole[trial.command]:
            wrong.append("the second call ended with other numbers")
        return wrong + [f"left at the end: {path}" for path in strays(place, finished=True)]


class Running:
    """A command that runs in a session of its own.

    Args:
        command: a key of `COMMANDS`.
        place: where it works; its stderr goes to a file beside.
        starts: whether Python is started, or this process forked.
    """

    def __init__(self, command: str, place: Path, starts: bool) -> None:
        self.err = place.with_suffix(".err")
        words = COMMANDS[command].split()
        with self.err.open("w") as err, Path(os.devnull).open("r+") as null:
            if starts:
                line, env = [sys.executable, "-m", "fgbench", *words], environment()
                options: dict[str, Any] = {"cwd": place, "env": env, "start_new_session": True}
                self.process = subprocess.Popen(
                    line, stdin=null, stdout=null, stderr=err, **options
                )
                self.pid = self.process.pid
                return
            self.pid = os.fork()
            if self.pid == 0:
                _child(words, place, null.fileno(), err.fileno())

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if not hasattr(self, "code"):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return None
            self.code = os.waitstatus_to_exitcode(status)
            if hasattr(self, "process"):
                self.process.returncode = self.code
        return self.code

    def wait(self, seconds: float) -> tuple[int | None, str]:
        """Wait for the end; return the exit code, None if it did not come, and stderr."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.poll(), self.err.read_text()


def _child(words: list[str], place: Path, null: int, err: int) -> None:
    """Run a command line as the program does, and leave without the clean-up of the parent."""
    code: Any = 1
    try:
        atexit._clear()  # what this process would remove at its end belongs to the parent
        os.setsid()
        os.chdir(place)
        for number, target in ((null, 0), (null, 1), (err, 2)):
            os.dup2(number, target)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["fgbench", *words]
        from fgbench.__main__ import main as program

        program()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def environment() -> dict[str, str]:
    """One thread, and this checkout first."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def disturbed(trial: Trial, place: Path) -> tuple[int, str, list[str]]:
    """Run a command, send the signals; return its exit code, its stderr, and the processes it left."""
    process = Running(trial.command, place, trial.starts)
    while process.poll() is None and not hears(process.pid):
        time.sleep(0.001)
    time.sleep(trial.after)
    send = os.killpg if "GROUP" in trial.kind else os.kill
    for name in trial.kind.replace(" GROUP", "").split():
        if process.poll() is None:
            send(process.pid, getattr(signal, f"SIG{name}"))
            time.sleep(trial.gap)
    code, err = process.wait(LIMIT_S)
    if code is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
        return -1, "", [f"did not end within {LIMIT_S} s"]
    deadline = time.monotonic() + 15
    while (left := session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return code, err, [f"processes left: {left}"] if left else []


def hears(pid: int) -> bool:
    """Whether a process has a handler of SIGTERM, which Python itself has not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((row.split()[1] for row in status.splitlines() if row.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def session(leader: int) -> list[int]:
    """The living processes of a session, zombies aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def judged(trial: Trial, code: int, err: str) -> list[str]:
    """What was wrong with how a command ended."""
    sent = [getattr(signal, f"SIG{name}") for name in trial.kind.replace(" GROUP", "").split()]
    # of two that come at once, Python handles the one with the smaller number first
    ends = {128 + number for number in sent}
    expected = {-signal.SIGKILL} if signal.SIGKILL in sent else ends
    wrong = [] if code in {0, *expected} else [f"exit code {code}"]
    said = [row for row in err.splitlines() if row.startswith("fgbench: ")]
    other = [row for row in err.splitlines() if row not in said and not progress(row)]
    if other:
        wrong.append(f"stderr: {' | '.join(other)[:400]}")
    if code in ends and (len(said) != 1 or not said[0].startswith("fgbench: interrupted")):
        wrong.append(f"{len(said)} lines: {said}")
    return wrong


def progress(row: str) -> bool:
    """Whether a line shows how far a command is."""
    return row.split(" ")[0].rstrip(":") in {*COMMANDS, "fusion"} or not row.strip()


def strays(place: Path, finished: bool = False) -> list[str]:
    """Locks, temporary files and empty folders; at the end hidden files as well."""
    found = []
    for path in sorted(place.rglob("*")):
        empty = path.is_dir() and not any(path.iterdir())
        hidden = finished and any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.suffix in (".lock", ".tmp") or empty or hidden or "unfinished" in path.name:
            found.append(str(path.relative_to(place)))
    return found


def content(folder: Path, command: str) -> dict[str, Any]:
    """All files of a folder: records without times, of speed their keys, of others a digest."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[name] = record["key"] if command == "speed" else timeless(record)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def timeless(value: Any) -> Any:
    """A record without what a clock or a meter made of it."""
    if isinstance(value, Mapping):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def trials(
    laboratory: Laboratory, commands: Sequence[str], count: int, seed: int
) -> Iterator[Trial]:
    """Draw trials: one in five within the start of the program."""
    rng = random.Random(seed)
    for at in range(count):
        command, kind = commands[at % len(commands)], rng.choice(KINDS)
        laboratory.prepare(command)
        starts = command in STARTS and rng.random() < 0.3
        after = rng.uniform(0, 2.0 if starts else 1.1 * laboratory.lasts[command])
        yield Trial(command, kind, after, rng.choice((0.0, 0.01, 0.1, 0.5)), starts)


def warm_up() -> None:
    """Import what commands use, once for all forked ones."""
    import contextlib
    import io

    from fgbench.cli.main import run

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        Path("plan.toml").write_text(PLAN)
        for name in ("train", "measure", "table1", "speed"):
            run(COMMANDS[name].split())
        shutil.copytree("kept", "records")
        for name in ("report", "figure", "paper"):
            run(COMMANDS[name].split())
        run(["sweep", "plan.toml", "--dry-run"])
        os.chdir(here)


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=COMMANDS, action="append")
    asked = parser.parse_args()
    chosen = asked.command or CYCLE
    ended: Counter[str] = Counter()
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        for at, trial in enumerate(trials(laboratory, chosen, asked.count, asked.seed), 1):
            wrong = laboratory.run(trial)
            ended["not well" if wrong else "well"] += 1
            print(f"{at} {trial}: {'; '.join(wrong) or 'well'}", flush=True)
    print(f"{ended['well']} of {sum(ended.values())} answered well")
    sys.exit(1 if ended["not well"] else 0)


if __name__ == "__main__":
    main()
