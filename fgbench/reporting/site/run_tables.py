"""Tables of a page with all numbers: estimates, claims, sites, trainings, timings and runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import pandas as pd

from fgbench.reporting.frames.load import COSTS, number, verb_of
from fgbench.reporting.frames.settings import settings_of, text
from fgbench.reporting.site import paths
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.leaderboard import Entry, error, metric, ratio
from fgbench.reporting.site.paths import PagePaths, panel_of
from fgbench.reporting.site.table import (
    MEAN,
    NOTHING,
    Table,
    TableCell,
    bias_cell,
    digits,
    interval_cell,
    number_cell,
    sign_note,
    table,
)

ESTIMATES = {
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
SITES = ("relative_variance", "efficiency", "scale", "cosine")
TIMES = {
    "step_ms": "step (ms)",
    "ratio_to_bp": "time / BP",
    "peak_mb": "peak memory (MiB)",
    "peak_ratio_to_bp": "memory / BP",
}
WHERE = ("architecture", "data")
SEEN = 48  # characters of a run's settings that are shown at first
COUNTS = "draws × inits × batches"


def where(row: Mapping[str, Any], page_paths: PagePaths, linked: bool) -> list[TableCell]:
    """Return the first cells of the row of a record.

    Args:
        row: a record with its label.
        page_paths: targets of the links.
        linked: True on the page of a panel, where the method links to its page; False on the page of a
            method, where architecture and data are shown too.

    Returns:
        One cell, or three.

    Example:
        >>> page_paths = paths.page_paths(["BP"], [])
        >>> [cell.link for cell in where({"label": "BP", "method": "BP"}, page_paths, True)]
        ['methods/BP.html']
    """
    label = str(row["label"])
    if linked:
        return [TableCell(label, link=page_paths.methods.get(str(row["method"]), ""))]
    panel = panel_of(row)
    arch, data = (name or paths.UNNAMED for name in panel)
    return [TableCell(label), TableCell(arch, link=page_paths.panels[panel]), TableCell(data)]


def _head(linked: bool) -> list[str]:
    """Return the names of the columns of `where`."""
    return ["method"] if linked else ["method", *WHERE]


def estimates(
    facts: Facts, rows: Sequence[dict[str, Any]], page_paths: PagePaths, linked: bool
) -> Table | None:
    """Tabulate all numbers that were measured over the whole body.

    Args:
        facts: records with their tables and verdicts.
        rows: records of measure.
        page_paths: targets of the links.
        linked: see `where`.

    Returns:
        A table; None without measurements.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts as facts_of
        >>> report = facts_of(Records(Path("records"), (), {}, ()))
        >>> estimates(report, [], paths.page_paths([], []), True) is None
        True
    """
    rows_made = []
    for row in rows:
        body = facts.body.get(str(row["key"]), {})
        if not body:
            continue
        cells = {name: interval_cell(numbers, sign_note(numbers)) for name, numbers in body.items()}
        if "bias" in cells:
            older = facts.verdicts[str(row["key"])].over
            cells["bias"] = bias_cell(body["bias"], older)
        for name, of in (("predicted", "relative_variance"), ("detectable", "bias")):
            cells[name] = number_cell(body[of][name] if of in body else nan)
        one = next(iter(body.values()))
        counts = " × ".join(digits(one[name], 6) for name in ("draws", "inits", "batches"))
        heavy = any(numbers["heavy_tail"] for numbers in body.values())
        note = "heavy tail: intervals are not valid" if heavy else ""
        shown = [cells.get(name, TableCell(NOTHING, nan)) for name in ESTIMATES]
        truth = TableCell(str(row.get("truth", NOTHING)))
        rows_made.append(
            [*where(row, page_paths, linked), truth, *shown, TableCell(counts, note=note)]
        )
    caption = (
        f"Value [95 % interval], without unit, over the whole body; n: {COUNTS}. Intervals are over networks "
        "(inits) where several were initialised, else over batches of the one network, else over draws of "
        "one batch; the interval and the test of bias are over draws."
    )
    head = [*_head(linked), "truth", *ESTIMATES.values(), "n"]
    return table("estimates", caption, head, rows_made, folded=True) if rows_made else None


def tested(facts: Facts, rows: Sequence[dict[str, Any]], page_paths: PagePaths) -> Table | None:
    """Tabulate the claim about bias and the outcome of its test, a row per measurement.

    Args:
        facts: records with their tables and verdicts.
        rows: records of measure.
        page_paths: targets of the links.

    Returns:
        A table; None without measurements.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts as facts_of
        >>> report = facts_of(Records(Path("records"), (), {}, ()))
        >>> tested(report, [], paths.page_paths([], [])) is None
        True
    """
    rows_made = []
    for row in rows:
        verdict = facts.verdicts[str(row["key"])]
        size = bias_cell(verdict.bias, verdict.over)
        test = [number_cell(v, 2) for v in (verdict.p_value, verdict.adjusted)]
        seed = TableCell(digits(number(row["seed"])["value"], 6))
        last = number_cell(verdict.detectable)
        rows_made.append([*where(row, page_paths, False), seed, verdict.cell(), size, *test, last])
    caption = (
        "Bias |Ee − g| / |g| over the whole body [95 % interval over draws] and the test of zero bias: its "
        "p-value, the p-value corrected by Holm's method over all measurements of this report, and the "
        "smallest bias that the test would detect."
    )
    head = [*_head(False), "seed", "claim", "bias", "p", "adjusted p", "detectable"]
    return table("claims", caption, head, rows_made, folded=True) if rows_made else None


def sites(facts: Facts, part: pd.DataFrame, page_paths: PagePaths, linked: bool) -> Table | None:
    """Tabulate the numbers of every site.

    Args:
        facts: records with their tables and verdicts.
        part: rows of measures.
        page_paths: targets of the links.
        linked: see `where`.

    Returns:
        A table; None without numbers of sites.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts as facts_of
        >>> report = facts_of(Records(Path("records"), (), {}, ()))
        >>> sites(report, report.measures, paths.page_paths([], []), True) is None
        True
    """
    part = part[part["place"] != "all"]
    rows_made = []
    for (_, place), of in part.groupby(["key", "place"], sort=False):
        by = {str(row["quantity"]): row for row in of.to_dict("records")}
        first, bias = next(iter(by.values())), by.get("bias")
        shown = {name: by.get(name) for name in SITES}
        cells = [interval_cell(numbers, sign_note(numbers)) for numbers in shown.values()]
        variance = by.get("relative_variance")
        cells.insert(1, number_cell(variance["predicted"] if variance else nan))
        cells.append(bias_cell(bias))
        cells += [number_cell(bias[n] if bias else nan, 2) for n in ("p_adjusted", "detectable")]
        rows_made.append([*where(first, page_paths, linked), TableCell(str(place)), *cells])
    caption = (
        "Value [95 % interval] at each site, from input to loss; the interval of bias is over draws. The "
        "p-value of a site's bias is corrected over the sites of its measurement (Benjamini–Hochberg)."
    )
    head = [*_head(linked), "site", "relative variance", "theory", *SITES[1:], "bias"]
    head = [*head, "adjusted p", "detectable"]
    return table("sites", caption, head, rows_made) if rows_made else None


def trainings(rows: Iterable[Entry], page_paths: PagePaths, linked: bool) -> Table | None:
    """Tabulate errors or other main metrics after the last epoch, as means over seeds.

    Args:
        rows: of the leaderboard.
        page_paths: targets of the links.
        linked: see `where`.

    Returns:
        A table; None without trainings.

    Example:
        >>> trainings([], paths.page_paths([], []), True) is None
        True
    """
    rows_made = []
    for entry in rows:
        if not entry.runs:
            continue
        done = [run for run in entry.runs if run["status"] == "ok"]
        seconds = [number(run.get("seconds"))["value"] for run in done]
        epochs = ", ".join(dict.fromkeys(text(run["epochs"]) for run in done if "epochs" in run))
        mean = pd.Series(seconds, dtype=float).mean()
        errors = [error(entry.runs, split) for split in ("test", "train")]
        errors = [
            replace(one, note=one.note.rpartition("\n")[0]) for one in errors
        ]  # n has a column
        rows_made.append([
            *where({**entry.runs[0], "label": entry.label}, page_paths, linked), *errors,
            TableCell(epochs or NOTHING), number_cell(mean),
            number_cell(len(done)), number_cell(sum(run["status"] == "diverged" for run in entry.runs)),
        ])  # fmt: skip
    caption = f"{MEAN}; n: finished seeds."
    metrics = {metric(entry.runs) for entry in rows if entry.runs}
    named = next(iter(metrics)) if len({one.name for one in metrics}) == 1 else None
    head = [
        *_head(linked),
        *(named.axis(s) if named else f"{s} error (%), or main metric" for s in ("test", "train")),
        "epochs",
        "seconds",
        "n",
        "diverged",
    ]
    return table("trainings", caption, head, rows_made, folded=True) if rows_made else None


def speeds(rows: Iterable[Entry], page_paths: PagePaths, linked: bool) -> Table | None:
    """Tabulate time and memory of a step, and their ratios to backprop.

    Args:
        rows: of the leaderboard.
        page_paths: targets of the links.
        linked: see `where`.

    Returns:
        A table; None without timings.

    Example:
        >>> speeds([], paths.page_paths([], []), True) is None
        True
    """
    rows_made, seen = [], set()
    for entry in rows:
        row = entry.speed
        if row is None or row["key"] in seen or not any(name in row for name in COSTS):
            continue
        seen.add(row["key"])
        costs = [ratio(row, name) for name in TIMES]
        n = max((number(row[name])["n"] for name in COSTS if name in row), default=nan)
        batch = number_cell(row.get("batch"), 6)
        rows_made.append(
            [
                *where(row, page_paths, linked),
                TableCell(str(row["device"])),
                batch,
                *costs,
                number_cell(n),
            ]
        )
    caption = (
        "Median over the timed steps [95 % interval; with fewer than 6 steps their range]. Ratios are to "
        "PyTorch's backprop of the same model, whose steps are timed in turn with these in the same run; BP "
        "computes the same gradient with fgbench. n: timed steps of each."
    )
    head = [*_head(linked), "device", "batch", *TIMES.values(), "n"]
    return table("speeds", caption, head, rows_made, folded=True) if rows_made else None


def runs(
    rows: Iterable[Mapping[str, Any]], page_paths: PagePaths, method: str | None = None
) -> Table:
    """Tabulate records with their status and reason.

    Args:
        rows: records.
        page_paths: targets of the links.
        method: name of the method on its own page, where settings are shown instead of the name.

    Returns:
        A table that can be filtered by its text.

    Example:
        >>> row = {"method": "BP", "verb": "train", "status": "failed", "reason": "out of memory"}
        >>> cells = runs([row], paths.page_paths([], [])).rows[0].cells
        >>> [cell.text for cell in cells[1:3] + cells[7:9]]
        ['train', 'BP', 'failed', 'out of memory']
    """
    rows_made = []
    for row in rows:
        name, panel = str(row["method"]), panel_of(row)
        status = str(row["status"])
        cells = [TableCell(str(row.get("key") or NOTHING)[:12]), TableCell(verb_of(row))]
        if method is None:
            cells.append(TableCell(name or NOTHING, link=page_paths.methods.get(name, "")))
        cells += [
            TableCell(panel[0] or NOTHING, link=page_paths.panels.get(panel, "")),
            TableCell(panel[1] or NOTHING),
            TableCell(text(row.get("seed", NOTHING))),
            TableCell(str(row.get("device") or NOTHING)),
            TableCell(status, tone={"ok": ""}.get(status, "bad")),
            TableCell(str(row.get("reason") or NOTHING)),
            TableCell(commit(row.get("commit"))),
        ]
        if method is not None:
            settings = ", ".join(f"{name}={value}" for name, value in settings_of(row).items())
            started = str(row.get("started") or NOTHING)[:16].replace("T", " ")
            cells += [TableCell(started), _shortened(settings)]
        rows_made.append(cells)
    head = ["key", "verb", *(["method"] if method is None else []), *WHERE, "seed", "device"]
    head += ["status", "reason", "commit", *(["started", "settings"] if method is not None else [])]
    caption = (
        "All records; failed, skipped and diverged runs with the reason. A trial is a training for tuning, "
        "evaluated on held-out training examples, and not a result; tune is the choice made from trials."
    )
    wide = tuple(at for at, name in enumerate(head) if name in ("reason", "settings"))
    return table("runs", caption, head, rows_made, search="any text", search_rows=True, broken=wide)


def _shortened(text: str) -> TableCell:
    """Return the cell of a text; a long one shows its beginning and can be unfolded."""
    return TableCell(text) if len(text) <= SEEN else TableCell(f"{text[:SEEN]}…", full_text=text)


def commit(name: object) -> str:
    """Return the shortened hash of a commit with its mark of uncommitted changes.

    Example:
        >>> commit("0123456789abcdef0123+dirty"), commit(None)
        ('012345678+dirty', '–')
    """
    words = str(name or NOTHING)
    return words[:9] + "+dirty" * words.endswith("+dirty") if len(words) > 16 else words
