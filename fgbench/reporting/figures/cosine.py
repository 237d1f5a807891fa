"""Cosine of an estimate with the true gradient, from the start of training on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fgbench.reporting.figures import relative_variance, sites
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.numbers import signed
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "cosine"
PANEL = ["arch", "data"]
MOST = 8  # steps that are named
COLUMNS = (
    *(*PANEL, "method", "label", "seed", "moment", "step", "value", "low", "high", "n"),
    *("draws_low", "draws_high", "draws_n", "chance", "trajectory", "elements", "directions"),
    *("draws", "inits", "batches", "batch", "truth", "heavy_tail"),
)
ORDER = ["arch", "data", "method", "label", "seed", "step"]


def plotted(along: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record and moment, of records of several moments.

    Args:
        along: of `fgbench.reporting.frames.load.Records.along`.

    Returns:
        Columns `COLUMNS`: ``value`` is the mean cosine of single draws with the end-to-end gradient and
        ``low`` to ``high`` its interval; ``draws_low`` to ``draws_high`` hold nine of ten draws; ``chance``
        is the mean cosine of an estimate along one isotropic direction, ``expected_cosine`` of the record,
        or √(2/(πd)) where the record does not state it.

    Example:
        >>> from fgbench.reporting.frames.load import ALONG
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "elements": 100, "trajectory": "BP"}
        >>> rows = [{**row, "moment": at, "step": at, "value": 0.1} for at in (0, 1)]
        >>> along = pd.DataFrame(rows, columns=ALONG)
        >>> plotted(along)[["step", "value", "chance"]].values.round(3).tolist()
        [[0.0, 0.1, 0.08], [1.0, 0.1, 0.08]]
    """
    body = along[along["place"].eq("all") & along["step"].notna()]
    mean = body[body["quantity"].eq(NAME) & body["value"].notna()]
    drawn = body[body["quantity"].eq("cosine_draws")]
    names = {name: f"draws_{name}" for name in ("low", "high", "n")}
    drawn = drawn[["key", "moment", *names]].rename(columns=names)
    mean = mean.drop(columns=list(names.values()), errors="ignore")  # those are of a bias
    table = mean.merge(drawn, on=["key", "moment"], how="left")
    table = table[table.groupby("key")["step"].transform("nunique") > 1]
    expected = body[body["quantity"].eq("expected_cosine")].drop_duplicates(["key", "moment"])
    expected = expected[["key", "moment", "value"]].rename(columns={"value": "chance"})
    table = table.merge(expected, on=["key", "moment"], how="left")
    table["chance"] = table["chance"].fillna((2 / np.pi / table["elements"]) ** 0.5)
    return ordering.arranged(table, ORDER)[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the cosine against the steps of training, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import ALONG
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "elements": 100, "trajectory": "BP"}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> rows = [{**row, "moment": at, "step": at, "value": 0.1} for at in (0, 1)]
        >>> along = pd.DataFrame(rows, columns=ALONG)
        >>> fig = figure(along, plotted(along))
        >>> fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()
        ('step of training (evenly spaced)', 'cosine of e and G')
    """
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        chance = float(part["chance"].max())
        steps = sorted(set(part["step"]))
        runs = list(part.groupby(["label", "seed"], sort=False, dropna=False))
        for aside, ((label, _), mine) in zip(sites.asides(len(runs)), runs, strict=True):
            look, x = looks[str(label)], mine["step"].map(steps.index) + aside
            thin: dict[str, Any] = {"color": look.colour, "lw": style.pt(0.7), "alpha": 0.6}
            ax.vlines(x, mine["draws_low"], mine["draws_high"], **thin)
            panels.points(ax, x, mine.rename(columns={"value": "mean"}), look, line=True)
        ax.axhline(chance, color=style.INK, ls=style.DOTTED, lw=style.pt(0.9))
        ax.axhline(0, color=style.FAINT, lw=style.pt(0.5))
        ax.set_yscale("symlog", linthresh=chance)
        ends = part[["low", "high", "value", "draws_low", "draws_high"]].stack()
        ticks = [
            t for t in _ticks(chance) if 1.2 * ends.min() <= t <= 1.2 * max(ends.max(), chance)
        ]
        ax.set_yticks(ticks, [signed(t, "g") for t in ticks])
        ax.yaxis.set_minor_locator(MaxNLocator(1))
        every = 1 + (len(steps) - 1) // MOST
        names = [f"{step:g}" if at % every == 0 else "" for at, step in enumerate(steps)]
        ax.set_xticks(range(len(steps)), names)
        ax.grid(visible=False, axis="x")
        ax.set(xlim=(-0.5, len(steps) - 0.5), xlabel="step of training (evenly spaced)")
        ax.set_ylabel("cosine of e and G")
        panels.heading(ax, *group)

    more = {"chance": {"color": style.INK, "ls": style.DOTTED, "lw": 0.9}}
    drawing: dict[str, Any] = {"height": 2.4, "more": more, "sheet": sheet}
    return panels.drawn(table, PANEL, looks, panel, caption(table), **drawing)


def _ticks(chance: float) -> list[float]:
    """List 0 and, with both signs, the decades from above the chance level up to 1."""
    decades = [10.0**-k for k in range(8) if 10.0**-k > 1.5 * chance]
    return sorted([0.0, *decades, *(-d for d in decades)])


def caption(table: pd.DataFrame) -> str:
    """Describe lines, bars and bands, n, and the training that the steps belong to.

    Args:
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> row = {"trajectory": "BP", "value": 0.1, "draws": 8, "inits": 1, "batches": 1}
        >>> text = caption(pd.DataFrame([{**row, "heavy_tail": False}], columns=COLUMNS))
        >>> "n per point: 8 draws × 1 init × 1 batch." in text, "steps of BP." in text
        (True, True)
    """
    along = " or ".join(sorted({str(name) for name in table["trajectory"].dropna() if name}))
    return (
        f"{relative_variance.caption(table, truth=False)} G: the end-to-end gradient of the same batch, "
        f"whatever the method's own truth; steps of {along or 'training'}. Line: mean cosine over draws, "
        "with 95 % intervals (thick). Thin bars: nine of ten single draws, over batches and inits. Dotted: "
        "chance, the mean cosine of a forward gradient along one random direction of the d parameters of the "
        "body, about √(2/(πd)). The axis is linear below it."
    )


draw = writer(NAME, Records.along, plotted, figure)
