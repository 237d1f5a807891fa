"""Records of a folder as tidy tables: one row per number, its interval, its n and its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.analysis.methods import called
from fgbench.errors import UsageError
from fgbench.record import FIELDS, SCHEMA, Store
from fgbench.registry import split_options

QUANTITIES = (
    *("efficiency", "efficiency_debiased", "efficiency_per_forward", "relative_variance"),
    *("bias", "scale", "cosine", "cosine_draws", "expected_cosine", "locality_gap"),
)
PARTS = (
    "batch_variance",
    "perturbation_variance",
    "perturbation_over_batch",
    "directions_for_parity",
)
"""Quantities of the split of a variance."""
COSTS = ("step_ms", "ratio_to_bp", "peak_mb", "peak_ratio_to_bp")
RUN = (
    *("key", "method", "label", "estimator", "locality", "arch", "data", "seed", "status"),
    *("device", "form"),
)
SET = ("directions", "moments", "truth", "engine", "epochs", "batch", "device")
UNSTATED = {"along": "backprop", "dtype": "float32"}
"""What a setting is in records that are older than it."""
VERBS = ("train", "measure", "speed")
"""Whose records are one result per seed and setting."""
MEASURED = ("value", "low", "high", "n")
TESTED = ("p_value", "p_adjusted", "detectable")
MEASURES = (
    *(*RUN, "draws", "directions", "inits", "moments", "batches", "batch", "elements", "engine"),
    *("truth", "forwards", "along", "place"),
    *("quantity", *MEASURED, "predicted", *TESTED, "heavy_tail", "distance"),
)
ALONG = (*MEASURES, "moment", "step", "trajectory")
CURVES = (*RUN, "chance", "epoch", "split", "error", "loss", "seconds", "passes")
FUSIONS = (
    *(
        *RUN,
        "patches",
        "channels",
        "classes",
        "batch",
        "pass",
        "implementation",
        "groups",
        "reason",
    ),
    *("ms", "ms_low", "ms_high", "n", "peak_mb", "time_ratio", "memory_ratio", "difference"),
)
SPEEDS = (*RUN, "batch", "directions", "quantity", *MEASURED)


@dataclass(frozen=True)
class Records:
    """What a folder of records holds.

    Args:
        folder: where they lie.
        rows: the records, in the order of the file names; a method that is a preset goes by its name,
            whatever was typed.
        damaged: file name -> why it could not be read as a record.
        notes: what is old or missing in those that could, a line each.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    damaged: Mapping[str, str]
    notes: tuple[str, ...]

    def kept(self, rows: Sequence[dict[str, Any]]) -> Records:
        """Keep some of the records, and what is to be said of these."""
        return Records(self.folder, tuple(rows), self.damaged, tuple(_notes(rows)))

    def of(self, verb: str) -> list[dict[str, Any]]:
        """Pick the records of one verb that count.

        Of several runs of one case (same ``case_key``, edited code), or of one seed and settings
        under two keys, only the latest does: two would pass for two seeds. A training that held
        examples out is a trial of a setting: its test error is that of these examples, and no result.

        Args:
            verb: such as "train", without trials, or "trial".

        Returns:
            The records, each with the ``label`` that tells its settings from the others', and the
            ``form`` of `form_of`.
        """
        latest = _latest(self.rows)
        blank = {**dict.fromkeys(RUN, ""), "seed": nan}  # an old record may lack some
        chosen = [
            {**blank, "key": f"row {at}", **row}
            for at, row in enumerate(self.rows)
            if verb_of(row) == verb and at in latest
        ]
        return [
            {**row, "label": label, "form": form_of(row)}
            for row, label in zip(chosen, labels(chosen), strict=True)
        ]

    def measures(self) -> pd.DataFrame:
        """Tabulate what was measured.

        Returns:
            A row per record, place ("all" or a site) and quantity, with columns `MEASURES`;
            ``predicted`` belongs to ``relative_variance``, ``p_value``, ``p_adjusted`` (over sites)
            and ``detectable`` to ``bias``; ``forwards`` is what an estimate costs in forward
            equivalents; ``distance`` counts the modules between a site and its nearest loss.
            Quantities a record lacks have no row; a null in it is NaN.
        """
        return _frame(_measure_rows(self.of("measure")), MEASURES)

    def along(self) -> pd.DataFrame:
        """Tabulate what was measured moment by moment along training.

        Returns:
            As of `measures`, a row per moment as well, with columns `ALONG`: ``moment`` in epochs and
            ``step`` of the ``trajectory``. A record of several moments that does not keep them apart,
            as older ones do not, has no row.
        """
        return _frame(_measure_rows(_moments(self.of("measure"))), ALONG)

    def chances(self) -> dict[tuple[str, str], float]:
        """Find the error of guessing on each network and data.

        Returns:
            Network and data to 1 − 1/classes, where a training tells them; older ones do not.
        """
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            if row["verb"] == "train" and (classes := _float(row.get("classes"))) > 0:
                found[_network(row)] = max(found.get(_network(row), 0.0), 1 - 1 / classes)
        return found

    def curves(self) -> pd.DataFrame:
        """Tabulate training.

        Returns:
            A row per run, epoch and split, with columns `CURVES`; splits are "train", "test" and
            what else has a loss of its own, such as "contrastive" for ``contrastive_loss``. Errors
            are fractions, ``seconds`` count from the start of training, ``passes`` are forward
            equivalents spent since then, each over the whole training set, ``chance`` is the error of
            guessing on this network and data (NaN where no training tells the number of classes).
        """
        return _frame(_curve_rows(self.of("train"), self.chances()), CURVES)

    def speeds(self) -> pd.DataFrame:
        """Tabulate time and memory.

        Returns:
            A row per record and quantity of `COSTS`, with columns `SPEEDS`.
        """
        rows = (
            {**row, "quantity": name, **number(row[name])}
            for row in self.of("speed")
            for name in COSTS
            if name in row
        )
        return _frame(rows, SPEEDS)

    def fusions(self) -> pd.DataFrame:
        """Tabulate replicated and fused losses.

        Returns:
            A row per record, pass, implementation and number of groups, with columns `FUSIONS`; what
            was skipped has NaN and a ``reason``.
        """
        return _frame(_fusion_rows(self.of("fusion")), FUSIONS)


