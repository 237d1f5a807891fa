"""Signals wait for whole files, steps and imports, and end the program in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fgbench.cli.main import run
from fgbench.records import interrupts
from tests.makers.cases import mostly_slow
from tests.makers.paths import ROOT
from tests.makers.processes import posix

pytestmark = posix


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[interrupts._Signals]:
    """Fresh signals, as at a terminal, and the handlers of before at the end."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    fresh = interrupts._Signals()
    monkeypatch.setattr(interrupts, "_signals", fresh)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in interrupts.SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield fresh
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_waits_for_what_is_written_whole() -> None:
    """Those of the program as well as Ctrl-C in a script, which is then Python's again."""
    done = []

    def write() -> None:
        with interrupts.whole(), interrupts.whole():
            send()
            send()
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        send()
    with interrupts.whole():
        pass  # nothing is left of the one before


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_first_signal_decides_the_exit_code_and_later_ones_do_not_disturb(
    name: str, code: int
) -> None:
    interrupts.install()
    cleaned = []

    def work() -> None:
        try:
            send(getattr(signal, name))
        finally:
            for number in interrupts.SIGNALS:
                send(number)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleaned == [True]
    assert interrupts.exit_code() == code


def test_a_signal_waits_for_the_step_and_a_second_one_does_not() -> None:
    steps = []

    def train(presses: int) -> None:
        with interrupts.steps():
            for step in range(3):
                for _ in range(presses):
                    send()
                steps.append(step)
                if interrupts.due():
                    raise KeyboardInterrupt

    for presses, taken in ((1, [0]), (2, [])):
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            train(presses)
        assert steps == taken
        assert not interrupts.due()


def test_a_signal_that_nobody_heeded_raises_after_the_last_step() -> None:
    done = []

    def finish() -> None:
        with interrupts.steps():
            send()
            with interrupts.whole():
                done.append("the record is written")
            done.append("and the checkpoint removed")

    with pytest.raises(KeyboardInterrupt):
        finish()
    assert len(done) == 2


def test_a_swallowed_interrupt_is_raised_again(
    monkeypatch: pytest.MonkeyPatch, signals: interrupts._Signals
) -> None:
    interrupts.install()
    monkeypatch.setattr(interrupts, "PATIENCE_S", 0.05)
    with pytest.raises(KeyboardInterrupt):
        send()  # caught by a library's bare except
    send()
    time.sleep(0.06)
    with pytest.raises(KeyboardInterrupt):
        send()
    assert len(signals.seen) == 3


def test_a_signal_waits_for_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts.install()
    (tmp_path / "interrupted_module.py").write_text(
        "import os, signal, threading, time\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "looks = sum(isinstance(t, threading.Timer) for t in threading.enumerate())\n"
        "time.sleep(0.1)\n"
        "done = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _import_and_wait()
    module = sys.modules.pop("interrupted_module")
    assert module.done
    assert module.looks == 1  # a second one would come after the end, when others hold the signals
    assert interrupts.exit_code() == 143


def _import_and_wait() -> None:
    import interrupted_module  # noqa: F401

    time.sleep(5)


def test_an_import_that_does_not_end_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts.install()
    monkeypatch.setattr(interrupts, "IMPORT_S", 0.1)
    (tmp_path / "endless_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        import endless_module  # noqa: F401
    assert time.monotonic() - begun < 10


def test_what_a_library_makes_of_an_interrupt_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def converted(*_: object, **__: object) -> None:
        try:
            send()
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None

    interrupts.install()
    monkeypatch.setattr("fgbench.api.table1", converted)
    assert run(["table1"]) == 130
    assert capsys.readouterr().err == "fgbench: interrupted\n"


def test_other_threads_are_left_alone() -> None:
    held = []

    def work() -> None:
        with interrupts.whole(), interrupts.steps():
            held.append((interrupts._signals.writing, interrupts.due()))

    one = threading.Thread(target=work)
    one.start()
    one.join()
    assert held == [(0, False)]


def test_ignored_signals_stay_ignored() -> None:
    """As under nohup, and for what a shell starts in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


STREAMS = {  # name -> redirections, words, exit code, begin of the line on stderr
    "a full disk": (
        ">/dev/full",
        "list presets",
        2,
        "fgbench: cannot write or read: standard output",
    ),
    "a full disk and the help": (">/dev/full", "--help", 2, "fgbench: cannot write or read: stand"),
    "closed": (">&-", "list presets", 2, "fgbench: standard output is closed"),
    "no stderr": ("2>&-", "list presets", 0, ""),
    "a full stderr": ("2>/dev/full", "list nothing", 2, ""),
    "all closed": ("<&- >&- 2>&-", "list presets", 2, ""),
    "a reader that has gone": ("| true", "list presets", 1, ""),
    "no file may grow": ("2>&1 >/dev/null | cat >&2", "list presets", 0, ""),
}


@pytest.mark.parametrize("name", mostly_slow(list(STREAMS), 4))
@pytest.mark.slow
def test_output_that_cannot_be_written_is_no_success(name: str, tmp_path: Path) -> None:
    where, words, code, line = STREAMS[name]
    limit = "ulimit -f 0; " if "grow" in name else ""
    script = f"{limit}set -o pipefail; {sys.executable} -m fgbench {words} {where}"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", script],
        env={**env, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code or (name == "a reader that has gone" and done.returncode == 0)
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == bool(line)


MASKS = """
import signal
from multiprocessing import get_context
from fgbench.records import interrupts

def child(pipe):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    pipe.send(sorted(n.name for n in blocked & set(interrupts.SIGNALS)))

if __name__ == "__main__":
    context = get_context("spawn")
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        with interrupts.unheard():
            process.start()
        print(*ours.recv())
        process.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked here")
def test_the_first_process_that_is_started_hears_no_signal_either(tmp_path: Path) -> None:
    """Python starts another process before it, and lets signals through again after that."""
    (tmp_path / "masks.py").write_text(MASKS)
    done = subprocess.run(
        [sys.executable, "masks.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.splitlines() == 2 * ["SIGHUP SIGINT SIGTERM"], done.stderr
