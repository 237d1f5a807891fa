"""The table of compared methods on the front page: results at equal compute with verdicts and commands."""

from __future__ import annotations

from dataclasses import replace
from math import nan

from fgbench.reporting.frames.comparisons import KINDS, Row, rows
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.settings import part_of, real
from fgbench.reporting.site.paths import PagePaths
from fgbench.reporting.site.run_tables import commit
from fgbench.reporting.site.table import (
    NOTHING,
    Table,
    TableCell,
    TableRow,
    interval_cell,
    number_cell,
)

HEAD = (
    *(
        "method",
        "task",
        "test",
        "above the reference",
        "verdict",
        "at equal epochs",
        "at equal seconds",
    ),
    *("efficiency", "forwards a step", "learning rate", "seeds", "row", "commit", "command"),
)
LEGEND = (
    "Every method, the reference included, tried as many learning rates for as many forward equivalents; "
    "rates were chosen on held-out training examples. Test: mean over fresh seeds at equal forward "
    "equivalents, with its 95 % interval; errors in %. Above the reference: difference over paired seeds, in "
    "points for an error. Verdict: sign flips and t tests in which test examples count as sampled, by Holm's "
    "method over the methods of a task; equivalent: two one-sided tests against the margin of the data set. "
    "Efficiency: of the gradient estimate at initialisation. fgbench leaderboard verify ROW runs a row again."
)
LOWERED = "divided by √10: it diverged in the longer run"
TONES = {"worse": "bad", "better": "good", "equivalent within the margin": "good"}


def contest(records: Records, page_paths: PagePaths) -> Table | None:
    """Return the table of compared methods.

    Args:
        records: of a folder.
        page_paths: targets of the links.

    Returns:
        A table that can be filtered by task, None where nothing was compared.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.site.paths import page_paths
        >>> contest(Records(Path("."), (), {}, ()), page_paths([], [])) is None
        True
    """
    found = rows(records)
    if not found:
        return None
    listed = tuple(
        TableRow(_cells(row, page_paths), (row.task, row.verdict() or NOTHING)) for row in found
    )
    return Table(
        "contest",
        "Best first on each task; [95 % intervals]; same budget of tuning and of compute for all.",
        HEAD,
        listed,
        search="method",
        facets=("task", "verdict"),
        broken=(len(HEAD) - 1,),
        folded=True,
        legend=LEGEND,
    )


def _cells(row: Row, page_paths: PagePaths) -> tuple[TableCell, ...]:
    """Return the cells of a row."""
    record, result = row.record, row.at("forwards")
    method = str(record["method"])
    lost = f"{record['status']}: {record['reason']}" if record["status"] != "ok" else ""
    verdict = row.verdict()
    others = []
    for kind in KINDS[1:]:
        cell = interval_cell(row.test(kind) if row.at(kind) else None)
        others.append(TableCell(cell.text, cell.sort, note=row.verdict(kind)))
    cost = part_of(record, "cost").get("forward_equivalents")
    n = row.test()["n"]
    return (
        TableCell(method, link=page_paths.methods.get(method, ""), note=lost),
        TableCell(row.task),
        interval_cell(row.test() if result else None),
        interval_cell(row.gap() if verdict not in ("", "reference") else None),
        TableCell(verdict or NOTHING, tone=TONES.get(verdict, "")),
        *others,
        interval_cell(row.efficiency, row.sign.beside((row.efficiency or {}).get("value"))),
        number_cell(real(cost)),
        replace(number_cell(real(result.get("lr"))), note=LOWERED * bool(result.get("lowered"))),
        number_cell(n if n == n else nan, 6),
        TableCell(row.id),
        TableCell(commit(record.get("commit"))),
        TableCell(str(result.get("command") or NOTHING)),
    )
