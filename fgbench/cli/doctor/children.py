"""Run tries in processes of their own: one that crashes or hangs is a finding, and harms no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.cli.doctor.finding import ABSENT, FAIL, WARN, Finding
from fgbench.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

START = "import sys; from fgbench.cli.doctor.serve import main; main(sys.argv[1:])"


@dataclass(frozen=True)
class Group:
    """Tries that share a process.

    Args:
        name: of the group, for a process that ends before its first try.
        module: whose ``tries`` are run.
        seconds: that it may take.
        state: of a try that ends its process: `FAIL` where it is needed, else `ABSENT`.
        mend: command for a try that ends its process, or is not finished in time.

    Example:
        >>> Group("compile", "fgbench.cli.doctor.compile_tries", 10.0, "--").state
        '--'
    """

    name: str
    module: str
    seconds: float
    state: str = FAIL
    mend: str = ""


class Child:
    """A process that runs a group of tries.

    Args:
        group: which tries.
        words: arguments for them.

    Example:
        >>> child = Child(Group("plug-ins", "fgbench.cli.doctor.plugin_tries", 60.0))
        >>> next(child.findings()).what  # doctest: +SKIP
        'plug-ins'
        >>> child.stop()
    """

    def __init__(self, group: Group, *words: str) -> None:
        self.group = group
        self._end = monotonic() + group.seconds
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, group.module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    def findings(self) -> Iterator[Finding]:
        """Wait for the process within its time and yield its findings.

        Yields:
            What it found, and one finding more where it ended before it was done.
        """
        late = False
        try:
            out, err = self._process.communicate(timeout=max(0.1, self._end - monotonic()))
        except subprocess.TimeoutExpired:
            late = True
            self._process.kill()
            out, err = self._process.communicate()
        at = self.group.name
        for line in out.decode("utf-8", "replace").splitlines():
            answer: dict[str, Any] = _read(line)
            if "begun" in answer:
                at = answer["begun"]
            elif answer:
                yield Finding(**answer)
        if late:  # on a busy machine too
            state = ABSENT if self.group.state == ABSENT else WARN
            why = f"not finished within {self.group.seconds:g} seconds"
            yield Finding(at, state, why, self.group.mend)
        elif self._process.returncode:
            yield Finding(at, self.group.state, self._why(err), self.group.mend)

    def _why(self, err: bytes) -> str:
        """Return why the process ended before it was done."""
        code = self._process.returncode
        if code < 0:
            return f"ends its process by {signal.Signals(-code).name}"
        said = err.decode("utf-8", "replace").strip().splitlines()
        return one_line(f"ends its process{': ' + said[-1] if said else ''}")

    def stop(self) -> None:
        """End the process if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _read(line: str) -> dict[str, Any]:
    """Read an answer; {} for a line that a library wrote."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
