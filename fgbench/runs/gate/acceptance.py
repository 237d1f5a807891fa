"""Changes that somebody wanted, with the reason: a reseed, a better default."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fgbench.records import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fgbench.runs.gate.finding import Finding
    from fgbench.runs.gate.side import Side


@dataclass(frozen=True)
class Acceptance:
    """The changes between two trees that were accepted.

    Args:
        reason: why it was wanted.
        findings: question, kind and place of each finding.

    Example:
        >>> Acceptance("reseed", (("same", "draws", "all laws"),)).reason
        'reseed'
    """

    reason: str
    findings: tuple[tuple[str, str, str], ...]

    def covers(self, finding: Finding) -> bool:
        """Return whether a finding was accepted.

        Args:
            finding: of a later call.
        """
        return identity(finding) in self.findings


NONE = Acceptance("", ())


def identity(finding: Finding) -> tuple[str, str, str]:
    """Return by what a finding is recognised: its question, kind and place, not its numbers.

    Args:
        finding: the finding.

    Returns:
        The three texts.

    Example:
        >>> from fgbench.runs.gate.finding import Finding
        >>> identity(Finding("same", "draws", "all laws", "other random numbers"))
        ('same', 'draws', 'all laws')
    """
    return finding.question, finding.kind, finding.where


def accepted(folder: Path, a: Side, b: Side) -> Acceptance:
    """Return what was accepted between two commits; nothing where one of them is a working tree.

    Args:
        folder: of acceptances.
        a: the tree before.
        b: the tree after.

    Returns:
        The acceptance.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.gate.side import Side
        >>> side = Side("HEAD", 40 * "a", Path("."), Path("python"))
        >>> accepted(Path("no-such-folder"), side, side).reason
        ''
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(_path(folder, a, b).read_text("utf-8"))
        if a.commit and b.commit:
            return Acceptance(found["reason"], tuple(map(tuple, found["accepted"])))
    return NONE


def accept(folder: Path, a: Side, b: Side, reason: str, findings: Iterable[Finding]) -> Acceptance:
    """Record that changes between two trees are wanted.

    Args:
        folder: of acceptances; one file for each pair of trees.
        a: the tree before.
        b: the tree after.
        reason: why.
        findings: that are accepted, beside those that were before.

    Returns:
        The acceptance.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fgbench.runs.gate.finding import Finding
        >>> from fgbench.runs.gate.side import Side
        >>> a, b = (Side(name, 40 * name, Path("."), Path("python")) for name in "ab")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = accept(Path(folder), a, b, "reseed", [Finding("same", "draws", "all laws", "others")])
        ...     accepted(Path(folder), a, b).findings
        (('same', 'draws', 'all laws'),)
    """
    every = list(findings)
    before = accepted(folder, a, b).findings
    made = Acceptance(reason, tuple(dict.fromkeys((*before, *map(identity, every)))))
    content: dict[str, Any] = {
        "a": {"name": a.name, "commit": a.commit},
        "b": {"name": b.name, "commit": b.commit},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": reason,
        "accepted": made.findings,
        "findings": [{"where": f.where, "what": f.what, "verdict": f.verdict} for f in every],
    }
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(_path(folder, a, b), json.dumps(content, indent=1))
    return made


def _path(folder: Path, a: Side, b: Side) -> Path:
    """Return the file of a pair of trees."""
    pair = hashlib.sha256(f"{a.commit or a.tree}\n{b.commit or b.tree}".encode()).hexdigest()[:16]
    return folder / f"{pair}.json"
