"""The whole tables of a page: estimates, sites, trainings, timings and runs."""

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
from fgbench.reporting.site.leaderboard import Entry, error, ratio
from fgbench.reporting.site.paths import Places, panel_of
from fgbench.reporting.site.table import MEAN, NOTHING, Cell, Table, digits, measured, plain, table

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
SEEN = 48  # letters of a run's settings
COUNTS = "draws × inits × batches"


def where(row: Mapping[str, Any], places: Places, linked: bool) -> list[Cell]:
    """Name the method of a record, or its architecture and data, as the first cells of its row.

    Args:
        row: a record with its label.
        places: where pages lie.
        linked: on the page of a panel, whose rows are methods; else of rows on the page of a method.

    Returns:
        One cell that leads to the page of the method, or three.
    """
    label = str(row["label"])
    if linked:
        return [Cell(label, link=places.methods.get(str(row["method"]), ""))]
    panel = panel_of(row)
    arch, data = (name or paths.UNNAMED for name in panel)
    return [Cell(label), Cell(arch, link=places.panels[panel]), Cell(data)]


def _head(linked: bool) -> list[str]:
    """Name these columns."""
    return ["method"] if linked else ["method", *WHERE]


def estimates(
    found: Facts, rows: Sequence[dict[str, Any]], places: Places, linked: bool
) -> Table | None:
    """List what was measured over the whole body, with every number.

    Args:
        found: what the report shows.
        rows: records of measure.
        places: where pages lie.
        linked: see `where`.

    Returns:
        A table; None where nothing was measured.
    """
    made = []
    for row in rows:
        body = found.body.get(str(row["key"]), {})
        if not body:
            continue
        cells = {name: measured(numbers) for name, numbers in body.items()}
        if "bias" in cells:
            older = found.verdicts[str(row["key"])].over
            cells["bias"] = measured(body["bias"], older)
        for name, of in (("predicted", "relative_variance"), ("detectable", "bias")):
            cells[name] = plain(body[of][name] if of in body else nan)
        one = next(iter(body.values()))
        counts = " × ".join(digits(one[name], 6) for name in ("draws", "inits", "batches"))
        heavy = any(numbers["heavy_tail"] for numbers in body.values())
        note = "heavy tail: no interval is right" if heavy else ""
        shown = [cells.get(name, Cell(NOTHING, nan)) for name in ESTIMATES]
        truth = Cell(str(row.get("truth", NOTHING)))
        made.append([*where(row, places, linked), truth, *shown, Cell(counts, note=note)])
    caption = (
        f"Value [95 % interval] without unit, whole body; n: {COUNTS}. Intervals rest on networks (inits) "
        "where several were drawn, else on batches of this one network, or on draws at one point; that "
        "of bias, like its test, on draws."
    )
    head = [*_head(linked), "truth", *ESTIMATES.values(), "n"]
    return table("estimates", caption, head, made, folded=True) if made else None


def tested(found: Facts, rows: Sequence[dict[str, Any]], places: Places) -> Table | None:
    """List what a method claims of its bias, and whether that held, measurement by measurement."""
    made = []
    for row in rows:
        verdict = found.verdicts[str(row["key"])]
        size = measured(verdict.bias, verdict.over)
        test = [plain(v, 2) for v in (verdict.p_value, verdict.adjusted)]
        seed = Cell(digits(number(row["seed"])["value"], 6))
        last = plain(verdict.detectable)
        made.append([*where(row, places, False), seed, verdict.cell(), size, *test, last])
    caption = (
        "Bias |Ee − g| / |g| over the whole body [95 % interval over draws], with the test that "
        "there is none: its p, the same after Holm over all measurements of this report, and the smallest "
        "bias that it would see."
    )
    head = [*_head(False), "seed", "claim", "bias", "p", "adjusted p", "detectable"]
    return table("claims", caption, head, made, folded=True) if made else None


def sites(found: Facts, part: pd.DataFrame, places: Places, linked: bool) -> Table | None:
    """List what was measured site by site.

    Args:
        found: what the report shows.
        part: rows of measures.
        places: where pages lie.
        linked: see `where`.

    Returns:
        A table; None where no site was measured.
    """
    part = part[part["place"] != "all"]
    made = []
    for (_, place), of in part.groupby(["key", "place"], sort=False):
        by = {str(row["quantity"]): row for row in of.to_dict("records")}
        first, bias = next(iter(by.values())), by.get("bias")
        cells = [measured(by.get(name)) for name in SITES]
        variance = by.get("relative_variance")
        cells.insert(1, plain(variance["predicted"] if variance else nan))
        cells.append(measured(bias))
        cells += [plain(bias[n] if bias else nan, 2) for n in ("p_adjusted", "detectable")]
        made.append([*where(first, places, linked), Cell(str(place)), *cells])
    caption = (
        "Value [95 % interval] of each site, from input to loss; that of bias is over draws. The p of a "
        "site's bias is adjusted over the sites of its measurement (Benjamini–Hochberg)."
    )
    head = [*_head(linked), "site", "relative variance", "theory", *SITES[1:], "bias"]
    head = [*head, "adjusted p", "detectable"]
    return table("sites", caption, head, made) if made else None


