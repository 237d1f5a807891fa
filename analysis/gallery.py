"""Records, look and files that the scripts of this folder share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fgbench
from fgbench.reporting.plotting import style

HERE = Path(__file__).parent


def look(method: str) -> dict[str, Any]:
    """Return colour and marker of a method, the same in all pictures."""
    found = style.look(method)
    return {"color": found.colour, "marker": found.marker, "ms": 5}


def records(script: str, make: Callable[[Path], Any]) -> Any:
    """Return the records of a script: the committed ones, or with ``--run`` new ones.

    Args:
        script: ``__file__`` of the script; its first docstring is the help.
        make: writes records to a folder.

    Returns:
        The records, see :func:`fgbench.load`.
    """
    return fgbench.load(folder_of(script, make)).records


def folder_of(script: str, make: Callable[[Path], Any]) -> Path:
    """Return the folder of the records of a script, as of :func:`records`."""
    parser = argparse.ArgumentParser(description=Path(script).stem.replace("_", " "))
    parser.add_argument("--run", action="store_true", help="make the records anew first")
    folder = HERE / "records" / Path(script).stem.removeprefix("plot_")
    if parser.parse_args().run:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("**/*.json"):
            old.unlink()
        make(folder)
    return folder


def measure(folder: Path, methods: list[str], archs: list[str], **design: Any) -> None:
    """Measure methods on networks, on the embedded digits, and write a record of each.

    Args:
        folder: of the records.
        methods: METHODs.
        archs: architectures.
        design: options of ``fgbench measure``.
    """
    for arch in archs:
        fgbench.run_all(
            "measure", methods, arch=arch, data="digits", records=folder, threads=1, **design
        )


def whole_body(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the rows of one quantity over all parameters of the body."""
    return table[table["place"].eq("all") & table["quantity"].eq(quantity)]


def panel(
    title: str, x: str, y: str, size: tuple[float, float] = (5.0, 3.2)
) -> tuple[Figure, Axes]:
    """Make a figure of one panel with a title of one line and the names of its axes."""
    mpl.rcParams.update(style.rc(9.0))
    fig = Figure(figsize=size, layout="constrained")
    ax = fig.subplots()
    ax.set_title(title, loc="left")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    return fig, ax


def intervals(ax: Axes, rows: pd.DataFrame, x: str, method: str, *, line: bool = True) -> None:
    """Draw values with their 95 % intervals, and theory dashed where it is known.

    Args:
        ax: the panel.
        rows: of one method, with ``value``, ``low``, ``high`` and ``predicted``.
        x: column of the abscissa.
        method: gives colour and name.
        line: whether values are joined.
    """
    rows = rows.sort_values(x)
    below, above = rows["value"] - rows["low"], rows["high"] - rows["value"]
    ax.errorbar(
        rows[x], rows["value"], [below, above], ls="-" if line else "", label=method, **look(method)
    )
    if rows["predicted"].notna().any():
        ax.plot(rows[x], rows["predicted"], "k--" if line else "k_", lw=1, ms=14, zorder=3)


def legend(ax: Axes, theory: str = "k--", **where: Any) -> None:
    """Add a legend, with an entry for the closed form where it is drawn as ``theory``.

    Without a place it stands above the panel, where it covers nothing.
    """
    if theory:
        ax.plot([], [], theory, lw=1, ms=9, label="theory (closed form)")
    if where:
        ax.legend(frameon=False, **where)
    else:
        entries = len(ax.get_legend_handles_labels()[0])
        ax.figure.legend(loc="outside upper left", frameon=False, ncols=entries, columnspacing=1.2)


def design_of(table: pd.DataFrame) -> str:
    """Format how many draws, networks and batches the numbers rest on."""
    first = table.sort_values("draws").iloc[-1]
    networks = "network" if first["inits"] == 1 else "networks"
    batches = "batch" if first["batches"] == 1 else "batches"
    return (
        f"{first['draws']:.0f} draws × {first['inits']:.0f} {networks} × {first['batches']:.0f} {batches} "
        f"of {first['batch']:.0f}; bars: 95 % intervals"
    )


def save(script: str, fig: Figure, table: pd.DataFrame, note: str = "") -> None:
    """Write the picture, its numbers and its note beside the script, under the script's name.

    Args:
        script: ``__file__`` of the script.
        fig: the figure.
        table: what is drawn.
        note: n, intervals, what a dashed line is.
    """
    out = HERE / Path(script).stem.removeprefix("plot_")
    fig.savefig(out.with_suffix(".png"), dpi=160, metadata={"Software": None})
    out.with_suffix(".txt").write_text(f"{note}\n", encoding="utf-8", newline="\n")
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6g", lineterminator="\n")
    print(f"wrote {out.name}.png, {out.name}.csv and {out.name}.txt")