def load(folder: Path) -> Records:
    """Read a folder of records.

    Args:
        folder: as written by `fgbench.record.Store`.

    Returns:
        Everything readable; the rest is named in ``damaged`` and ``notes``.

    Raises:
        UsageError: the folder does not exist or holds no record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of records, got {str(folder)!r}: no such folder")
    store = Store(folder)
    rows = tuple(_one_name(_readable(row)) for row in store.all())
    if not rows:
        first = next((f" ({name}: {why})" for name, why in store.damaged.items()), "")
        raise UsageError(f"no readable record in {str(folder)!r}{first}; write some with -o")
    return Records(folder, rows, dict(store.damaged), tuple(_notes(rows)))


def _readable(value: Any) -> Any:
    """Replace halves of characters, which JSON can hold and no file or figure."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_readable(name): _readable(part) for name, part in value.items()}
    return [_readable(part) for part in value] if isinstance(value, list) else value


def _one_name(row: dict[str, Any]) -> dict[str, Any]:
    """Give a record's method the one name it has in every table and figure."""
    return {**row, "method": called(str(row["method"]))} if row.get("method") else row


def number(found: object) -> dict[str, float]:
    """Read a measured number, or a bare one without an interval, as its four columns."""
    if not isinstance(found, Mapping):
        found = {"value": found}
    return {name: _float(found.get(name)) for name in MEASURED}


def verb_of(row: Mapping[str, Any]) -> str:
    """Name what a record is of: its verb, or "trial" for a training that held examples out."""
    held = _mapping(row, "settings").get("validation")
    return "trial" if row["verb"] == "train" and held else str(row["verb"])


def settings_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Flatten all that a user set for a run, as text by name; what is None was not set."""
    found = {name: row[name] for name in SET if name in row} | {"dtype": _where(row, "dtype")}
    options, settings = (_mapping(row, part) for part in ("options", "settings"))
    found |= {f"option {k}" if k in settings else k: v for k, v in options.items()} | {**settings}
    stated = {k: v for k, v in found.items() if v is not None and UNSTATED.get(k) != v}
    return {name: text(value) for name, value in stated.items() if name != "seed"}


def decided(row: Mapping[str, Any]) -> dict[str, str]:
    """Flatten what decides a run's numbers, its seed and its code apart; of a time also the threads."""
    told = ("data_fingerprint", *(["threads"] * (row["verb"] == "speed")))
    where = {name: _where(row, name) for name in told}
    return settings_of(row) | {
        name: text(value) for name, value in where.items() if value is not None
    }


def directions_of(row: Mapping[str, Any]) -> float:
    """Read the directions of an estimate: bought, or stated by the method; 1 where nothing says so."""
    if (set_to := _option(row)) > 0:
        return set_to
    try:
        return float(split_options(str(row["estimator"]))[1].get("directions", 1))
    except (UsageError, ValueError):  # a record of something else
        return 1.0


