"""One Markdown page that sets our results beside the founding paper's tables, with figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fgbench.errors import UsageError
from fgbench.records import atomic
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import load
from fgbench.reporting.frames.method_names import plain
from fgbench.reporting.frames.results import Cell, cells
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.paper import ablations, published
from fgbench.reporting.paper.comparison import NEAR, Comparison, Mean, between, compare, status_of
from fgbench.reporting.paper.markdown import curves, listed, table, trained
from fgbench.reporting.paper.published import Standin
from fgbench.reporting.paper.remarks import differences, notes, worse
from fgbench.reporting.plotting import style

HEAD = """# The paper's tables, run again

`fgbench paper` wrote this page from records; every number of ours is computed from them. Published: {source}.

{summary}

Errors are in percent after the last epoch: the mean over seeds with its 95 % interval in brackets (t
interval on the log scale; the range for two seeds, none for one). *difference* is ours minus published,
in points of test error; negative is better. The last column says whether our mean is within {near} points
of the published error; **?** means that the interval does not settle this, or that there are fewer than
three seeds. Where a cell was run with several settings, the one chosen by tuning on held-out training
examples is reported; without tuning, the one with the most seeds, then the most epochs, then the latest.
No setting is chosen by its test error."""


def write(folder: Path, out: Path) -> Path:
    """Write the page of a folder of records.

    Args:
        folder: records.
        out: path of the page, such as ``paper.md``. Its figures are written to the folder of the same
            name in lower case and without suffix, such as ``paper/``.

    Returns:
        The path of the page.

    Raises:
        UsageError: the folder does not exist or has no record, or the path has no suffix.

    Example:
        >>> write(Path("records"), Path("paper.md"))  # doctest: +SKIP
        PosixPath('paper.md')
    """
    out = Path(out)
    if not out.suffix:
        raise UsageError(f"expected a file such as REPRODUCTION.md, got {str(out)!r}")
    records = load(folder)
    ours, paper = cells(records), published.published()
    rows = [row for column in paper.columns for row in compare(column, paper.methods, ours)]
    figures, histories = out.with_name(out.stem.lower()), records.curves()
    parts = [HEAD.format(source=paper.source, summary=_summary(rows), near=NEAR)]
    for number in sorted({column.table for column in paper.columns}):
        parts += _table([row for row in rows if row.column.table == number], histories, figures)
    for standin in paper.standins:
        parts += _standin(standin, paper.methods, ours, histories, figures)
    parts += ablations.section(paper.ablations, records, figures)
    parts += ["## What differs and why", *differences(paper, rows, ours)]
    title = f"## Cells worse than published by more than {NEAR} points, or without a result"
    parts += [title, *worse(rows, ours)]
    parts += ["## Notes", *notes(records, rows)]
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out, "\n\n".join(parts) + "\n")
    return out


def _summary(rows: Sequence[Comparison]) -> str:
    """Return a sentence that counts the cells by verdict."""
    marks = [row.verdict for row in rows]
    run = [mark for mark in marks if mark]
    counts = {
        f"within {NEAR} points": sum(mark.startswith("within") for mark in run),
        "better by more": sum(mark.startswith("better") for mark in run),
        "worse by more": sum(mark.startswith("worse") for mark in run),
    }
    words = listed(f"{n} {what}" for what, n in counts.items())
    unsettled = sum(mark.endswith("?") for mark in run)
    failed = sum(row.cell is not None and not row.verdict for row in rows)
    not_run = sum(row.cell is None for row in rows)
    return (
        f"Of {len(rows)} published cells {len(run)} have a result: {words}; {unsettled} of these verdicts "
        f"are not settled by the interval. Run without a result: {failed}; not run: {not_run}."
    )


def _table(rows: Sequence[Comparison], histories: pd.DataFrame, figures: Path) -> list[str]:
    """Return the section of one table of the paper: its figures, then its columns."""
    first = rows[0].column
    parts = [f"## Table {first.table}: {first.task}"]
    for name in dict.fromkeys(row.column.figure for row in rows):
        shown = [row for row in rows if row.column.figure == name]
        parts += _figures(shown, histories, figures, f"table{first.table}_{name}")
    for title in dict.fromkeys(row.column.title for row in rows):
        parts += _column([row for row in rows if row.column.title == title])
    return parts


def _column(rows: Sequence[Comparison]) -> list[str]:
    """Return the part of one column of a table: errors, then how ours were trained."""
    column = rows[0].column
    panel = f"`{column.arch}` on {column.data}"
    lines = [_row(row) for row in rows]
    head = ["method", "published test / train", "ours test", "ours train", "n", "difference", ""]
    parts = [f"### {column.title} ({panel})", table(head, lines)]
    run = [row.cell for row in rows if row.cell is not None]
    return parts + trained(run) if run else parts


def _row(row: Comparison) -> list[str]:
    """Return the cells of one method: published, ours and their difference."""
    printed = f"{row.column.test[row.method]:.2f} / {row.column.train[row.method]:.2f}"
    ours, train = row.ours(), row.ours("train")
    if not ours.n:
        return [row.method, printed, row.status, "", "", "", ""]
    verdict = row.verdict + (f"; {row.status}" if row.status else "")
    numbers = [str(ours), str(train), str(ours.n), _signed(row)]
    return [row.method, printed, *numbers, verdict]


def _signed(row: Comparison) -> str:
    """Format a difference and its interval with their signs."""
    difference = row.difference
    text = f"{difference.value:+.2f}"
    if difference.n < 2:
        return text
    return f"{text} [{difference.low:+.2f}, {difference.high:+.2f}]"


def _figures(
    rows: Sequence[Comparison], histories: pd.DataFrame, out: Path, name: str
) -> list[str]:
    """Draw published beside our errors, and our learning curves, for columns with a result of ours."""
    titles = list(dict.fromkeys(row.column.title for row in rows if row.ours().n))
    shown = [row for row in rows if row.column.title in titles]
    if not shown:
        return []
    numbers = pd.DataFrame([_point(row) for row in shown], columns=list(published.COLUMNS))
    style.save(published.figure(numbers), out, name, numbers)
    alt = f"Published and our test errors by method, {listed(titles)}; the numbers are below."
    run = [row.cell for row in shown if row.cell is not None]
    lines = curves(run, histories, out, f"{name}_curves")
    return [f"![{alt}]({out.name}/{name}.png)", *lines]


def _point(row: Comparison) -> list[object]:
    """Return the plotted numbers of one method."""
    ours = row.ours()
    numbers = [ours.value, ours.low, ours.high, ours.n, ours.band]
    return [row.column.title, row.method, row.column.test[row.method], *numbers, row.status]


def _standin(
    standin: Standin,
    methods: Sequence[str],
    ours: Sequence[Cell],
    histories: pd.DataFrame,
    out: Path,
) -> list[str]:
    """Return the section of a stand-in: errors and whether the published order holds, either way."""
    parts = [
        f"## Stand-in: {standin.title}",
        "The paper has no numbers for it; all errors are ours.",
    ]
    for arch in standin.archs:
        wanted = (standin.task, standin.options, arch, standin.data, str(standin.train_size or ""))
        by_method = {
            plain(cell.place.way): cell
            for cell in ours
            if (cell.place.way.task, cell.place.way.options, *cell.place[1:]) == wanted
            and cell.reported is not None
            and plain(cell.place.way) in methods
        }
        if not by_method:
            continue
        name = "standin_" + re.sub(r"[^\w.]+", "-", arch).strip("-")
        run = [by_method[method] for method in ordering.order(by_method)]
        size = f"the first {standin.train_size} training images of " if standin.train_size else ""
        views = f" ({standin.options.replace(',', ', ')})" if standin.options else ""
        parts += [f"### `{arch}` on {size}{standin.data}{views}"]
        parts += [*curves(run, histories, out, name), _errors(run, methods), *trained(run)]
        groups = {method: cell.reported for method, cell in by_method.items() if cell.reported}
        lines = []
        for claim in standin.claims:
            difference, verdict = between(claim, groups)
            size = f"difference {difference} points, n = {difference.n}: " if difference.n else ""
            lines.append(f"* {claim.text}: {size}**{verdict}**.")
        parts += ["Does the published order hold?", "\n".join(lines)]
    if len(parts) == 2:
        parts[1] = "Not run."
    return parts


def _errors(run: Sequence[Cell], methods: Sequence[str]) -> str:
    """Return a table of our errors."""
    lines = []
    named = {plain(cell.place.way): cell for cell in run}
    for method in dict.fromkeys([*methods, *named]):
        cell = named.get(method)
        if cell is None or cell.reported is None:
            lines.append([method, "not run", "", "", ""])
            continue
        test, train = (
            Mean.of(cell.reported.percent(f"{s}_error"), most=WHOLE) for s in ("test", "train")
        )
        lines.append([method, str(test), str(train), str(test.n), status_of(cell.reported.runs)])
    return table(["method", "test", "train", "n", ""], lines)
