"""Variance site by site, split between batches and perturbations."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style

NAME = "split"
PANEL = ["arch", "data", "label", "seed"]
PARTS = {"batch": "batch_variance", "perturbation": "perturbation_variance"}
COLUMNS = (
    *(*PANEL, "method", "site", "position"),
    *(f"{part}{end}" for part in PARTS for end in ("", "_low", "_high")),
    *("total", "total_low", "total_high", "parity", "n", "directions", "draws", "inits"),
    *("moments", "batches", "batch_size", "truth", "heavy_tail", "value"),
)
WORDS = (
    "Top of a bar: variance of the estimate over batches and perturbations, relative to E|g|². Hatched: "
    "variance of the true gradient between batches; above it: the part that perturbations add. Their "
    "directions are drawn anew for every batch, so this part includes the interaction of both. Marks: 95 % "
    "intervals; left: of batches, from a jackknife over their gradients; right, at the top: of the part of "
    "perturbations alone. The axis is logarithmic: compare the ends of bars, not their lengths."
)
MANY = 12  # panels that are seen at once
HATCHED: dict[str, Any] = {"color": "#d9d9d9", "ec": style.FAINT, "hatch": "/////", "lw": 0.4}


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per record and site where both parts have a value.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`: both parts and their sum, relative to E|g|², and ``parity``, the directions at
        which they are equal.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"place": "body.0.l0", "low": 1.0, "high": 4.0}
        >>> rows = [{**row, "quantity": name, "value": 2.0} for name in PARTS.values()]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> plotted(measures)[["site", "batch", "perturbation", "total"]].values.tolist()
        [['body.0.l0', 2.0, 2.0, 4.0]]
    """
    sites = measures[measures["place"] != "all"]
    first = sites[sites["quantity"] == PARTS["batch"]]
    table = first.rename(columns={"batch": "batch_size", "place": "site"})
    table = table.assign(position=table.groupby("key").cumcount() + 1)
    for part, name in PARTS.items():
        ends = {"value": part, "low": f"{part}_low", "high": f"{part}_high", "place": "site"}
        numbers = sites.loc[sites["quantity"] == name, ["key", *ends]]
        table = table.merge(numbers.rename(columns=ends), on=["key", "site"])
    parity = sites.loc[sites["quantity"] == "directions_for_parity", ["key", "place", "value"]]
    parity = parity.rename(columns={"value": "parity", "place": "site"})
    table = table.merge(parity, on=["key", "site"], how="left")
    table = table[table["batch"].gt(relative_variance.ZERO) & table["perturbation"].notna()]
    for end in ("", "_low", "_high"):
        table[f"total{end}"] = table["batch"] + table[f"perturbation{end}"]
    keys = ["arch", "data", "method", "label", "seed", "position"]
    return ordering.arranged(table, keys)[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the two parts as stacked bars at every site, a panel per record.

    Args:
        table: of `plotted`, all that is drawn.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> row |= {"place": "body.0.l0", "low": 1.0, "high": 4.0}
        >>> rows = [{**row, "quantity": name, "value": 2.0} for name in PARTS.values()]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_ylabel()
        'variance / E|g|²'
    """
    parts = list(table.groupby(PANEL, sort=False, dropna=False))
    names = ["between batches", "added by perturbations"]
    numbers = [f"{part}{end}" for part in ("batch", "total") for end in ("", "_low", "_high")]
    room = 60 if len(parts) == 1 else 44 if len(parts) == 2 else 30  # letters of a line
    with style.context():
        lines = max(panels.broken(str(names[2]), room).count("\n") for names, _ in parts)
        page = panels.layout(len(parts), height=1.7 + 0.1 * lines, most=3)
        for ax, ((arch, data, label, seed), part) in zip(page.axes, parts, strict=True):
            alike = table[table["arch"].eq(arch) & table["data"].eq(data)]
            ends = alike[numbers].stack().dropna()
            floor = float(ends[ends > 0].min()) / 2
            _bars(ax, part, floor)
            ax.set_ylim(floor, float(ends.max()) * 1.6)
            several = len(set(alike.loc[alike["label"] == label, "seed"])) > 1
            title = panels.broken(f"{label}{f', seed {seed}' * several}", room)
            ax.set_title(f"{title}\n{arch} on {data}", loc="left", fontsize=6.5)
        marks = [
            Patch(label=names[0], **HATCHED),
            Patch(color=style.INK, label=f"{names[1]} (colour of the method)"),
        ]
        few = f" --method, --arch and --data pick some of the {len(parts)} panels." * (
            len(parts) > MANY
        )
        page.finish(marks, f"{relative_variance.caption(table, 'each of one site')} {WORDS}{few}")
    return page.figure


def _bars(ax: Axes, part: pd.DataFrame, floor: float) -> None:
    """Draw the bars of one record."""
    x, look = part["position"], style.look(str(part["method"].iloc[0]))
    ax.bar(x, part["batch"] - floor, bottom=floor, width=0.7, **HATCHED)
    ax.bar(x, part["perturbation"], bottom=part["batch"], width=0.7, color=look.colour)
    for name, place in (("batch", x - 0.18), ("total", x + 0.18)):
        ax.vlines(place, part[f"{name}_low"], part[f"{name}_high"], color=style.INK, lw=1.0)
    ax.set_yscale("log")
    last = int(x.max())
    places = range(1, last + 1)
    ax.set_xticks(places, [str(k) if (k - 1) % (1 + last // 12) == 0 else "" for k in places])
    ax.grid(visible=False, axis="x")
    ax.set(xlim=(0.4, last + 0.6), xlabel="site, from input to loss", ylabel="variance / E|g|²")


draw = writer(NAME, Records.measures, plotted, figure)
