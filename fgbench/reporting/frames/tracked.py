"""Numbers tracked over commits, from results of asv, as a table: one row per number.

The folder is asv's (``.asv/results``: one folder per machine, one JSON file per commit and environment,
version 2 of the format), not one of records.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgbench.errors import UsageError
from fgbench.records import files
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.commits import Line, line
from fgbench.stats.change_points import levels

VERSION = 2
UNNAMED = "no parameter"
"""Label of the only number of a benchmark."""
SERIES = ("benchmark", "machine", "label", "environment")
COLUMNS = (
    *("benchmark", "machine", "environment", "method", "label", "commit", "date", "position"),
    *("value", "low", "high", "n", "unit", "level", "changed", "exact"),
)


@dataclass(frozen=True)
class Results:
    """The results of asv in a folder.

    Args:
        folder: where they lie.
        rows: a row per machine, environment, commit, benchmark and combination of its parameters.
        damaged: file -> why it could not be read.
        versions: benchmark -> the version whose numbers are drawn: a number of another version is another
            number.

    Example:
        >>> tracked(Results(Path("empty"), ({"value": None},), {})).empty
        True
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    damaged: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def line(self) -> Line:
        """The commits of the repository in which the folder lies, the measured ones among them."""
        dates: dict[str, float] = {}
        for row in self.rows:
            commit, date = str(row.get("commit")), float(row.get("date", 0))
            dates[commit] = min(dates.get(commit, date), date)
        return line(self.folder, list(dates), sorted(dates, key=lambda commit: dates[commit]))

    @cached_property
    def subjects(self) -> Mapping[str, str]:
        """Words for what each benchmark tracks, with the name of its file where two would be alike."""
        names = {str(row.get("benchmark")): str(row.get("named") or "") for row in self.rows}
        words = {name: pretty or subject(name) for name, pretty in names.items()}
        often = Counter(words.values())
        return {
            name: f"{text} ({name.partition('.')[0]})" if often[text] > 1 else text
            for name, text in words.items()
        }

    def title(self, benchmark: str) -> str:
        """Return what a benchmark tracks, and of which methods or other parameters.

        Args:
            benchmark: its name.

        Returns:
            Such as ``Step: time ratio of FG-A and FG-W``; of more than two values their number.

        Example:
            >>> row = {"benchmark": "a.Step.track_time", "label": "FG-A", "of": {"method": "FG-A"}}
            >>> Results(Path("empty"), (row,), {}).title("a.Step.track_time")
            'Step: time of FG-A'
        """
        values: dict[str, dict[str, None]] = {}
        for row in self.rows:
            if row.get("benchmark") == benchmark and self.drawn(row):
                of = row.get("of") or {"series": row.get("label", "")}
                for name, value in of.items():
                    values.setdefault(name, {})[str(value)] = None
        parts = [
            " and ".join(found) if len(found) < 3 else f"{len(found)} {_plural(name)}"
            for name, found in values.items()
            if list(found) != [UNNAMED]
        ]
        return self.subjects[benchmark] + f" of {', '.join(parts)}" * bool(parts)

    def drawn(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is of the version of its benchmark that is drawn."""
        version = str(row.get("version"))
        return version == self.versions.get(str(row.get("benchmark")), version)


def subject(benchmark: str) -> str:
    """Return the name of a benchmark in words: its class, and what of it is tracked.

    Args:
        benchmark: as asv names it.

    Returns:
        The words.

    Example:
        >>> subject("estimates.ExactMeanByLocality.track_bias"), subject("speed.time_step")
        ('Exact mean by locality: bias', 'Time of step')
    """
    *before, last = benchmark.split(".")
    kind, _, what = last.partition("_")
    what = {
        "time": "time of ",
        "timeraw": "time of ",
        "peakmem": "peak memory of ",
        "mem": "memory of ",
    }.get(kind, "" if kind == "track" and what else f"{kind} ") + what.replace("_", " ")
    cls = before[-1] if len(before) > 1 else ""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls).capitalize()
    return f"{words}: {what.strip()}" if words else what.strip().capitalize()


def _plural(name: str) -> str:
    """Return a word for several."""
    if name == "series":
        return name
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def read(folder: Path) -> Results:
    """Read results of asv.

    Args:
        folder: such as ``.asv/results``.

    Returns:
        All numbers in it.

    Raises:
        UsageError: the folder does not exist or holds no result of asv.

    Example:
        >>> read(Path("nowhere"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of asv's results, got 'nowhere': no such folder
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of asv's results, got {str(folder)!r}: no such folder")
    rows: list[dict[str, Any]] = []
    damaged = {}
    benchmarks: dict[str, Any] = {}
    if (description := folder / "benchmarks.json").is_file():
        try:
            stated = json.loads(files.read_text(description))
            benchmarks = {n: b for n, b in stated.items() if isinstance(b, dict)}
            benchmarks = {n: {k: str(v) for k, v in b.items()} for n, b in benchmarks.items()}
            json.dumps(benchmarks).encode()
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            # Numbers are as good without their units.
            damaged[description.name] = f"{type(error).__name__}: {error}"
            benchmarks = {}
    for file in sorted(folder.glob("*/*.json")):
        if file.name == "machine.json":
            continue
        try:
            one = json.loads(files.read_text(file))
            if one["version"] != VERSION:
                raise ValueError(f"version {one['version']} of asv's format")
            rows += list(_rows(one, file.parent.name, benchmarks))  # whole or not at all
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            damaged[f"{file.parent.name}/{file.name}"] = f"{type(error).__name__}: {error}"
    if not rows:
        first = next((f" ({name}: {why})" for name, why in damaged.items()), "")
        raise UsageError(
            f"no result of asv in {str(folder)!r}{first}; run asv run, its results are in .asv/results"
        )
    return Results(folder, tuple(_apart(rows)), damaged, _versions(rows, benchmarks))


def tracked(results: Results) -> pd.DataFrame:
    """Sort numbers by commit and find where they change.

    Args:
        results: of `read`.

    Returns:
        Columns `COLUMNS`: ``position`` counts the measured commits of the line from 0, NaN for a commit that
        is not on it; ``level`` is that of :func:`fgbench.stats.change_points.levels`, NaN where none was
        looked for; ``changed`` tells whether a new level begins; ``exact`` whether the series repeats to
        the last digit.

    Example:
        >>> row = {"benchmark": "step", "machine": "m", "environment": "e", "method": "", "label": "BP"}
        >>> row |= {"commit": "c0de", "date": 1, "value": 2.0, "low": 1.0, "high": 3.0, "n": 5, "unit": "ms"}
        >>> results = Results(Path("empty"), (row, {**row, "commit": "beef", "date": 0}), {})
        >>> tracked(results)[["commit", "position", "value"]].values.tolist()
        [['beef', 0.0, 2.0], ['c0de', 1.0, 2.0]]
    """
    table = pd.DataFrame([row for row in results.rows if results.drawn(row)])
    table = table.dropna(subset=["value"]) if "value" in table else table
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    on_line = [commit for commit in results.line.commits if commit in set(table["commit"])]
    table = table.assign(
        position=table["commit"].map({c: float(at) for at, c in enumerate(on_line)})
    )
    table = ordering.arranged(table, [*SERIES, "position", "date"])
    parts = [_levelled(part) for _, part in table.groupby(list(SERIES), sort=False)]
    return pd.concat(parts)[list(COLUMNS)].reset_index(drop=True)


def _levelled(part: pd.DataFrame) -> pd.DataFrame:
    """Add the levels of one series, of its numbers on the line."""
    level, changed = np.full(len(part), nan), np.zeros(len(part), bool)
    at = np.flatnonzero(part["position"].notna())
    found = levels(part["value"].iloc[at].tolist(), single=bool(part["n"].isna().all()))
    for k, start in enumerate(found.starts):
        end = found.starts[k + 1] if k + 1 < len(found.starts) else len(at)
        level[at[start:end]] = found.values[k]
        changed[at[start]] = k > 0
    return part.assign(level=level, changed=changed, exact=found.exact)


def _rows(
    one: Mapping[str, Any], machine: str, benchmarks: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield the numbers of one file; skipped and failed benchmarks have none."""
    about = one.get("params")
    hardware = about if isinstance(about, Mapping) else {}
    common = {
        **{"machine": machine, "environment": str(one["env_name"])},
        **{"commit": str(one["commit_hash"]), "date": float(one["date"])},
        "cpu": ", ".join(str(hardware[name]) for name in ("cpu", "arch") if hardware.get(name)),
    }
    for benchmark, columns in one["results"].items():
        result = dict(zip(one["result_columns"], columns, strict=False))
        choices = [[_plain(text) for text in values] for values in result.get("params") or []]
        if (values := result.get("result")) is None:
            continue
        described = benchmarks.get(benchmark, {})
        unit, names = described.get("unit", ""), _listed(described.get("param_names", ""))
        for at, (combination, value) in enumerate(zip(product(*choices), values, strict=True)):
            presets = [name for name in combination if name in ordering.PRESETS]
            label = ", ".join(combination)
            ends = [_at(result.get(f"stats_ci_99_{end}"), at) for end in "ab"]
            number = nan if value is None else float(value)
            yield {
                **common,
                **{"benchmark": benchmark, "label": label or UNNAMED},
                "named": _stated(described.get("pretty_name", "")),
                "of": dict(zip(names, combination, strict=False)) if names else {},
                **{"version": str(result.get("version", ""))},
                **{"method": presets[0] if presets else label or benchmark},
                **{"value": number if isfinite(number) else nan, "low": ends[0], "high": ends[1]},
                **{
                    "n": _at(result.get("stats_repeat"), at),
                    "unit": _stated(unit),
                },
            }


def _versions(
    rows: list[dict[str, Any]], benchmarks: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Return the version of every benchmark that is drawn: the described one, else the latest."""
    latest: dict[str, tuple[float, str]] = {}
    for row in rows:
        mine = (row["date"], row["version"])
        latest[row["benchmark"]] = max(latest.get(row["benchmark"], mine), mine)
    return {
        name: benchmarks.get(name, {}).get("version", version)
        for name, (_, version) in latest.items()
    }


def _apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Distinguish different processors that go by one name, as containers do."""
    processors: dict[str, set[str]] = {}
    for row in rows:
        processors.setdefault(row["machine"], set()).add(row["cpu"])
    several = {machine for machine, found in processors.items() if len(found) > 1}
    return [
        {**row, "machine": f"{row['machine']} ({row['cpu'] or 'not stated'})"}
        if row["machine"] in several
        else row
        for row in rows
    ]


def _at(values: list[Any] | None, at: int) -> float:
    """Return a number of one combination of parameters; NaN where there is none."""
    value = values[at] if values else None
    return float(value) if isinstance(value, int | float) else nan


def _stated(text: str) -> str:
    """Return a text, "" for the None that asv writes where nothing is stated."""
    return "" if text == "None" else text


def _listed(text: str) -> list[str]:
    """Return the texts of a list as Python writes it, none where it is none."""
    try:
        found = literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(part) for part in found] if isinstance(found, list | tuple) else []


def _plain(text: str) -> str:
    """Return a parameter without the quotes of Python's repr, which asv stores."""
    try:
        return str(literal_eval(text))
    except (ValueError, SyntaxError):
        return text
