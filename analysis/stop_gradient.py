"""Figure: what becomes of the contrastive loss without its stop-gradient (the paper's figure 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgbench.analysis import epochs, panels, style
from fgbench.analysis.cells import cells, name_of
from fgbench.analysis.load import Records

NAME = "stop_gradient"
MISSING = "contrastive loss in a history", "run fgbench train with a contrastive locality"
WORDS = {
    "stop_keys": {"true": "with stop-gradient", "false": "without stop-gradient"},
    "shared_noise": {"true": "shared noise", "false": "unshared noise"},
}
LOSS = {"mean": "loss", "low": "loss_low", "high": "loss_high"}


def tidy(records: Records) -> pd.DataFrame:
    """Tabulate the contrastive losses of all reported runs.

    Args:
        records: of `fgbench.analysis.load.load`.

    Returns:
        Rows of `fgbench.analysis.load.Records.curves` whose split is neither "train" nor "test" (of
        several such losses a run's first), labelled by method and what of `WORDS` its options say.
    """
    named = {}
    for cell in cells(records):
        for run in cell.reported.runs if cell.reported else ():
            method = name_of(cell.place.way._replace(options=""))
            named[run["key"]] = method, _label(method, run.get("options"))
    curves = records.curves()
    curves = curves[curves["key"].isin(list(named)) & ~curves["split"].isin(["train", "test"])]
    curves = curves[curves["loss"].notna()].drop_duplicates(["key", "epoch"])
    methods, labels = ([named[key][at] for key in curves["key"]] for at in (0, 1))
    return curves.assign(method=methods, label=labels)


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers.

    Args:
        curves: of `tidy`.

    Returns:
        Columns of `fgbench.analysis.epochs.averaged` with the names of `LOSS`.
    """
    return epochs.averaged(curves.assign(value=curves["loss"])).rename(columns=LOSS)


def figure(curves: pd.DataFrame) -> Figure:
    """Draw contrastive loss against epochs, one panel per architecture and data set.

    Args:
        curves: of `tidy`.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.
    """
    table = epochs.averaged(curves.assign(value=curves["loss"]))
    looks = epochs.looks(table)

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        epochs.draw(ax, part, looks)
        low, high = epochs.limits(part)
        edge = 0.08 * (high - low) or 0.1 * high
        ax.set(ylim=(max(0.0, low - edge), high + edge), ylabel="contrastive loss")
        ax.set_title(" on ".join(group), loc="left")

    return panels.drawn(table, ["arch", "data"], looks, panel, epochs.caption(table))


def draw(records: Records, out: Path) -> list[Path]:
    """Write the figure of a folder of records.

    Args:
        records: of `fgbench.analysis.load.load`.
        out: folder for the PNG, the PDF and the CSV.

    Returns:
        The three files.

    Raises:
        UsageError: no history has a contrastive loss.
    """
    curves = tidy(records)
    return style.write(records.folder, out, NAME, plotted(curves), lambda: figure(curves), MISSING)


def _label(method: str, options: Any) -> str:
    """Name a method with what its options say of keys and noise."""
    given = options if isinstance(options, dict) else {}
    said = [words.get(str(given.get(name)).lower()) for name, words in WORDS.items()]
    parts = [part for part in said if part]
    return f"{method}, {', '.join(parts)}" if parts else method
