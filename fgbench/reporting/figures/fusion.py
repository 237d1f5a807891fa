"""Time and memory of replicated and fused losses against the number of groups."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats import medians

NAME = "fusion"
COLUMNS = (
    *("label", "patches", "channels", "classes", "batch", "pass", "implementation", "groups"),
    *("ms", "ms_low", "ms_high", "n", "peak_mb", "time_ratio", "memory_ratio", "difference"),
    "reason",
)
PANELS = {"ms": "time (ms)", "peak_mb": "peak memory (MiB)"}
COLOURS = {"replicated": "#d55e00", "fused": "#0072b2"}
LOOKS: dict[str, dict[str, Any]] = {
    "tangent": {"ls": style.SOLID, "marker": "o", "lw": 1.2, "ms": 4},
    "gradient": {"ls": style.DASHED, "marker": "s", "mfc": "w", "lw": 1.2, "ms": 4},
}


def plotted(fusions: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per run, pass, implementation and number of groups.

    Args:
        fusions: of `fgbench.reporting.frames.load.Records.fusions`.

    Returns:
        Columns `COLUMNS`, sorted as the curves are drawn; skipped sizes have a reason and no number.

    Example:
        >>> from fgbench.reporting.frames.load import FUSIONS
        >>> row = {"method": "", "label": "run", "pass": "tangent", "groups": 4, "reason": "", "ms": 1.0}
        >>> rows = [{**row, "implementation": name} for name in ("fused", "replicated")]
        >>> plotted(pd.DataFrame(rows, columns=FUSIONS))["implementation"].tolist()
        ['replicated', 'fused']
    """
    keys = ["label", "pass", "implementation", "groups"]
    order: dict[str, list[str]] = {"pass": list(LOOKS), "implementation": list(COLOURS)}
    return ordering.arranged(fusions, keys, **order)[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw time and peak memory against the number of groups, a row of panels per run.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import FUSIONS
        >>> row = {"method": "", "label": "run", "pass": "tangent", "implementation": "fused", "groups": 4}
        >>> row |= {"ms": 1.0, "n": 5, "peak_mb": 2.0, "patches": 4, "channels": 8, "classes": 10}
        >>> fusions = pd.DataFrame([{**row, "batch": 32, "reason": ""}], columns=FUSIONS)
        >>> [ax.get_ylabel() for ax in figure(fusions, plotted(fusions)).axes]
        ['time (ms)', 'peak memory (MiB)']
    """
    runs = list(table.groupby("label", sort=False))
    with style.context(sheet):
        page = panels.layout(len(PANELS) * len(runs), 2.1, len(PANELS), sheet)
        places = [(run, panel) for run in runs for panel in PANELS.items()]
        for ax, ((label, part), (column, title)) in zip(page.axes, places, strict=True):
            _panel(ax, part, column)
            ax.set(ylabel=title, xlabel="groups")
            if len(runs) > 1 and column == "ms":
                panels.titled(ax, str(label))
        handles = [
            panels.key(f"{name}, {what}", color=colour, **look)
            for name, colour in COLOURS.items()
            for what, look in LOOKS.items()
        ]
        return page.finish(handles, " ".join(_caption(part, len(runs) > 1) for _, part in runs))


def _timed(records: Records) -> pd.DataFrame:
    """Return the comparisons, or none where nothing was timed."""
    fusions = records.fusions()
    return fusions if fusions["ms"].notna().any() else fusions[:0]


def _panel(ax: Axes, part: pd.DataFrame, column: str) -> None:
    """Draw one quantity of one run, with the intervals of times."""
    for (what, name), curve in part.groupby(["pass", "implementation"], sort=False):
        curve = curve.dropna(subset=[column])
        look = {**LOOKS[what], "lw": style.pt(1.2), "ms": style.pt(4)}
        ax.plot(curve["groups"], curve[column], color=COLOURS[name], **look)
        if column == "ms":
            ends = (curve["groups"], curve["ms_low"], curve["ms_high"])
            ax.vlines(*ends, color=COLOURS[name], lw=style.pt(2.4), alpha=0.35)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted(set(part["groups"])), [f"{g:g}" for g in sorted(set(part["groups"]))])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator())
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _two(ratio: float) -> str:
    """Format a number to two digits, without an exponent."""
    return f"{float(f'{ratio:.2g}'):,g}"


def _caption(part: pd.DataFrame, named: bool) -> str:
    """Describe sizes and n, the ratios at the largest size that both ran, and what was not run."""
    first = part.iloc[0]
    counts = sorted(set(part["n"].dropna().astype(int)))
    bars = " or ".join(dict.fromkeys(map(medians.ends, counts)))
    text = f"{first['label']}: " * named + (
        f"{first['patches']:g} patches, {first['channels']:g} channels per group, "
        f"{first['classes']:g} classes, batch {first['batch']:g}; times: median, bar: {bars}, n = "
        f"{' or '.join(map(str, counts))} interleaved rounds; memory: newly allocated, n = 1."
    )
    both = part[part["time_ratio"].notna()]
    if not both.empty:
        most = both[both["groups"] == both["groups"].max()]
        ratios = "; ".join(
            f"{row['pass']} {_two(row['time_ratio'])} times faster, {_two(row['memory_ratio'])} times "
            "less memory"
            for _, row in most.iterrows()
        )
        text += f" Fused at {most['groups'].iloc[0]:g} groups: {ratios}."
    lost = part[part["reason"] != ""].drop_duplicates("groups")
    for _, row in lost.iterrows():
        text += f" Replicated at {row['groups']:g} groups not run: {row['reason']}."
    return text


draw = writer(NAME, _timed, plotted, figure)
