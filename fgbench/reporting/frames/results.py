"""Which runs are results: trainings by cell (method, task, network, data), and the setting reported.

A cell may hold runs of many settings. The one reported is never picked by its test error: it is the
one that tuning on held-out examples chose; without tuning, the one with the most finished seeds, then
the most epochs, then the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import Way, name_of, natural, way_of
from fgbench.reporting.frames.settings import decided, text

COLUMNS = (
    *("task", "method", "estimator", "base", "keep", "options", "arch", "data", "train_size"),
    *("key", "seed", "status", "epochs", "test_error", "train_error"),
)


class Place(NamedTuple):
    """A method on a network and data, with their options; training size "" for all."""

    way: Way
    arch: str
    data: str
    train_size: str

    @property
    def dataset(self) -> str:
        """The data set without its options, such as the folder where it lies."""
        return self.data.partition("[")[0]


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seeds alone.

    Args:
        settings: everything else that decides their numbers, as text.
        runs: one record per seed, the latest, by seed.
    """

    settings: Mapping[str, str]
    runs: tuple[Mapping[str, Any], ...]

    @property
    def done(self) -> list[Mapping[str, Any]]:
        """The finished ones."""
        return [run for run in self.runs if run["status"] == "ok"]

    def percent(self, name: str) -> pd.Series:
        """Return an error of the finished runs in percent, by seed."""
        found = {run["seed"]: run.get(name) for run in self.done}
        return 100 * pd.Series(found, dtype=float).dropna()


@dataclass(frozen=True)
class Cell:
    """All there is of one method on a network and data.

    Args:
        place: which.
        groups: runs by setting.
        tunings: tune records, the latest last.
        trials: train records on held-out examples.
    """

    place: Place
    groups: tuple[Group, ...]
    tunings: tuple[Mapping[str, Any], ...]
    trials: tuple[Mapping[str, Any], ...]

    @property
    def method(self) -> str:
        """The preset of this name in the paper, else estimator and locality."""
        return name_of(self.place.way)

    @property
    def tuning(self) -> Mapping[str, Any] | None:
        """The tune record whose choice is reported, if there is one."""
        fits = [tune for tune in self.tunings if any(_chosen(tune, g) for g in self.groups)]
        return fits[-1] if fits else None

    @property
    def reported(self) -> Group | None:
        """The runs that are this cell's result; None where nothing but trials was run."""
        tuning = self.tuning
        among = [g for g in self.groups if tuning is None or _chosen(tuning, g)]
        return max(among, key=_weight, default=None)


def cells(records: Records) -> list[Cell]:
    """Sort everything trained and tuned into cells.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        The cells in the order of their places.
    """
    parts: dict[Place, dict[str, list[dict[str, Any]]]] = {}
    for verb in ("train", "trial", "tune"):
        for row in records.of(verb):
            parts.setdefault(_place(row), {}).setdefault(verb, []).append(row)
    found = []
    for place, rows in sorted(
        parts.items(), key=lambda part: [*map(natural, (*part[0].way, *part[0][1:]))]
    ):
        tunes = sorted(rows.get("tune", ()), key=lambda r: (str(r.get("started")), r["key"]))
        trials = tuple(rows.get("trial", ()))
        found.append(Cell(place, tuple(_groups(rows.get("train", ()))), tuple(tunes), trials))
    return found


def results(records: Records) -> pd.DataFrame:
    """Tabulate the runs that are results.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        A row per run of every cell's reported setting, with columns `COLUMNS`; errors are
        fractions, NaN where a run did not finish.
    """
    rows = []
    for cell in cells(records):
        place, group = cell.place, cell.reported
        for run in group.runs if group else ():
            where = [cell.method, *place.way[:1], *place.way[2:], *place[1:]]
            numbers = [run.get(name) for name in COLUMNS[9:]]
            rows.append([place.way.task, *where, *numbers])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"test_error": float, "train_error": float})


def _place(row: Mapping[str, Any]) -> Place:
    """Say which cell a record belongs to."""
    settings = row.get("settings")
    size = settings.get("train_size") if isinstance(settings, Mapping) else None
    way = way_of(str(row["estimator"]), str(row["locality"]))
    return Place(way, str(row["arch"]), str(row["data"]), "" if size is None else str(size))


def _groups(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Put runs together that differ by their seeds alone, the latest of each seed."""
    found: dict[tuple[tuple[str, str], ...], dict[Any, Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (str(row.get("started")), str(row["key"]))):
        settings = {**decided(row), "data": str(row["data"])}
        found.setdefault(tuple(sorted(settings.items())), {})[row["seed"]] = row
    return [
        Group(dict(settings), tuple(runs[seed] for seed in sorted(runs, key=_by_number)))
        for settings, runs in sorted(found.items(), key=natural)
    ]


def _by_number(seed: object) -> tuple[int, str]:
    """Sort 2 before 10."""
    return len(str(seed)), str(seed)


def _chosen(tuning: Mapping[str, Any], group: Group) -> bool:
    """Say whether runs use what a tuning chose."""
    chosen = tuning.get("chosen")
    if not isinstance(chosen, Mapping) or not chosen:
        return False
    return all(group.settings.get(name) == text(value) for name, value in chosen.items())


def _weight(group: Group) -> tuple[int, float, str]:
    """Order settings by finished seeds, epochs and time."""
    epochs = max((float(run.get("epochs") or 0) for run in group.runs), default=0.0)
    return len(group.done), epochs, max(str(run.get("started")) for run in group.runs)


def spread(groups: Sequence[Group]) -> list[str]:
    """Name each group by its rate, its epochs and the settings in which these groups differ."""
    names = {name for group in groups for name in group.settings}
    vary = {n for n in names if len({group.settings.get(n) for group in groups}) > 1}
    shown = sorted(vary | {"lr", "epochs"})
    return [
        ", ".join(f"{n}={group.settings[n]}" for n in shown if n in group.settings)
        for group in groups
    ]
