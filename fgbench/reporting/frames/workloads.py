"""Workloads (a task, a network and data) on which methods are compared, and the runs that are results."""

from __future__ import annotations

from math import isnan, nan

import pandas as pd

from fgbench.records.metrics import ERROR, Shown, shared_metric
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import Way, any_directions, plain, setting, way_of
from fgbench.reporting.frames.metric_columns import ABOUT, metrics_in, with_metric
from fgbench.reporting.frames.results import Cell, Place, cells
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.frames.settings import decided, directions_of, form_of, real, settings_of

WORK = ["task", "arch", "data"]
JUDGED = [*WORK, "metric"]
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
    """Tabulate the main test metric of reported trainings, finished or diverged, epoch by epoch.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Rows of `fgbench.reporting.frames.load.Records.curves` on test examples, with ``task``, with ``arch``,
        ``data`` and ``method`` as `named`, and with the ``epochs`` asked for. ``error`` is the main metric as
        in the record (of classification the error, as a fraction), ``metric unit best`` say which. ``chance``
        is 1 where no record states it; of another metric than the error it is then the worst result of a run
        after an epoch. ``final`` is the result at a run's last epoch; for a diverged run it is chance.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> finished(Records(Path("."), (fg,), {}, ()))[["task", "method", "final"]].values.tolist()
        [['supervised', 'FG-A', 0.2]]
    """
    curves = records.curves()
    curves = curves[curves["split"].eq("test") & curves["status"].isin(["ok", "diverged"])]
    curves = _in_record_units(curves)
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
    table = _with_chance(table)
    last = table.groupby("key")["error"].transform("last")
    lost = table["status"].eq("diverged") | last.isna()
    table = table.assign(final=last.where(~lost, table["chance"]))
    return ordering.arranged(table, [*WORK, "method", "seed", "epoch"])


def _in_record_units(curves: pd.DataFrame) -> pd.DataFrame:
    """Return curves whose ``error`` and ``chance`` are those of the main metric, as in the record."""
    table = with_metric(curves)
    others = table["metric"].ne(ERROR.name)
    factor = table["unit"].map(lambda unit: Shown("", str(unit)).factor).astype(float)
    numbers = (("error", "value"), ("chance", "level"))
    scaled = {n: pd.to_numeric(table[of]) / factor for n, of in numbers}
    return table.assign(**{n: table[n].where(~others, scaled[n]).astype(float) for n, _ in numbers})


def _with_chance(table: pd.DataFrame) -> pd.DataFrame:
    """Return curves with a level of chance on every workload."""
    sign = table["best"].eq("high").map({True: -1.0, False: 1.0}).astype(float)
    worst = sign * (sign * table["error"]).groupby([table[name] for name in JUDGED]).transform(
        "max"
    )
    errors = table["metric"].eq(ERROR.name)
    stand_in = worst.where(~errors, 1.0)
    return table.assign(chance=table["chance"].fillna(stand_in))


def chance_words(table: pd.DataFrame) -> str:
    """Describe what stands for a level of chance that records do not state, "" for errors alone.

    Args:
        table: with the columns of the metric, or of errors.

    Returns:
        A sentence with a space before it.

    Example:
        >>> chance_words(pd.DataFrame())
        ''
    """
    if all(metric.name == ERROR.name for metric in metrics_in(table)):
        return ""
    return (
        " Where records do not state the chance level of a metric, the worst result that a run of the "
        "workload has after an epoch stands for it."
    )


def unstated_chance(table: pd.DataFrame) -> str:
    """Describe what stands for chance where records do not state it, "" where all do.

    Args:
        table: ``chance``, and the columns of the metric where it is not always the error.

    Returns:
        Sentences with a space before them.

    Example:
        >>> unstated_chance(pd.DataFrame({"chance": [0.9]}))
        ''
    """
    table = with_metric(table)
    errors = table["metric"].eq(ERROR.name)
    unknown = bool((table["chance"] == 1)[errors].any())
    return " Chance is 100 % where records do not state it." * unknown + chance_words(table)


def suites(table: pd.DataFrame) -> pd.DataFrame:
    """Group workloads with one metric on which the same methods ran into suites, whose results compare.

    Args:
        table: ``task arch data method``, and ``metric`` where there are several.

    Returns:
        The table with ``suite``, the number of a workload's suite, from 1 in the order of the rows.

    Example:
        >>> rows = [("supervised", "mlp", data, "BP") for data in ("mnist", "digits")]
        >>> suites(pd.DataFrame(rows, columns=[*WORK, "method"]))["suite"].tolist()
        [1, 1]
    """
    table = with_metric(table)
    ran = {work: (work[-1], *sorted(set(part["method"]))) for work, part in table.groupby(JUDGED)}
    numbers: dict[tuple[str, ...], int] = {}
    suite = [
        numbers.setdefault(ran[work], len(numbers) + 1)
        for work in table[JUDGED].itertuples(index=False, name=None)
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
    others = [metric.words for metric in metrics_in(runs) if metric.name != ERROR.name]
    what = ", ".join(["", *others])
    if len(works) > 1:
        return f"suite {suite}: {len(works)} workloads{what}"
    return f"suite {suite}: {title(*works[0])}{what}"


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
        is all that may be searched and all else that decides a number, as text. The error is the main metric,
        ``metric unit best``, of the held-out examples, as in the record; for a diverged trial it is chance.
        Where that is unknown it is 1, of another metric than the error the worst result of the cell.

    Example:
        >>> run = {"verb": "train", "status": "ok", "seed": 0, "test_error": 0.2}
        >>> run |= {"settings": {"validation": 100, "epochs": 2, "lr": 0.1}}
        >>> cell = Cell(Place(way_of("fg_a", "end"), "mlp-2x8", "digits", ""), (), (), (run,))
        >>> trials(cell, 0.9)[["epochs", "lr", "error"]].values.tolist()
        [[2.0, 0.1, 0.2]]
    """
    rows = []
    runs = [run for run in cell.trials if run["status"] in ("ok", "diverged")]
    metric = shared_metric(runs)
    if metric.name != ERROR.name:
        results = [real(run.get(metric.field())) for run in runs if run["status"] == "ok"]
        worst = max(
            (r for r in results if not isnan(r)), key=lambda r: metric.sign * r, default=nan
        )
        chance = worst if metric.chance is None else metric.chance
    for run in runs:
        given = decided(run)
        error = run.get(metric.field())
        if run["status"] == "diverged" or error is None:
            error = 1.0 if isnan(chance) and metric.name == ERROR.name else chance
        searched = {name: given[name] for name in sorted(given) if name not in HELD}
        facts = {name: run["settings"].get(name) for name in (*HELD, "lr")}
        facts |= {"form": form_of(run), "seed": run["seed"], "error": error}
        facts |= dict(zip(ABOUT, metric[:3], strict=True))
        rows.append({**facts, "setting": str(searched)})
    columns = [*HELD, "form", "lr", "seed", "error", "setting", *ABOUT]
    return pd.DataFrame(rows, columns=columns).dropna(subset=["error"])


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
