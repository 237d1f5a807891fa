"""The leaderboard as a page of Markdown: every row with its interval, its commit and its command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fgbench.errors import UsageError
from fgbench.records import atomic
from fgbench.records.metrics import FRACTION
from fgbench.reporting.figures.gap_against_efficiency import NAME as FIGURE
from fgbench.reporting.figures.gap_against_efficiency import draw
from fgbench.reporting.frames.comparisons import KINDS, Row, gaps, rows
from fgbench.reporting.frames.load import load
from fgbench.reporting.frames.settings import part_of, real
from fgbench.reporting.paper.markdown import table
from fgbench.stats.reporting import number

HEAD = (
    *("row", "method", "test", "gap", "verdict", "at equal epochs", "at equal seconds"),
    *("forwards a step", "step / BP", "memory / BP", "efficiency", "lr", "n", "commit"),
)
INTRODUCTION = """\
# Leaderboard

How well networks learn by other methods than backprop, and at what price. Every method, backprop included,
has the same tuning budget: as many learning rates, for as many forward equivalents. Its rate is chosen on
held-out training examples, and it is then trained on fresh seeds, of which any two methods share the initial
weights and the order of examples. A forward equivalent is the work of one forward pass; a step of backprop
costs 3. Brackets are 95 % intervals.

