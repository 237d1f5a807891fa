"""One of the two trees, and the probes that run in it.

A probe is a module of :mod:`fgbench.runs.gate.probe`. It runs in a process of its own that finds the package
of the tree; the tree may be older than this installation.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Self

from fgbench.errors import one_line
from fgbench.records.git import environment as outside_hooks
from fgbench.runs.suites.tracked import ONE_THREAD

if TYPE_CHECKING:
    from types import TracebackType

PROBES = Path(__file__).parent / "probe"
ANSWER_S = 600.0
"""Seconds that one answer may take."""


class ProbeError(Exception):
    """A probe gave no answer; the message is one line with the side, the probe and the reason.

    Args:
        side: name of the tree.
        probe: its name.
        what: the reason.
        files: of the tree that the error comes from, the likeliest first.

    Example:
        >>> str(ProbeError("HEAD", "exact", "KeyError: 'no' (exact.py:12)"))
        "HEAD: exact: KeyError: 'no' (exact.py:12)"
    """

    def __init__(self, side: str, probe: str, what: str, files: Sequence[str] = ()) -> None:
        super().__init__(one_line(f"{side}: {probe}: {what}"))
        self.side, self.probe, self.what = side, probe, one_line(what)
        self.files = tuple(files)


@dataclass(frozen=True)
class Side:
    """One of the two trees.

    Args:
        name: as typed, such as ``HEAD~1``.
        commit: its full hash; "" for files that are no commit.
        tree: folder that holds ``fgbench/``.
        python: interpreter that runs probes in it.

    Example:
        >>> Side("HEAD", 40 * "a", Path("/tmp/tree"), Path("python")).short
        'HEAD (aaaaaaaaaa)'
    """

    name: str
    commit: str
    tree: Path
    python: Path

    @property
    def short(self) -> str:
        """The name with the first digits of the commit."""
        known = not self.commit or self.commit.startswith(self.name)
        return (
            self.name[:10]
            if known and self.commit
            else self.name + f" ({self.commit[:10]})" * (not known)
        )

    def run(
        self, probe: str, request: Mapping[str, Any], *, timeout: float = ANSWER_S
    ) -> dict[str, Any]:
        """Return the answer of a probe in a process of its own.

        Args:
            probe: its name.
            request: what ``answer`` is called with, as JSON.
            timeout: seconds for the answer.

        Returns:
            The answer, from JSON.

        Raises:
            ProbeError: it raised, ended, was too late, or imported another fgbench than that of the tree.
        """
        with self.start(probe) as live:
            return live.ask(request, timeout=timeout)

    def start(self, probe: str) -> Live:
        """Return a probe in a process that stays and answers one request after the other.

        Args:
            probe: its name.

        Returns:
            A context; ``ask`` inside it. The process starts when it is entered.
        """
        return Live(self, probe)


class Live:
    """A probe whose process stays: it answers requests until the context ends.

    Args:
        side: the tree.
        probe: name of its file.
    """

    def __init__(self, side: Side, probe: str) -> None:
        self.side, self.probe = side, probe
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._alive = -1
        self._unread = b""

    def __enter__(self) -> Self:
        """Start the process."""
        self._errors = tempfile.TemporaryFile()  # closed on exit
        theirs, self._alive = os.pipe()  # it ends with this process: the probe does so too
        command = [
            str(self.side.python),
            "-P",
            "-X",
            "faulthandler",
            str(PROBES / "serve.py"),
            self.probe,
            str(theirs),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=self.side.tree,
                env=environment(self.side.tree),
                pass_fds=(theirs,),
                start_new_session=True,  # a Ctrl-C ends it through this process, without a traceback
            )
        except OSError as error:
            self._errors.close()
            os.close(self._alive)
            raise ProbeError(
                self.side.name, self.probe, f"{self.side.python}: {error.strerror}"
            ) from None
        finally:
            os.close(theirs)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(OSError):
                process.stdin.close()
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            os.close(self._alive)
        if self._errors is not None:
            self._errors.close()

    def ask(self, request: Mapping[str, Any], *, timeout: float = ANSWER_S) -> dict[str, Any]:
        """Return the answer to one request.

        Args:
            request: what the probe's ``answer`` is called with, as JSON.
            timeout: seconds for the answer.

        Returns:
            The answer, from JSON.

        Raises:
            ProbeError: it raised, ended, was too late, or imported another fgbench than that of the tree.
        """
        self.send(request)
        return self.receive(timeout=timeout)

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request whose answer is received later, so that two sides work at the same time.

        Args:
            request: what the probe's ``answer`` is called with, as JSON.

        Raises:
            ProbeError: the process has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def receive(self, *, timeout: float = ANSWER_S) -> dict[str, Any]:
        """Return the answer to the oldest request that was sent.

        Args:
            timeout: seconds for the answer, from now on.

        Returns:
            The answer, from JSON.

        Raises:
            ProbeError: as of :meth:`ask`.
        """
        answer = json.loads(self._line(monotonic() + timeout, timeout))
        if "error" in answer:
            raise ProbeError(self.side.name, self.probe, answer["error"], answer.get("files", ()))
        found: dict[str, Any] = answer["answer"]
        return found

    def _line(self, until: float, timeout: float) -> bytes:
        """Return the next line that the process writes."""
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = until - monotonic()
                if left <= 0 or not waiting.select(left):
                    what = f"no answer within {timeout:g} s"
                    raise ProbeError(self.side.name, self.probe, what)
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    raise self._ended()
                self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ended(self) -> ProbeError:
        """Return the error of a process that ended without an answer."""
        assert self._process is not None
        assert self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return ProbeError(self.side.name, self.probe, how + f": {last}" * bool(last))


def tidy(folder: Path | None = None) -> None:
    """Remove the temporary folders of probes that were killed.

    Args:
        folder: where they lie; that of the system where None.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     left = Path(folder, "fgbench-probe-999999999-a")
        ...     left.mkdir()
        ...     tidy(Path(folder))
        ...     left.exists()
        False
    """
    for path in (folder or Path(tempfile.gettempdir())).glob("fgbench-probe-*"):
        pid = path.name.split("-")[2]
        if pid.isdigit() and not running(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def running(pid: int) -> bool:
    """Return whether a process exists.

    Args:
        pid: its number.

    Example:
        >>> running(os.getpid())
        True
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def environment(tree: Path) -> dict[str, str]:
    """Return the environment variables of a probe: the tree's package first, and one thread.

    Args:
        tree: folder that holds ``fgbench/``.

    Returns:
        Those of this process, with these changes.

    Example:
        >>> environment(Path("/tmp/tree"))["OMP_NUM_THREADS"]
        '1'
    """
    fixed = {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0", "FGBENCH_GATE_TREE": str(tree)}
    return outside_hooks() | ONE_THREAD | fixed
