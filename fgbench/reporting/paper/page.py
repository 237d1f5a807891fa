"""The founding paper's tables beside ours, as one page of Markdown with figures beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fgbench.errors import UsageError
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

Written by `fgbench paper` from records; every number of ours can be traced to them. Published: {source}.

{summary}

Errors are in percent, after the last epoch, mean over seeds with the 95 % interval of the mean in
brackets (t over seeds, on the log scale; with two seeds their range, with one none). *difference* is
ours minus published, in points of test error; negative is better. A mark says whether our mean is within
{near} points of the published; **?** says that the interval leaves it open, or that there are fewer than
three seeds. Of several settings of one cell the one that tuning on held-out training examples chose is
reported; without tuning the one with the most seeds, then the most epochs, then the latest. No setting is
picked by its test error."""


def write(folder: Path, out: Path) -> Path:
    """Write the page of a folder of records.

    Args:
        folder: of records.
        out: the page, such as ``REPRODUCTION.md``; figures go to a folder of its name, in small
            letters and without suffix, beside it.

    Returns:
        The page.

    Raises:
        UsageError: the folder does not exist or holds no record, or the page has no suffix.
    """
    out = Path(out)
    if not out.suffix:
        raise UsageError(f"expected a file such as REPRODUCTION.md, got {str(out)!r}")
    records = load(folder)
    found, known = cells(records), published.published()
    rows = [row for column in known.columns for row in compare(column, known.methods, found)]
    figures, drawn = out.with_name(out.stem.lower()), records.curves()
    parts = [HEAD.format(source=known.source, summary=_summary(rows), near=NEAR)]
    for number in sorted({column.table for column in known.columns}):
        parts += _table([row for row in rows if row.column.table == number], drawn, figures)
    for place in known.standins:
        parts += _standin(place, known.methods, found, drawn, figures)
    parts += ablations.section(known.ablations, records, figures)
    parts += ["## What differs and why", *differences(known, rows, found)]
    title = f"## Cells worse than published by more than {NEAR} points, or without a result"
    parts += [title, *worse(rows, found)]
    parts += ["## Notes", *notes(records, rows)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")
    return out


def _summary(rows: Sequence[Comparison]) -> str:
    """Count cells by what became of them."""
    marks = [row.verdict for row in rows]
    run = [mark for mark in marks if mark]
    counts = {
        f"within {NEAR} points": sum(mark.startswith("within") for mark in run),
        "better by more": sum(mark.startswith("better") for mark in run),
        "worse by more": sum(mark.startswith("worse") for mark in run),
    }
    words = listed(f"{n} {what}" for what, n in counts.items())
    open_ = sum(mark.endswith("?") for mark in run)
    lost = sum(row.cell is not None and not row.verdict for row in rows)
    without = sum(row.cell is None for row in rows)
    return (
        f"Of {len(rows)} published cells {len(run)} have a result: {words}; the interval leaves "
        f"{open_} of them open. Tried without a result: {lost}; not run: {without}."
    )


def _table(rows: Sequence[Comparison], drawn: pd.DataFrame, figures: Path) -> list[str]:
    """Write one table of the paper: its figures, then its columns."""
    first = rows[0].column
    parts = [f"## Table {first.table}: {first.task}"]
    for name in dict.fromkeys(row.column.figure for row in rows):
        shown = [row for row in rows if row.column.figure == name]
        parts += _figures(shown, drawn, figures, f"table{first.table}_{name}")
    for title in dict.fromkeys(row.column.title for row in rows):
        parts += _column([row for row in rows if row.column.title == title])
    return parts


def _column(rows: Sequence[Comparison]) -> list[str]:
    """Write one column of a table: errors, then how ours were trained."""
    column = rows[0].column
    place = f"`{column.arch}` on {column.data}"
    lines = [_row(row) for row in rows]
    head = ["method", "published test / train", "ours test", "ours train", "n", "difference", ""]
    parts = [f"### {column.title} ({place})", table(head, lines)]
    run = [row.cell for row in rows if row.cell is not None]
    return parts + trained(run) if run else parts


def _row(row: Comparison) -> list[str]:
    """Write one method: published, ours, how far apart."""
    printed = f"{row.column.test[row.method]:.2f} / {row.column.train[row.method]:.2f}"
    ours, train = row.ours(), row.ours("train")
    if not ours.n:
        return [row.method, printed, row.status, "", "", "", ""]
    verdict = row.verdict + (f"; {row.status}" if row.status else "")
    numbers = [str(ours), str(train), str(ours.n), _signed(row)]
    return [row.method, printed, *numbers, verdict]


def _signed(row: Comparison) -> str:
    """Write a difference with its sign."""
    found = row.difference
    text = f"{found.value:+.2f}"
    return text if found.n < 2 else f"{text} [{found.low:+.2f}, {found.high:+.2f}]"


def _figures(rows: Sequence[Comparison], drawn: pd.DataFrame, out: Path, name: str) -> list[str]:
    """Draw published against ours, and ours over epochs, for columns of which something was run."""
    titles = list(dict.fromkeys(row.column.title for row in rows if row.ours().n))
    shown = [row for row in rows if row.column.title in titles]
    if not shown:
        return []
    numbers = pd.DataFrame([_point(row) for row in shown], columns=list(published.COLUMNS))
    style.save(published.figure(numbers), out, name, numbers)
    alt = f"Published and our test errors by method, {listed(titles)}; the numbers are below."
    run = [row.cell for row in shown if row.cell is not None]
    lines = curves(run, drawn, out, f"{name}_curves")
    return [f"![{alt}]({out.name}/{name}.png)", *lines]


def _point(row: Comparison) -> list[object]:
    """Give the drawn numbers of one method."""
    ours = row.ours()
    numbers = [ours.value, ours.low, ours.high, ours.n, ours.band]
    return [row.column.title, row.method, row.column.test[row.method], *numbers, row.status]


def _standin(
    place: Standin, methods: Sequence[str], found: Sequence[Cell], drawn: pd.DataFrame, out: Path
) -> list[str]:
    """Write what the small stand-in says about the published order, whichever way it came out."""
    parts = [f"## Stand-in: {place.title}", "Nothing is published for it; errors are ours."]
    for arch in place.archs:
        wanted = (place.task, place.options, arch, place.data, str(place.train_size or ""))
        there = {
            plain(cell.place.way): cell
            for cell in found
            if (cell.place.way.task, cell.place.way.options, *cell.place[1:]) == wanted
            and cell.reported is not None
            and plain(cell.place.way) in methods
        }
        if not there:
            continue
        name = "standin_" + re.sub(r"[^\w.]+", "-", arch).strip("-")
        run = [there[method] for method in ordering.order(there)]
        size = f"the first {place.train_size} training images of " if place.train_size else ""
        views = f" ({place.options.replace(',', ', ')})" if place.options else ""
        parts += [f"### `{arch}` on {size}{place.data}{views}"]
        parts += [*curves(run, drawn, out, name), _errors(run, methods), *trained(run)]
        groups = {method: cell.reported for method, cell in there.items() if cell.reported}
        lines = []
        for claim in place.claims:
            apart, verdict = between(claim, groups)
            size = f"difference {apart} points, n = {apart.n}: " if apart.n else ""
            lines.append(f"* {claim.text}: {size}**{verdict}**.")
        parts += ["Does the published order hold?", "\n".join(lines)]
    if len(parts) == 2:
        parts[1] = "Not run."
    return parts


def _errors(run: Sequence[Cell], methods: Sequence[str]) -> str:
    """Tabulate errors without published ones beside them."""
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
