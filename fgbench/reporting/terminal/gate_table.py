"""The report of ``fgbench gate`` as a table on the terminal and as Markdown."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from fgbench.reporting.terminal.table import StackingTable, console, make

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS = ("what changed", "where", "before", "after", "95 % interval", "verdict", "suspect")
QUESTIONS = {"same": "same?", "true": "true?", "worse": "worse?", "slower": "slower?"}
STATES = {
    "equal code": "equal code: nothing to compare",
    "identical": "identical: {numbers:,} numbers of {cells:,} cells are the same bit for bit",
    "changed": "{numbers:,} numbers of {cells:,} cells compared bit for bit",
    "not compared": "the exact numbers could not be compared",
}
UNWATCHED_SHOWN = 6


def parts(report: Mapping[str, Any]) -> list[StackingTable | str]:
    """Return what is shown of a report: a line, a table of findings, lines.

    Args:
        report: as :meth:`fgbench.runs.gate.gate.Report.json` returns it.

    Returns:
        The parts, from top to bottom.

    Example:
        >>> report = {"a": {"name": "A"}, "b": {"name": "B"}, "state": "equal code", "findings": []}
        >>> parts({**report, "verdict": "same", "code": 0})
        ['A -> B: equal code: nothing to compare', 'gate: same']
    """
    shown: list[StackingTable | str] = [title(report)]
    if report["findings"]:
        table = make("", COLUMNS, "")
        for finding in report["findings"]:
            table.add_row(*row(finding))
        shown.append(table)
    return [*shown, *lines(report)]


def title(report: Mapping[str, Any]) -> str:
    """Return the first line: which trees, and how far their numbers are the same.

    Args:
        report: the report.

    Returns:
        The line.

    Example:
        >>> report = {"a": {"name": "main", "commit": 40 * "1"}, "b": {"name": "."}, "state": "identical"}
        >>> title({**report, "cells": 2, "numbers": 9})
        'main (1111111111) -> .: identical: 9 numbers of 2 cells are the same bit for bit'
    """
    names = [_name(report[side]) for side in ("a", "b")]
    counts = {name: report.get(name, 0) for name in ("numbers", "cells")}
    return f"{names[0]} -> {names[1]}: {STATES[report['state']].format(**counts)}"


def row(finding: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one finding.

    Args:
        finding: the finding.

    Returns:
        A text per column.

    Example:
        >>> found = {"question": "same", "kind": "scale", "where": "fg_w", "what": "scale .9800"}
        >>> row({**found, "before": 1.0, "after": 0.98, "verdict": "worse", "suspects": ["a.py"]})
        ('same? scale: scale .9800', 'fg_w', '1', '0.98', '', 'worse', 'a.py')
    """
    unit = finding.get("unit", "")
    before, after = (_number(finding.get(name)) for name in ("before", "after"))
    verdict = finding["verdict"] + " (accepted)" * bool(finding.get("accepted"))
    return (
        f"{QUESTIONS[finding['question']]} {finding['kind']}: {finding['what']}",
        finding["where"],
        f"{before} {unit}".strip() if before else "",
        after,
        _interval(finding.get("low"), finding.get("high")),
        verdict,
        ", ".join(finding.get("suspects", ())),
    )


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the lines below the table: notes, what is not watched, and the verdict.

    Args:
        report: the report.

    Returns:
        The lines; the last one is the verdict.

    Example:
        >>> lines({"notes": ["a note"], "unwatched": {"data mnist": "no files"}, "verdict": "same"})
        ['a note', 'not watched by exact cells: data mnist (no files)', 'gate: same']
    """
    found = list(report.get("notes", ()))
    unwatched = report.get("unwatched", {})
    if unwatched:
        few = [f"{name} ({why})" for name, why in list(unwatched.items())[:UNWATCHED_SHOWN]]
        more = len(unwatched) - len(few)
        found.append(
            "not watched by exact cells: " + ", ".join(few) + f" and {more} more" * bool(more)
        )
    asked = report.get("asked", ())
    if asked:
        left = [word for name, word in QUESTIONS.items() if name not in asked]
        found.append(
            "asked: "
            + " ".join(QUESTIONS[name] for name in asked)
            + f"; not asked: {' '.join(left)}" * bool(left)
        )
        timed = [f for f in report.get("findings", ()) if f["question"] == "slower"]
        if "slower" in asked and not timed:
            found.append("slower? nothing of what is timed takes longer or more memory")
    reason = ""
    if report.get("accepted"):
        by = report["accepted"]
        reason = f": {by}" if report["verdict"] == "accepted" else f"; others accepted: {by}"
    spent = ""
    if report.get("cpu_seconds", 0) >= 1:
        spent = f" ({report['seconds']:.0f} s, {report['cpu_seconds']:.0f} CPU seconds)"
    return [*found, f"gate: {report['verdict']}{reason}{spent}"]


def text(report: Mapping[str, Any]) -> str:
    """Return a report as plain text, for Python.

    Args:
        report: the report.

    Returns:
        The text.

    Example:
        >>> report = {"a": {"name": "A"}, "b": {"name": "B"}, "state": "equal code", "findings": []}
        >>> print(text({**report, "verdict": "same", "code": 0}))
        A -> B: equal code: nothing to compare
        gate: same
    """
    out = StringIO()
    printer = console(out)
    for part in parts(report):
        printer.print(part)
    return out.getvalue().rstrip()


def markdown(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown, such as for a comment on a pull request.

    Args:
        report: the report.

    Returns:
        The text; characters that end a cell are escaped.

    Example:
        >>> report = {"a": {"name": "A"}, "b": {"name": "B"}, "state": "equal code", "findings": []}
        >>> print(markdown({**report, "verdict": "same", "code": 0}))
        **gate: same**
        <BLANKLINE>
        A -> B: equal code: nothing to compare
    """
    *beside, verdict = lines(report)
    blocks = [f"**{verdict}**", title(report)]
    if report["findings"]:
        rows = [COLUMNS, ["---"] * len(COLUMNS), *(row(finding) for finding in report["findings"])]
        blocks.append("\n".join(_markdown_row(cells) for cells in rows))
    return "\n\n".join([*blocks, *beside])


def _markdown_row(cells: Sequence[str]) -> str:
    """Return one row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _name(side: Mapping[str, Any]) -> str:
    """Return a tree as it was typed, with the first digits of its commit."""
    commit = side.get("commit") or ""
    return (
        f"{side['name']} ({commit[:10]})"
        if commit and not commit.startswith(side["name"])
        else side["name"][:40]
    )


def _number(value: Any) -> str:
    """Return a number with at most four digits, "" for none."""
    return "" if value is None else f"{value:.4g}"


def _interval(low: Any, high: Any) -> str:
    """Return an interval, "" for none."""
    if low is None and high is None:
        return ""
    ends = ("?" if end is None else f"{end:.4g}" for end in (low, high))
    return f"[{', '.join(ends)}]"