def form_of(row: Mapping[str, Any]) -> str:
    """Write what tells estimates of one method apart, its directions aside: all other options, and the dtype.

    Args:
        row: a record of any verb.

    Returns:
        Such as ``credit=summed; law=gaussian``. Records whose forms differ are never seeds, points or joins
        of one thing.
    """
    found = {**_mapping(row, "options"), "dtype": _where(row, "dtype")}
    stated = {k: text(v) for k, v in found.items() if v is not None and UNSTATED.get(k) != v}
    return "; ".join(f"{k}={v}" for k, v in sorted(stated.items()) if k != "directions")


def read_form(form: str) -> dict[str, str]:
    """Read name and value of every part of what `form_of` wrote."""
    return dict(part.split("=", 1) for part in form.split("; ") if part)


def _bought(row: Mapping[str, Any]) -> bool:
    """Say whether a fixed cost decided the directions of a record."""
    return bool(row.get("budget")) and _option(row) > 0


def _option(row: Mapping[str, Any]) -> float:
    """Read the directions among a record's options; NaN where there are none."""
    return _float(_mapping(row, "options").get("directions"))


def _where(row: Mapping[str, Any], name: str) -> object:
    """Read a fact of the machine, the numbers or the data that a record was made with."""
    return _mapping(row, "where").get(name)


