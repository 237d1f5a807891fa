"""Records of a folder as tidy tables: one row per number, its interval, its n and its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.errors import UsageError
from fgbench.records.labels import shown
from fgbench.records.metrics import ERROR, main_of
from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.records.store import Store
from fgbench.reporting.frames.machines import told_apart
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
from fgbench.stats.bias_verdict import judge
from fgbench.stats.scale_verdict import Sign, scale_p, signs

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
WHOLE = "all"  # the place that is the whole body
EFFICIENCIES = tuple(name for name in QUANTITIES if name.startswith("efficiency"))
COSTS = ("step_ms", "ratio_to_bp", "peak_mb", "peak_ratio_to_bp")
RUN = (
    *("key", "method", "label", "estimator", "locality", "arch", "data", "seed", "status"),
    *("device", "form"),
)
VERBS = ("train", "measure", "speed")
"""Whose records are one result per seed and setting."""
MEASURED = ("value", "low", "high", "n")
SCALED = ("scale", "scale_p", "exactly")
TESTED = ("p_value", "p_adjusted", "detectable", "draws_low", "draws_high")
MEASURES = (
    *(*RUN, "draws", "directions", "inits", "moments", "batches", "batch", "elements", "engine"),
    *("truth", "forwards", "along", "design", "place"),
    *("quantity", *MEASURED, "predicted", *TESTED, "heavy_tail", *SCALED, "sign", "distance"),
    "place_elements",
)
PLACE = {"distance": "distance", "place_elements": "elements"}
"""Column to the number of a place that it shows."""
ALONG = (*MEASURES, "moment", "step", "trajectory")
CURVES = (
    *(*RUN, "chance", "epoch", "split", "error", "loss", "seconds", "passes"),
    *("metric", "unit", "best", "value", "level"),
)
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
    """The records of a folder.

    Args:
        folder: where they lie.
        rows: the records, in the order of the file names. A method that is a preset has the preset's
            name, however it was typed, and an estimator from a file has the name of its class: see
            `fgbench.records.labels.shown`.
        damaged: file name -> why it could not be read as a record.
        notes: one line for each kind of field or record that is old or missing.

    Example:
        >>> Records(Path("empty"), (), {}, ()).curves().empty
        True
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    damaged: Mapping[str, str]
    notes: tuple[str, ...]

    def kept(self, rows: Sequence[dict[str, Any]]) -> Records:
        """Return some of the records, with the notes that concern these."""
        return Records(self.folder, tuple(rows), self.damaged, tuple(_notes(rows)))

    def of(self, verb: str) -> list[dict[str, Any]]:
        """Return the records of one verb that count as results.

        Of several runs of one case (same ``case_key``, edited code), or of one seed and settings under two
        keys, only the latest counts: both would pass for two seeds. A training that held examples out is a
        trial of a setting and no result, since its test error is that of the held-out examples.

        Args:
            verb: such as "train", which excludes trials, or "trial".

        Returns:
            The records, each with the ``label`` that tells its settings from the others', and the ``form``
            of `form_of`.
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
        """Tabulate the measured quantities.

        Returns:
            A row per record, place ("all" or a site) and quantity, with columns `MEASURES`. Quantities that a
            record lacks have no row; a null is NaN. Columns of their own:

            - ``value`` of an efficiency is NaN where ``sign`` says that the mean estimate points uphill;
            - ``predicted``: the closed form, for ``relative_variance``;
            - ``p_value``, ``p_adjusted`` (over sites), ``detectable``, interval over draws: for ``bias``;
            - ``forwards``: cost of an estimate in forward equivalents;
            - ``scale``, and ``scale_p`` of :func:`fgbench.stats.scale_verdict.scale_p`, from which a figure
              finds the variances that are not comparable;
            - ``sign`` of the scale, a `fgbench.stats.scale_verdict.Sign` as text: adjusted for the records of
              a network and data set, and for the sites of these;
            - ``exactly``: "unbiased" or "biased" where an estimate has no noise, else "";
            - ``design``: of `fgbench.reporting.frames.settings.design_of`;
            - ``distance``: modules between a site and its nearest loss;
            - ``place_elements``: elements of the gradient of the place.
        """
        return _frame(_measure_rows(self.of("measure")), MEASURES)

    def along(self) -> pd.DataFrame:
        """Tabulate the measured quantities at each moment of training.

        Returns:
            As `measures`, with a row per moment and columns `ALONG`: ``moment`` in epochs and ``step`` of the
            ``trajectory``. Older records that pool several moments have no row.
        """
        return _frame(_measure_rows(_moments(self.of("measure"))), ALONG)

    def chances(self) -> dict[tuple[str, str], float]:
        """Compute the error of guessing on each network and data set.

        Returns:
            (network, data) to 1 − 1/classes. Pairs without a training that states the number of classes, as
            in older records, are missing.
        """
        chances: dict[tuple[str, str], float] = {}
        for row in self.rows:
            counted = row["verb"] == "train" and main_of(row).name == ERROR.name
            if counted and (classes := real(row.get("classes"))) > 0:
                chances[_network(row)] = max(chances.get(_network(row), 0.0), 1 - 1 / classes)
        return chances

    def curves(self) -> pd.DataFrame:
        """Tabulate learning curves.

        Returns:
            A row per run, epoch and split, with columns `CURVES`. Splits are "train", "test" and further
            losses, such as "contrastive" for ``contrastive_loss``. Errors are fractions, ``seconds`` count
            from the start of training, ``passes`` are the forward equivalents spent since then, in passes
            over the training set, and ``chance`` is the error of guessing (NaN where it is unknown).
            ``metric`` is the record's main one, with its ``unit`` and its ``best`` direction, ``value`` and
            its chance ``level`` as they are shown: an error in percent.
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
        The readable records; the other files are named in ``damaged``, and missing fields in ``notes``.

    Raises:
        UsageError: the folder does not exist or holds no record.

    Example:
        >>> load(Path("nowhere"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of records, got 'nowhere': no such folder
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of records, got {str(folder)!r}: no such folder")
    store = Store(folder)
    records = collect(store.all(), folder)
    if not records.rows:
        first = next((f" ({name}: {why})" for name, why in store.damaged.items()), "")
        raise UsageError(f"no readable record in {str(folder)!r}{first}; write some with -o")
    return replace(records, damaged=dict(store.damaged))


def collect(records: Iterable[Mapping[str, Any]], folder: Path) -> Records:
    """Return records as a folder of them would be read.

    Args:
        records: as they were written or returned.
        folder: where they lie; of records in memory, what errors name in its place.

    Returns:
        The records, their methods named as in tables and figures.

    Example:
        >>> run = {"schema": 1, "verb": "speed", "method": "fg_a/end", "status": "skipped", "data": ""}
        >>> collect([run], Path("memory")).rows[0]["method"]
        'FG-A'
    """
    rows = tuple(told_apart([_one_name(row) for row in shown(_readable(row) for row in records)]))
    return Records(folder, rows, {}, tuple(_notes(rows)))


def _readable(value: Any) -> Any:
    """Replace lone surrogates, which JSON can hold but files and figures cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_readable(name): _readable(part) for name, part in value.items()}
    return [_readable(part) for part in value] if isinstance(value, list) else value


def _one_name(row: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its method's name as in every table and figure."""
    return {**row, "method": called(str(row["method"]))} if row.get("method") else row


def number(measured: object) -> dict[str, float]:
    """Return the value, interval and n of a measured number, or of a bare number without an interval.

    Args:
        measured: ``{"value", "low", "high", "n"}``, a number, or anything else.

    Returns:
        `MEASURED` to numbers, NaN where there is none.

    Example:
        >>> number({"value": 2, "low": 1, "high": 3, "n": 5})
        {'value': 2.0, 'low': 1.0, 'high': 3.0, 'n': 5.0}
        >>> number(2)["low"]
        nan
    """
    if not isinstance(measured, Mapping):
        measured = {"value": measured}
    return {name: real(measured.get(name)) for name in MEASURED}


def verb_of(row: Mapping[str, Any]) -> str:
    """Return the verb of a record, or "trial" for a training that held examples out.

    Args:
        row: a record.

    Returns:
        Such as "train".

    Example:
        >>> verb_of({"verb": "train", "settings": {"validation": 100}})
        'trial'
    """
    held = part_of(row, "settings").get("validation")
    return "trial" if row["verb"] == "train" and held else str(row["verb"])


def _count(value: object) -> float:
    """Return a count, or the length of a list."""
    return float(len(value)) if isinstance(value, list) else real(value)


def _forwards(record: Mapping[str, Any]) -> float:
    """Return the mean cost of a step or an estimate, in forward equivalents of its batch."""
    return real(part_of(record, "cost").get("forward_equivalents"))


def _frame(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Make a table with exactly these columns."""
    return pd.DataFrame([[row.get(name) for name in columns] for row in rows], columns=columns)


def _moments(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each moment of measure records as a record of that moment alone."""
    for record in records:
        when, along = record.get("moments"), record.get("per_moment")
        if isinstance(when, list) and len(when) == 1:
            steps = record.get("moment_steps")
            first = steps[0] if isinstance(steps, list) and steps else None
            along = [{"moment": when[0], "steps": first}]
        for numbers in along if isinstance(along, list) else []:
            moment, step = (real(numbers.get(name)) for name in ("moment", "steps"))
            yield {**record, **numbers, "moments": [moment], "moment": moment, "step": step}


def _measure_rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the numbers of measure records: whole body first, then site by site."""
    listed = [(record, place, part) for record in records for place, part in _places(record)]
    for (record, place, numbers), sign in zip(listed, _signs(listed), strict=True):
        names = ("draws", "inits", "batches", "batch", "elements")
        counts = {name: _count(record.get(name)) for name in names}
        common = {**record, **counts, "moments": text(record.get("moments", ""))}
        common |= {"forwards": _forwards(record), "along": settings_of(record).get("along", "")}
        common["design"] = design_of({**record, **counts})
        if isinstance(split := numbers.get("split"), dict):
            numbers = {**numbers, **split}
        for name in (*QUANTITIES, *PARTS):
            if name not in numbers:
                continue
            row = {**common, "place": place, "quantity": name, **number(numbers[name])}
            if name in EFFICIENCIES and sign is Sign.UPHILL:
                row |= dict.fromkeys(("value", "low", "high"), nan)
            row |= dict.fromkeys(("predicted", *TESTED), nan)
            row |= {"heavy_tail": bool(numbers.get("heavy_tail"))}
            row |= {n: real(numbers.get(of)) for n, of in PLACE.items()}
            row |= {**_scaled(numbers, record), "sign": str(sign)}
            if name == "relative_variance":
                row["predicted"] = number(numbers.get("predicted_variance"))["value"]
            if name == "bias" and isinstance(numbers[name], dict):
                row |= {n: real(numbers[name].get(n)) for n in TESTED}
            yield row


def _places(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the numbers of the whole body, then of each site."""
    yield WHOLE, record
    sites = record.get("per_site")
    for place, numbers in sites.items() if isinstance(sites, dict) else ():
        if isinstance(numbers, dict):
            yield place, numbers


def _signs(listed: Sequence[tuple[dict[str, Any], str, dict[str, Any]]]) -> list[Sign]:
    """Return the sign of each scale, adjusted within a network and data set: bodies, and sites."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for at, (record, place, _) in enumerate(listed):
        groups.setdefault((*_network(record), place == WHOLE), []).append(at)
    found = [Sign.KNOWN] * len(listed)
    for group in groups.values():
        judged = signs([(listed[at][2], listed[at][0]) for at in group])
        for at, sign in zip(group, judged, strict=True):
            found[at] = sign
    return found


def _scaled(numbers: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns `SCALED` of a place."""
    p, test = scale_p(numbers, record), part_of(numbers, "bias")
    verdict = judge({"detectable": real(test.get("detectable"))}, real(test.get("p_value")))
    return {
        "scale": number(numbers.get("scale"))["value"],
        "scale_p": nan if p is None else p,
        "exactly": ("biased" if verdict.biased else "unbiased") if verdict.exact else "",
    }


def _curve_rows(
    records: Iterable[dict[str, Any]], chances: Mapping[tuple[str, str], float]
) -> Iterator[dict[str, Any]]:
    """Yield the epochs of train records, once for each split."""
    for record in records:
        history = record.get("history")
        points = history if isinstance(history, list) else []
        for point in points:
            if not (isinstance(point, dict) and isinstance(point.get("epoch"), int | float)):
                continue
            main, known = main_of(record), chances.get(_network(record), nan)
            level = known if main.name == ERROR.name else real(main.chance)
            others = [name.removesuffix("_loss") for name in point if name.endswith("_loss")]
            for split in dict.fromkeys(("train", "test", *others)):
                yield {
                    **record,
                    "chance": known if main.name == ERROR.name else nan,
                    "epoch": point.get("epoch"),
                    "split": split,
                    "error": real(point.get(f"{split}_error")),
                    "loss": real(point.get(f"{split}_loss")),
                    "seconds": real(point.get("seconds")),
                    "passes": real(point.get("epoch")) * _forwards(record),
                    **{"metric": main.name, "unit": main.unit, "best": main.best},
                    "value": main.factor * real(point.get(main.field(split))),
                    "level": main.factor * level,
                }


def _fusion_rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of fusion records; a ratio of times is its median."""
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
    """Return the positions of rows without a later run of the same case or the same seed and settings."""
    keys: dict[tuple[str, ...], int] = {}
    for at in sorted(range(len(rows)), key=lambda at: str(rows[at].get("started"))):
        # two files may have been typed alike, in two folders
        of = (rows[at].get("case_key", f"row {at}"), rows[at].get("file"), rows[at].get("machine"))
        keys[tuple(map(str, of))] = at
    latest: dict[object, int] = {}
    for at in keys.values():
        row = rows[at]
        alike = (
            verb_of(row),
            *subject_of(row),
            str(row.get("seed", at)),
            *sorted(decided(row).items()),
        )
        latest[alike if row["verb"] in VERBS else at] = at
    return set(latest.values())


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe what is old or missing, with the number of records concerned."""
    counts: Counter[str] = Counter()
    latest = _latest(rows)
    everywhere: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        everywhere.setdefault(_network(row), set()).update(_sites(row) or ())
    for at, row in enumerate(rows):
        verb = str(row["verb"])
        if at not in latest:
            counts[f"{verb}: not used, there is a later run of the same case"] += 1
        if row["schema"] != SCHEMA:
            counts[f"{verb}: schema {row['schema']}, this version writes {SCHEMA}"] += 1
        sites, measured = everywhere[_network(row)], verb == "measure" and row["status"] == "ok"
        if measured and (lost := len(sites - set(_sites(row) or ()))):
            counts[f"{verb}: {lost} of the {len(sites)} sites of {row.get('arch')} missing"] += 1
        names = FIELDS["all"] + (FIELDS.get(verb, ()) if row["status"] == "ok" else ())
        missing = [name for name in names if name not in row and name != "about"]
        if missing:
            counts[f"{verb}: without {', '.join(missing)}"] += 1
    return [f"{n} record{'s' if n > 1 else ''} of {text}" for text, n in sorted(counts.items())]


def _network(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the network and data set of a record."""
    return str(row.get("arch")), str(row.get("data"))


def _sites(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the numbers of every site, None where a record has none."""
    sites = row.get("per_site")
    return sites if isinstance(sites, Mapping) else None
