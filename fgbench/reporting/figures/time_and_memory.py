"""Time and memory of a step beside backprop, with what exact backprop itself can do with less memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.records.labels import reference_label
from fgbench.reporting.figures.cost import front
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records, number
from fgbench.reporting.frames.method_names import way_of
from fgbench.reporting.frames.settings import apart, decided, named, part_of, real
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.point_labels import Named, name_points
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.medians import LEAST

NAME = "time_and_memory"
PANEL = ["task", "arch", "data", "device", "batch", "setting"]
COLUMNS = (
    *PANEL,
    *(
        "method",
        "exact",
        "time_ratio",
        "time_ratio_low",
        "time_ratio_high",
        "memory_ratio",
        "n",
        "front",
        "reference",
    ),
    "others",
)
OWN = ("batch", "device", "directions", "rounds", "data_fingerprint")
"""Settings of a record that have a column, or that one panel may mix."""
REFERENCES = {
    reference_label("plain"): style.Look("#252525", "s", filled=False),
    reference_label("compiled"): style.Look("#252525", "s"),
    reference_label("captured"): style.Look("#252525", "D", filled=False),
}
"""Backprop steps of PyTorch, and how they are drawn."""
MOST = 16  # names beside points in a panel; with more points the legend has them
LETTERS = 30  # of a name beside a point
BOUND = 1e9  # no step takes so many times the time or memory of another one
ROOM = 1.35  # factor of the axes beyond the outermost points


def exact(row: Mapping[str, Any]) -> bool:
    """Check whether a method is backprop of the loss at the end, in whatever way it is computed.

    Args:
        row: a record.

    Returns:
        True for BP, BP-CKPT, BP-ACC and BP with options; not for backprop of local losses.

    Example:
        >>> [exact({"estimator": e, "locality": l}) for e, l in (("bp-ckpt", "end"), ("bp", "local"))]
        [True, False]
    """
    way = way_of(str(row["estimator"]), str(row["locality"]))
    return way.estimator.partition("[")[0].partition("-")[0] == "bp" and way.base == "end"


def plotted(records: Records) -> pd.DataFrame:
    """Compute the drawn numbers: time and memory of a step of every method and of PyTorch's backprop.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS`: ``time_ratio`` is the step's time over that of the ``reference``, with its interval
        over ``n`` rounds, ``memory_ratio`` its peak over that of the plain step of PyTorch. ``exact`` are
        the ways to the gradient of backprop, and ``front`` those among them that no other beats in both. Of
        several timings of a method the latest is taken; there are ``others`` more.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "speed", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "device": "cpu", "batch": 32}
        >>> fg |= {"ratio_to_bp": 1.5, "peak_ratio_to_bp": 0.5, "reference": "plain"}
        >>> table = plotted(Records(Path("."), (fg,), {}, ()))
        >>> table[["method", "time_ratio", "memory_ratio", "exact"]].values.tolist()
        [['FG-A', 1.5, 0.5, False], ['PyTorch, plain', 1.0, 1.0, True]]
    """
    rows = sorted(
        (row for row in records.of("speed") if row["status"] == "ok"),
        key=lambda row: str(row.get("started")),
    )
    found = [
        {**place, **point}
        for place, row in zip(_places(rows), rows, strict=True)
        for point in _points(row)
    ]
    table = pd.DataFrame(
        found, columns=[name for name in COLUMNS if name not in ("front", "others")]
    )
    sound = [table[name].between(1 / BOUND, BOUND) for name in ("time_ratio", "memory_ratio")]
    ends = ["time_ratio_low", "time_ratio_high"]
    table = table[sound[0] & sound[1]]
    table[ends] = table[ends].clip(1 / BOUND, BOUND)
    one = [*PANEL, "method"]
    timings = table.groupby(one, dropna=False)["time_ratio"].transform("size") - 1
    own = ~table["method"].isin(REFERENCES)  # a reference is in the record of every method
    table = table.assign(others=timings.where(own, 0), front=False)
    table = table.drop_duplicates(one, keep="last")
    for _, part in table[table["exact"].astype(bool)].groupby(PANEL, dropna=False):
        table.loc[part.index, "front"] = front(part["time_ratio"], part["memory_ratio"])
    return ordering.arranged(table, one)[list(COLUMNS)]


def _places(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the panel of every record; settings that vary on a network and data set make panels apart."""
    settings = [
        {k: v for k, v in decided({**row, "options": {}}).items() if k not in OWN} for row in rows
    ]
    subjects = [(str(row.get("arch")), str(row.get("data"))) for row in rows]
    return [
        {
            "task": way_of(str(row["estimator"]), str(row["locality"])).task,
            **{"arch": arch, "data": data, "device": str(row.get("device"))},
            **{"batch": real(row.get("batch")), "setting": ", ".join(parts)},
        }
        for row, (arch, data), parts in zip(rows, subjects, apart(subjects, settings), strict=True)
    ]


