"""Test error, or another main metric, against the placement of local losses (the paper's figure 6)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.registry import split_options
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.method_names import family, natural, setting
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

NAME = "local_losses"
PANEL = ["task", "arch", "data"]
RELEASED = {"average", "credit"}  # options of the forms of the founding paper's released code
ROOM = 0.4  # inches of a panel for each place, in the paper style
PLACES = ("end", "last", "module", "local")
WORDS = {"end": "end", "last": "last\nblock", "module": "uncut\nblocks", "local": "blocks"}
COLUMNS = (
    *(*PANEL, "estimator", "series", "base", "keep", "place"),
    *("mean", "low", "high", "n", "band", "lost", "runs"),
)
PERCENT = {"mean": "test_error_percent", "low": "low_percent", "high": "high_percent"}
PLAIN = {"mean": "test"}
"""Names of columns where some panel is of another metric, which the column ``metric`` names."""


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """Select the runs of the ablation, with their panel, form and placement of losses.

    Args:
        runs: of `fgbench.reporting.frames.results.results`.

    Returns:
        The runs of estimators whose losses are in two places in a panel, with scores kept apart in two ways
        in one of them, beside the end-to-end gradient without noise. Further columns ``series place label``;
        ``data`` names all that defines a panel.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "arch": "mlp-2x8", "data": "digits", "train_size": "", "options": ""}
        >>> run |= {"estimator": "fg_a", "status": "ok", "test_error": 0.1}
        >>> places = [("end", "b"), ("local", "b"), ("local", "b p")]
        >>> rows = [{**run, "base": base, "keep": keep} for base, keep in places]
        >>> runs = pd.DataFrame(rows, columns=RESULTS)
        >>> tidy(runs)["label"].tolist()
        ['fg_a, end', 'fg_a, blocks', 'fg_a, blocks +p']
    """
    names = [split_options(estimator)[0] for estimator in runs["estimator"]]
    series = [_series(estimator) for estimator in runs["estimator"]]
    places = [_place(*pair) for pair in zip(runs["base"], runs["keep"], strict=True)]
    where = [setting(*three) for three in runs[["data", "train_size", "options"]].to_numpy()]
    table = runs.assign(series=series, place=places, data=where)
    alike = table.groupby([*PANEL, "series", "base", "keep"])["estimator"].transform("nunique")
    series = table["series"].where(alike.eq(1), table["estimator"])  # never two forms as one
    table = table.assign(series=series, estimator=names)
    bases, keeps = (
        table.groupby([*PANEL, "estimator", *more])[of].transform("nunique") > 1
        for more, of in (([], "base"), (["base"], "keep"))
    )
    ways = table.assign(keeps=keeps).groupby([*PANEL, "estimator"])["keeps"].transform("any")
    beside = table["estimator"].map(_method).eq("BP") & table["base"].eq("end")
    table = table.assign(ablated=bases & ways)
    table = table[table["ablated"] | (beside & table.groupby(PANEL)["ablated"].transform("any"))]
    pairs = zip(table["series"], table["place"], strict=True)
    return table.assign(label=[f"{form}, {place}".replace("\n", " ") for form, place in pairs])


def plotted(runs: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per panel, placement of losses and form of an estimator.

    Args:
        runs: of `fgbench.reporting.frames.results.results`.

    Returns:
        Columns `COLUMNS` with the names of `PERCENT`, or those of `PLAIN` and of the metric, of the runs of
        `tidy`.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "arch": "mlp-2x8", "data": "digits", "train_size": "", "options": ""}
        >>> run |= {"estimator": "fg_a", "status": "ok", "test_error": 0.1}
        >>> places = [("end", "b"), ("local", "b"), ("local", "b p")]
        >>> rows = [{**run, "base": base, "keep": keep} for base, keep in places]
        >>> runs = pd.DataFrame(rows, columns=RESULTS)
        >>> plotted(runs)[["base", "keep", "test_error_percent"]].values.tolist()
        [['end', 'b', 10.0], ['local', 'b', 10.0], ['local', 'b p', 10.0]]
    """
    by = [*PANEL, "estimator", "series", "base", "keep", "place"]
    table = by_metric(
        main_results(tidy(runs)), lambda part, metric: over_seeds(part, by, "test", metric)
    )
    others = sorted(set(table["base"]) - set(PLACES), key=natural)
    table = table.assign(kept=table["keep"].str.len(), method=table["estimator"].map(_method))
    keys = [*PANEL, "metric", "base", "kept", "keep", "series"]
    table = ordering.arranged(table, keys, base=[*PLACES, *others])
    return named(table[[*COLUMNS, *ABOUT]], PERCENT, PLAIN)


