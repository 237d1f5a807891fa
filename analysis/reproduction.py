"""The tables of the founding paper beside ours, from records alone: numbers and figure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fgbench.analysis import style
from fgbench.analysis.load import Records
from fgbench.analysis.seeds import mean_interval, seeds
from fgbench.registry import PRESETS

METHODS = (
    "BP",
    "L-BP",
    "LG-BP",
    "FA",
    "L-FA",
    "LG-FA",
    "DFA",
    "FG-W",
    "FG-A",
    "LG-FG-W",
    "LG-FG-A",
)
MARGIN = 0.6
"""Points above the published error that count as reached; rows that are one computation differ by as much."""
COLUMNS = (
    *("table", "title", "method", "published_test", "published_train", "test", "low", "high"),
    *("train", "n", "runs", "statuses", "epochs", "lr", "seconds"),
)


def published() -> list[dict[str, Any]]:
    """Return the published columns, as in ``published.toml``."""
    text = (Path(__file__).parent / "published.toml").read_text("utf-8")
    columns: list[dict[str, Any]] = tomllib.loads(text)["column"]
    return columns


def preset(row: Mapping[str, Any]) -> tuple[str, bool]:
    """Name the paper's method of a record.

    Args:
        row: a record.

    Returns:
        The preset ("" where none has this estimator and locality, options at their defaults), and
        whether the loss is contrastive.
    """
    locality = str(row["locality"])
    contrastive = locality.startswith("contrastive")
    if contrastive:
        locality = locality.removeprefix("contrastive").removeprefix("-") or "end"
    text = f"{row['estimator']}/{locality}"
    return next((m for m in METHODS if PRESETS.get(m) == text), ""), contrastive


def results(records: Records) -> list[dict[str, Any]]:
    """Pick the trainings on all training images, judged on the test split."""
    found = [r for r in records.of("train") if not (r.get("settings") or {}).get("validation")]
    return sorted(
        found, key=lambda r: (str(r["arch"]), str(r["data"]), str(r["method"]), r["seed"])
    )


def table(records: Records) -> pd.DataFrame:
    """Put published and own errors side by side.

    Args:
        records: of a folder.

    Returns:
        Columns `COLUMNS`, a row per published number; errors in %, NaN where nothing was run.
    """
    runs = [(*preset(r), r) for r in results(records)]
    rows = []
    for column in published():
        for method in METHODS:
            own = [
                r
                for name, contrastive, r in runs
                if name == method
                and contrastive == column.get("contrastive", False)
                and (r["arch"], str(r["data"]).partition("[")[0])
                == (column["arch"], column["data"])
                and (r.get("settings") or {}).get("train_size") is None
            ]
            test, train = column[method]
            head = {"table": column["table"], "title": column["title"], "method": method}
            rows.append({**head, "published_test": test, "published_train": train, **summary(own)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the seeds of one cell."""
    good = [r for r in runs if r["status"] == "ok"]
    ended = [str(r["status"]) for r in runs if r["status"] != "ok"]
    found: dict[str, Any] = {"n": len(good), "runs": len(runs)}
    found["statuses"] = ", ".join(f"{ended.count(s)} {s}" for s in sorted(set(ended)))
    if good:
        own = mean_interval(pd.Series([100 * float(r["test_error"]) for r in good]))
        found |= {"test": own["mean"], "low": own["low"], "high": own["high"]}
        found["train"] = sum(100 * float(r["train_error"]) for r in good) / len(good)
        found["epochs"] = alike(r["epochs"] for r in good)
        found["lr"] = alike(f"{r['settings']['lr']:g}" for r in good)
        found["seconds"] = sum(float(r["seconds"]) for r in good) / len(good)
    return found


def alike(values: Iterable[Any]) -> str:
    """Join the different values of a cell's runs."""
    return " / ".join(dict.fromkeys(map(str, values)))


def figure(cells: pd.DataFrame) -> Figure:
    """Draw published against own test errors, a panel per column of the tables that was run.

    Args:
        cells: of :func:`table`.

    Returns:
        A figure 7 in wide.
    """
    run = cells[cells["n"] > 0]
    panels = list(run.groupby(["table", "title"], sort=False))
    with style.context():
        fig = Figure(figsize=(style.PAGE, 2.6 * -(-len(panels) // 2) + 0.4), layout="constrained")
        grid = fig.subplots(-(-len(panels) // 2), 2, squeeze=False)
        for ax in grid.flat[len(panels) :]:
            ax.remove()
        for ax, ((_, title), part) in zip(grid.flat, panels, strict=False):
            for y, row in enumerate(part.itertuples()):
                look = style.look(str(row.method))
                ax.plot(row.published_test, y, "|", color=style.INK, markersize=9, zorder=3)
                ax.plot(
                    [row.low, row.high],
                    [y, y],
                    color=look.colour,
                    linewidth=2.4,
                    solid_capstyle="butt",
                )
                ax.plot(row.test, y, look.marker, color=look.colour)
            ax.set_yticks(range(len(part)), [str(m) for m in part["method"]])
            ax.invert_yaxis()
            ax.set_title(title, loc="left")
            ax.set_xlabel("test error, %")
        fig.supxlabel(
            f"| published; symbols: ours, mean over {seeds(run['n'])}, bars: 95 % t interval of the mean "
            "(range of two seeds, none for one).",
            fontsize=6.5,
        )
    return fig
