"""Parts of a page of Markdown: tables, how cells were trained, figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.reporting.figures import learning_curves
from fgbench.reporting.frames.results import Cell
from fgbench.reporting.frames.settings import text
from fgbench.reporting.frames.tuning import edges, numbers
from fgbench.reporting.plotting import style


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Build a table; the first column is to the left."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(part) for part in line) + " |" for line in lines)


def listed(parts: Iterable[str]) -> str:
    """Join with commas and a last "and"."""
    *first, last = list(parts)
    return f"{', '.join(first)} and {last}" if first else last


def time(seconds: float) -> str:
    """Write a duration in the unit that fits it."""
    for unit, size, end in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, inf)):
        if seconds < end:
            return f"{seconds / size:.3g} {unit}"
    return "–"


def trained(cells: Sequence[Cell]) -> list[str]:
    """Say how the results of some cells were trained, and on which data.

    Args:
        cells: with any runs.

    Returns:
        A table and a line about the data; nothing where only trials were run.
    """
    run = [cell for cell in cells if cell.reported is not None]
    if not run:
        return []
    head = ["method", "epochs", "rate", "tuned", "training time", "device", "torch", "commit"]
    sources = sorted(
        {facts(cell, "where", "data_source") or "without a remark on its pixels" for cell in run}
    )
    prints = sorted({facts(cell, "where", "data_fingerprint") for cell in run})
    data = f"Data: {'; '.join(sources)} (fingerprint {', '.join(prints) or 'not stated'})."
    return [table(head, map(_training, run)), data]


def facts(cell: Cell, *names: str) -> str:
    """Collect what the reported runs of a cell say under a name, or under a name within another.

    Args:
        cell: with reported runs.
        names: such as ``"where", "torch"``.

    Returns:
        The distinct values as text.
    """
    found = set()
    for run in cell.reported.runs if cell.reported else ():
        value: Any = run
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        found.add("" if value is None else text(value))
    return ", ".join(sorted(found - {""}))


def grids(tuning: Mapping[str, Any]) -> list[str]:
    """Describe what a tuning tried, option by option, and warn where the choice is at an edge.

    Args:
        tuning: a tune record.

    Returns:
        Such as ``lr 0.01, 0.03, 0.1: chose 0.1, at the upper edge``.
    """
    grid, chosen = (
        found if isinstance(found, Mapping) else {}
        for found in (tuning.get("grid"), tuning.get("chosen"))
    )
    found, ends = [], edges(tuning)
    for name, values in sorted(grid.items()):
        values = values if isinstance(values, list) else [values]
        words = f"{name} {', '.join(map(text, numbers(values) or values))}"
        if name in chosen:
            words += f": chose {text(chosen[name])}"
            if len(values) == 1:
                words += ", the only one"
            elif name in ends:
                words += f", **at the {ends[name]} edge**"
        found.append(words)
    return found


def curves(cells: Sequence[Cell], found: pd.DataFrame, out: Path, name: str) -> list[str]:
    """Draw the learning curves of the reported runs of some cells.

    Args:
        cells: whose runs are drawn.
        found: of `fgbench.reporting.frames.load.Records.curves`.
        out: folder of the figure.
        name: of the figure.

    Returns:
        A line that shows it; none where no run has a history.
    """
    named = {
        run["key"]: cell.method for cell in cells if cell.reported for run in cell.reported.runs
    }
    labels = found["key"].map(named)
    drawn = found[labels.notna()].assign(method=labels, label=labels)
    numbers = learning_curves.plotted(drawn)
    if numbers.empty:
        return []
    style.save(learning_curves.figure(drawn, numbers), out, name, numbers)
    alt = "Test error against epochs by method; the last epochs are in the tables."
    return [f"![{alt}]({out.name}/{name}.png)"]


def _cell(words: str) -> str:
    """Escape what would end a cell."""
    return " ".join(words.split()).replace("|", "\\|")


def _training(cell: Cell) -> list[str]:
    """Say how one method was trained."""
    tuning = cell.tuning
    tuned = "not tuned" if tuning is None else "; ".join(grids(tuning)) or "grid not stated"
    if tuning is None and cell.tunings:
        tuned = "no run uses the tuned values"
    runs = cell.reported.runs if cell.reported else ()
    spent = time(sum(float(run.get("seconds") or 0) for run in runs))
    if cell.trials:
        spent += f" + {time(sum(float(run.get('seconds') or 0) for run in cell.trials))} tuning"
    commits = facts(cell, "commit").split(", ")
    short = ", ".join(sorted({c[:9] + "+dirty" * c.endswith("+dirty") for c in commits if c}))
    place = [
        facts(cell, "where", "device_name") or facts(cell, "device"),
        facts(cell, "where", "torch"),
    ]
    rates = facts(cell, "settings", "lr")
    return [cell.method, facts(cell, "epochs"), rates, tuned, spent, *place, short or "not stated"]
