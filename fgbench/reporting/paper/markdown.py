"""Parts of a Markdown page: tables, training settings and learning curves."""

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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first columns are aligned to the left and all others to the right.

    Args:
        head: names of the columns.
        rows: texts of the cells.
        left: how many columns are aligned to the left.

    Example:
        >>> print(table(["method", "n"], [["BP", "3"]]))
        | method | n |
        | :-- | --: |
        | BP | 3 |
    """
    lines = [head, [*[":--"] * left, *["--:"] * (len(head) - left)], *rows]
    return "\n".join("| " + " | ".join(_cell(part) for part in line) + " |" for line in lines)


def listed(parts: Iterable[str]) -> str:
    """Return texts joined by commas and a last "and".

    Example:
        >>> listed(["BP", "FG-W", "FG-A"])
        'BP, FG-W and FG-A'
    """
    *first, last = list(parts)
    return f"{', '.join(first)} and {last}" if first else last


def time(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    Example:
        >>> [time(seconds) for seconds in (90, 600, 9000)]
        ['90 s', '10 min', '2.5 h']
    """
    for unit, size, end in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, inf)):
        if seconds < end:
            return f"{seconds / size:.3g} {unit}"
    return "–"


def trained(cells: Sequence[Cell]) -> list[str]:
    """Describe how the results of cells were trained, and on which data.

    Args:
        cells: methods on one network and data set.

    Returns:
        A table and a line about the data; an empty list where only trials were run.

    Example:
        >>> trained([])
        []
    """
    run = [cell for cell in cells if cell.reported is not None]
    if not run:
        return []
    head = [
        "method",
        "epochs",
        "learning rate",
        "tuned",
        "training time",
        "device",
        "torch",
        "commit",
    ]
    sources = sorted(
        {
            facts(cell, "where", "data_source") or "no recorded difference from the original pixels"
            for cell in run
        }
    )
    prints = sorted({facts(cell, "where", "data_fingerprint") for cell in run})
    data = f"Data: {'; '.join(sources)} (fingerprint {', '.join(prints) or 'not stated'})."
    return [table(head, map(_training, run)), data]


def facts(cell: Cell, *names: str) -> str:
    """Return the distinct values of a field in the reported runs of a cell.

    Args:
        cell: with reported runs.
        names: path of the field, such as ``"where", "torch"``.

    Returns:
        The values as text, separated by commas; "" if no run has the field.

    Example:
        >>> from fgbench.reporting.frames.method_names import way_of
        >>> from fgbench.reporting.frames.results import Group, Place
        >>> place = Place(way_of("bp", "end"), "mlp-3x64", "digits", "")
        >>> run = {"seed": 0, "status": "ok", "where": {"torch": "2.13.0"}}
        >>> facts(Cell(place, (Group({}, (run,)),), (), ()), "where", "torch")
        '2.13.0'
    """
    values = set()
    for run in cell.reported.runs if cell.reported else ():
        value: Any = run
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        values.add("" if value is None else text(value))
    return ", ".join(sorted(values - {""}))


def grids(tuning: Mapping[str, Any]) -> list[str]:
    """Describe the grid of a tuning option by option, with a warning where the choice is at its edge.

    Args:
        tuning: a tune record.

    Returns:
        A text per option.

    Example:
        >>> grids({"grid": {"lr": [0.1, 0.01]}, "chosen": {"lr": 0.1}})
        ['lr 0.01, 0.1: chose 0.1, **at the upper edge**']
    """
    grid, chosen = (
        part if isinstance(part, Mapping) else {}
        for part in (tuning.get("grid"), tuning.get("chosen"))
    )
    lines, ends = [], edges(tuning)
    for name, values in sorted(grid.items()):
        values = values if isinstance(values, list) else [values]
        words = f"{name} {', '.join(map(text, numbers(values) or values))}"
        if name in chosen:
            words += f": chose {text(chosen[name])}"
            if len(values) == 1:
                words += ", the only value"
            elif name in ends:
                words += f", **at the {ends[name]} edge**"
        lines.append(words)
    return lines


def curves(cells: Sequence[Cell], histories: pd.DataFrame, out: Path, name: str) -> list[str]:
    """Draw the learning curves of the reported runs of cells.

    Args:
        cells: whose runs are drawn.
        histories: of `fgbench.reporting.frames.load.Records.curves`.
        out: folder of the figure.
        name: of the figure.

    Returns:
        The figure in Markdown and its caption; an empty list where no run has a history.

    Example:
        >>> from fgbench.reporting.frames.load import Records
        >>> histories = Records(Path("records"), (), {}, ()).curves()
        >>> curves([], histories, Path("out"), "curves")
        []
    """
    named = {
        run["key"]: cell.method for cell in cells if cell.reported for run in cell.reported.runs
    }
    labels = histories["key"].map(named)
    drawn = histories[labels.notna()].assign(method=labels, label=labels)
    numbers = learning_curves.plotted(drawn)
    if numbers.empty:
        return []
    page = learning_curves.figure(drawn, numbers)
    style.save(page.figure, out, name, numbers, caption=page.caption)
    alt = "Test error against epochs by method; errors after the last epoch are in the tables."
    return [f"![{alt}]({out.name}/{name}.png)", page.caption]


def _cell(words: str) -> str:
    """Escape the characters that would end a cell."""
    return " ".join(words.split()).replace("|", "\\|")


def _training(cell: Cell) -> list[str]:
    """Return the row of one method in the table of `trained`."""
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
