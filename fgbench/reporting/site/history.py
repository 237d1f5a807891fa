"""The history page: tracked numbers over the commits, their change points, and the commits in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgbench.errors import UsageError
from fgbench.reporting.figures import history
from fgbench.reporting.frames.commits import Accepted, Line, accepted
from fgbench.reporting.frames.tracked import SERIES, Results, read
from fgbench.reporting.plotting import style
from fgbench.reporting.site import paths, plotly_marks
from fgbench.reporting.site.pictures import DPI
from fgbench.reporting.site.table import NOTHING, Table, TableCell, digits, number_cell, table
from fgbench.stats.change_points import FALSE_ALARM, LEAST, SHORTEST

PAGE = "history.html"
DIGITS = 6  # significant digits of a tracked number
FOLDED = 5  # more commits than these are folded
SHORT = 30  # characters up to which a unit is part of a title; the axis has it anyway
RULE = (
    "A number that repeats to the last digit until the code changes has a change point at every "
    "difference. "
    f"In other series a change point begins a level of {SHORTEST} commits or more, from {LEAST} commits on; "
    f"in a series of mere noise one is found with probability {FALSE_ALARM:g}. Commits in between are first "
    "parents: those of a side branch are inside its merge."
)


@dataclass(frozen=True)
class Chart:
    """The figure of one benchmark on one machine.

    Args:
        title: what is tracked of which methods, its unit where that is short, and the machine where there
            are several.
        table: the drawn numbers.
        file: path of its PNG, PDF and CSV without suffix, relative to the root of the site.
        size: width and height of the picture on a page, in pixels.
        caption: what is drawn.
        spec: data and layout for plotly.

    Example:
        >>> Chart("step", pd.DataFrame({"label": ["BP"]}), "figures/history-step", (9, 5), "", {}).name
        'history-step'
    """

    title: str
    table: pd.DataFrame
    file: str
    size: tuple[int, int]
    caption: str
    spec: plotly_marks.Spec
    part: bool = False

    @property
    def name(self) -> str:
        """Id of its HTML element."""
        return Path(self.file).name

    @property
    def alt(self) -> str:
        """Alternative text of the picture."""
        n = self.table["label"].nunique()
        return f"{self.title} over the commits, {n} series. The numbers are in the tables."


@dataclass(frozen=True)
class Tracked:
    """Results, figures and accepted changes of the history page.

    Args:
        results: of asv.
        table: of `fgbench.reporting.figures.history.plotted`.
        charts: a figure per benchmark and machine.
        accepted: changes that somebody accepted with ``fgbench gate``.
        damaged: file of these -> why it could not be read.

    Example:
        >>> Tracked(Results(Path("."), (), {}), pd.DataFrame(), ()).charts
        ()
    """

    results: Results
    table: pd.DataFrame
    charts: tuple[Chart, ...]
    accepted: tuple[Accepted, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)


def tracked(folder: Path, out: Path) -> Tracked:
    """Read results of asv and draw their figures.

    Args:
        folder: such as ``.asv/results``.
        out: root of the site.

    Returns:
        What the page is made from.

    Raises:
        UsageError: the folder holds no results, or those of one commit.

    Example:
        >>> tracked(Path("nowhere"), Path("site"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of asv's results, got 'nowhere': no such folder
    """
    results = read(folder)
    numbers = history.plotted(results)
    if numbers.empty:
        raise UsageError(f"no number tracked over commits in {str(folder)!r}; run asv run")
    groups = [
        (group, part)
        for group, part in numbers.groupby(history.PANEL, sort=False)
        if part["position"].notna().any()
    ]
    names = [_on_machine(benchmark, machine, numbers) for (benchmark, machine), _ in groups]
    stems = paths.files(names)
    charts = []
    for name, ((benchmark, machine), part) in zip(names, groups, strict=True):
        unit = str(part["unit"].iloc[0])
        title = _on_machine(results.title(str(benchmark)), machine, numbers)
        title += f" ({unit})" * (0 < len(unit) <= SHORT and unit not in title)
        page = history.figure(results, _literal(part))
        file = f"figures/history-{stems[name]}"
        style.save(page.figure, out / "figures", Path(file).name, part, style.USUAL, page.caption)
        width, height = (round(DPI * inches) for inches in page.figure.get_size_inches())
        spec = _spec(part[part["position"].notna()], results.line)
        charts.append(Chart(title, part, file, (width, height), f"{title}. {page.caption}", spec))
    reasons, damaged = accepted(folder)
    return Tracked(results, numbers, tuple(charts), tuple(reasons), damaged)


def context(found: Tracked) -> dict[str, Any]:
    """Return the variables of the template of the history page.

    Args:
        found: of `tracked`.

    Returns:
        Variable to value.

    Example:
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> context(Tracked(results, history.plotted(results), ()))["lead"]
        '1 number over 2 commits by date, on 1 machine: no change points.'
    """
    numbers, line = found.table, found.results.line
    changes = list(_changes(numbers, line))
    return {
        "title": "History",
        "lead": lead(found),
        "rule": RULE,
        "changes": _change_table(changes, line, found),
        "accepted": _accepted_table(found.accepted, line),
        "galleries": [(f"h{at}", c.title, [c]) for at, c in enumerate(found.charts)],
        "numbers": _number_table(numbers, found.results),
        "commits": _commit_table(numbers, line),
        "notes": _notes(found),
    }


def lead(found: Tracked) -> str:
    """Return a sentence that counts numbers, commits, machines and change points.

    Args:
        found: of `tracked`.

    Returns:
        The sentence.

    Example:
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> lead(Tracked(results, history.plotted(results), ()))
        '1 number over 2 commits by date, on 1 machine: no change points.'
    """
    drawn = found.table[found.table["position"].notna()]
    branch, changes = found.results.line.branch, int(drawn["changed"].sum())
    series, commits = drawn.groupby(list(SERIES)).ngroups, drawn["commit"].nunique()
    of = f"of the first parents of {branch}" if branch else "by date"
    return (
        f"{_counted(series, 'number')} over {_counted(commits, 'commit')} {of}, on "
        f"{_counted(drawn['machine'].nunique(), 'machine')}: "
        f"{_counted(changes, 'change point') if changes else 'no change points'}."
    )


def _counted(n: int, name: str) -> str:
    """Format a count, such as "2 commits"."""
    return f"{n} {name}{'s' * (n != 1)}"


@dataclass(frozen=True)
class Change:
    """A change point.

    Args:
        row: the first number of the new level.
        before: the level before.
        since: the measured commit before it.
        between: the commits after that one, up to the first of the new level.

    Example:
        >>> Change({"level": 3.0}, 2.0, "c0de", ()).ratio
        0.5
    """

    row: Mapping[str, Any]
    before: float
    since: str
    between: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Change relative to the level before."""
        return (self.row["level"] - self.before) / abs(self.before) if self.before else nan


def _changes(numbers: pd.DataFrame, line: Line) -> Iterator[Change]:
    """Yield all change points, the latest first."""
    found = []
    for _, part in numbers[numbers["position"].notna()].groupby(list(SERIES), sort=False):
        rows = part.to_dict("records")
        for at in np.flatnonzero(part["changed"]):
            since, row = rows[at - 1], rows[at]
            between = line.between(str(since["commit"]), str(row["commit"]))
            found.append(Change(row, float(since["level"]), str(since["commit"]), tuple(between)))
    yield from sorted(found, key=lambda change: -change.row["position"])


def _change_table(changes: list[Change], line: Line, found: Tracked) -> Table | None:
    """Return the table of change points, without a column that would say nothing."""
    several = found.table["machine"].nunique() > 1
    reasons = [[a.reason for a in found.accepted if a.commit in c.between] for c in changes]
    head = ["benchmark", "parameters", *["machine"] * several, "change", "before", "after", "unit"]
    head += ["between", *["accepted"] * any(reasons), "commits"]
    rows = []
    for c, why in zip(changes, reasons, strict=True):
        row = [_named(c.row["benchmark"], found.results), TableCell(str(c.row["label"]))]
        row += [TableCell(str(c.row["machine"]))] * several
        row += [_percent(c.ratio, str(c.row["unit"])), number_cell(c.before, DIGITS)]
        row += [number_cell(float(c.row["level"]), DIGITS)]
        row += [TableCell(str(c.row["unit"]) or NOTHING)]
        row += [TableCell(f"{_short(c.since)} and {_short(c.row['commit'])}", c.row["position"])]
        row += [TableCell("; ".join(why) or NOTHING)] * any(reasons)
        rows.append([*row, _commits(c.between, line)])
    more: dict[str, Any] = {"search": "any cell", "search_rows": True, "legend": RULE}
    more |= {"folded": True, "broken": (len(head) - 1,)}
    return (
        table("changes", "The latest first. Lower is better.", head, rows, **more) if rows else None
    )


def _named(benchmark: object, results: Results) -> TableCell:
    """Return the cell of a benchmark: what it tracks, and the name by which asv runs it."""
    return TableCell(results.subjects[str(benchmark)], note=str(benchmark))


def _short(commit: object) -> str:
    """Return the first characters of a commit."""
    return str(commit)[: history.HASH]


def _accepted_table(reasons: Sequence[Accepted], line: Line) -> Table | None:
    """Return the table of changes that somebody accepted."""
    rows = [
        (
            TableCell(_short(one.commit) or "no commit", note=line.commits.get(one.commit, "")),
            TableCell(one.when),
            TableCell(one.reason),
            TableCell("; ".join(one.what) or NOTHING),
        )
        for one in reasons
    ]
    caption = "Changes that fgbench gate --accept recorded in this repository, the latest first."
    head = ("commit", "when", "reason", "what had changed")
    return table("accepted", caption, head, rows, folded=True, broken=(2, 3)) if rows else None


def _commits(commits: Sequence[str], line: Line) -> TableCell:
    """Return the cell of some commits with their subjects, folded where they are many."""
    names = [f"{_short(commit)} {line.commits[commit]}".strip() for commit in commits]
    if len(names) <= FOLDED:
        return TableCell("; ".join(names))
    return TableCell(_counted(len(names), "commit"), full_text="; ".join(names))


def _percent(ratio: float, unit: str) -> TableCell:
    """Return the cell of a relative change, coloured by its sign: lower is better, but of a fingerprint."""
    if unit.startswith("fingerprint"):
        return TableCell("other results", 0.0)
    if ratio != ratio:
        return TableCell(NOTHING, nan)
    text = f"{100 * ratio:+.3g} %".replace("-", "\N{MINUS SIGN}")
    return TableCell(text, ratio, tone="bad" if ratio > 0 else "good")


def _number_table(numbers: pd.DataFrame, results: Results) -> Table:
    """Return the table of all series: the latest number of each, and where it has been."""
    rows = []
    for (benchmark, machine, label, environment), part in numbers.groupby(list(SERIES), sort=False):
        mine = part[part["position"].notna()]
        last = (mine if len(mine) else part).iloc[-1]
        kind = (
            "exact" if bool(last["exact"]) else NOTHING if part["level"].isna().all() else "noisy"
        )
        rows.append(
            (
                _named(benchmark, results),
                TableCell(str(label)),
                TableCell(str(machine)),
                number_cell(float(last["value"]), DIGITS),
                TableCell(str(last["unit"]) or NOTHING),
                TableCell(_span(part), float(part["value"].min())),
                number_cell(len(part)),
                number_cell(int(part["changed"].sum())),
                TableCell(kind),
                TableCell(_short(last["commit"])),
                TableCell(str(environment)),
            )
        )
    head = (
        "benchmark",
        "parameters",
        "machine",
        "latest",
        "unit",
        "range",
        "commits",
        "change points",
        "kind",
        "latest commit",
        "environment",
    )
    more: dict[str, Any] = {"search": "any cell", "search_rows": True, "folded": True}
    caption = "The number of the latest commit of every series, the lowest and the highest."
    return table("numbers", caption, head, rows, **more)


def _span(part: pd.DataFrame) -> str:
    """Format the lowest and the highest number of a series."""
    low, high = (digits(float(end), 4) for end in (part["value"].min(), part["value"].max()))
    return low if low == high else f"{low} to {high}"


def _commit_table(numbers: pd.DataFrame, line: Line) -> Table | None:
    """Return the table of the commits of the line from the first measured one to the last."""
    drawn = numbers[numbers["position"].notna()].sort_values("position")
    if not line.branch or drawn.empty:
        return None
    changed = drawn[drawn["changed"]].groupby("commit").size()
    measured = dict(zip(drawn["commit"], drawn["position"], strict=True))
    first, last = drawn["commit"].iloc[0], drawn["commit"].iloc[-1]
    rows = [
        (
            TableCell(_short(commit)),
            TableCell(line.commits[commit]),
            TableCell("measured" if commit in measured else NOTHING),
            number_cell(int(changed.get(commit, 0)))
            if commit in measured
            else TableCell(NOTHING, nan),
        )
        for commit in reversed([str(first), *line.between(first, last)])
    ]
    caption = f"First parents of {line.branch}, the latest first."
    more: dict[str, Any] = {
        "search": "any cell",
        "search_rows": True,
        "broken": (1,),
        "folded": True,
    }
    return table(
        "commits", caption, ("commit", "subject", "measured", "change points"), rows, **more
    )


def _notes(found: Tracked) -> list[str]:
    """List commits off the line, and files that could not be read."""
    beside = found.table[found.table["position"].isna()]["commit"]
    damaged = {**found.results.damaged, **found.damaged}
    notes = [
        f"{_short(commit)} is not on this line: its numbers are in the tables and in "
        "the CSV, and no line goes through them"
        for commit in dict.fromkeys(beside)
    ]
    return [*notes, *(f"{name}: {why}" for name, why in sorted(damaged.items()))]


def _on_machine(text: str, machine: str, numbers: pd.DataFrame) -> str:
    """Return a text with the machine where there are several."""
    return f"{text} on {machine}" if numbers["machine"].nunique() > 1 else str(text)


def _literal(part: pd.DataFrame) -> pd.DataFrame:
    """Escape dollars in names, which matplotlib would read as mathematics."""
    names = ["machine", "label", "unit", "environment"]
    return part.assign(
        **{n: part[n].astype(str).str.replace("$", r"\$", regex=False) for n in names}
    )


def _spec(part: pd.DataFrame, line: Line) -> plotly_marks.Spec:
    """Return the interactive figure: numbers with their intervals, levels, and dotted change points."""
    quiet = history.unchanged(part)
    loud = part[~part["label"].isin(quiet)]
    looks = style.looks(loud["label"], loud["method"])
    data: list[plotly_marks.Spec] = []
    shapes: list[plotly_marks.Spec] = []
    for (label, _), mine in part.groupby(["label", "environment"], sort=False):
        if label in quiet:
            continue
        look = looks[str(label)]
        x = plotly_marks.numbers(mine["position"])
        group: plotly_marks.Spec = {"legendgroup": plotly_marks.safe(label)}
        levelled = bool(mine["level"].notna().any())
        y = plotly_marks.numbers(mine["level" if levelled else "value"])
        path = {"color": look.colour, "dash": plotly_marks.dash(look.dashes), "width": 1.5}
        path |= {"shape": "hvh"} if levelled else {}
        data.append(
            plotly_marks.trace(label, mode="lines", x=x, y=y, line=path, showlegend=False, **group)
        )
        mark = {**plotly_marks.marker(look), "symbol": plotly_marks.symbol(look, True)}
        text = [_hover(row, line) for row in mine.to_dict("records")]
        points: plotly_marks.Spec = {
            "x": x,
            "y": plotly_marks.numbers(mine["value"]),
            "marker": mark,
        }
        points |= {"error_y": plotly_marks.bars(mine, look), "showlegend": True}
        data.append(plotly_marks.trace(label, text, **points, **group))
        for at in mine.loc[mine["changed"], "position"]:
            dotted = {"color": look.colour, "dash": "dot", "width": 1.2}
            ends = {"x0": at - 0.5, "x1": at - 0.5, "y0": 0, "y1": 1, "yref": "paper"}
            shapes.append({"type": "line", "line": dotted, **ends})
    data = [*_quiet_traces(part[part["label"].isin(quiet)], quiet, line), *data]
    commits = part.drop_duplicates("position").set_index("position")["commit"].sort_index()
    ticks = commits.iloc[:: 1 + (len(commits) - 1) // (2 * history.TICKS)]
    few = commits.iloc[:: 1 + (len(commits) - 1) // (history.TICKS // 2)]
    layout: plotly_marks.Spec = {
        "height": 420,
        "xaxis": {**plotly_marks.GRID, "title": {"text": "commit"}, **_ticks(ticks)},
        "yaxis": _axis(part),
        "shapes": shapes,
    }
    narrow = {"height": 420, "xaxis": {**layout["xaxis"], **_ticks(few)}}
    return {"data": data, "layout": layout, "narrow": narrow}


def _quiet_traces(
    part: pd.DataFrame, quiet: Sequence[str], line: Line
) -> Iterator[plotly_marks.Spec]:
    """Yield the series that never change, in grey and under one entry of the legend."""
    for at, (_, mine) in enumerate(part.groupby(["label", "environment"], sort=False)):
        text = [_hover(row, line) for row in mine.to_dict("records")]
        x, y = plotly_marks.numbers(mine["position"]), plotly_marks.numbers(mine["value"])
        drawn: plotly_marks.Spec = {"x": x, "y": y, "mode": "lines+markers"}
        drawn |= {"line": {"color": history.GREY, "width": 1}, "marker": {"size": 4}}
        drawn |= {"legendgroup": "quiet", "showlegend": at == 0}
        yield plotly_marks.trace(history.quiet_entry(quiet), text, **drawn)


def _ticks(commits: pd.Series) -> plotly_marks.Spec:
    """Return ticks that name commits."""
    names = [_short(commit) for commit in commits]
    return {"tickvals": [float(at) for at in commits.index], "ticktext": names}


def _axis(part: pd.DataFrame) -> plotly_marks.Spec:
    """Return the vertical axis: logarithmic where numbers differ by more than four times."""
    ends, unit = part[["value", "low", "high"]], str(part["unit"].iloc[0]) or "value"
    numbers = ends.stack()
    if numbers.min() > 0 and numbers.max() > 4 * numbers.min():
        return plotly_marks.log(plotly_marks.safe(unit), ends)
    return {**plotly_marks.GRID, "title": {"text": plotly_marks.safe(unit)}}


def _hover(row: Mapping[str, Any], line: Line) -> str:
    """Return the label of a point: its series, number and commit."""
    unit = f" {row['unit']}" if row["unit"] else ""
    ends = "" if pd.isna(row["low"]) else f" [{digits(row['low'])}, {digits(row['high'])}]"
    commit = str(row["commit"])
    subject = line.commits.get(commit, "")
    texts = (
        row["label"],
        f"{digits(row['value'], DIGITS)}{ends}{unit}",
        f"{_short(commit)} {subject}",
    )
    return "<br>".join(plotly_marks.safe(str(text)[:90]) for text in texts)
