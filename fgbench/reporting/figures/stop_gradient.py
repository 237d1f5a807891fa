"""Contrastive loss and test error with and without stop-gradient (the paper's figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import exact, plain, setting
from fgbench.reporting.frames.results import Cell, cells
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.plotting import epoch_curves, panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "stop_gradient"
KEYS, NOISE = "stop_keys", "shared_noise"
WORDS = {
    KEYS: {"true": "keys stopped", "false": "keys live"},
    NOISE: {"true": "noise shared", "false": "noise apart"},
}
COMMON = ["arch", "data", "method", "label", "run", "epoch", "n", "band", "diverged", "runs"]
LOSS = {"mean": "loss", "low": "loss_low", "high": "loss_high"}
PERCENT = {"mean": "test_error_percent", "low": "low_percent", "high": "high_percent"}
AXES = {"contrastive loss": LOSS, "test error (%)": PERCENT}


def tidy(records: Records) -> pd.DataFrame:
    """Tabulate the contrastive losses and test errors of methods that ran with keys or noise in two ways.

    A panel is one network on one data set under one kind of views.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Rows of `fgbench.reporting.frames.load.Records.curves` of the reported runs, a row per run and epoch,
        labelled by method and the options in `WORDS`. ``loss`` is the loss beside train and test (the first
        where there are several), ``error`` the test error.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "method": "fg_a/contrastive-end", "arch": "mlp-2x8"}
        >>> run |= {"estimator": "fg_a", "data": "digits", "status": "ok"}
        >>> run |= {"history": [{"epoch": 1, "contrastive_loss": 2.0}]}
        >>> runs = [
        ...     {**run, "locality": f"contrastive-end[stop_keys={stop}]", "options": {KEYS: stop}}
        ...     for stop in ("false", "true")
        ... ]
        >>> tidy(Records(Path("."), tuple(runs), {}, ()))["label"].tolist()
        ['FG-A, keys live', 'FG-A, keys stopped']
    """
    named = {}
    for cell in cells(records):
        method, place = plain(cell.place.way), _panel_of(cell)
        for run in cell.reported.runs if cell.reported else ():
            label = _label(method, cell.place.way.estimator, run.get("options"))
            named[run["key"]] = method, label, place
    curves = records.curves()
    curves = curves[curves["key"].isin(list(named))]
    errors = curves[curves["split"] == "test"].set_index(["key", "epoch"])["error"]
    curves = curves[~curves["split"].isin(["train", "test"]) & curves["loss"].notna()]
    curves = curves.drop_duplicates(["key", "epoch"])
    at = pd.MultiIndex.from_frame(curves[["key", "epoch"]])
    columns = {
        name: [named[key][part] for key in curves["key"]]
        for part, name in enumerate(("method", "label", "data"))
    }
    curves = curves.assign(error=errors.reindex(at).to_numpy(), **columns)
    ways = curves.groupby(["arch", "data", "method"])["label"].transform("nunique")
    return curves[ways > 1]


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: averaged losses and errors.

    Args:
        curves: of `tidy`.

    Returns:
        Columns `COMMON` and those of `LOSS` and `PERCENT`.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A, keys live"}
        >>> row |= {"key": "a", "seed": 0, "status": "ok", "epoch": 1, "split": "contrastive"}
        >>> curves = pd.DataFrame([{**row, "loss": 2.0, "error": 0.5}], columns=CURVES)
        >>> plotted(curves)[["loss", "test_error_percent"]].values.tolist()
        [[2.0, 50.0]]
    """
    loss, error = (_averaged(curves, what).rename(columns=names) for what, names in AXES.items())
    alike = [
        name for name in COMMON if name != "band"
    ]  # an error's interval may be cut, a loss's is not
    both = loss.merge(error, on=alike, how="outer", sort=False, suffixes=("_of_loss", ""))
    both = both.assign(band=both["band"].fillna(both["band_of_loss"]))
    return both[[*COMMON, *LOSS.values(), *PERCENT.values()]]


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw contrastive loss beside the readout's test error, against epochs; a row per network and data.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A, keys live"}
        >>> row |= {"key": "a", "seed": 0, "status": "ok", "epoch": 1, "split": "contrastive"}
        >>> curves = pd.DataFrame([{**row, "loss": 2.0, "error": 0.5}], columns=CURVES)
        >>> [ax.get_ylabel() for ax in figure(curves, plotted(curves)).axes]
        ['contrastive loss', 'test error (%)']
    """
    parts = [
        table.dropna(subset=[names["mean"]])
        .rename(columns={new: old for old, new in names.items()})[[*COMMON, *names]]
        .assign(what=what)
        for what, names in AXES.items()
    ]
    table = pd.concat(parts)
    table = ordering.arranged(table, ["arch", "data", "what"])
    norm = table.sort_values(
        "label", ascending=False
    )  # keys stopped before live, noise shared before apart
    looks = style.looks(norm["label"], norm["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        arch, data, what = group
        epoch_curves.draw(ax, part, looks)
        low, high = epoch_curves.limits(part)
        edge = 0.08 * (high - low) or 0.1 * high
        ax.set(ylim=(max(0.0, low - edge), high + edge), ylabel=what)
        if what == next(iter(AXES)):
            panels.heading(ax, arch, data)

    text = epoch_curves.caption(table.drop(columns="what"))
    text += " Losses are training's, of the last projector; errors a linear readout's on frozen features."
    more = epoch_curves.keys(table)
    by = ["arch", "data", "what"]
    return panels.drawn(table, by, looks, panel, text, height=2.1, more=more, sheet=sheet)


def _averaged(curves: pd.DataFrame, what: str) -> pd.DataFrame:
    """Average losses, or errors in percent, over runs."""
    if "error" in what:
        return epoch_curves.averaged(curves.assign(value=100 * curves["error"]), WHOLE)
    return epoch_curves.averaged(curves.assign(value=curves["loss"]))


def _panel_of(cell: Cell) -> str:
    """Return the name of a panel: data, number of examples and options of views."""
    given = cell.place.way.options.split(",")
    rest = ",".join(part for part in given if part.partition("=")[0] not in WORDS)
    return setting(cell.place.data, cell.place.train_size, rest)


def _label(method: str, estimator: str, options: Any) -> str:
    """Return the name of a method with its options on keys and, where it draws any, on noise."""
    given = options if isinstance(options, Mapping) else {}
    texts = [
        words.get(str(given.get(name)).lower())
        for name, words in WORDS.items()
        if name != NOISE or not exact(estimator)
    ]
    parts = [part for part in texts if part]
    return f"{method}, {', '.join(parts)}" if parts else method


draw = writer(NAME, tidy, plotted, figure)
