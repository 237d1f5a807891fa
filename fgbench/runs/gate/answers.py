"""Answers of probes, kept on the disk: equal code gives equal answers at fixed seeds on one machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

from fgbench.records import atomic
from fgbench.runs.gate.difference import tree_digest
from fgbench.runs.gate.side import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fgbench.runs.gate.side import Live, Side

LACKED = re.compile("MemoryError|OSError|No space left|not enough memory|alloc")
"""Failures of the machine and not of the code."""
KEPT = 200_000_000
"""Bytes of answers that are kept."""
LISTS = ("cells", "laws", "intervals")
"""Parts of an answer of which each has numbers or a reason."""


@dataclass(frozen=True)
class Store:
    """Where answers of this machine are kept.

    Args:
        folder: where they lie.
        environment: versions and processor, as the probe ``machine`` returns them.
        tell: called with a line where one cannot be kept.

    Example:
        >>> from pathlib import Path
        >>> Store(Path("answers"), {}, print).folder.name
        'answers'
    """

    folder: Path
    environment: Mapping[str, str]
    tell: Callable[[str], None]


class Replies:
    """The answers of a probe in one tree: those that are kept, and others by a process.

    The process starts with the first request whose answer is not kept, and ends with the context.

    Args:
        side: the tree and its interpreter.
        probe: name of the probe.
        store: where answers are kept; none are where None.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.gate.side import Side
        >>> with Replies(Side("HEAD", "", Path("."), Path("python")), "exact", None) as replies:
        ...     replies.started
        False
    """

    def __init__(self, side: Side, probe: str, store: Store | None) -> None:
        self._side, self._probe = side, probe
        self._answers = None if store is None else Answers.of(side, probe, store)
        self._running = ExitStack()
        self._live: Live | None = None
        self._sent: deque[tuple[Mapping[str, Any], dict[str, Any] | None]] = deque()

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the process, if there is one."""
        self._running.close()

    @property
    def started(self) -> bool:
        """Whether a process was started."""
        return self._live is not None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request.

        Args:
            request: what the probe is asked.

        Raises:
            ProbeError: it gave none.
        """
        found = self._found(request)
        return self._kept(request, self._process().ask(request)) if found is None else found

    def send(self, request: Mapping[str, Any]) -> bool:
        """Send a request whose answer is received later, so that two trees work at the same time.

        Args:
            request: what the probe is asked.

        Returns:
            Whether it is computed: its answer is not kept.

        Raises:
            ProbeError: the process has ended.
        """
        found = self._found(request)
        self._sent.append((request, found))
        if found is None:
            self._process().send(request)
        return found is None

    def receive(self) -> dict[str, Any]:
        """Return the answer to the oldest request that was sent.

        Raises:
            ProbeError: there is none.
        """
        request, found = self._sent.popleft()
        return self._kept(request, self._process().receive()) if found is None else found

    def _process(self) -> Live:
        """Return the process, started if it is not."""
        if self._live is None:
            self._live = self._running.enter_context(self._side.start(self._probe))
        return self._live

    def _found(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the kept answer to a request, None where there is none."""
        return None if self._answers is None else self._answers.find(request)

    def _kept(self, request: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Keep an answer and return it."""
        if self._answers is not None:
            self._answers.keep(request, answer)
        return answer


@dataclass(frozen=True)
class Answers:
    """The kept answers of one probe for one side.

    Args:
        folder: where they are kept.
        key: hash of the tree, the probes and the environment.
        tell: called where an answer cannot be kept.
        current: whether the tree is still that of the key; a working tree may be edited meanwhile.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     answers = Answers(Path(folder), "k", print)
        ...     answers.keep({"ask": "one"}, {"cells": []})
        ...     answers.find({"ask": "one"}), answers.find({"ask": "two"})
        ({'cells': []}, None)
    """

    folder: Path
    key: str
    tell: Callable[[str], None]
    current: Callable[[], bool] = lambda: True

    @classmethod
    def of(cls, side: Side, probe: str, store: Store) -> Answers:
        """Return the answers of a probe for a side.

        Args:
            side: the tree and its interpreter.
            probe: name of the probe.
            store: where answers are kept.

        Returns:
            The answers.
        """
        tree = tree_digest(side.tree)
        digest = hashlib.sha256(tree.encode())
        for file in sorted(PROBES.rglob("*.py")):
            digest.update(file.read_bytes())
        digest.update(f"{probe}\n".encode())
        digest.update(json.dumps(dict(store.environment), sort_keys=True).encode())
        current = (lambda: True) if side.commit else (lambda: tree_digest(side.tree) == tree)
        return cls(store.folder, digest.hexdigest()[:32], store.tell, current)

    def find(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a kept answer, None where there is none.

        Args:
            request: what the probe would be asked.
        """
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self._path(request).read_text("utf-8"))
            return found
        return None

    def keep(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep an answer; a disk that is full costs the answer and not the comparison.

        An answer in which a cell lacked memory or room is not kept: they may be there next time.

        Args:
            request: what the probe was asked.
            answer: what it answered.
        """
        parts = (part for name in LISTS for part in answer.get(name, ()))
        if any(map(_lacked, parts)) or not self.current():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(self._path(request), json.dumps(answer))
        except OSError as error:
            self.tell(f"answers are not kept: {self.folder}: {error.strerror or error}")

    def _path(self, request: Mapping[str, Any]) -> Path:
        """Return the file of an answer."""
        text = json.dumps(dict(request), sort_keys=True)
        return self.folder / f"{self.key}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _lacked(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell has no numbers for want of memory or room."""
    failed = cell.get("failed") or (cell.get("reason") if cell.get("status") == "failed" else "")
    return bool(LACKED.search(failed or ""))


def tidy(folder: Path) -> None:
    """Remove all but the latest answers, and what killed writers left.

    Args:
        folder: where answers are kept; may be missing.

    Example:
        >>> from pathlib import Path
        >>> tidy(Path("no-such-folder"))
    """
    atomic.tidy(folder)
    with suppress(OSError):
        found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path, size in zip(
            found, accumulate(path.stat().st_size for path in found), strict=True
        ):
            if size > KEPT:
                path.unlink(missing_ok=True)
