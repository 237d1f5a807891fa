"""What methods are compared on: a task, a network and data, and the runs there that are results."""

from __future__ import annotations

from math import isnan
from textwrap import fill

import pandas as pd

from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import Way, plain, setting, way_of
from fgbench.reporting.frames.results import Cell, Place, cells
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.frames.settings import decided, directions_of, form_of, settings_of

WORK = ["task", "arch", "data"]
PANEL = 34  # letters of a title over one of three panels
REFERENCE = "BP"


def named(place: Place) -> dict[str, str]:
    """Name a workload and a method on it.

    Args:
        place: of `fgbench.reporting.frames.results.cells`.

    Returns:
        ``task arch data method``; the options of the locality are of the data, as all methods of a
        panel share them, and so is the number of training examples.
    """
    data = setting(place.data, place.train_size, place.way.options)
    method = plain(place.way)
    return {"task": place.way.task, "arch": place.arch, "data": data, "method": method}


def finished(records: Records) -> pd.DataFrame:
    """Tabulate training of the settings that are results, finished or diverged, epoch by epoch.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Rows of `fgbench.reporting.frames.load.Records.curves` on test examples, with ``task``, with ``arch``,
        ``data`` and ``method`` as `named`, and with the ``epochs`` asked for; ``chance`` is 1 where no
        record tells it; ``final`` is the error at a run's last epoch, that of guessing of a diverged one.
    """
    curves = records.curves()
    curves = curves[curves["split"].eq("test") & curves["status"].isin(["ok", "diverged"])]
    names = {
        run["key"]: {**named(cell.place), "epochs": settings_of(run).get("epochs")}
        for cell in cells(records)
        for run in (cell.reported.runs if cell.reported else ())
    }
    curves = curves[curves["key"].isin(names)]
    columns = [*WORK, "method", "epochs"]
    found = pd.DataFrame([names[key] for key in curves["key"]], curves.index, columns)
    found = found.assign(epochs=pd.to_numeric(found["epochs"], errors="coerce"))
    table = curves.drop(columns=["arch", "data", "method"]).join(found)
    table = table.assign(chance=table["chance"].fillna(1.0))
    last = table.groupby("key")["error"].transform("last")
    lost = table["status"].eq("diverged") | last.isna()
    table = table.assign(final=last.where(~lost, table["chance"]))
    return ordering.arranged(table, [*WORK, "method", "seed", "epoch"])


def suites(table: pd.DataFrame) -> pd.DataFrame:
    """Put workloads together on which the same methods ran, so that all of a suite can be compared.

    Args:
        table: ``task arch data method``.

    Returns:
        The table with ``suite``, the number of a workload's suite, from 1 in the order of the rows.
    """
    ran = {work: tuple(sorted(set(part["method"]))) for work, part in table.groupby(WORK)}
    numbers: dict[tuple[str, ...], int] = {}
    suite = [
        numbers.setdefault(ran[work], len(numbers) + 1)
        for work in table[WORK].itertuples(index=False, name=None)
    ]
    return table.assign(suite=suite)


def suite_title(suite: int, runs: pd.DataFrame) -> str:
    """Write what a suite is of above its panel: its one workload, or how many they are."""
    works = list(runs[WORK].drop_duplicates().itertuples(index=False, name=None))
    if len(works) > 1:
        return f"suite {suite}: {len(works)} workloads"
    return fill(
        f"suite {suite}: {title(*works[0])}", PANEL, break_long_words=False, break_on_hyphens=False
    )


def title(task: str, arch: str, data: str) -> str:
    """Write a workload above its panel, in lines that fit."""
    return fill(f"{task}, {arch} on {data}", 62, break_long_words=False)


def lengths(table: pd.DataFrame) -> str:
    """Say how long runs trained, and of which methods if not all of a workload did so equally long.

    Args:
        table: ``task arch data method epochs``.

    Returns:
        A sentence with a space before it; "" where no record tells.
    """
    known = table.dropna(subset=["epochs"])
    if known.empty:
        return ""
    if known.groupby(WORK)["epochs"].nunique().max() == 1:
        alike = ", equally long on each workload" * (known["epochs"].nunique() > 1)
        return f" Trained for {span(known['epochs'], 'epoch', 'epochs')}{alike}."
    parts = known.groupby("method")["epochs"]
    told = [
        f"{m} {span(parts.get_group(m), '', '').strip()}" for m in ordering.order(known["method"])
    ]
    return f" Epochs differ: {', '.join(told)}."


def listed(table: pd.DataFrame) -> str:
    """List the workloads of a table, with the training examples and options that are of them."""
    works = table[WORK].drop_duplicates().itertuples(index=False, name=None)
    return "; ".join(f"{task}, {arch} on {data}" for task, arch, data in works)


def trials(cell: Cell, chance: float) -> pd.DataFrame:
    """Tabulate the trainings of a cell that held examples out.

    Args:
        cell: of `fgbench.reporting.frames.results.cells`.
        chance: error of guessing, of `fgbench.reporting.frames.load.Records.chances`; NaN where it
        is not known.

    Returns:
        A row per finished or diverged trial: ``epochs validation form lr seed error`` and ``setting``, all
        that may be searched and all else that decides a number, as text; the error is on the examples held
        out, that of guessing (1 where that is not known) of a diverged one.
    """
    rows = []
    for run in cell.trials:
        if run["status"] not in ("ok", "diverged"):
            continue
        given = decided(run)
        error = run.get("test_error")
        if run["status"] == "diverged" or error is None:
            error = 1.0 if isnan(chance) else chance
        searched = {name: given[name] for name in sorted(given) if name not in HELD}
        facts = {name: run["settings"].get(name) for name in (*HELD, "lr")}
        facts |= {"form": form_of(run), "seed": run["seed"], "error": error}
        rows.append({**facts, "setting": str(searched)})
    columns = [*HELD, "form", "lr", "seed", "error", "setting"]
    return pd.DataFrame(rows, columns=columns)


HELD = ("epochs", "validation")
"""What is the same for all trials of a search."""


def joined(found: pd.DataFrame, others: pd.DataFrame, records: Records) -> pd.DataFrame:
    """Put what was measured or timed beside what was trained, by method, options, dtype, network and data.

    Args:
        found: ``task arch data method`` and numbers of training, a row per configuration.
        others: rows of `fgbench.reporting.frames.load.Records.measures` or ``speeds``.
        records: both are of.

    Returns:
        A row per pair, all columns of both; ``bare`` is the data set with its options, without what `named`
        adds to it. Training on fewer examples is beside the same measurement, whose batch has any size.
    """
    wanted: dict[tuple[Way, str, str, float, str], list[dict[str, str]]] = {}
    for cell in cells(records):
        runs = cell.reported.runs if cell.reported else ()
        for n, form in {(directions_of(run), form_of(run)) for run in runs}:
            wanted.setdefault((*cell.place[:3], n, form), []).append(named(cell.place))
    verbs = ("measure", "speed")
    counts = {row["key"]: directions_of(row) for verb in verbs for row in records.of(verb)}
    by = [*WORK, "method"]
    rows = []
    for at, row in others.iterrows():
        bare = str(row["data"])
        way = way_of(str(row["estimator"]), str(row["locality"]))
        where = (way, str(row["arch"]), bare, counts[str(row["key"])], str(row["form"]))
        rows += [each | {"at": at, "bare": bare} for each in wanted.get(where, ())]
    places = pd.DataFrame(rows, columns=[*by, "at", "bare"])
    beside = places.join(others.drop(columns=["arch", "data", "method", "label"]), on="at")
    return beside.drop(columns="at").merge(found, on=by)
