"""Compare two versions of the code: the four questions in order of price.

Same: every exact number, bit for bit. True: what changed, against exact designs. Worse: what changed and is
true, over paired inits and seeds. Slower: times and memory over plain backprop, the two trees in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, unknown
from fgbench.runs.gate import acceptance, answers, same, slower, true, worse
from fgbench.runs.gate import finding as verdicts
from fgbench.runs.gate import side as probes
from fgbench.runs.gate.checkout import HERE, CannotRun, Repository
from fgbench.runs.gate.difference import Difference, difference
from fgbench.runs.gate.finding import VERDICTS, Finding
from fgbench.runs.gate.naming import of_true_mean
from fgbench.runs.gate.side import ProbeError
from fgbench.runs.gate.suspects import blamed_by, suspects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fgbench.runs.gate.naming import Row
    from fgbench.runs.gate.side import Side

PASSED, ALARM, FAILED = 0, 1, 3
"""Exit codes: same, better or accepted; worse, untrue or changed; a benchmark failed. 2 is a user's mistake,
4: the gate could not run."""
SCHEMA = 1
UNTOUCHED = "no file that differs is imported by what is computed: times are not compared either"
DEVICES = ("cpu", "cuda")
JUDGED = ("estimate", "scale", "training")
"""Kinds of the first question on which the later ones give the verdict."""


@dataclass(frozen=True)
class Report:
    """The report of the gate; it prints as a table.

    Args:
        a: the tree before: name and commit.
        b: the tree after.
        findings: of all questions.
        state: ``equal code``, ``identical`` (equal numbers), ``changed``, or ``not compared`` where the
            probe of the exact cells failed.
        notes: lines below the table.
        files: that differ in more than words.
        cells: exact cells that both trees have.
        numbers: their numbers.
        unwatched: what no exact cell watches, with the reason.
        asked: questions that were asked.
        accepted: the reason for which changes were accepted, "".
        accepts: question, kind and estimator or place of each of these.
        environment: versions and processor.
        seconds: that it took.
        cpu_seconds: of this process and the probes.

    Example:
        >>> report = Report({"name": "A"}, {"name": "B"}, (), "identical")
        >>> report.code, report.verdict
        (0, 'same')
    """

    a: Mapping[str, str]
    b: Mapping[str, str]
    findings: tuple[Finding, ...]
    state: str
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    cells: int = 0
    numbers: int = 0
    unwatched: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    accepted: str = ""
    accepts: tuple[tuple[str, str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that are worse or changed and that nobody accepted."""
        return tuple(
            f for f in self.findings if f.alarms and not acceptance.covered(f, self.accepts)
        )

    @property
    def code(self) -> int:
        """The exit code."""
        if self.alarms:
            return ALARM
        return FAILED if any(f.verdict == verdicts.FAILED for f in self.findings) else PASSED

    @property
    def verdict(self) -> str:
        """The gravest verdict; ``accepted`` where all alarms were."""
        found = {f.verdict for f in self.alarms}
        found |= {f.verdict for f in self.findings if not f.alarms}
        if any(f.alarms for f in self.findings) and not self.alarms:
            return "accepted"
        grave = [
            verdict for verdict in VERDICTS if verdict in found and verdict != verdicts.NOT_JUDGED
        ]
        return grave[0] if grave else verdicts.SAME

    def json(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {
            "schema": SCHEMA,
            "verb": "gate",
            **{
                name: value
                for name, value in asdict(self).items()
                if name not in ("findings", "accepts")
            },
            "verdict": self.verdict,
            "code": self.code,
            "findings": [self._row(finding) for finding in self.findings],
        }

    def _row(self, finding: Finding) -> dict[str, Any]:
        """Return a finding as JSON holds it, with the number of its cells and no number that is none."""
        found = asdict(replace(finding, cells=()))
        known = {name: None if value != value else value for name, value in found.items()}
        accepted = acceptance.covered(finding, self.accepts)
        return known | {"cells": len(finding.cells), "accepted": accepted}

    def __str__(self) -> str:
        from fgbench.reporting.terminal import gate_table

        return gate_table.text(self.json())


def gate(
    a: str = "HEAD~1",
    b: str = "HEAD",
    *,
    repository: str | Path = ".",
    exact: bool = False,
    accept: str = "",
    existing: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
    only: Mapping[str, Any] | None = None,
) -> Report:
    """Compare two versions of the code, as ``fgbench gate`` does.

    Args:
        a: revision before; ``.`` or ``WORKTREE`` is the working tree as it lies.
        b: revision after.
        repository: a folder in the repository.
        exact: ask only what needs neither a quiet machine nor many seeds: same, and true where it is not.
        accept: why the changes are wanted; they are recorded with this reason, and the gate passes.
        existing: Python interpreter of an environment that is there, in which both trees run; this one where
            None.
        device: ``cpu`` or ``cuda``, for times and memory.
        progress: called with a line now and then, such as ``print``.
        only: restricts the exact cells to ``groups``, ``estimators``, ``localities`` or ``archs``; for tests.

    Returns:
        The report; ``.code`` is the exit code.

    Raises:
        UsageError: for an unknown revision, interpreter or device.
        CannotRun: without git, a repository, or room on the disk.
    """
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    begun, spent, tell = monotonic(), _cpu_seconds(), progress or (lambda line: None)
    where = Repository.of(Path(repository))
    where.tidy()
    answers.tidy(where.answers)
    probes.tidy()
    python = _interpreter(existing)
    if device == "cuda" and not exact:
        _require_gpu(python)
    sides = where.side(a, python), where.side(b, python)
    notes = _notes(where, a, b)
    differ = difference(*(side.tree for side in sides))
    if differ.equal:
        report = _equal(*sides, differ)
    else:
        store = answers.Store(where.answers, _environment(sides[1]), tell)
        asked = _Asked(*sides, differ, store, exact, device, tell, only)
        report = _compared(asked)
    report = replace(
        report,
        notes=(*notes, *report.notes),
        seconds=monotonic() - begun,
        cpu_seconds=_cpu_seconds() - spent,
    )
    return _accepted(report, where, *sides, accept)


def _interpreter(given: str | Path | None) -> Path:
    """Return the interpreter that runs the probes."""
    if given is None:
        return Path(sys.executable)
    path = Path(given)
    for candidate in (path, path / "bin" / "python", path / "Scripts" / "python.exe"):
        if candidate.is_file():
            return candidate.absolute()
    raise UsageError(
        f"--existing is the Python of an environment, such as venv/bin/python; {path} is none"
    )


def _require_gpu(python: Path) -> None:
    """Refuse to time on a GPU that there is not.

    Raises:
        CannotRun: torch of the interpreter sees none.
    """
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([python, "-c", code], check=False, capture_output=True).returncode:
        raise CannotRun(f"device cuda was asked for, and torch of {python} sees no GPU")


def _notes(where: Repository, a: str, b: str) -> list[str]:
    """Return what is to be said of the trees: a working tree that differs from its commit."""
    changes = where.changes()
    if not changes:
        return []
    count = f"{len(changes)} file{'s' * (len(changes) > 1)}"
    if {a, b} & {*HERE}:
        return [f"the working tree is compared as it lies: {count} of fgbench/ differ from HEAD"]
    return [
        f"the working tree is dirty: {count} of fgbench/ differ from HEAD and are not compared; '.' does "
        "compare them"
    ]


@dataclass(frozen=True)
class _Asked:
    """The trees that are compared, and how.

    Args:
        a: the tree before.
        b: the tree after.
        differ: files that differ.
        store: where answers are kept, with versions and processor.
        exact: leave out what needs a quiet machine or many seeds.
        device: of times and memory.
        tell: called with a line of progress now and then.
        only: restricts the exact cells.
    """

    a: Side
    b: Side
    differ: Difference
    store: answers.Store
    exact: bool
    device: str
    tell: Callable[[str], None]
    only: Mapping[str, Any] | None

    @property
    def named(self) -> tuple[dict[str, str], dict[str, str]]:
        """Name and commit of both trees."""
        return _named(self.a), _named(self.b)


def _named(side: Side) -> dict[str, str]:
    """Return name and commit of a tree."""
    return {"name": side.name, "commit": side.commit}


def _environment(side: Side) -> dict[str, str]:
    """Return the versions and the processor of an interpreter; refuse one without torch."""
    try:
        found: dict[str, str] = side.run("machine", {}, timeout=60)
    except ProbeError as error:
        raise CannotRun(f"{side.python} does not run: {error.what}") from None
    if not found["torch"]:
        raise CannotRun(f"{side.python} is an environment without torch")
    return found


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _equal(a: Side, b: Side, differ: Difference) -> Report:
    """Return the report on trees of equal code."""
    count = len(differ.words)
    words = f"; {count} of its files differ in docstrings, comments or layout" * bool(count)
    return Report(
        _named(a), _named(b), (), "equal code", (f"the code of both trees is equal{words}",)
    )


def _compared(asked: _Asked) -> Report:
    """Ask the questions."""
    files = asked.differ.code
    try:
        found = same.ask(
            asked.a, asked.b, files=files, store=asked.store, tell=asked.tell, only=asked.only,
        )  # fmt: skip
    except ProbeError as error:
        failed = _with_suspects(_failed("same", error), files)
        report = Report(*asked.named, (failed,), "not compared", files=files, asked=("same",))
        return replace(report, environment=asked.store.environment)
    later, names = _later(asked, found)
    later = [_with_suspects(f, files, found.modules) for f in later]
    return Report(
        *asked.named, (*_judged(found.rows, later), *later), "identical" if found.identical else "changed",
        files=files, cells=found.cells, numbers=found.numbers, unwatched=found.unwatched,
        asked=("same", *names), environment=asked.store.environment, notes=(UNTOUCHED,) * found.untouched,
    )  # fmt: skip


def _failed(question: str, error: ProbeError) -> Finding:
    """Return the finding of a probe that gave no answer."""
    return Finding(
        question, "failed", error.side, error.what, verdict=verdicts.FAILED, suspects=error.files
    )


def _with_suspects(finding: Finding, files: Sequence[str], loaded: Collection[str] = ()) -> Finding:
    """Return a finding with the files of the difference that may be its cause."""
    if finding.suspects:
        return replace(finding, suspects=blamed_by(finding.suspects, files))
    if not finding.alarms:
        return finding
    return replace(finding, suspects=suspects(finding.kind, finding.cells, files, loaded))


def _later(asked: _Asked, found: same.Same) -> tuple[list[Finding], list[str]]:
    """Ask what follows the first question; after a probe that fails the next question is asked."""
    a, b, tell = asked.a, asked.b, asked.tell
    moved = [c for c in found.changes if c.how == "numbers" and not c.rounding]
    changed = [change.cell for change in moved]
    fresh = [c.cell for c in found.changes if c.how in ("new", "mended") and c.cell.method]
    findings: list[Finding] = []
    names: list[str] = []

    def put(question: str, ask: Callable[[], Sequence[Finding]]) -> None:
        """Ask one question."""
        names.append(question)
        try:
            findings.extend(ask())
        except ProbeError as error:
            findings.append(_failed(question, error))

    first = [row.finding for row in found.rows]
    if changed or fresh:
        put("true", lambda: true.ask(a, b, [*changed, *fresh], tell=tell, store=asked.store))
    if changed and not asked.exact and worse.plan(changed, [*first, *findings]):
        put(
            "worse",
            lambda: worse.ask(a, b, changed, [*first, *findings], tell=tell, store=asked.store),
        )
    if not asked.exact and not found.untouched:
        put("slower", lambda: slower.ask(a, b, device=asked.device, tell=tell))
    return findings, names


def _judged(rows: Sequence[Row], later: Sequence[Finding]) -> list[Finding]:
    """Return the findings of the first question, with the verdicts of the later ones on the same cells.

    A change is as grave as the gravest verdict on it once question 3 has judged every estimator of it, or
    question 2 has found it untrue. What neither has judged, or could judge, stays changed. Where question 3
    had time for some cells of it alone, the change says of how many. A factor on fixed noise is no scale of
    the gradient where both means are true: it is a factor of that noise.
    """
    found = []
    for row in rows:
        finding = replace(row.finding, cells=tuple(change.cell for change in row.changes))
        if finding.verdict == verdicts.CHANGED and finding.kind in JUDGED:
            about = [
                f
                for f in later
                if f.question in ("true", "worse")
                and f.verdict != verdicts.NOT_JUDGED
                and _shares(f, finding)
            ]
            judged = {name for f in about if f.question == "worse" for name in _estimators(f)}
            untrue = any(f.verdict == verdicts.WORSE for f in about)
            if untrue or (judged >= _estimators(finding) and about):
                grave = [
                    verdict for verdict in VERDICTS if any(f.verdict == verdict for f in about)
                ]
                if grave[0] != verdicts.FAILED:
                    compared = {c for f in about if f.question == "worse" for c in f.cells}
                    met = sum(cell in compared for cell in finding.cells)
                    part = not untrue and met < len(finding.cells)
                    what = finding.what if untrue else of_true_mean(finding)
                    what += f"; judged by {met} of {len(finding.cells)} cells" * part
                    finding = replace(finding, verdict=grave[0], what=what)
        found.append(finding)
    return found


def _estimators(finding: Finding) -> frozenset[str]:
    """Return the estimators that a finding is about."""
    return finding.estimators or frozenset({finding.where.partition(",")[0]})


def _shares(one: Finding, other: Finding) -> bool:
    """Return whether two findings are about a common estimator, and both about trainings or both not."""
    trained = ({cell.kind for cell in f.cells} == {"training"} for f in (one, other))
    alike = next(trained) == next(trained) or not one.cells
    return alike and bool(_estimators(one) & _estimators(other))


def _accepted(report: Report, where: Repository, a: Side, b: Side, reason: str) -> Report:
    """Return the report with what was accepted before, or is now."""
    if reason and report.alarms:
        try:
            made = acceptance.accept(where.accepted, a, b, reason, report.alarms)
        except OSError as error:
            made = acceptance.Acceptance.of(reason, report.alarms)
            line = f"the acceptance is not recorded: {where.accepted}: {error.strerror or error}"
            report = replace(report, notes=(*report.notes, line))
    else:
        made = acceptance.accepted(where.accepted, a, b)
    if not made.reason or not any(made.covers(f) for f in report.alarms):
        return report
    return replace(report, accepted=made.reason, accepts=made.findings)
