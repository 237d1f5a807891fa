"""Answers of exact probes, kept on the disk: equal code on one machine gives equal answers."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgbench.records import atomic
from fgbench.runs.gate.difference import tree_digest
from fgbench.runs.gate.side import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fgbench.runs.gate.side import Side

LACKED = re.compile("MemoryError|OSError|No space left|not enough memory|alloc")
"""Failures of the machine and not of the code."""
KEPT = 400
"""Answers that are kept."""


@dataclass(frozen=True)
class Answers:
    """The answers of one probe for one side.

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
    def of(
        cls,
        side: Side,
        probe: str,
        folder: Path,
        environment: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> Answers:
        """Return the answers of a probe for a side.

        Args:
            side: the tree and its interpreter.
            probe: name of the probe.
            folder: where answers are kept.
            environment: versions and processor, as the probe ``machine`` returns them.
            tell: called with a line where one cannot be kept.

        Returns:
            The answers.
        """
        tree = tree_digest(side.tree)
        digest = hashlib.sha256(tree.encode())
        for file in sorted(PROBES.rglob("*.py")):
            digest.update(file.read_bytes())
        digest.update(f"{probe}\n".encode())
        digest.update(json.dumps(dict(environment), sort_keys=True).encode())
        current = (lambda: True) if side.commit else (lambda: tree_digest(side.tree) == tree)
        return cls(folder, digest.hexdigest()[:32], tell, current)

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
        lacked = any(LACKED.search(cell.get("failed", "")) for cell in answer.get("cells", ()))
        if lacked or not self.current():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(self._path(request), json.dumps(answer))
        except OSError as error:
            self.tell(f"answers are not kept: {self.folder}: {error.strerror or error}")

    def _path(self, request: Mapping[str, Any]) -> Path:
        """Return the file of an answer."""
        text = json.dumps(request, sort_keys=True)
        return self.folder / f"{self.key}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


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
        for path in found[KEPT:]:
            path.unlink(missing_ok=True)
