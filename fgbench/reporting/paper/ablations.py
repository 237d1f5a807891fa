"""Ablations of the paper: each figure drawn from our records, with the paper's claims and our verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.errors import UsageError
from fgbench.reporting.figures import fusion, groups, local_losses, stop_gradient
from fgbench.reporting.figures.files import Writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.results import results
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.frames.settings import text
from fgbench.reporting.paper.comparison import Mean, judged
from fgbench.reporting.paper.markdown import listed, table
from fgbench.reporting.paper.published import Ablation, Claim

COLUMNS = ["panel", "label", "key", "seed", "status", "error", "loss"]


def section(ablations: Sequence[Ablation], records: Records, out: Path) -> list[str]:
    """Draw the ablations that there are records of, and write the section about them.

    Args:
        ablations: of the paper.
        records: of `fgbench.reporting.frames.load.load`.
        out: folder of the figures.

    Returns:
        Paragraphs of a Markdown page; an empty list where no ablation was run.

    Example:
        >>> section([], Records(Path("records"), (), {}, ()), Path("out"))
        []
    """
    parts = []
    by_key = {row["key"]: row.get("settings") for row in records.of("train")}
    settings = {key: values for key, values in by_key.items() if isinstance(values, Mapping)}
    for each in ablations:
        try:
            drawing = FIGURES[each.figure].drawing(records, out)
        except UsageError:  # the records have nothing to draw
            continue
        alt = f"{each.title}; the numbers are in {each.figure}.csv beside it."
        parts += [f"### {each.title}", f"The paper: {each.printed}"]
        parts += [f"![{alt}]({out.name}/{each.figure}.png)", drawing.caption]
        runs = RUNS[each.figure](records) if each.figure in RUNS else pd.DataFrame(columns=COLUMNS)
        for panel, part in runs.groupby("panel", sort=False):
            epochs = _of(part, settings, "epochs")
            parts += [f"Ours, {panel}, {epochs} epochs:", *_verdicts(each, part, settings)]
    head = (
        "Means over seeds with 95 % intervals. Differences are taken seed by seed; a verdict is settled "
        "where the whole interval lies on one side of zero. Where a sweep tunes the learning rate, it is "
        "the one chosen on held-out training examples."
    )
    return ["## Ablations", head, *parts] if parts else []


def _of(runs: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the values of a setting among runs, "?" where no run states it."""
    values = {text(settings[key][name]) for key in runs["key"] if name in settings.get(key, {})}
    return ", ".join(sorted(values)) or "?"


def _verdicts(
    each: Ablation, runs: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the verdicts on the claims for one panel, and a table of its numbers."""
    unit = " points" if each.number == "error" else ""
    by = {str(label): part for label, part in runs.groupby("label", sort=False)}
    lines = [_verdict(claim, by, each.number, unit) for claim in each.claims]
    rows = []
    for label, part in by.items():
        done = part[part["status"] == "ok"]
        unfinished = f"not finished {len(part) - len(done)}" if len(done) < len(part) else ""
        ends = {"error": WHOLE, "loss": inf}
        numbers = [Mean.of(done[name].dropna(), most=most) for name, most in ends.items()]
        rows.append(
            [label, *map(str, numbers), str(len(done)), _of(part, settings, "lr"), unfinished]
        )
    head = ["", "error (%)", "contrastive loss", "n", "learning rate", ""]
    without = {2} if runs["loss"].isna().all() else set()
    without |= set() if any(row[-1] for row in rows) else {len(head) - 1}
    lines_of = [[part for at, part in enumerate(row) if at not in without] for row in (head, *rows)]
    numbers_table = table(lines_of[0], lines_of[1:])
    return ["\n".join(f"* {line}" for line in lines), numbers_table] if lines else [numbers_table]


def _verdict(claim: Claim, by: Mapping[str, pd.DataFrame], number: str, unit: str) -> str:
    """Return the verdict on one claim, or which of its two methods were not run."""
    missing = [label for label in (claim.method, claim.other) if label not in by]
    if missing:
        return f"{claim.text}: {listed(missing)} not run."
    one, two = (
        part[part["status"] == "ok"].set_index("seed")[number]
        for part in (by[claim.method], by[claim.other])
    )
    difference, verdict = judged(one, two, claim.at_most)
    size = f"difference {difference}{unit}, n = {difference.n}: " if difference.n else ""
    return f"{claim.text}: {size}**{verdict}**."


def _keys(records: Records) -> pd.DataFrame:
    """Return loss and error after the last epoch of every run of figure 4, by panel and label."""
    curves = stop_gradient.tidy(records)
    last = curves.sort_values("epoch", kind="stable").groupby("key", sort=False).tail(1)
    panel = "`" + last["arch"] + "` on " + last["data"]
    table = last.assign(panel=panel, error=100 * last["error"])
    return ordering.arranged(table, ["panel", "label", "seed"])[COLUMNS]


def _places(records: Records) -> pd.DataFrame:
    """Return the error of every run of figure 6, by panel and label."""
    runs = local_losses.tidy(results(records))
    order = local_losses.plotted(results(records))[["series", "place"]].agg(", ".join, axis=1)
    ranks = {label.replace("\n", " "): at for at, label in reversed(list(enumerate(order)))}
    runs = runs.assign(
        panel=_panel(runs, "arch"), error=100 * runs["test_error"], loss=float("nan")
    )
    runs = runs.assign(rank=runs["label"].map(ranks))
    return ordering.arranged(runs, ["task", "panel", "rank", "seed"])[COLUMNS]


def _groups(records: Records) -> pd.DataFrame:
    """Return test and train error of every run of figure 7 with the fewest and the most groups."""
    runs = groups.tidy(results(records))
    runs = runs.assign(panel=_panel(runs, "network"), loss=float("nan"))
    parts = []
    for split in groups.SPLITS:
        for which, of in (("fewest", "min"), ("most", "max")):
            ends = runs.groupby(["panel", "method"])["groups"].transform(of)
            part = runs[runs["groups"] == ends]
            label = part["method"] + f", {which} groups, {split}"
            parts.append(part.assign(label=label, error=100 * part[f"{split}_error"]))
    return ordering.arranged(pd.concat(parts), ["task", "panel", "label", "seed"])[COLUMNS]


def _panel(runs: pd.DataFrame, network: str) -> pd.Series:
    """Return the name of the panel of every run."""
    names: pd.Series = runs["task"] + ", `" + runs[network] + "` on " + runs["data"]
    return names


FIGURES: Mapping[str, Writer[Records]] = {
    "stop_gradient": stop_gradient.draw,
    "fusion": fusion.draw,
    "local_losses": local_losses.draw,
    "groups": groups.draw,
}
RUNS = {"stop_gradient": _keys, "local_losses": _places, "groups": _groups}
