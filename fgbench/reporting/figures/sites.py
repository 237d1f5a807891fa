"""A quantity site by site, in the order of the network: shared by the figures over depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.frames import comparable, ordering
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

PANEL = ["arch", "data"]
LETTERS, MOST = 40, 20  # of names side by side, and names that stand upright
ASIDE, WIDEST = 0.1, 0.6  # between records at one site, and of all of them, where sites are 1 apart
KEPT = (
    *(*PANEL, "method", "label", "site", "position", "value", "low", "high", "n", "predicted"),
    *(
        "p_value",
        "p_adjusted",
        "detectable",
        "draws_low",
        "draws_high",
        "seed",
        "directions",
        "draws",
        "inits",
        "moments",
    ),
    *("batches", "batch", "truth", "heavy_tail", "unscaled", "exactly"),
)


def picked(measures: pd.DataFrame, quantity: str, also: Sequence[str] = ()) -> pd.DataFrame:
    """Select one quantity of every site.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        quantity: such as "bias".
        also: further columns.

    Returns:
        Columns `KEPT`: a row per record and site, ``position`` counting sites from the input, from 1, and
        ``unscaled`` as :func:`fgbench.reporting.frames.comparable.judged` finds it among all of them.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "bias", "place": "body.0.l0", "value": 2.0}
        >>> picked(pd.DataFrame([row], columns=MEASURES), "bias")[["site", "position"]].values.tolist()
        [['body.0.l0', 1]]
    """
    chosen = measures[(measures["quantity"] == quantity) & (measures["place"] != "all")]
    chosen = chosen.assign(site=chosen["place"], position=chosen.groupby("key").cumcount() + 1)
    chosen = ordering.arranged(chosen, [*PANEL, "method", "label", "seed", "position"])
    return comparable.judged(chosen)[[*KEPT, *also]]


def asides(records: int) -> list[float]:
    """Return the horizontal offsets of records at one site, where sites are 1 apart.

    Args:
        records: their number.

    Returns:
        An offset for each record.

    Example:
        >>> asides(2)
        [-0.05, 0.05]
    """
    step = min(ASIDE, WIDEST / max(1, records - 1))
    return [step * (at - (records - 1) / 2) for at in range(records)]


def drawn(
    table: pd.DataFrame,
    curve: Callable[[Axes, pd.Series, pd.DataFrame, style.Look], None],
    axis: str,
    text: str,
    *,
    log: bool,
    ends: tuple[float, float] | None = None,
    truth: bool = True,
    line: bool = False,
    numbers: Sequence[str] = ("value", "low", "high", "predicted"),
    filled: bool = False,
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    sheet: Sheet = PAPER,
) -> Page:
    """Draw records side by side at every site, a panel per architecture and data set.

    Args:
        table: of `picked`.
        curve: draws one record, from the axes, horizontal positions, its rows and its look.
        axis: label of the vertical axis.
        text: the caption after the sentence on n.
        log: whether the vertical axis is logarithmic, else it starts at zero.
        ends: of a linear axis, where it does not start at zero.
        truth: whether estimates are compared to the method's own truth, for the caption.
        line: whether entries of the legend are lines with markers, else markers alone.
        numbers: columns that are drawn.
        filled: whether every marker of the legend is filled, because filling has another meaning in the
            panels.
        more: entries of the legend beside the methods, see `fgbench.reporting.plotting.panels.drawn`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "bias", "place": "body.0.l0", "value": 2.0}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> table = picked(pd.DataFrame([row], columns=MEASURES), "bias")
        >>> fig = drawn(table, lambda ax, x, part, look: None, "bias", "No curves.", log=False)
        >>> fig.axes[0].get_ylabel()
        'bias'
    """
    looks = style.looks(table["label"], table["method"])
    if filled:
        looks = {label: replace(look, filled=True) for label, look in looks.items()}

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        runs = list(part.groupby(["label", "seed"], sort=False, dropna=False))
        for aside, ((label, _), mine) in zip(asides(len(runs)), runs, strict=True):
            curve(ax, mine["position"] + aside, mine, looks[label])
        if log:
            shown = table[list(numbers)].stack().dropna()
            panels.log_axis(ax, shown[shown > 0])
        elif ends is not None:
            ax.set_ylim(*ends)
        else:
            ax.set_ylim(bottom=0)
        named(ax, part)
        ax.set_ylabel(axis)
        panels.heading(ax, *group)

    words = f"{relative_variance.caption(table, 'each of one site', truth=truth)} {text}"
    share: panels.Share = "all" if log else "none"
    drawing: dict[str, Any] = {"height": 2.2, "line": line, "more": more, "share": share}
    return panels.drawn(table, PANEL, looks, panel, words, sheet=sheet, **drawing)


def named(ax: Axes, part: pd.DataFrame) -> None:
    """Set the horizontal axis of sites: their names, from the input to the loss.

    What all names begin with is in the label of the axis. Names that have no room side by side stand
    upright, and of many only some are written.

    Args:
        ax: the panel.
        part: rows with ``site`` and ``position``.

    Example:
        >>> ax = panels.layout(1).axes[0]
        >>> names = [f"body.{at}.l0" for at in range(5)]
        >>> named(ax, pd.DataFrame({"site": names, "position": range(1, 6)}))
        >>> [text.get_text() for text in ax.get_xticklabels()], ax.get_xlabel()
        (['0.l0', '1.l0', '2.l0', '3.l0', '4.l0'], 'site body.*, from input to loss')
    """
    order = part.drop_duplicates("position").sort_values("position")
    places, names = order["position"].tolist(), order["site"].astype(str).tolist()
    first = names[0].partition(".")
    common = first[0] + first[1]
    if _fit(names) or not first[1] or not all(name.startswith(common) for name in names):
        common = ""
    texts = [name.removeprefix(common) for name in names]
    upright = not _fit(texts)
    every = 1 + (len(texts) - 1) // (MOST if upright else len(texts))
    shown = [text if at % every == 0 else "" for at, text in enumerate(texts)]
    ax.set_xticks(places, shown, rotation=90 if upright else 0)
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    prefix = f" {common}*" if common else ""
    ax.set(xlim=(0.5, max(places) + 0.5), xlabel=f"site{prefix}, from input to loss")


def _fit(names: Sequence[str]) -> bool:
    """Check whether names have room side by side below a panel."""
    return sum(map(len, names)) + 2 * len(names) <= LETTERS