def trainings(rows: Iterable[Entry], places: Places, linked: bool) -> Table | None:
    """List the last errors of every setting over its seeds."""
    made = []
    for entry in rows:
        if not entry.runs:
            continue
        done = [run for run in entry.runs if run["status"] == "ok"]
        seconds = [number(run.get("seconds"))["value"] for run in done]
        epochs = ", ".join(dict.fromkeys(text(run["epochs"]) for run in done if "epochs" in run))
        mean = pd.Series(seconds, dtype=float).mean()
        errors = [error(entry.runs, name) for name in ("test_error", "train_error")]
        said = [replace(one, note=one.note.rpartition("\n")[0]) for one in errors]  # n has a column
        made.append([
            *where({**entry.runs[0], "label": entry.label}, places, linked), *said,
            Cell(epochs or NOTHING), plain(mean),
            plain(len(done)), plain(sum(run["status"] == "diverged" for run in entry.runs)),
        ])  # fmt: skip
    caption = f"{MEAN}; n: finished seeds."
    head = [
        *_head(linked),
        "test error (%)",
        "train error (%)",
        "epochs",
        "seconds",
        "n",
        "diverged",
    ]
    return table("trainings", caption, head, made, folded=True) if made else None


def speeds(rows: Iterable[Entry], places: Places, linked: bool) -> Table | None:
    """List time and memory beside backprop's."""
    made, seen = [], set()
    for entry in rows:
        row = entry.speed
        if row is None or row["key"] in seen or not any(name in row for name in COSTS):
            continue
        seen.add(row["key"])
        costs = [ratio(row, name) for name in TIMES]
        n = max((number(row[name])["n"] for name in COSTS if name in row), default=nan)
        batch = plain(row.get("batch"), 6)
        made.append(
            [*where(row, places, linked), Cell(str(row["device"])), batch, *costs, plain(n)]
        )
    caption = (
        "Median of a step [95 % interval]; ratios to PyTorch's backprop of the same model in the same run; "
        "BP is the same gradient by a step of fgbench. n: timed steps of each, in turn."
    )
    head = [*_head(linked), "device", "batch", *TIMES.values(), "n"]
    return table("speeds", caption, head, made, folded=True) if made else None


def runs(rows: Iterable[Mapping[str, Any]], places: Places, method: str | None = None) -> Table:
    """List records with their status and reason.

    Args:
        rows: as written.
        places: where pages lie.
        method: on the page of a method: their settings are listed too.

    Returns:
        A table that can be filtered by its text.
    """
    made = []
    for row in rows:
        name, panel = str(row["method"]), panel_of(row)
        status = str(row["status"])
        cells = [Cell(str(row.get("key") or NOTHING)[:12]), Cell(verb_of(row))]
        if method is None:
            cells.append(Cell(name or NOTHING, link=places.methods.get(name, "")))
        cells += [
            Cell(panel[0] or NOTHING, link=places.panels.get(panel, "")),
            Cell(panel[1] or NOTHING),
            Cell(text(row.get("seed", NOTHING))),
            Cell(str(row.get("device") or NOTHING)),
            Cell(status, tone={"ok": ""}.get(status, "bad")),
            Cell(str(row.get("reason") or NOTHING)),
            Cell(commit(row.get("commit"))),
        ]
        if method is not None:
            said = ", ".join(f"{name}={value}" for name, value in settings_of(row).items())
            cells += [Cell(str(row.get("started") or NOTHING)[:16].replace("T", " ")), _cut(said)]
        made.append(cells)
    head = ["key", "verb", *(["method"] if method is None else []), *WHERE, "seed", "device"]
    head += ["status", "reason", "commit", *(["started", "settings"] if method is not None else [])]
    caption = (
        "Every record. Failed, skipped and diverged runs keep their reason. A trial is a training judged on "
        "held-out training examples, no result; tune says which settings its trials chose."
    )
    wide = tuple(at for at, name in enumerate(head) if name in ("reason", "settings"))
    return table("runs", caption, head, made, search="any text", whole=True, broken=wide)


def _cut(text: str) -> Cell:
    """Make the cell of a long text, of which the beginning is seen at once."""
    return Cell(text) if len(text) <= SEEN else Cell(f"{text[:SEEN]}…", whole=text)


def commit(name: object) -> str:
    """Shorten a commit, keeping what says that the tree was changed."""
    words = str(name or NOTHING)
    return words[:9] + "+dirty" * words.endswith("+dirty") if len(words) > 16 else words
