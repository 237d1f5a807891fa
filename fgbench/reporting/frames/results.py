"""The trainings that are results, by cell: method, task, network and data.

A cell may hold runs of many settings, of which one is reported. It is never picked by its test error:
it is the one that tuning on held-out examples chose; without tuning, the one with the most finished
seeds, then the most epochs, then the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from fgbench.records.metrics import shared_metric
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import Way, name_of, natural, way_of
from fgbench.reporting.frames.settings import decided, text

COLUMNS = (
    *("task", "method", "estimator", "base", "keep", "options", "arch", "data", "train_size"),
    *("key", "seed", "status", "epochs", "test_error", "train_error"),
    *("metric", "unit", "best", "test", "train"),
)

NUMBERS = ("test_error", "train_error", "test", "train")


class Place(NamedTuple):
    """The method, network and data of a cell, with their options; training size "" for all.

    Example:
        >>> Place(way_of("bp", "end"), "mlp-2x8", "synthetic[size=4]", "").dataset
        'synthetic'
    """

    way: Way
    arch: str
    data: str
    train_size: str

    @property
    def dataset(self) -> str:
        """Return the data set without its options, such as the folder of its files."""
        return self.data.partition("[")[0]


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seeds alone.

    Args:
        settings: everything else that decides their numbers, as text.
        runs: one record per seed, the latest, by seed.

    Example:
        >>> runs = {"seed": 0, "status": "ok", "test_error": 0.1}, {"seed": 1, "status": "diverged"}
        >>> Group({"lr": "0.1"}, runs).percent("test_error").to_dict()
        {0: 10.0}
    """

    settings: Mapping[str, str]
    runs: tuple[Mapping[str, Any], ...]

    @property
    def done(self) -> list[Mapping[str, Any]]:
        """Return the finished runs."""
        return [run for run in self.runs if run["status"] == "ok"]

    def percent(self, name: str) -> pd.Series:
        """Return an error of the finished runs in percent, by seed."""
        errors = {run["seed"]: run.get(name) for run in self.done}
        return 100 * pd.Series(errors, dtype=float).dropna()


@dataclass(frozen=True)
class Cell:
    """Everything trained and tuned for one method on one network and data set.

    Args:
        place: the method, network and data.
        groups: runs by setting.
        tunings: tune records, the latest last.
        trials: train records on held-out examples.

    Example:
        >>> place = Place(way_of("fg_a", "end"), "mlp-2x8", "digits", "")
        >>> Cell(place, (), (), ()).method
        'FG-A'
    """

    place: Place
    groups: tuple[Group, ...]
    tunings: tuple[Mapping[str, Any], ...]
    trials: tuple[Mapping[str, Any], ...]

    @property
    def method(self) -> str:
        """Return the method's preset, else its estimator and locality."""
        return name_of(self.place.way)

    @property
    def tuning(self) -> Mapping[str, Any] | None:
        """Return the tune record whose choice is reported, None where there is none."""
        fits = [tune for tune in self.tunings if any(_chosen(tune, g) for g in self.groups)]
        return fits[-1] if fits else None

    @property
    def reported(self) -> Group | None:
        """Return the runs that are this cell's result; None where only trials were run."""
        tuning = self.tuning
        among = [g for g in self.groups if tuning is None or _chosen(tuning, g)]
        return max(among, key=_weight, default=None)


def cells(records: Records) -> list[Cell]:
    """Group trainings, trials and tunings into cells.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        The cells in the order of their places.

    Example:
        >>> from pathlib import Path
        >>> cells(Records(Path("empty"), (), {}, ()))
        []
    """
    parts: dict[Place, dict[str, list[dict[str, Any]]]] = {}
    for verb in ("train", "trial", "tune"):
        for row in records.of(verb):
            parts.setdefault(_place(row), {}).setdefault(verb, []).append(row)
    ordered = []
    for place, rows in sorted(
        parts.items(), key=lambda part: [*map(natural, (*part[0].way, *part[0][1:]))]
    ):
        tunes = sorted(rows.get("tune", ()), key=lambda r: (str(r.get("started")), r["key"]))
        trials = tuple(rows.get("trial", ()))
        ordered.append(Cell(place, tuple(_groups(rows.get("train", ()))), tuple(tunes), trials))
    return ordered


def results(records: Records) -> pd.DataFrame:
    """Tabulate the runs that are results.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        A row per run of every cell's reported setting, with columns `COLUMNS`; errors are fractions, NaN
        where a run did not finish. ``test`` and ``train`` are the main ``metric`` as in the record.

    Example:
        >>> from pathlib import Path
        >>> len(results(Records(Path("empty"), (), {}, ())))
        0
    """
    rows = []
    for cell in cells(records):
        place, group = cell.place, cell.reported
        metric = shared_metric(group.runs if group else ())
        for run in group.runs if group else ():
            where = [cell.method, *place.way[:1], *place.way[2:], *place[1:]]
            names = [*COLUMNS[9:15], *map(metric.field, ("test", "train"))]
            numbers = [run.get(name) for name in names]
            numbers[6:6] = metric[:3]
            rows.append([place.way.task, *where, *numbers])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(NUMBERS, float))


def _place(row: Mapping[str, Any]) -> Place:
    """Return the place of the cell that a record belongs to."""
    settings = row.get("settings")
    size = settings.get("train_size") if isinstance(settings, Mapping) else None
    way = way_of(str(row["estimator"]), str(row["locality"]))
    return Place(way, str(row["arch"]), str(row["data"]), "" if size is None else str(size))


def _groups(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Group runs that differ by their seeds alone, keeping the latest of each seed."""
    groups: dict[tuple[tuple[str, str], ...], dict[Any, Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (str(row.get("started")), str(row["key"]))):
        settings = {**decided(row), "data": str(row["data"])}
        groups.setdefault(tuple(sorted(settings.items())), {})[row["seed"]] = row
    return [
        Group(dict(settings), tuple(runs[seed] for seed in sorted(runs, key=_by_number)))
        for settings, runs in sorted(groups.items(), key=natural)
    ]


def _by_number(seed: object) -> tuple[int, str]:
    """Return a sort key that puts seed 2 before seed 10."""
    return len(str(seed)), str(seed)


def _chosen(tuning: Mapping[str, Any], group: Group) -> bool:
    """Check whether runs use what a tuning chose."""
    chosen = tuning.get("chosen")
    if not isinstance(chosen, Mapping) or not chosen:
        return False
    return all(group.settings.get(name) == text(value) for name, value in chosen.items())


def _weight(group: Group) -> tuple[int, float, str]:
    """Return the sort key of a setting: finished seeds, epochs, time of its latest run."""
    epochs = max((float(run.get("epochs") or 0) for run in group.runs), default=0.0)
    return len(group.done), epochs, max(str(run.get("started")) for run in group.runs)


def spread(groups: Sequence[Group]) -> list[str]:
    """Describe each group by its rate, its epochs and the settings in which the groups differ.

    Args:
        groups: to be told apart.

    Returns:
        A text for each group.

    Example:
        >>> spread([Group({"lr": "0.1"}, ()), Group({"lr": "0.3", "seed": "1"}, ())])
        ['lr=0.1', 'lr=0.3, seed=1']
    """
    names = {name for group in groups for name in group.settings}
    vary = {n for n in names if len({group.settings.get(n) for group in groups}) > 1}
    shown = sorted(vary | {"lr", "epochs"})
    return [
        ", ".join(f"{n}={group.settings[n]}" for n in shown if n in group.settings)
        for group in groups
    ]
