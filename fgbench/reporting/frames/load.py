"""Records of a folder as tidy tables: one row per number, its interval, its n and its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.errors import UsageError
from fgbench.records.labels import shown
from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.records.store import Store
from fgbench.reporting.frames.method_names import called
from fgbench.reporting.frames.settings import (
    decided,
    design_of,
    form_of,
    labels,
    part_of,
    real,
    settings_of,
    subject_of,
    text,
)
from fgbench.stats.reporting import off_scale

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
VERBS = ("train", "measure", "speed")
"""Whose records are one result per seed and setting."""
MEASURED = ("value", "low", "high", "n")
TESTED = ("p_value", "p_adjusted", "detectable", "draws_low", "draws_high")
MEASURES = (
    *(*RUN, "draws", "directions", "inits", "moments", "batches", "batch", "elements", "engine"),
    *("truth", "forwards", "along", "design", "place"),
    *("quantity", *MEASURED, "predicted", *TESTED, "heavy_tail", "unscaled", "distance"),
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
            whatever was typed, and an estimator from a file by its class: see `fgbench.records.labels.shown`.
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
            ``predicted`` belongs to ``relative_variance``, ``p_value``, ``p_adjusted`` (over sites),
            ``detectable`` and the interval over draws to ``bias``; ``forwards`` is what an estimate costs
            in forward equivalents; ``unscaled`` is the scale, where it is surely not 1 and variances are not
            comparable; ``design`` is of `fgbench.reporting.frames.settings.design_of`;
            ``distance`` counts the
            modules between a site and its nearest loss. Quantities a record lacks have no row; a null in
            it is NaN.
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
            if row["verb"] == "train" and (classes := real(row.get("classes"))) > 0:
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
        folder: as written by `fgbench.records.store.Store`.

    Returns:
        Everything readable; the rest is named in ``damaged`` and ``notes``.

    Raises:
        UsageError: the folder does not exist or holds no record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of records, got {str(folder)!r}: no such folder")
    store = Store(folder)
    rows = tuple(map(_one_name, shown(_readable(row) for row in store.all())))
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
    return {name: real(found.get(name)) for name in MEASURED}


def verb_of(row: Mapping[str, Any]) -> str:
    """Name what a record is of: its verb, or "trial" for a training that held examples out."""
    held = part_of(row, "settings").get("validation")
    return "trial" if row["verb"] == "train" and held else str(row["verb"])


def _count(value: object) -> float:
    """Read a count, or count a list."""
    return float(len(value)) if isinstance(value, list) else real(value)


def _forwards(record: Mapping[str, Any]) -> float:
    """Read the mean cost of a step or an estimate, in forward equivalents of its batch."""
    return real(part_of(record, "cost").get("forward_equivalents"))


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
            moment, step = (real(found.get(name)) for name in ("moment", "steps"))
            yield {**record, **found, "moments": [moment], "moment": moment, "step": step}


def _measure_rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Go through the numbers of measure records: whole body first, then site by site."""
    for record in records:
        names = ("draws", "inits", "batches", "batch", "elements")
        counts = {name: _count(record.get(name)) for name in names}
        common = {**record, **counts, "moments": text(record.get("moments", ""))}
        common |= {"forwards": _forwards(record), "along": settings_of(record).get("along", "")}
        common["design"] = design_of({**record, **counts})
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
                row |= {"distance": real(found.get("distance")), "unscaled": _unscaled(found)}
                if name == "relative_variance":
                    row["predicted"] = number(found.get("predicted_variance"))["value"]
                if name == "bias" and isinstance(found[name], dict):
                    row |= {n: real(found[name].get(n)) for n in TESTED}
                yield row


def _unscaled(found: Mapping[str, Any]) -> float:
    """Read a scale that is surely not 1; NaN of one that may be."""
    scale, test = part_of(found, "scale"), part_of(found, "bias")
    return real(scale["value"]) if off_scale(scale, test) else nan


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
                    "error": real(point.get(f"{split}_error")),
                    "loss": real(point.get(f"{split}_loss")),
                    "seconds": real(point.get("seconds")),
                    "passes": real(point.get("epoch")) * _forwards(record),
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
                numbers[name] = real(row.get(name))
            yield {**record, **row, **numbers}


def _latest(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Number the rows that no later run of the same case, or of the same seed and settings, replaces."""
    keys: dict[tuple[str, str], int] = {}
    for at in sorted(range(len(rows)), key=lambda at: str(rows[at].get("started"))):
        # two files may have been typed alike, in two folders
        keys[str(rows[at].get("case_key", f"row {at}")), str(rows[at].get("file"))] = at
    found: dict[object, int] = {}
    for at in keys.values():
        row = rows[at]
        alike = (
            verb_of(row),
            *subject_of(row),
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
        missing = [name for name in names if name not in row and name != "about"]
        if missing:
            found[f"{verb}: without {', '.join(missing)}"] += 1
    return [f"{n} record{'s' if n > 1 else ''} of {text}" for text, n in sorted(found.items())]


def _network(row: Mapping[str, Any]) -> tuple[str, str]:
    """Name what the sites of a record are of."""
    return str(row.get("arch")), str(row.get("data"))


def _sites(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the numbers of every site, where a record has some."""
    found = row.get("per_site")
    return found if isinstance(found, Mapping) else None
