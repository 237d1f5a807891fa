"""A time limit ends what sleeps, what catches everything and what never lets Python run."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import pytest

from fgbench.core.time_limit import time_limit
from fgbench.errors import TimedOut, UsageError

START = "import time; from fgbench.core import time_limit; time_limit.GRACE = 0.1; time_limit.AGAIN = 60\n"
SWALLOWS = """
with time_limit.time_limit(0.1, "it"):
    while True:
        try:
            time.sleep(30)
        except BaseException: pass
"""
IN_C = "with time_limit.time_limit(0.1, 'it'): sum(range(10**12))"


def ended(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60.0, "it"), time_limit(None, "it"):
        pass
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def forever() -> None:
    while True:
        with contextlib.suppress(Exception):
            sleep(30.0)


def limited(seconds: float, what: str, run: Callable[[], None]) -> None:
    with time_limit(seconds, what):
        run()


def test_errors_that_a_method_may_catch_do_not_stop_it() -> None:
    start = monotonic()
    with pytest.raises(TimedOut, match=r"^mine\.py:X was not finished within 0\.05 s$"):
        limited(0.05, "mine.py:X", forever)
    assert monotonic() - start < 5.0


def test_an_inner_limit_leaves_the_outer_one() -> None:
    def run() -> None:
        with pytest.raises(TimedOut, match="inner"):
            limited(0.05, "inner", forever)
        forever()

    with pytest.raises(TimedOut, match="outer"):
        limited(0.3, "outer", run)


def test_what_catches_everything_ends_with_one_line() -> None:
    done = ended(SWALLOWS)
    assert done.returncode == 1
    assert (
        done.stderr == "fgbench: it was not finished within 0.1 s, and it does not stop by itself\n"
    )


def test_what_never_lets_python_run_ends_with_where_it_is() -> None:
    done = ended(IN_C)
    assert done.returncode == 1
    assert "Timeout" in done.stderr


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_limit_is_a_positive_number(seconds: float) -> None:
    with pytest.raises(UsageError, match="above 0"), time_limit(seconds, "it"):
        pass


def test_another_thread_is_told_so() -> None:
    said: list[Any] = []

    def run() -> None:
        try:
            with time_limit(1.0, "it"):
                pass
        except UsageError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == ["a time limit can be set in the main thread only"]