"""
MEANINGS = {
    "row": "`fgbench leaderboard verify ROW`, in a checkout of this repository, trains it again and shows "
    "whether it falls inside its interval",
    "method": "as it is typed after `fgbench train`, the best first; `fgbench list` explains the parts of a "
    "name; ∘: estimates no gradient",
    "test": "the metric named above the table, after all methods have spent the same forward equivalents: "
    "the mean over seeds",
    "gap": "how much worse that is than the reference, over paired seeds; below 0 is better",
    "verdict": "*better* or *worse*: the difference is no chance of seeds or test examples, by sign flips "
    "and t tests adjusted for all methods of the table; *within the margin*: it is surely smaller than the "
    "margin, by two one-sided tests; *undecided*: neither",
    "at equal epochs, at equal seconds": "test and verdict where each method trains for as many epochs, or "
    "for as long, as the reference",
    "forwards a step": "price of a step, in forward passes of its batch",
    "step / BP, memory / BP": "time and peak memory of a step over those of backprop in plain PyTorch, so "
    "that the row of BP need not be 1",
    "efficiency": "of the gradient estimate at initialisation, against the gradient of the method's own "
    "losses: 1 has neither noise nor bias (`fgbench explain efficiency`); *sign not resolved*: over "
    "networks, the estimate does not surely point along the gradient, nor against it; *points uphill*: "
    "surely against it",
    "lr": "the chosen rate; *: divided by √10, because it diverged in the longer run",
    "n": "seeds",
    "commit": "of the code that made the row",
}


def write(folder: Path, out: Path, task: str = "*") -> Path:
    """Write the leaderboard of a folder of records, and its figure beside it.

    Args:
        folder: of records of ``compare`` and, for the efficiencies, of ``measure``.
        out: the page.
        task: only tasks whose "network on data" matches.

    Returns:
        The path of the page.

    Raises:
        UsageError: the folder does not exist, or holds no comparison of such a task.

    Example:
        >>> write(Path("nowhere"), Path("LEADERBOARD.md"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of records, got 'nowhere': no such folder
    """
    records = load(folder)
    if not (listed := rows(records, task)):
        raise UsageError(
            f"no comparison of a task {task!r} in {str(folder)!r}; run fgbench compare"
        )
    parts = [INTRODUCTION + table(("column", "meaning"), MEANINGS.items(), left=2)]
    if len(gaps(records)) > 1:
        beside = out.parent / out.stem.lower()
        draw(records, beside, formats=["png"])
        picture = f"{beside.name}/{FIGURE}.png"
        parts.append(f"![Test error above the reference's against efficiency]({picture})")
        parts.append((beside / f"{FIGURE}.txt").read_text("utf-8").strip())
    for name, mine in groupby(listed, key=lambda row: row.task):
        parts += section(name, list(mine))
    atomic.write_text(out, "\n\n".join(parts) + "\n")
    return out


def section(task: str, mine: Sequence[Row]) -> list[str]:
    """Return the part of the page about one task: its table and its commands.

    Args:
        task: its name.
        mine: its rows.

    Returns:
        Blocks of Markdown.

    Example:
        >>> record = {"key": "01234567", "arch": "mlp-2x8", "data": "digits", "method": "BP"}
        >>> record |= {"status": "diverged", "reason": "loss not finite", "results": []}
        >>> section("mlp-2x8 on digits", [Row(record)])[0]
        '## mlp-2x8 on digits'
    """
    metric = mine[0].metric
    budget = part_of(mine[0].record, "settings")
    margin = real(budget.get("margin")) * metric.factor
    reference, forwards = budget.get("reference"), real(budget.get("forwards"))
    chance = "" if metric.chance is None else f", chance {metric.chance * metric.factor:.3g}"
    points = " points" * (metric.unit == FRACTION)
    about = (
        f"{metric.axis('test')}{chance}; reference {reference}, {forwards:g} forward equivalents per "
        f"training example, budget {budget.get('budget')}, margin of equivalence {margin:.3g}{points}"
        f"{_machine(mine[0])}."
    )
    lost = [
        f"{row.record['method']}: {row.record['status']}: {row.record['reason']}"
        for row in mine
        if row.record["status"] != "ok"
    ]
    commands = [f"{row.id}  {command(row)}" for row in mine if command(row)]
    whole = list(dict.fromkeys(str(row.record.get("command") or "") for row in mine))
    folded = "\n".join(
        ["<details><summary>Commands</summary>", "",
         "The first makes the whole table; each of the others trains the seeds of one row again.", "",
         "```", *filter(None, whole), *commands, "```", "", "</details>"]
    )  # fmt: skip
    return [f"## {task}", about, table(HEAD, map(_cells, mine), left=2), *lost, folded]


def _machine(row: Row) -> str:
    """Return on what the steps of a task were timed, as the end of a sentence; "" where it is not stated."""
    where = part_of(row.record, "where")
    name, threads = where.get("device_name"), real(where.get("threads"))
    counted = f", {threads:g} thread{'s' * (threads != 1)}" if threads == threads else ""
    return f"; timed on {name}{counted}" if name else ""


def command(row: Row) -> str:
    """Return the command that trains the runs of a row.

    Example:
        >>> command(Row({"results": [{"at": "forwards", "command": "fgbench train BP"}]}))
        'fgbench train BP'
    """
    return str(row.at("forwards").get("command") or "")


def _cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    record = row.record
    mark = "" if str(record.get("kind") or "gradient") == "gradient" else " ∘"
    commit = str(record.get("commit") or "")
    short = commit[:9] + "+dirty" * commit.endswith("+dirty")
    lowered = "*" if row.at("forwards").get("lowered") else ""
    rate = real(row.at("forwards").get("lr"))
    others = [f"{_number(row.test(kind))}, {row.verdict(kind) or '–'}" for kind in KINDS[1:]]
    return [
        row.id,
        f"{record['method']}{mark}",
        _number(row.test()),
        _number(row.gap()),
        row.verdict() or str(record["status"]),
        *others,
        _plain(part_of(record, "cost").get("forward_equivalents")),
        _number(record.get("ratio_to_bp")),
        _number(record.get("peak_ratio_to_bp")),
        _efficiency(row),
        f"{rate:.3g}{lowered}" if rate == rate else "–",
        f"{row.test()['n']:.0f}" if row.test()["n"] == row.test()["n"] else "–",
        short or "not stated",
    ]


def _efficiency(row: Row) -> str:
    """Format the efficiency, with the verdict on the sign of its scale."""
    found = row.efficiency or {}
    said = row.sign.beside(found.get("value"))
    return _number(found) + f" ({said})" * bool(said)


def _plain(value: Any) -> str:
    """Format a number without an interval."""
    found = real(value)
    return f"{found:.3g}" if found == found else "–"


def _number(found: Any) -> str:
    """Format a number with its interval, a dash where there is none."""
    if isinstance(found, Mapping):
        ends = {name: real(found.get(name)) for name in ("value", "low", "high")}
        known = {name: None if end != end else end for name, end in ends.items()}
        return "–" if known["value"] is None else number(known)
    return _plain(found)