def figure(runs: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw test error by placement of losses, one panel per task, architecture and data set.

    An estimator has the look of its global preset; its other forms are drawn as its settings.

    Args:
        runs: of `fgbench.reporting.frames.results.results`, for the single runs.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.results import COLUMNS as RESULTS
        >>> run = {"task": "supervised", "arch": "mlp-2x8", "data": "digits", "train_size": "", "options": ""}
        >>> run |= {"estimator": "fg_a", "status": "ok", "test_error": 0.1}
        >>> places = [("end", "b"), ("local", "b"), ("local", "b p")]
        >>> rows = [{**run, "base": base, "keep": keep} for base, keep in places]
        >>> runs = pd.DataFrame(rows, columns=RESULTS)
        >>> fig = figure(runs, plotted(runs))
        >>> fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()
        ('local losses', 'test error (%)')
    """
    table = unnamed(table, PERCENT, PLAIN)
    pairs = ordering.arranged(table.assign(method=table["estimator"].map(_method)), ["series"])
    looks = style.looks(pairs["series"], pairs["method"])
    done = main_results(tidy(runs))
    done = done[done["status"].eq("ok") & done["test"].notna()]
    rows = [*PANEL, "metric"]

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        task, arch, data, metric = group
        here = done[rows].eq(list(group)).all(axis=1)
        alike = table[table["metric"].eq(metric)]
        _panel(ax, part, looks, alike[["low", "high"]].stack(), done[here])
        panels.heading(ax, arch, data, task)

    words = (
        "Dashes: single runs. Axes after +: along which scores are kept apart (p patch, g group)."
    )
    counts = panels.counted(table, ["task", "series", "place"])
    text = f"{counts} {words}{other_metrics(table)}"
    places = int(table.groupby(PANEL)["place"].nunique().max())
    most = 2 if sheet.inches(2) / 2 / places >= ROOM * sheet.scale else 1
    drawing: dict[str, Any] = {"height": 2.5, "line": False, "sheet": sheet}
    drawing["share"] = "all" if table["metric"].nunique() == 1 else "none"
    drawing["most"] = most
    return panels.drawn(table, rows, looks, panel, text, **drawing)


def _series(estimator: str) -> str:
    """Return the name of an estimator's form: its options, with one phrase for those of the released code."""
    name, given = split_options(estimator)
    rest = ",".join(f"{k}={v}" for k, v in sorted(given.items()) if k not in RELEASED)
    return name + (f"[{rest}]" if rest else "") + ", as released" * bool(RELEASED & given.keys())


def _method(estimator: str) -> str:
    """Return the name of an estimator with its loss at the end."""
    return family(f"{estimator}/end")


def _place(base: str, keep: str) -> str:
    """Return the tick label of a placement of losses, with the axes along which scores are kept apart."""
    kept = "".join(f"\n+{axis}" for axis in keep.split() if axis != "b")
    return WORDS.get(base, base) + kept


def _panel(
    ax: Axes,
    part: pd.DataFrame,
    looks: dict[str, style.Look],
    drawn: pd.Series,
    runs: pd.DataFrame,
) -> None:
    """Draw one panel: placements from left to right, the forms of an estimator side by side."""
    metric, places = metric_of(part), list(dict.fromkeys(part["place"]))
    series = [name for name in looks if name in set(part["series"])]
    step = 0.7 / len(series)
    for at, name in enumerate(series):
        mine = part[part["series"] == name]
        aside = step * (at - (len(series) - 1) / 2)
        x = mine["place"].map(places.index) + aside
        single = runs[runs["series"] == name]
        at_run = single["place"].map(places.index) + aside
        panels.strip(ax, at_run, metric.factor * single["test"], looks[name])
        panels.points(ax, x, mine, looks[name])
    if (drawn > 0).all() and drawn.max() > 4 * drawn.min():
        panels.log_scale(ax)
    for edge in range(1, len(places)):
        ax.axvline(edge - 0.5, color=style.GRID, lw=style.pt(0.5))
    ax.set_xticks(range(len(places)), places)
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    ax.set(xlim=(-0.5, len(places) - 0.5), xlabel="local losses", ylabel=axis(metric))


draw = writer(NAME, results, plotted, figure)
