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
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from fgbench.runs.gate.finding import Finding
    from fgbench.runs.gate.side import Side


@dataclass(frozen=True)
class Acceptance:
    """The changes between two trees that were accepted.

    Args:
        reason: why it was wanted.
        findings: question, kind and estimator, or place, of each finding.

    Example:
        >>> Acceptance("reseed", (("same", "draws", "all laws"),)).reason
        'reseed'
    """

    reason: str
    findings: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(
        cls,
        reason: str,
        findings: Iterable[Finding],
        before: Iterable[tuple[str, str, str]] = (),
    ) -> Acceptance:
        """Return the acceptance of findings, beside what was accepted before.

        Args:
            reason: why it was wanted.
            findings: that are accepted.
            before: question, kind and estimator, or place, of what was accepted before.
        """
        new = (one for finding in findings for one in identities(finding))
        return cls(reason, tuple(dict.fromkeys((*before, *new))))

    def covers(self, finding: Finding) -> bool:
        """Return whether a finding was accepted.

        Args:
            finding: of a later call.
        """
        return covered(finding, self.findings)


NONE = Acceptance("", ())


def identities(finding: Finding) -> tuple[tuple[str, str, str], ...]:
    """Return by what a finding is recognised: question, kind and estimators, not its numbers.

    How many localities and networks of an estimator were reached is no part of it: that depends on time.

    Args:
        finding: the finding.

    Returns:
        The three texts for every estimator; its place where it is about none.

    Example:
        >>> from fgbench.runs.gate.finding import Cell, Finding
        >>> identities(Finding("same", "draws", "all laws", "other random numbers"))
        (('same', 'draws', 'all laws'),)
        >>> cells = (Cell("estimate", "one", "np/end"), Cell("estimate", "two", "np/local"))
        >>> identities(Finding("true", "scale", "np, 2 localities", "scale 1.03", cells=cells))
        (('true', 'scale', 'np'),)
    """
    names = sorted(finding.estimators) or [finding.where]
    return tuple((finding.question, finding.kind, name) for name in names)


def covered(finding: Finding, accepted: Collection[tuple[str, str, str]]) -> bool:
    """Return whether all that a finding is recognised by was accepted.

    Args:
        finding: the finding.
        accepted: as of :func:`identities`.

    Example:
        >>> from fgbench.runs.gate.finding import Finding
        >>> covered(Finding("same", "draws", "all laws", "others"), [("same", "draws", "all laws")])
        True
    """
    return all(one in accepted for one in identities(finding))


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
    made = Acceptance.of(reason, every, before)
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
