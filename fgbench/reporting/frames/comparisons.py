"""Rows of the leaderboard, from records of ``compare`` and what was measured and timed beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf, nan
from typing import Any

import pandas as pd

from fgbench.records.metrics import Shown, main_of
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records, number
from fgbench.reporting.frames.method_names import any_directions, called, natural, way_of
from fgbench.reporting.frames.settings import directions_of, form_of, part_of, real
from fgbench.stats.scale_verdict import Sign, signs

KINDS = ("forwards", "epochs", "seconds")
ID = 8
COLUMNS = (
    *("key", "method", "arch", "data", "metric", "gap", "gap_low", "gap_high", "n", "verdict"),
    *("efficiency", "low", "high", "sign", "label"),
)


@dataclass(frozen=True)
class Row:
    """A method on a network and data set: a row of the leaderboard.

    Args:
        record: of ``compare``.
        efficiency: of its estimate at initialisation, ``value low high n``; None where it was not measured,
            or where its mean points uphill.
        sign: of its scale, adjusted for the methods measured on the network and data set.
        several: whether methods were compared with several references on its network and data.

    Example:
        >>> Row({"key": "0123456789abcdef", "arch": "mlp-2x8", "data": "digits"}).id
        '01234567'
    """

    record: Mapping[str, Any]
    efficiency: Mapping[str, float] | None = None
    sign: Sign = Sign.KNOWN
    several: bool = False

    @property
    def id(self) -> str:
        """The beginning of the key."""
        return str(self.record["key"])[:ID]

    @property
    def network(self) -> str:
        """Network and data."""
        return f"{self.record['arch']} on {self.record['data']}"

    @property
    def reference(self) -> str:
        """The method that the methods of its comparison are compared with."""
        return called(str(part_of(self.record, "settings").get("reference") or ""))

    @property
    def task(self) -> str:
        """Network and data, and the reference where there are several."""
        return self.network + f", against {self.reference}" * self.several

    @property
    def metric(self) -> Shown:
        """The metric that is compared."""
        return main_of(self.record)

    def at(self, kind: str) -> Mapping[str, Any]:
        """Return the result at one kind of equal budget; {} where there is none."""
        listed = self.record.get("results")
        found = listed if isinstance(listed, list) else []
        return next((r for r in found if isinstance(r, Mapping) and r.get("at") == kind), {})

    def test(self, kind: str = "forwards") -> dict[str, float]:
        """Return the test result as it is shown, ``value low high n``; NaN where there is none."""
        found = number(part_of(self.at(kind), "test"))
        return {k: v if k == "n" else v * self.metric.factor for k, v in found.items()}

    def gap(self, kind: str = "forwards") -> dict[str, float]:
        """Return how much worse it is than the reference, ``value low high n``, as it is shown."""
        found = number(part_of(self.at(kind), "against"))
        return {k: v if k == "n" else v * self.metric.factor for k, v in found.items()}

    def verdict(self, kind: str = "forwards") -> str:
        """Return the verdict, ``reference`` for the reference, "" where there is none."""
        against = part_of(self.at(kind), "against")
        return "reference" if against.get("own") else str(against.get("verdict") or "")


def rows(records: Records, task: str = "*") -> list[Row]:
    """Return the rows of the leaderboard: the latest comparison of each method with each reference.

    Differences from two references are two results: on a network and data set with several references a
    task is that of one reference.

    Args:
        records: of `fgbench.reporting.frames.load.load`.
        task: only tasks whose "network on data" matches.

    Returns:
        Rows by task, of several references that with the most methods first; there by test result, the best
        first, and those without one last.

    Example:
        >>> from pathlib import Path
        >>> rows(Records(Path("."), (), {}, ()))
        []
    """
    latest: dict[tuple[str, ...], Row] = {}
    for record in sorted(
        records.of("compare"), key=lambda r: (str(r.get("started")), str(r["key"]))
    ):
        row = Row(record)
        latest[row.network, row.reference, str(record["method"])] = row
    sizes = Counter((row.network, row.reference) for row in latest.values())
    references = Counter(network for network, _ in sizes)
    measured = _efficiencies(records)
    found = [
        Row(
            row.record,
            *measured.get(_subject(row.record), (None, Sign.KNOWN)),
            references[row.network] > 1,
        )
        for row in latest.values()
        if fnmatchcase(row.network, task)
    ]
    rank = {
        name: at for at, name in enumerate(ordering.order(str(r.record["method"]) for r in found))
    }

    def key(row: Row) -> tuple[Any, ...]:
        value = row.metric.sign * row.test()["value"]
        place = value if value == value else inf
        return (
            natural(row.record["data"]),
            natural(row.network),
            -sizes[row.network, row.reference],
            natural(row.reference),
            place,
            rank[str(row.record["method"])],
        )

    return sorted(found, key=key)


def _subject(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a measurement and a comparison share: method, options, directions, network and data."""
    way = any_directions(way_of(str(row["estimator"]), str(row["locality"])))
    return way, str(row["arch"]), str(row["data"]), directions_of(row), form_of(row)


def _efficiencies(
    records: Records,
) -> dict[tuple[Any, ...], tuple[dict[str, float] | None, Sign]]:
    """Return the efficiencies at initialisation, of the measurement with the most draws in all.

    Returns:
        Subject to the efficiency and the sign of the scale; none for a mean that points uphill.
    """
    found: dict[tuple[Any, ...], tuple[float, dict[str, Any]]] = {}
    for row in records.of("measure"):
        if row.get("moments") not in ([0], [0.0]) or row["status"] != "ok":
            continue
        draws = real(row.get("draws")) * real(row.get("inits")) * real(row.get("batches"))
        if draws >= found.get(_subject(row), (0.0, {}))[0]:
            found[_subject(row)] = draws, row
    networks: dict[tuple[str, str], dict[tuple[Any, ...], dict[str, Any]]] = {}
    for subject, (_, row) in found.items():
        networks.setdefault((str(row["arch"]), str(row["data"])), {})[subject] = row
    return {
        subject: (None if sign is Sign.UPHILL else number(row.get("efficiency")), sign)
        for mine in networks.values()
        for (subject, row), sign in zip(
            mine.items(), signs([(row, row) for row in mine.values()]), strict=True
        )
    }


def gaps(records: Records) -> pd.DataFrame:
    """Tabulate the gap to the reference at equal forward equivalents and the efficiency at initialisation.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS`, a row per method that was compared and measured; the reference has none. Of several
        references on a network and data set the one with the most methods counts.

    Example:
        >>> from pathlib import Path
        >>> len(gaps(Records(Path("."), (), {}, ())))
        0
    """
    table = []
    first: dict[str, str] = {}
    for row in rows(records):
        gap, efficiency = row.gap(), row.efficiency or {}
        if first.setdefault(row.network, row.reference) != row.reference:
            continue
        if gap["value"] != gap["value"] or not efficiency.get("value", nan) > 0:
            continue
        method = str(row.record["method"])
        table.append(
            {
                **{name: row.record[name] for name in ("key", "method", "arch", "data")},
                **{"gap": gap["value"], "gap_low": gap["low"], "gap_high": gap["high"]},
                **{"n": gap["n"], "verdict": row.verdict(), "metric": row.metric.axis("test")},
                **{"efficiency": efficiency["value"], "sign": str(row.sign), "label": method},
                **{name: efficiency[name] for name in ("low", "high")},
            }
        )
    found = pd.DataFrame(table, columns=list(COLUMNS))
    return ordering.arranged(found, ["data", "arch", "method"])
