"""Relative variance of each method's estimate, measured beside theory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import comparable, ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.numbers import signed
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "relative_variance"
AXIS = "relative variance (dimensionless)\nE|e − Ee|² / |g|²"
COLUMNS = (
    *("arch", "data", "method", "label", "seed", "directions", "draws", "inits", "moments"),
    *("batches", "batch", "truth", "value", "low", "high", "n", "predicted"),
    *("heavy_tail", "unscaled"),
    *("exactly", "status"),
)
LETTERS = 26  # of a name beside its row
ZERO = 1e-12  # relative to |g|²: below this a variance is rounding


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record, of the whole body.

    Args:
        measures: of `source` or `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`, sorted by panel and then as drawn from the top.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "value": 2.0, "low": 1.0, "high": 4.0, "n": 8}
        >>> plotted(pd.DataFrame([row], columns=MEASURES))[["method", "value"]].values.tolist()
        [['FG-A', 2.0]]
    """
    chosen = measures[(measures["quantity"] == NAME) & (measures["place"] == "all")]
    chosen = ordering.arranged(chosen, ["arch", "data", "method", "label", "seed"])
    return comparable.judged(chosen)[list(COLUMNS)]


def source(records: Records) -> pd.DataFrame:
    """Tabulate the measured quantities, with a row without a value for each measurement that failed.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        As `fgbench.reporting.frames.load.Records.measures`, without failed ones where nothing was measured.

    Example:
        >>> from pathlib import Path
        >>> row = {"verb": "measure", "method": "FG-A", "estimator": "fg_a", "arch": "mlp-2x8"}
        >>> measured = {**row, "status": "ok", "relative_variance": 2.0}
        >>> failed = {**row, "arch": "mlp-2x16", "status": "failed"}
        >>> source(Records(Path("."), (measured, failed), {}, ()))[["arch", "value"]].values.tolist()
        [['mlp-2x8', 2.0], ['mlp-2x16', nan]]
    """
    measures = records.measures()
    lost = [
        {"quantity": NAME, "place": "all", **row}
        for row in records.of("measure")
        if row["status"] == "failed"
    ]
    if measures.empty or not lost:
        return measures
    failed = pd.DataFrame(lost).reindex(columns=measures.columns)
    failed[["inits", "batches", "draws", "value", "moments"]] = np.nan
    failed = failed.astype({n: k for n, k in measures.dtypes.items() if k.kind == "f"})
    return pd.concat([measures, failed.assign(heavy_tail=False, truth="")], ignore_index=True)


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw relative variance by method, one panel per architecture and data set.

    Points are measured, with 95 % intervals; hollow diamonds are closed forms. Records are never pooled:
    several of one method are drawn in one row, side by side.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "value": 2.0, "low": 1.0, "high": 4.0, "n": 8}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> measures = pd.DataFrame([row], columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_xlabel() == AXIS
        True
    """
    parts = list(table.groupby(["arch", "data"], sort=False))
    heights = [0.85 + 0.24 * _places(part)[-1][1] for _, part in parts]
    limits, looks = _limits(table), style.looks(table["label"], table["method"])
    with style.context(sheet):
        page = panels.layout(len(parts), sheet=sheet, heights=heights)
        for at, (ax, ((arch, data), part)) in enumerate(zip(page.axes, parts, strict=True)):
            _panel(ax, part, limits, looks)
            panels.heading(ax, arch, data)
            ax.set_xlabel(AXIS if at + page.columns >= len(parts) else "")
        return page.finish(_legend(table), described(table))


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Return limits around every positive number, extended to whole decades where the range is small."""
    numbers = table[["value", "low", "high", "predicted"]].to_numpy(float)
    numbers = numbers[np.isfinite(numbers) & (numbers > ZERO)]
    if not numbers.size:
        return 0.1, 10.0
    low, high = float(numbers.min()) / 1.6, float(numbers.max()) * 1.6
    if high / low < 30:  # a log axis needs a decade with its labels
        low, high = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
    return low, high


def _panel(
    ax: Axes, part: pd.DataFrame, limits: tuple[float, float], looks: Mapping[str, style.Look]
) -> None:
    """Draw one architecture on one data set."""
    places = _places(part)
    rows = _rows(part, places)
    part = part.assign(row=rows["row"], theory_row=rows["theory_row"])
    drawn = part[part["value"] > ZERO]
    if not drawn.empty:
        low = drawn["low"].fillna(drawn["value"]).clip(lower=limits[0])
        high = drawn["high"].fillna(drawn["value"])
        colours = [looks[str(label)].colour for label in drawn["label"]]
        ax.hlines(drawn["row"], low, high, color=colours, lw=style.pt(1.3))
    for label, x, row in drawn[["label", "value", "row"]].itertuples(index=False):
        ax.plot(x, row, ls="", **panels.mark(looks[label]))
    off = drawn.loc[drawn["unscaled"].notna(), "value"]
    panels.crossed(ax, off, drawn["row"])
    theory = part[part["predicted"] > ZERO]
    ax.plot(theory["predicted"], theory["theory_row"], **_theory())
    for _, one in part.iterrows():
        if not one["value"] > ZERO:
            said = words(one) if one["status"] == "ok" else str(one["status"])
            aside = {"transform": ax.get_yaxis_transform(), "va": "center"}
            panels.small_print(ax, 0.015, float(one["row"]), said, **aside)
    ax.set(
        xscale="log", yscale="linear", xlim=limits, ylim=(places[-1][1], 0), xlabel="", ylabel=""
    )
    ax.set_yticks(rows["ticks"], ["\n".join(_lines(label)) for label, _ in places])
    ax.tick_params(axis="y", length=0)


def words(row: Mapping[str, Any] | pd.Series) -> str:
    """Describe a variance that has no place on a logarithmic axis.

    Args:
        row: of `plotted`, with a value that is zero, negative or NaN.

    Returns:
        A few words; "exact" is only an estimate without noise and without bias.

    Example:
        >>> words({"value": 0.0, "exactly": "unbiased"}), words({"value": 1e-17}), words({"value": -0.5})
        ('0 (exact)', '0 (rounding)', '−0.5, not above zero')
        >>> words({"value": 0.0, "exactly": "biased", "unscaled": 0.1})
        '0 (no noise, but biased: scale 0.1)'
    """
    value = row["value"]
    if np.isnan(value):
        return "undefined"
    if abs(value) > ZERO:
        return f"{signed(value, '.2g')}, not above zero"
    if row.get("exactly") == "biased":
        scale = row.get("unscaled", np.nan)
        return (
            "0 (no noise, but biased"
            + f": scale {signed(scale, '.2g')}" * bool(scale == scale)
            + ")"
        )
    if row.get("exactly") == "unbiased" and value == 0:
        return "0 (exact)"
    return "0 (rounding)" if value else "0 (no noise)"


def described(table: pd.DataFrame) -> str:
    """Describe what is drawn, and name the methods whose records failed or diverged.

    Args:
        table: of `plotted`.

    Returns:
        The caption of the figure.

    Example:
        >>> row = {"value": 2.0, "draws": 8, "inits": 3, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> described(pd.DataFrame([{**row, "status": "ok", "label": "FG-A"}])).endswith("95 % intervals.")
        True
    """
    lost = table[~table["status"].isin(["ok", ""])].groupby("status")["label"]
    sentences = (
        f" {str(how).capitalize()}: {'; '.join(ordering.order(labels))}." for how, labels in lost
    )
    return f"{caption(table)}{''.join(sentences)} Bars: 95 % intervals."


def _places(part: pd.DataFrame) -> list[tuple[str, float]]:
    """List every label with the lower edge of its row, which is taller for long names and many records."""
    edge, rows = 0.0, []
    for label, among in part.groupby("label", sort=False).size().items():
        edge += max(1.0, 0.8 * among, 0.2 + 0.45 * len(_lines(str(label))))
        rows.append((str(label), edge))
    return rows


def _rows(part: pd.DataFrame, places: list[tuple[str, float]]) -> dict[str, list[float]]:
    """Return the centre of each label's row, and two heights per record: of its point and of its theory."""
    edges = [0.0, *(edge for _, edge in places)]
    above = {label: upper for (label, _), upper in zip(places, edges, strict=False)}
    height = {label: edge - above[label] for label, edge in places}
    heights: dict[str, list[float]] = {"ticks": [above[n] + height[n] / 2 for n, _ in places]}
    heights |= {"row": [], "theory_row": []}
    counts = part["label"].value_counts()
    order = part.groupby("label").cumcount()
    for label, at, predicted in zip(part["label"], order, part["predicted"], strict=True):
        middle = above[label] + height[label] * (at + 0.5) / counts[label]
        apart = 0.16 if predicted > ZERO else 0.0
        heights["row"].append(middle - apart)
        heights["theory_row"].append(middle + apart)
    return heights


def _lines(label: str) -> list[str]:
    """Break a name into lines at its options and settings."""
    return panels.broken(label, LETTERS).split("\n")


def _legend(table: pd.DataFrame) -> list[Line2D]:
    """Create the legend entries of the two kinds of mark."""
    marks = [panels.key("measured, 95 % interval", marker="o", ms=4, lw=1.3)]
    if table["predicted"].gt(ZERO).any():
        marks.append(Line2D([], [], label="theory (closed form)", **_theory()))
    if table.loc[table["value"] > ZERO, "unscaled"].notna().any():
        marks += [panels.key(label, **look) for label, look in panels.CROSSED.items()]
    return marks


def _theory() -> dict[str, Any]:
    """Return the properties of the mark of a closed form."""
    sizes = {"ms": style.pt(3.4), "mew": style.pt(0.8)}
    return {"ls": "", "marker": "D", "mfc": "w", "mec": style.INK, **sizes}


def caption(table: pd.DataFrame, where: str = "whole body", *, truth: bool = True) -> str:
    """Describe e and g, n and the size of batches, heavy tails and crossed points.

    Args:
        table: the drawn numbers, with the columns of measures that count repetitions; the size of a batch
            is in ``batch_size`` where ``batch`` is a part of the variance.
        where: what estimates are of.
        truth: whether estimates are compared to the method's own truth, g.

    Returns:
        A caption.

    Example:
        >>> row = {"value": 2.0, "draws": 8, "inits": 3, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> caption(pd.DataFrame([row]))
        'e: estimate, g: truth (scheme), whole body. n per point: 8 draws × 3 inits × 1 batch.'
    """
    nouns = {"draws": "draw", "inits": "init", "batches": "batch"}
    random = table[table["value"] != 0]  # an exact number needs no draws
    random = table if random.empty else random
    counts = [span(random[name], one, name) for name, one in nouns.items() if random[name].any()]
    sizes = random.get("batch_size", random.get("batch", pd.Series(dtype=float))).dropna()
    if counts and not sizes.empty:
        counts[-1] += f" of {span(sizes, 'example', 'examples')}"
    truths = " or ".join(sorted({str(name) for name in table["truth"] if name}))
    of = f" g: truth{f' ({truths})' * bool(truths)}," * truth
    each = " (in the CSV for each point)" * any(" to " in count for count in counts)
    text = f"e: estimate,{of} {where}. n per point: {' × '.join(counts)}{each}."
    if set(table["inits"].dropna()) == {1}:
        text += " One init: intervals do not include the variation between inits."
    if table["heavy_tail"].any():
        heavy = "; ".join(ordering.order(table.loc[table["heavy_tail"].astype(bool), "label"]))
        text += f" Heavy tails, intervals are not reliable: {heavy}."
    crossed = table[table["value"] > ZERO].reindex(columns=["label", "unscaled"]).dropna()
    if not crossed.empty:
        scales = crossed.groupby("label")["unscaled"]
        ends = {
            name: dict.fromkeys(signed(end, ".3g") for end in (v.min(), v.max()))
            for name, v in scales
        }
        off = "; ".join(
            f"{n} (scale {' to '.join(ends[n])})" for n in ordering.order(map(str, ends))
        )
        text += f" Crossed: not comparable, since the scale is not 1; compare by efficiency: {off}."
    return text


draw = writer(NAME, source, plotted, figure)