def _points(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the point of a method and those of the references that were timed with it."""
    kind = str(row.get("reference") or "plain")  # that of older records
    peaks = part_of(row, "reference_peak_mb")
    memory = number(row.get("peak_ratio_to_plain"))["value"]
    if not memory > 0 and kind == "plain":
        memory = number(row.get("peak_ratio_to_bp"))["value"]
    common = {"reference": kind}
    yield {
        **common,
        **{"method": named(row), "exact": exact(row), "memory_ratio": memory},
        **_timed(row.get("ratio_to_bp")),
    }
    ratios = part_of(row, "reference_ratio_to_bp") or {kind: 1.0}
    plain = real(peaks.get("plain"))
    for name, ratio in ratios.items():
        held = 1.0 if name == "plain" else real(peaks.get(name)) / plain if plain > 0 else nan
        point = {"method": reference_label(name), "exact": True, "memory_ratio": held}
        yield {**common, **point, **_timed(ratio)}


def _timed(ratio: object) -> dict[str, float]:
    """Return a measured ratio of times as columns."""
    found = number(ratio)
    return {
        **{
            "time_ratio": found["value"],
            "time_ratio_low": found["low"],
            "time_ratio_high": found["high"],
        },
        "n": found["n"],
    }


def figure(_: Records, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw memory against time, a panel per task, network, data, device, batch and setting.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "speed", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "device": "cpu", "batch": 32}
        >>> fg |= {"ratio_to_bp": 1.5, "peak_ratio_to_bp": 0.5, "reference": "plain"}
        >>> records = Records(Path("."), (fg,), {}, ())
        >>> fig = figure(records, plotted(records))
        >>> fig.axes[0].get_xlabel()
        'time of a step / plain backprop'
    """
    looks = {**style.looks(table.loc[~table["method"].isin(REFERENCES), "method"]), **REFERENCES}
    parts = [part for _, part in table.groupby(PANEL, sort=False, dropna=False)]
    many = max(map(len, parts)) > MOST

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        task, arch, data, device, batch, setting = group
        _axes(ax, part)
        _frontier(ax, part[part["front"]])
        for _, row in part.iterrows():
            look = looks[row["method"]]
            ax.hlines(
                row["memory_ratio"],
                row["time_ratio_low"],
                row["time_ratio_high"],
                color=look.colour,
                lw=style.pt(1.1),
            )
            ax.plot(row["time_ratio"], row["memory_ratio"], ls="", zorder=3, **panels.mark(look))
        kinds = part["reference"].unique()
        which = kinds[0] if len(kinds) == 1 else "the faster"
        ax.set(xlabel=f"time of a step / {which} backprop", ylabel="peak memory / plain backprop")
        more = [f"batch {batch:.0f}"] if batch > 0 else []
        more += [device, *([setting] if setting else [])]
        alone = table["task"].nunique() == 1
        panels.heading(ax, arch, ", ".join([data, *more]), "" if alone else task)

    shown = {name: looks[name] for name in looks if many and name in set(table["method"])}
    more = {
        "front of exact backprop": {"ls": style.DOTTED, "lw": 1.2},
        "exact backprop is as fast and as lean": {
            "ls": "",
            "marker": "s",
            "ms": 7,
            "mfc": style.GRID,
            "mew": 0,
        },
    }
    drawing: dict[str, Any] = {"height": 2.7, "line": False, "more": more, "sheet": sheet}
    page = panels.drawn(table.fillna({"batch": -1}), PANEL, shown, panel, caption(table), **drawing)
    if not many:
        with style.context(sheet):
            for ax, part in zip(page.axes, parts, strict=True):
                corners = _corners(ax, part[part["front"]])
                lines = list(pairwise(corners))
                name_points(ax, [_named(row) for _, row in part.iterrows()], lines)
    return page


def _axes(ax: Axes, part: pd.DataFrame) -> None:
    """Set logarithmic axes with room for names."""
    ends = part[["time_ratio", "time_ratio_low", "time_ratio_high"]].stack().dropna()
    times = ends[ends > 0]
    panels.log_axis(ax, times, "x")
    panels.log_axis(ax, part["memory_ratio"])
    ax.set_xlim(times.min() / ROOM, times.max() * ROOM)
    ax.set_ylim(part["memory_ratio"].min() / ROOM, part["memory_ratio"].max() * ROOM)


def _corners(ax: Axes, front_ones: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the corners of the front of exact backprop, from the top of a panel to its right end."""
    best = front_ones.sort_values(["time_ratio", "memory_ratio"])
    if best.empty:
        return []
    (_, right), (_, top) = ax.get_xlim(), ax.get_ylim()
    corners = [(float(best["time_ratio"].iloc[0]), top)]
    for time, memory in best[["time_ratio", "memory_ratio"]].itertuples(index=False):
        corners += [(time, corners[-1][1]), (time, memory)]
    return [*corners, (right, corners[-1][1])]


def _frontier(ax: Axes, front_ones: pd.DataFrame) -> None:
    """Draw the front of exact backprop, and shade where it is as fast and as lean as a point there."""
    corners = _corners(ax, front_ones)
    if not corners:
        return
    x, y = zip(*corners, strict=True)
    ax.fill_between(x, y, ax.get_ylim()[1], color=style.GRID, alpha=0.55, lw=0, zorder=0)
    ax.plot(x, y, color=style.FAINT, ls=style.DOTTED, lw=style.pt(1.2), zorder=1)


def _named(row: pd.Series) -> Named:
    """Return a point with its name; where there is no bar its ends are the point."""
    ends = [
        row["time_ratio"] if np.isnan(row[end]) else row[end]
        for end in ("time_ratio_low", "time_ratio_high")
    ]
    text = panels.shortened(str(row["method"]), LETTERS)
    return Named(row["time_ratio"], row["memory_ratio"], text, *map(float, ends))


def caption(table: pd.DataFrame) -> str:
    """Describe points, bars and the front, and n.

    Args:
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> row = {"method": "FG-A", "batch": 128.0, "reference": "plain", "n": 20.0, "others": 0}
        >>> caption(pd.DataFrame([row], columns=COLUMNS)).partition("; ")[0]
        'Points: one step of a method, its noise included, without the optimiser (batch 128)'
    """
    batches = sorted({f"{batch:.0f}" for batch in table["batch"].dropna()}, key=float)
    of = f" (batch {', '.join(batches)})" if batches else ""
    counts = table["n"].dropna()
    ns = sorted({int(n) for n in counts})
    rounds = f"n = {ns[0]}" if len(ns) == 1 else f"n = {ns[0]} to {ns[-1]}" if ns else "n unknown"
    ends = "95 % interval of the median" if ns and ns[0] >= LEAST else "smallest and largest"
    kinds = " or ".join(sorted(set(table["reference"])))
    rest = int(table["others"].max()) if len(table) else 0
    latest = f" Of several timings of a method the latest is drawn, up to {rest} more are not." * (
        rest > 0
    )
    return (
        f"Points: one step of a method, its noise included, without the optimiser{of}; time over that of "
        f"the {kinds} PyTorch step of the same model, median over {rounds} interleaved rounds, bars: {ends}. "
        "Memory: peak of what is newly allocated, over that of the plain PyTorch step, the same in every "
        "round. BP-CKPT computes activities again, BP-ACC takes the batch in parts; with BP and PyTorch they "
        "all give the exact gradient. Dotted: those of them that no other beats in both. In the grey region "
        f"one of them takes no more time, by the medians, and no more memory.{latest}"
    )


draw = writer(NAME, everything, plotted, figure)
