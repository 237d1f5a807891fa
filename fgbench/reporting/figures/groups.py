"""Train and test error, or another metric, against the number of channel groups (the paper's figure 7)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from fgbench.records.metrics import Shown
from fgbench.registry import split_options
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.method_names import Way, plain, setting
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    axis,
    by_metric,
    main_results,
    metric_of,
    named,
    other_metrics,
    unnamed,
)
from fgbench.reporting.frames.results import results
from fgbench.reporting.frames.seed_means import over_seeds
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "groups"
PANEL = ["task", "network", "data"]
SPLITS = ("test", "train")
APART = 0.12  # octaves between methods with the same number of groups
COLUMNS = (
    *(*PANEL, "split", "method", "groups"),
    *("mean", "low", "high", "n", "band", "lost", "runs"),
)
PERCENT = {"mean": "error_percent", "low": "low_percent", "high": "high_percent"}
PLAIN = {"mean": "result"}
"""Names of columns where some panel is of another metric, which the column ``metric`` names."""


def network_of(arch: str) -> tuple[str, int]:
    """Split an architecture into its name without the number of groups, and this number.

    Args:
        arch: such as ``localmixer-m/8/16`` or ``localmixer-m/8/16[channels=256,groups=4]``.

    Returns:
        Its name with ``*`` for the number, and the number; 0 where none is stated.

    Example:
        >>> network_of("localmixer-m/8/16")
        ('localmixer-m/8/*', 16)
    """
    name, given = split_options(arch)
    parts = name.split("/")
    stated = given.pop("groups", parts[-1] if len(parts) == 3 else "")
    if not stated.isdecimal():
        return arch, 0
    options = ",".join(f"{option}={value}" for option, value in sorted(given.items()))
    base = "/".join([*parts[:2], "*"]) if len(parts) == 3 else f"{name}, * groups"
    return base + (f"[{options}]" if options else ""), int(stated)


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """Select the runs of methods with two or more numbers of groups in a panel.

    Args:
        runs: of `fgbench.reporting.frames.results.results`.

    Returns:
        These runs, with their ``network`` and ``groups``; ``data`` names all that defines a panel, and
        ``method`` is without the options of its locality.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "estimator": "bp", "base": "end", "keep": "b", "options": ""}
        >>> run |= {"data": "mnist", "train_size": "", "status": "ok", "test_error": 0.1}
        >>> archs = ["localmixer-m/8/4", "localmixer-m/8/16"]
        >>> runs = pd.DataFrame([{**run, "arch": arch} for arch in archs], columns=RESULTS)
        >>> tidy(runs)[["network", "groups"]].values.tolist()
        [['localmixer-m/8/*', 4], ['localmixer-m/8/*', 16]]
    """
    networks = [network_of(arch) for arch in runs["arch"]]
    ways = runs[["estimator", "task", "base", "keep", "options"]].to_numpy()
    where = [setting(*three) for three in runs[["data", "train_size", "options"]].to_numpy()]
    table = runs.assign(
        network=[n for n, _ in networks], groups=[g for _, g in networks], data=where
    )
    table = table.assign(method=[plain(Way(*way)) for way in ways])
    table = table[table["groups"] > 0]
    return table[table.groupby([*PANEL, "method"])["groups"].transform("nunique") > 1]


def plotted(runs: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per panel, split, method and number of groups.

    Args:
        runs: of `fgbench.reporting.frames.results.results`.

    Returns:
        Columns `COLUMNS` with the names of `PERCENT`, or those of `PLAIN` and of the metric, of the runs of
        `tidy`.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "estimator": "bp", "base": "end", "keep": "b", "options": ""}
        >>> run |= {"data": "mnist", "train_size": "", "status": "ok", "test_error": 0.1}
        >>> archs = ["localmixer-m/8/4", "localmixer-m/8/16"]
        >>> runs = pd.DataFrame([{**run, "arch": arch} for arch in archs], columns=RESULTS)
        >>> plotted(runs)[["split", "groups", "error_percent"]].values.tolist()[:2]
        [['test', 4, 10.0], ['test', 16, 10.0]]
    """
    done, by = main_results(tidy(runs)), [*PANEL, "method", "groups"]

    def averaged(part: pd.DataFrame, metric: Shown) -> pd.DataFrame:
        return pd.concat([over_seeds(part, by, s, metric).assign(split=s) for s in SPLITS])

    keys = [*PANEL, "metric", "split", "method", "groups"]
    table = ordering.arranged(by_metric(done, averaged), keys, split=SPLITS)
    return named(table[[*COLUMNS, *ABOUT]], PERCENT, PLAIN)


def figure(runs: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw error against the number of groups, test beside train, a row per task and network.

    Args:
        runs: of `fgbench.reporting.frames.results.results`, for the single runs.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "estimator": "bp", "base": "end", "keep": "b", "options": ""}
        >>> run |= {"data": "mnist", "train_size": "", "status": "ok", "test_error": 0.1, "train_error": 0.1}
        >>> archs = ["localmixer-m/8/4", "localmixer-m/8/16"]
        >>> runs = pd.DataFrame([{**run, "arch": arch} for arch in archs], columns=RESULTS)
        >>> [ax.get_ylabel() for ax in figure(runs, plotted(runs)).axes]
        ['test error (%)', 'train error (%)']
    """
    table = unnamed(table, PERCENT, PLAIN)
    looks = style.looks(table["method"])
    done = main_results(tidy(runs))
    done = done[done["status"].eq("ok")]

    rows = [*PANEL, "metric"]

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        task, network, data, _, split = group
        metric = metric_of(part)
        curves = list(part.groupby("method", sort=False))
        for at, (method, mine) in enumerate(curves):
            aside = 2 ** (APART * (at - (len(curves) - 1) / 2))
            here = done[rows].eq(list(group[:-1])).all(axis=1)
            single = done[here & done["method"].eq(method)]
            values = metric.factor * single[split]
            panels.strip(ax, aside * single["groups"], values, looks[str(method)])
            panels.points(ax, aside * mine["groups"], mine, looks[str(method)], line=True)
        ticks = sorted(set(part["groups"]))
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        if split == SPLITS[0]:
            panels.heading(ax, network, data, task)
        ax.set(xlabel="channel groups, each with a loss", ylabel=axis(metric, split))

    numbered = table.assign(number=table["groups"].map("{} groups".format))
    counts = panels.counted(numbered, ["task", "method", "number"])
    text = f"{counts} Dashes: single runs.{other_metrics(table)}"
    drawing: dict[str, Any] = {"share": "row", "sheet": sheet, "height": 2.1}
    return panels.drawn(table, [*rows, "split"], looks, panel, text, **drawing)


draw = writer(NAME, results, plotted, figure)
