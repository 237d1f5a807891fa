"""Runs tests of an edited tree, each time in a process that has imported torch already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

UNNOTICED = (0, 4, 5)
"""Exit codes of pytest: all passed, a name that the edit changes, no test selected."""
SERVER = """
import json, os, signal, sys, time
import numpy, pytest, scipy.stats, torch

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os._exit(int(pytest.main(asked["options"])))
    end, done = time.monotonic() + asked["limit_s"], 0
    while not done and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    if not done:
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Runner:
    """Runs tests of one tree.

    Args:
        tree: a clone, in which files are edited.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=tree,
            env=environment(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fails(self, tests: list[str], options: tuple[str, ...], limit_s: float) -> bool:
        """Return whether tests fail, hang or end in an error.

        Args:
            tests: names of tests, files or folders.
            options: of pytest beside them.
            limit_s: seconds after which they hang.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        asked = self.tree.with_suffix(".tests")  # longer than a command line may be
        asked.write_text("".join(f"{test}\n" for test in tests), "utf-8")
        always = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        line = json.dumps({"options": [*always, *options, f"@{asked}"], "limit_s": limit_s})
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline()) not in UNNOTICED

    def close(self) -> None:
        """End the process."""
        self._server.kill()
        self._server.wait()


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which tests of a tree run."""
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
