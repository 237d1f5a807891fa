"""Every tracked number over the commits, with change points, from results of asv.

The folder is asv's (``.asv/results``: one folder per machine, one JSON file per commit and environment,
version 2 of the format), not one of records.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.errors import UsageError
from fgbench.records import files
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "history"
VERSION = 2
PANEL = ["benchmark", "machine"]
COLUMNS = (
    *(*PANEL, "environment", "method", "label", "commit", "date", "position"),
    *("value", "low", "high", "n", "unit", "level", "changed"),
)


@dataclass(frozen=True)
class Results:
    """The results of asv in a folder.

    Args:
        folder: where they lie.
        rows: a row per machine, environment, commit, benchmark and combination of its parameters.
        damaged: file -> why it could not be read.

    Example:
        >>> plotted(Results(Path("empty"), ({"value": None},), {})).empty
        True
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    damaged: Mapping[str, str]


def read(folder: Path) -> Results:
    """Read results of asv.

    Args:
        folder: such as ``.asv/results``.

    Returns:
        All numbers in it.

    Raises:
        UsageError: the folder does not exist or holds no result of asv.

    Example:
        >>> read(Path("nowhere"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of asv's results, got 'nowhere': no such folder
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of asv's results, got {str(folder)!r}: no such folder")
    units: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    damaged = {}
    if (units_file := folder / "benchmarks.json").is_file():
        try:
            benchmarks = json.loads(files.read_text(units_file))
            units = {
                n: str(b.get("unit") or "") for n, b in benchmarks.items() if isinstance(b, dict)
            }
        except (OSError, ValueError, AttributeError) as error:
            # Numbers are as good without their units.
            damaged[units_file.name] = f"{type(error).__name__}: {error}"
    for file in sorted(folder.glob("*/*.json")):
        if file.name == "machine.json":
            continue
        try:
            one = json.loads(files.read_text(file))
            if one["version"] != VERSION:
                raise ValueError(f"version {one['version']} of asv's format")
            rows += list(_rows(one, file.parent.name, units))  # whole or not at all
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            damaged[f"{file.parent.name}/{file.name}"] = f"{type(error).__name__}: {error}"
    if not rows:
        first = next((f" ({name}: {why})" for name, why in damaged.items()), "")
        raise UsageError(f"no result of asv in {str(folder)!r}{first}; run {FIGURES[NAME].made_by}")
    return Results(folder, tuple(rows), damaged)


def plotted(results: Results) -> pd.DataFrame:
    """Sort numbers by commit and find where they change.

    Args:
        results: of `read`.

    Returns:
        Columns `COLUMNS`: ``position`` counts the commits of all results by date, from 0; ``level`` is that
        of asv's piecewise constant fit (NaN where asv is not installed), ``changed`` whether it differs from
        the level before.

    Example:
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("."), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> plotted(results)[["commit", "position", "value"]].values.tolist()
        [['beef', 0, 2.0], ['c0de', 1, 2.0]]
    """
    table = pd.DataFrame(results.rows).dropna(subset=["value"])
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    dates = table.groupby("commit")["date"].min().sort_values(kind="stable")
    table = table.assign(position=table["commit"].map({c: at for at, c in enumerate(dates.index)}))
    table = ordering.arranged(table, [*PANEL, "label", "environment", "position"])
    parts = []
    for _, part in table.groupby([*PANEL, "label", "environment"], sort=False):
        levels = _levels(part["value"].tolist())
        changed = [False, *(a != b for a, b in pairwise(levels))]
        parts.append(part.assign(level=levels, changed=np.array(changed) & ~np.isnan(levels)))
    return pd.concat(parts)[list(COLUMNS)].reset_index(drop=True)


def figure(results: Results, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw each benchmark over the commits, a panel per benchmark and machine.

    Args:
        results: of `read`.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("."), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> fig = figure(results, plotted(results))
        >>> fig.axes[0].get_ylabel()
        'ms'
    """
    looks = style.looks(table["label"], table["method"])
    commits = table.drop_duplicates("position").set_index("position")["commit"].sort_index()

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        for (label, _), mine in part.groupby(["label", "environment"], sort=False):
            _curve(ax, mine, looks[str(label)])
        drawn = part[["value", "low", "high"]].stack()
        if drawn.min() > 0 and drawn.max() > 4 * drawn.min():
            panels.log_axis(ax, drawn)
        shown = commits.iloc[:: 1 + (len(commits) - 1) // 6]
        ax.set_xticks(shown.index.tolist(), [commit[:7] for commit in shown])
        ax.set_xlim(-0.3, len(commits) - 0.7)
        ax.set(xlabel="commit, by date", ylabel=str(part["unit"].iloc[0]) or "value")
        benchmark, machine = group
        several = table["machine"].nunique() > 1
        panels.titled(ax, f"{benchmark} on {machine}" if several else benchmark)

    return panels.drawn(table, PANEL, looks, panel, _caption(table, results), sheet=sheet)


def _rows(
    one: Mapping[str, Any], machine: str, units: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the numbers of one file; skipped and failed benchmarks have none."""
    for benchmark, columns in one["results"].items():
        result = dict(zip(one["result_columns"], columns, strict=False))
        choices = [[_plain(text) for text in values] for values in result.get("params") or []]
        if (values := result.get("result")) is None:
            continue
        for at, (combination, value) in enumerate(zip(product(*choices), values, strict=True)):
            presets = [name for name in combination if name in style.PRESETS]
            label = ", ".join(combination)
            ends = [_at(result.get(f"stats_ci_99_{end}"), at) for end in "ab"]
            yield {
                **{
                    "machine": machine,
                    "environment": one["env_name"],
                    "commit": one["commit_hash"],
                },
                **{"date": one["date"], "benchmark": benchmark, "label": label or "no parameter"},
                **{"method": presets[0] if presets else label or benchmark},
                **{
                    "value": nan if value is None else float(value),
                    "low": ends[0],
                    "high": ends[1],
                },
                **{"n": _at(result.get("stats_repeat"), at), "unit": units.get(benchmark, "")},
            }


def _at(values: list[Any] | None, at: int) -> float:
    """Return a number of one combination of parameters; NaN where there is none."""
    value = values[at] if values else None
    return float(value) if isinstance(value, int | float) else nan


def _plain(text: str) -> str:
    """Return a parameter without the quotes of Python's repr, which asv stores."""
    try:
        return str(literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _levels(values: list[float]) -> list[float]:
    """Fit a piecewise constant function as asv's site does; NaN where asv is not installed."""
    try:
        from asv.step_detect import detect_steps
    except ImportError:
        return [nan] * len(values)
    levels = [nan] * len(values)
    for first, end, value, *_ in detect_steps(values):
        levels[first:end] = [float(value)] * (end - first)
    return levels


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look) -> None:
    """Draw one series: numbers with intervals, levels, and a mark where they change."""
    panels.points(ax, part["position"], part.rename(columns={"value": "mean"}), look)
    if part["level"].notna().any():
        line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "lw": style.pt(1.0)}
        ax.step(part["position"], part["level"], where="mid", **line)
    else:
        line = {"color": look.colour, "ls": look.dashes, "lw": style.pt(0.8)}
        ax.plot(part["position"], part["value"], **line)
    for at in part.loc[part["changed"], "position"]:
        ax.axvline(at - 0.5, color=look.colour, lw=style.pt(0.8), ls=style.DOTTED)


def _caption(table: pd.DataFrame, results: Results) -> str:
    """Describe points, bars and lines, n, and the files that could not be read."""
    counts = table["n"].dropna()
    environments = ", ".join(sorted(set(table["environment"])))
    parts = [f"{table['commit'].nunique()} commits; environment {environments}."]
    if not counts.empty:
        n = span(counts, "sample", "samples")
        parts.append(f"With bars: median of n = {n}, 99 % interval; others: one number.")
    if table["level"].notna().any():
        changes = int(table["changed"].sum())
        parts.append(f"Lines: asv's piecewise constant fit, dotted: its change points ({changes}).")
    else:
        parts.append("asv is not installed: no change points, lines join the numbers.")
    if results.damaged:
        parts.append(f"Not readable: {', '.join(sorted(results.damaged))}.")
    return " ".join(parts)


draw = writer(NAME, everything, plotted, figure)