def _mapping(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read a part of a record that has names; an old or odd record may have none."""
    found = row.get(name)
    return found if isinstance(found, Mapping) else {}


def labels(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name each run by its method, with the settings in which runs of this method differ.

    Args:
        rows: records of one verb.

    Returns:
        ``method`` where all its runs on this architecture and data were set alike, else
        ``method, name=value, ...`` with just the settings that vary; ``method[directions=n]`` where a
        fixed cost bought the directions.
    """
    rows = list(rows)
    names = [named(row) for row in rows]
    subjects = [(*_subject(row)[1:], name) for row, name in zip(rows, names, strict=True)]
    told = apart(subjects, [decided(row) for row in rows])
    return [", ".join([name, *parts]) for name, parts in zip(names, told, strict=True)]


def apart(subjects: Iterable[Hashable], settings: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """Say in which settings things of one subject differ: the rule of all labels.

    Args:
        subjects: what each is of, such as its method, network and data.
        settings: name to text, of each.

    Returns:
        Of each its ``name=value`` for just the names whose values vary among those of its subject; where
        it has none of them, nothing.
    """
    pairs = list(zip(subjects, settings, strict=True))
    seen: dict[Hashable, list[Mapping[str, str]]] = {}
    for subject, mine in pairs:
        seen.setdefault(subject, []).append(mine)
    varying = {
        subject: [n for n in sorted(set().union(*alike)) if len({s.get(n) for s in alike}) > 1]
        for subject, alike in seen.items()
    }
    return [[f"{n}={mine[n]}" for n in varying[subject] if n in mine] for subject, mine in pairs]


def named(row: Mapping[str, Any]) -> str:
    """Name the method of a record, with the directions that a fixed cost bought for it."""
    return called(str(row["method"]), f"{directions_of(row):g}" if _bought(row) else "")


def _subject(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Give what runs have in common that differ by seed and settings."""
    return str(row["method"]), str(row.get("arch")), str(row.get("data"))


def text(value: object) -> str:
    """Write a setting on one line."""
    if isinstance(value, list | tuple):
        return " ".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _float(value: object) -> float:
    """Read a number; anything else is NaN."""
    return float(value) if isinstance(value, int | float) else nan


def _count(value: object) -> float:
    """Read a count, or count a list."""
    return float(len(value)) if isinstance(value, list) else _float(value)


def _forwards(record: Mapping[str, Any]) -> float:
    """Read the mean cost of a step or an estimate, in forward equivalents of its batch."""
    return _float(_mapping(record, "cost").get("forward_equivalents"))


def _frame(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Make a table with exactly these columns."""
    return pd.DataFrame([[row.get(name) for name in columns] for row in rows], columns=columns)


def _moments(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Go through the moments of measure records, each as a record of that moment alone."""
    for record in records:
        when, along = record.get("moments"), record.get("per_moment")
        if isinstance(when, list) and len(when) == 1:
            steps = record.get("moment_steps")
            first = steps[0] if isinstance(steps, list) and steps else None
            along = [{"moment": when[0], "steps": first}]
        for found in along if isinstance(along, list) else []:
            moment, step = (_float(found.get(name)) for name in ("moment", "steps"))
            yield {**record, **found, "moments": [moment], "moment": moment, "step": step}


def _measure_rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Go through the numbers of measure records: whole body first, then site by site."""
    for record in records:
        names = ("draws", "inits", "batches", "batch", "elements")
        counts = {name: _count(record.get(name)) for name in names}
        common = {**record, **counts, "moments": text(record.get("moments", ""))}
        common |= {"forwards": _forwards(record), "along": settings_of(record).get("along", "")}
        sites = record.get("per_site")
        places = {"all": record} | (sites if isinstance(sites, dict) else {})
        for place, found in places.items():
            if isinstance(found, dict) and isinstance(split := found.get("split"), dict):
                found = {**found, **split}
            for name in (*QUANTITIES, *PARTS):
                if not isinstance(found, dict) or name not in found:
                    continue
                row = {**common, "place": place, "quantity": name, **number(found[name])}
                row |= dict.fromkeys(("predicted", *TESTED), nan)
                row |= {"heavy_tail": bool(found.get("heavy_tail"))}
                row |= {"distance": _float(found.get("distance"))}
                if name == "relative_variance":
                    row["predicted"] = number(found.get("predicted_variance"))["value"]
                if name == "bias" and isinstance(found[name], dict):
                    row |= {n: _float(found[name].get(n)) for n in TESTED}
                yield row


def _curve_rows(
    records: Iterable[dict[str, Any]], chances: Mapping[tuple[str, str], float]
) -> Iterator[dict[str, Any]]:
    """Go through the epochs of train records: two splits each, and other losses there are."""
    for record in records:
        history = record.get("history")
        points = history if isinstance(history, list) else []
        for point in points:
            if not (isinstance(point, dict) and isinstance(point.get("epoch"), int | float)):
                continue
            others = [name.removesuffix("_loss") for name in point if name.endswith("_loss")]
            for split in dict.fromkeys(("train", "test", *others)):
                yield {
                    **record,
                    "chance": chances.get(_network(record), nan),
                    "epoch": point.get("epoch"),
                    "split": split,
                    "error": _float(point.get(f"{split}_error")),
                    "loss": _float(point.get(f"{split}_loss")),
                    "seconds": _float(point.get("seconds")),
                    "passes": _float(point.get("epoch")) * _forwards(record),
                }


def _fusion_rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Go through the rows of fusion records; a ratio of times is its median."""
    for record in records:
        rows = record.get("rows")
        for row in rows if isinstance(rows, list) else []:
            ms = number(row.get("ms"))
            numbers = {"ms": ms["value"], "ms_low": ms["low"], "ms_high": ms["high"], "n": ms["n"]}
            numbers["time_ratio"] = number(row.get("time_ratio"))["value"]
            for name in ("peak_mb", "memory_ratio", "difference"):
                numbers[name] = _float(row.get(name))
            yield {**record, **row, **numbers}


def _latest(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Number the rows that no later run of the same case, or of the same seed and settings, replaces."""
    keys: dict[str, int] = {}
    for at in sorted(range(len(rows)), key=lambda at: str(rows[at].get("started"))):
        keys[str(rows[at].get("case_key", f"row {at}"))] = at
    found: dict[object, int] = {}
    for at in keys.values():
        row = rows[at]
        alike = (
            verb_of(row),
            *_subject(row),
            str(row.get("seed", at)),
            *sorted(decided(row).items()),
        )
        found[alike if row["verb"] in VERBS else at] = at
    return set(found.values())


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is old or missing, with the number of records it concerns."""
    found: Counter[str] = Counter()
    latest = _latest(rows)
    everywhere: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        everywhere.setdefault(_network(row), set()).update(_sites(row) or ())
    for at, row in enumerate(rows):
        verb = str(row["verb"])
        if at not in latest:
            found[f"{verb}: not used, there is a later run of the same case"] += 1
        if row["schema"] != SCHEMA:
            found[f"{verb}: schema {row['schema']}, this version writes {SCHEMA}"] += 1
        sites, measured = everywhere[_network(row)], verb == "measure" and row["status"] == "ok"
        if measured and (lost := len(sites - set(_sites(row) or ()))):
            found[f"{verb}: {lost} of the {len(sites)} sites of {row.get('arch')} missing"] += 1
        names = FIELDS["all"] + (FIELDS.get(verb, ()) if row["status"] == "ok" else ())
        if missing := [name for name in names if name not in row]:
            found[f"{verb}: without {', '.join(missing)}"] += 1
    return [f"{n} record{'s' if n > 1 else ''} of {text}" for text, n in sorted(found.items())]


def _network(row: Mapping[str, Any]) -> tuple[str, str]:
    """Name what the sites of a record are of."""
    return str(row.get("arch")), str(row.get("data"))


def _sites(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the numbers of every site, where a record has some."""
    found = row.get("per_site")
    return found if isinstance(found, Mapping) else None
