"""Workloads (a task, a network and data) on which methods are compared, and the runs that are results."""

from __future__ import annotations

from math import isnan

import pandas as pd

from fgbench.records.metrics import ERROR
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import Way, any_directions, plain, setting, way_of
from fgbench.reporting.frames.results import Cell, Place, cells
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.frames.settings import decided, directions_of, form_of, settings_of

WORK = ["task", "arch", "data"]
REFERENCE = "BP"


def named(place: Place) -> dict[str, str]:
    """Return the names of a workload and of a method on it.

    Args:
        place: of `fgbench.reporting.frames.results.cells`.

    Returns:
        ``task arch data method``. The options of the locality and the number of training examples are part
        of the data's name, since all methods of a panel share them.

    Example:
        >>> named(Place(way_of("fg_a", "end"), "mlp-2x8", "digits", "100"))["data"]
        'digits, 100 examples'
    """
    data = setting(place.data, place.train_size, place.way.options)
    method = plain(place.way)
    return {"task": place.way.task, "arch": place.arch, "data": data, "method": method}


def finished(records: Records) -> pd.DataFrame:
    """Tabulate the test errors of reported trainings, finished or diverged, epoch by epoch.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Rows of `fgbench.reporting.frames.load.Records.curves` on test examples, with ``task``, with ``arch``,
        ``data`` and ``method`` as `named`, and with the ``epochs`` asked for. ``chance`` is 1 where no
        record states it. ``final`` is the error at a run's last epoch; for a diverged run it is chance.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> finished(Records(Path("."), (fg,), {}, ()))[["task", "method", "final"]].values.tolist()
        [['supervised', 'FG-A', 0.2]]
    """
    curves = records.curves()
    curves = curves[curves["split"].eq("test") & curves["status"].isin(["ok", "diverged"])]
    curves = curves[
        curves["metric"].eq(ERROR.name)
    ]  # errors of classification, which can be pooled
    names = {
        run["key"]: {**named(cell.place), "epochs": settings_of(run).get("epochs")}
        for cell in cells(records)
        for run in (cell.reported.runs if cell.reported else ())
    }
    curves = curves[curves["key"].isin(names)]
    columns = [*WORK, "method", "epochs"]
    workloads = pd.DataFrame([names[key] for key in curves["key"]], curves.index, columns)
    workloads = workloads.assign(epochs=pd.to_numeric(workloads["epochs"], errors="coerce"))
    table = curves.drop(columns=["arch", "data", "method"]).join(workloads)
    table = table.assign(chance=table["chance"].fillna(1.0))
    last = table.groupby("key")["error"].transform("last")
    lost = table["status"].eq("diverged") | last.isna()
    table = table.assign(final=last.where(~lost, table["chance"]))
    return ordering.arranged(table, [*WORK, "method", "seed", "epoch"])


def suites(table: pd.DataFrame) -> pd.DataFrame:
    """Group workloads on which the same methods ran into suites, so that all of a suite can be compared.

    Args:
        table: ``task arch data method``.

    Returns:
        The table with ``suite``, the number of a workload's suite, from 1 in the order of the rows.

    Example:
        >>> rows = [("supervised", "mlp", data, "BP") for data in ("mnist", "digits")]
        >>> suites(pd.DataFrame(rows, columns=[*WORK, "method"]))["suite"].tolist()
        [1, 1]
    """
    ran = {work: tuple(sorted(set(part["method"]))) for work, part in table.groupby(WORK)}
    numbers: dict[tuple[str, ...], int] = {}
    suite = [
        numbers.setdefault(ran[work], len(numbers) + 1)
        for work in table[WORK].itertuples(index=False, name=None)
    ]
    return table.assign(suite=suite)


def suite_title(suite: int, runs: pd.DataFrame) -> str:
    """Return the title of a suite's panel: its one workload, or the number of its workloads.

    Args:
        suite: its number.
        runs: ``task arch data`` of its runs.

    Returns:
        The title.

    Example:
        >>> suite_title(1, pd.DataFrame([("supervised", "mlp", "mnist")], columns=WORK))
        'suite 1: supervised, mlp on mnist'
    """
    works = list(runs[WORK].drop_duplicates().itertuples(index=False, name=None))
    if len(works) > 1:
        return f"suite {suite}: {len(works)} workloads"
    return f"suite {suite}: {title(*works[0])}"


def title(task: str, arch: str, data: str) -> str:
    """Return the title of a workload's panel.

    Args:
        task: of the workload.
        arch: its network.
        data: its data.

    Returns:
        The title.

    Example:
        >>> title("supervised", "mlp-2x8", "digits")
        'supervised, mlp-2x8 on digits'
    """
    return f"{task}, {arch} on {data}"


