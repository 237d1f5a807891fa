"""A folder of records as one static page: tables, figures, and what was damaged or old."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fgbench.analysis import learning_curves, relative_variance, style
from fgbench.analysis.load import MEASURED, Records, load
from fgbench.analysis.seeds import mean_interval
from fgbench.record import SCHEMA

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #555; }
td.n { white-space: nowrap; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
nav a { margin-right: 1rem; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fgbench report</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>fgbench report</h1>
<p>{summary}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{sections}
</main>
</body>
</html>
"""
SHOWN = {
    "relative_variance": "relative variance",
    "predicted": "theory",
    "efficiency": "efficiency",
    "efficiency_per_forward": "efficiency per forward",
    "bias": "bias",
    "detectable": "detectable bias",
    "scale": "scale",
    "cosine": "cosine",
    "expected_cosine": "chance cosine",
    "locality_gap": "locality gap",
}
COSTS = {
    "step_ms": "step (ms)",
    "ratio_to_bp": "time / BP",
    "peak_mb": "peak memory (MB)",
    "peak_ratio_to_bp": "memory / BP",
}


def write(folder: Path, out: Path) -> Path:
    """Write the report of a folder of records.

    The page needs no network and no scripts; its figures lie beside it as PNG, PDF and CSV.

    Args:
        folder: of records.
        out: folder for the page, made if missing.

    Returns:
        The page, ``out/index.html``.

    Raises:
        UsageError: the folder does not exist or holds no record.
    """
    records = load(folder)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sections = {
        "Gradient estimates": _measures(records, out),
        "Training": _training(records, out),
        "Speed and memory": _speed(records),
        "Every run": _runs(records),
        "Environment": _environment(records),
        "Notes": _notes(records),
    }
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    statuses = Counter(str(row["status"]) for row in records.rows)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))
    page = PAGE.format(
        style=STYLE,
        summary=escape(
            f"{len(records.rows)} records ({counts}) from {records.folder.resolve().name}"
        ),
        links="".join(f'<a href="#{at}">{title}</a>' for title, at in anchors.items()),
        sections="\n".join(
            f'<section id="{anchors[title]}">\n<h2>{title}</h2>\n{body}\n</section>'
            for title, body in sections.items()
        ),
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def interval(numbers: Mapping[str, Any]) -> str:
    """Write a number with its interval: ``12.3 [11, 13.9]``, a dash for what is not known."""
    value, low, high = (_digits(numbers[name]) for name in ("value", "low", "high"))
    if pd.isna(numbers["low"]) and pd.isna(numbers["high"]):
        return value
    if numbers["low"] == numbers["high"] == numbers["value"]:
        return f"{value} (exact)"
    return f"{value} [{low}, {high}]"


def _digits(number: float, digits: int = 3) -> str:
    """Round to significant digits, without an exponent for what is read at a glance."""
    if pd.isna(number):
        return "–"
    text = f"{number:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(number) < 1e7 else text


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Build a table; the first column names the rows."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="wide"><table>\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _figure(fig: Figure, out: Path, name: str, table: pd.DataFrame, words: tuple[str, str]) -> str:
    """Save a figure and embed it with its alternative text and its data."""
    alt, caption = words
    style.save(fig, out, name, table)
    width, height = (round(130 * inches) for inches in fig.get_size_inches())
    links = f'<a href="{name}.pdf">PDF</a>, <a href="{name}.csv">data (CSV)</a>'
    return (
        f'<figure>\n<img src="{name}.png" alt="{escape(alt)}" width="{width}" height="{height}">\n'
        f"<figcaption>{escape(caption)} {links}.</figcaption>\n</figure>"
    )


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by architecture and data, then by method in the order of the figures."""
    rank = {method: at for at, method in enumerate(style.order(table["method"]))}
    keys = ["arch", "data", "rank", "label", "seed"]
    return table.assign(rank=table["method"].map(rank)).sort_values(keys, kind="stable")


def _measures(records: Records, out: Path) -> str:
    """Show every measured estimate over the whole body, with the figure of their variances."""
    measures = records.measures()
    body = measures[measures["place"] == "all"]
    if body.empty:
        return "<p>Nothing was measured in these records.</p>"
    rows = []
    for _, part in _sorted(body).groupby("key", sort=False):
        found = part.set_index("quantity")
        run = part.iloc[0]
        cells = {name: interval(found.loc[name, list(MEASURED)]) for name in found.index}
        for name, at in (("predicted", "relative_variance"), ("detectable", "bias")):
            cells[name] = _digits(found[name].get(at, nan))
        counts = " × ".join(_digits(run[name], 6) for name in ("draws", "inits", "batches"))
        if run["heavy_tail"]:
            counts += ", heavy tail: no interval is right"
        where = [str(run[name]) for name in ("label", "arch", "data", "truth")]
        rows.append([*where, *(cells.get(name, "–") for name in SHOWN), counts])
    measures.to_csv(out / "measures.csv", index=False, lineterminator="\n")
    caption = "Value [95 % interval]; n: draws × inits × batches. Dimensionless, whole body."
    head = ["method", "architecture", "data", "truth", *SHOWN.values(), "n"]
    shown = _table(caption, head, rows)
    shown += '\n<p><a href="measures.csv">All numbers, by site (CSV)</a></p>'
    plotted = relative_variance.plotted(measures)
    if plotted.empty:
        return shown
    alt = "Relative variance by method on a logarithmic axis, measured beside theory; " + (
        f"{plotted['method'].nunique()} methods, the numbers are in the table above."
    )
    fig = relative_variance.figure(measures)
    words = (alt, "Variance of the estimates.")
    return shown + "\n" + _figure(fig, out, relative_variance.NAME, plotted, words)


def _training(records: Records, out: Path) -> str:
    """Show the last errors of every method over its seeds, with the learning curves."""
    runs, trials = pd.DataFrame(records.of("train")), len(records.of("trial"))
    aside = f"<p>Trials on held-out examples, not shown here: {trials}.</p>" if trials else ""
    if runs.empty:
        return aside or "<p>No training in these records.</p>"
    rows = []
    for (label, arch, data), part in _sorted(runs).groupby(["label", "arch", "data"], sort=False):
        done = part[part["status"] == "ok"]
        lost = (part["status"] == "diverged").sum()
        cells = [_over_seeds(done, name, 100) for name in ("test_error", "train_error")]
        cells += [_over_seeds(done, "seconds", 1), str(len(done)), str(lost)]
        rows.append([str(label), str(arch), str(data), *cells])
    caption = (
        "Mean over seeds of finished runs after the last epoch [95 % t interval, on the log scale; "
        "with two seeds, their range]; n: seeds."
    )
    head = ["method", "architecture", "data", "test error (%)", "train error (%)", "seconds"]
    shown = _table(caption, [*head, "n", "diverged"], rows) + aside
    curves = records.curves()
    plotted = learning_curves.plotted(curves)
    if plotted.empty:
        return shown
    alt = "Test error in percent against epochs, a curve per method with a band over seeds."
    fig = learning_curves.figure(curves)
    words = (alt, "Test error while training.")
    return shown + "\n" + _figure(fig, out, learning_curves.NAME, plotted, words)


def _over_seeds(runs: pd.DataFrame, name: str, unit: float) -> str:
    """Write the mean of a column over seeds with its interval."""
    if name not in runs or runs[name].dropna().empty:
        return "–"
    found = mean_interval(runs[name].astype(float) * unit)
    if found["low"] == found["high"]:  # one seed, or seeds that agree
        return _digits(float(found["mean"]))
    return interval({**found, "value": found["mean"]})


def _speed(records: Records) -> str:
    """Show time and memory beside backprop's."""
    speeds = records.speeds()
    if speeds.empty:
        return "<p>No speed was measured in these records.</p>"
    rows = []
    for _, part in _sorted(speeds).groupby("key", sort=False):
        run = part.iloc[0]
        found = part.set_index("quantity")[list(MEASURED)]
        cells = [interval(found.loc[n]) if n in found.index else "–" for n in COSTS]
        n = _digits(found["n"].max(), 6)
        where = [run["label"], run["arch"], run["data"], run["device"], _digits(run["batch"], 6)]
        rows.append([*map(str, where), *cells, n])
    caption = "Value [95 % interval]; ratios to backprop of the same model in the same run."
    head = ["method", "architecture", "data", "device", "batch", *COSTS.values(), "n"]
    return _table(caption, head, rows)


def _runs(records: Records) -> str:
    """List every record with its status and reason."""
    names = ("verb", "method", "arch", "data", "seed", "device", "status", "reason", "commit")
    rows = [
        [str(row.get("key", "–"))[:12], *(str(row.get(name, "–")) for name in names)]
        for row in records.rows
    ]
    return _table("Failed, skipped and diverged runs keep their reason.", ["key", *names], rows)


def _environment(records: Records) -> str:
    """List the distinct places where records were made."""
    lines: Counter[str] = Counter()
    for row in records.rows:
        where = row.get("where")
        pairs = {**where, "commit": row.get("commit")} if isinstance(where, dict) else {}
        pairs.pop("code", None)  # differs by method; the commit says it for all
        known = [f"{name} {value}" for name, value in pairs.items() if value not in (None, "")]
        lines[", ".join(known) or "not stated"] += 1
    items = [f"<li>{n} record{'s' * (n > 1)}: {escape(text)}</li>" for text, n in lines.items()]
    return "<ul>\n" + "\n".join(items) + "\n</ul>"


def _notes(records: Records) -> str:
    """Say what was old, incomplete or not readable."""
    notes = [*records.notes, *(f"{name}: {reason}" for name, reason in records.damaged.items())]
    if not notes:
        return f"<p>All records are complete and of schema {SCHEMA}.</p>"
    return "<ul>\n" + "\n".join(f"<li>{escape(note)}</li>" for note in notes) + "\n</ul>"
