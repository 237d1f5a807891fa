"""Every tracked number over the commits, with change points, from results of asv.

The folder is asv's, see `fgbench.reporting.frames.tracked`, not one of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.errors import UsageError
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.frames.tracked import Results, read, tracked
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.change_points import FALSE_ALARM, LEAST, SHORTEST

__all__ = ["NAME", "Results", "caption", "draw", "figure", "plotted", "read"]

NAME = "history"
PANEL = ["benchmark", "machine"]
GREY = "#b5b5b5"
HASH = 7  # characters of a commit
TICKS = 6  # commits that are named below a panel
MANY = 12  # more series than these, and those that never change are grey and share an entry


def plotted(results: Results) -> pd.DataFrame:
    """Sort numbers by commit and find where they change.

    Args:
        results: of `read`.

    Returns:
        The table of `fgbench.reporting.frames.tracked.tracked`; numbers of commits off the line are in it and
        are not drawn.

    Raises:
        UsageError: the results are of one commit.

    Example:
        >>> from pathlib import Path
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> plotted(results)[["commit", "position", "value"]].values.tolist()
        [['beef', 0.0, 2.0], ['c0de', 1.0, 2.0]]
    """
    table = tracked(results)
    if not table.empty and table["commit"].nunique() < 2:
        only = str(table["commit"].iloc[0])[:HASH]
        raise UsageError(
            f"expected numbers of several commits in {str(results.folder)!r}, got those of {only} alone; "
            "asv run HASH^! adds a commit"
        )
    return table


def figure(results: Results, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw each benchmark over the commits, a panel per benchmark and machine.

    Args:
        results: of `read`.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> fig = figure(results, plotted(results))
        >>> fig.axes[0].get_ylabel()
        'ms'
    """
    drawn = table[table["position"].notna()]
    quiet = unchanged(drawn)
    loud = drawn[~drawn["label"].isin(quiet)]
    looks = style.looks(loud["label"], loud["method"])
    more = {quiet_entry(quiet): {"color": GREY, "lw": 1.0}} if quiet else {}
    commits = drawn.drop_duplicates("position").set_index("position")["commit"].sort_index()

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        for (label, _), mine in part.groupby(["label", "environment"], sort=False):
            if label in quiet:
                _quiet_curve(ax, mine)
            else:
                _curve(ax, mine, looks[str(label)])
        numbers = part[["value", "low", "high"]].stack()
        if numbers.min() > 0 and numbers.max() > 4 * numbers.min():
            panels.log_axis(ax, numbers)
        shown = commits.iloc[:: 1 + (len(commits) - 1) // TICKS]
        ax.set_xticks(shown.index.tolist(), [commit[:HASH] for commit in shown])
        ax.set_xlim(-0.3, len(commits) - 0.7)
        ax.set(xlabel="commit", ylabel=str(part["unit"].iloc[0]) or "value")
        benchmark, machine = group
        several = drawn["machine"].nunique() > 1
        title = _literal(results.title(str(benchmark)))
        panels.titled(ax, f"{title} on {machine}" if several else title)

    return panels.drawn(drawn, PANEL, looks, panel, caption(results, table), sheet=sheet, more=more)


def _literal(text: str) -> str:
    """Escape dollars, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def unchanged(drawn: pd.DataFrame) -> list[str]:
    """Return the labels without a change point, where there are too many to tell all apart.

    Args:
        drawn: rows of `plotted`.

    Returns:
        Labels, none where there are at most `MANY` of all.

    Example:
        >>> table = pd.DataFrame({"label": list("abcdefghijklm"), "changed": [True] + 12 * [False]})
        >>> len(unchanged(table)), len(unchanged(table[:12]))
        (12, 0)
    """
    changed = drawn.groupby("label", sort=False)["changed"].any()
    return [] if len(changed) <= MANY else [str(label) for label in changed.index[~changed]]


def quiet_entry(labels: Sequence[str]) -> str:
    """Return the entry of the legend for series that never change.

    Example:
        >>> quiet_entry(["a", "b"])
        '2 without a change point'
    """
    return f"{len(labels)} without a change point"


def _quiet_curve(ax: Axes, part: pd.DataFrame) -> None:
    """Draw a series that never changes, behind the others."""
    ax.plot(part["position"], part["value"], color=GREY, lw=style.pt(0.7), zorder=1.5)


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look) -> None:
    """Draw one series: numbers with intervals, levels, and a mark where they change."""
    panels.points(ax, part["position"], part.rename(columns={"value": "mean"}), look)
    line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "lw": style.pt(1.0)}
    if part["level"].notna().any():
        ax.step(part["position"], part["level"], where="mid", **line)
    else:
        ax.plot(part["position"], part["value"], **line)
    for at in part.loc[part["changed"], "position"]:
        ax.axvline(at - 0.5, color=look.colour, lw=style.pt(0.8), ls=style.DOTTED)


def caption(results: Results, table: pd.DataFrame) -> str:
    """Describe the commits, points, bars and lines, what is left out, and files that could not be read.

    Args:
        results: of `read`.
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> from pathlib import Path
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> caption(results, plotted(results)).partition(";")[0]
        '2 commits by date, as no repository with them was found'
    """
    drawn = table[table["position"].notna()]
    branch = results.line.branch
    order = (
        f"of the first parents of {branch}"
        if branch
        else "by date, as no repository with them was found"
    )
    environments = ", ".join(sorted(set(drawn["environment"])))
    parts = [f"{drawn['commit'].nunique()} commits {order}; environment {environments}."]
    counts = drawn["n"].dropna()
    if not counts.empty:
        n = span(counts, "sample", "samples")
        parts.append(f"With bars: median of n = {n}, 99 % interval; others: one number.")
    parts.append(_changes(drawn))
    if len(beside := sorted(set(table["commit"]) - set(drawn["commit"]))):
        names = ", ".join(commit[:HASH] for commit in beside)
        parts.append(f"Not on this line and not drawn: {names}.")
    others = {str(row["benchmark"]) for row in results.rows if not results.drawn(row)}
    if others:
        parts.append(f"Numbers of other versions, not drawn: {', '.join(sorted(others))}.")
    if results.damaged:
        parts.append(f"Not readable: {', '.join(sorted(results.damaged))}.")
    return " ".join(parts)


def _changes(drawn: pd.DataFrame) -> str:
    """Describe what a change point is."""
    if drawn["level"].isna().all():
        return f"Lines join the numbers: change points are looked for from {LEAST} commits on."
    count = int(drawn["changed"].sum())
    exact, noisy = drawn["exact"].any(), not drawn["exact"].all()
    kinds = ["every difference of a number that otherwise repeats to the last digit"] * bool(exact)
    kinds += [
        f"a new level of {SHORTEST} commits or more, found in mere noise with probability {FALSE_ALARM:g}"
    ] * noisy
    text = f"Lines: levels; dotted: change points ({count}), {', or '.join(kinds)}."
    short = drawn.groupby(["benchmark", "machine", "label", "environment"])["level"].agg(
        lambda c: c.isna().all()
    )
    return text + f" Series of fewer than {LEAST} commits have none." * bool(short.any())


draw = writer(NAME, everything, plotted, figure)