def lengths(table: pd.DataFrame) -> str:
    """Describe how long runs trained, method by method where lengths on a workload differ.

    Args:
        table: ``task arch data method epochs``.

    Returns:
        A sentence with a space before it; "" where no record states the epochs.

    Example:
        >>> row = ("supervised", "mlp", "mnist", "BP", 8.0)
        >>> lengths(pd.DataFrame([row], columns=[*WORK, "method", "epochs"]))
        ' Trained for 8 epochs.'
    """
    stated = table.dropna(subset=["epochs"])
    if stated.empty:
        return ""
    if stated.groupby(WORK)["epochs"].nunique().max() == 1:
        alike = ", equally long on each workload" * (stated["epochs"].nunique() > 1)
        return f" Trained for {span(stated['epochs'], 'epoch', 'epochs')}{alike}."
    parts = stated.groupby("method")["epochs"]
    texts = [
        f"{m} {span(parts.get_group(m), '', '').strip()}" for m in ordering.order(stated["method"])
    ]
    return f" Epochs differ: {', '.join(texts)}."


def listed(table: pd.DataFrame) -> str:
    """List the workloads of a table.

    Args:
        table: ``task arch data``.

    Returns:
        The workloads, separated by semicolons.

    Example:
        >>> listed(pd.DataFrame([("supervised", "mlp", "mnist")] * 2, columns=WORK))
        'supervised, mlp on mnist'
    """
    works = table[WORK].drop_duplicates().itertuples(index=False, name=None)
    return "; ".join(f"{task}, {arch} on {data}" for task, arch, data in works)


def trials(cell: Cell, chance: float) -> pd.DataFrame:
    """Tabulate the trainings of a cell that held examples out.

    Args:
        cell: of `fgbench.reporting.frames.results.cells`.
        chance: error of guessing, of `fgbench.reporting.frames.load.Records.chances`; NaN where it
            is unknown.

    Returns:
        A row per finished or diverged trial: ``epochs validation form lr seed error`` and ``setting``, which
        is all that may be searched and all else that decides a number, as text. The error is that of the
        held-out examples; for a diverged trial it is chance, or 1 where that is unknown.

    Example:
        >>> run = {"verb": "train", "status": "ok", "seed": 0, "test_error": 0.2}
        >>> run |= {"settings": {"validation": 100, "epochs": 2, "lr": 0.1}}
        >>> cell = Cell(Place(way_of("fg_a", "end"), "mlp-2x8", "digits", ""), (), (), (run,))
        >>> trials(cell, 0.9)[["epochs", "lr", "error"]].values.tolist()
        [[2.0, 0.1, 0.2]]
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


def joined(trained: pd.DataFrame, others: pd.DataFrame, records: Records) -> pd.DataFrame:
    """Join measurements or timings to trainings, by method, options, dtype, network and data.

    Args:
        trained: ``task arch data method`` and numbers of training, a row per configuration.
        others: rows of `fgbench.reporting.frames.load.Records.measures` or ``speeds``.
        records: the source of both.

    Returns:
        A row per pair, with all columns of both; ``bare`` is the data set with its options, without what
        `named` adds to it. Trainings on fewer examples are joined to the same measurement, whose batch has
        any size.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> records = Records(Path("."), (fg, {**fg, "verb": "speed", "step_ms": 2.0}), {}, ())
        >>> trained = finished(records)[[*WORK, "method", "final"]]
        >>> joined(trained, records.speeds(), records)[["method", "value", "final"]].values.tolist()
        [['FG-A', 2.0, 0.2]]
    """
    wanted: dict[tuple[Way, str, str, float, str], list[dict[str, str]]] = {}
    for cell in cells(records):
        runs = cell.reported.runs if cell.reported else ()
        for n, form in {(directions_of(run), form_of(run)) for run in runs}:
            way, arch, data, _ = cell.place
            one = any_directions(way), arch, data, n, form
            wanted.setdefault(one, []).append(named(cell.place))
    verbs = ("measure", "speed")
    counts = {row["key"]: directions_of(row) for verb in verbs for row in records.of(verb)}
    by = [*WORK, "method"]
    rows = []
    for at, row in others.iterrows():
        bare = str(row["data"])
        way = any_directions(way_of(str(row["estimator"]), str(row["locality"])))
        where = (way, str(row["arch"]), bare, counts[str(row["key"])], str(row["form"]))
        rows += [each | {"at": at, "bare": bare} for each in wanted.get(where, ())]
    places = pd.DataFrame(rows, columns=[*by, "at", "bare"])
    beside = places.join(others.drop(columns=["arch", "data", "method", "label"]), on="at")
    return beside.drop(columns="at").merge(trained, on=by)
