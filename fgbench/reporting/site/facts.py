"""Everything that the pages show, read once from the records of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fgbench.reporting.frames import comparable, ordering
from fgbench.reporting.frames.load import ALONG, VERBS, Records
from fgbench.reporting.frames.method_names import natural
from fgbench.reporting.frames.settings import text
from fgbench.reporting.site.claims import Verdict, by_draws, verdicts
from fgbench.reporting.site.paths import Panel, panel_of


@dataclass(frozen=True)
class Facts:
    """Records of a report with the tables and verdicts computed from them.

    Args:
        records: all records.
        of: verb to its records that are used, see `fgbench.reporting.frames.load.Records.of`.
        measures: table of `fgbench.reporting.frames.load.Records.measures`.
        curves: table of `fgbench.reporting.frames.load.Records.curves`.
        verdicts: key of a measurement to the verdict on its claim about bias.
        body: key of a measurement to its numbers over the whole body, by quantity.
        unscaled: key of a measurement to its scale, where that is surely not 1 and so the relative variance
            not comparable; judged as in the figure of the same network and data.

    Example:
        >>> from pathlib import Path
        >>> facts(Records(Path("records"), (), {}, ())).panels
        []
    """

    records: Records
    of: Mapping[str, Sequence[dict[str, Any]]]
    measures: pd.DataFrame
    curves: pd.DataFrame
    verdicts: Mapping[str, Verdict]
    body: Mapping[str, Mapping[str, dict[str, Any]]]
    unscaled: Mapping[str, float]

    @property
    def methods(self) -> list[str]:
        """Methods that have a record, in the order of `fgbench.reporting.frames.ordering.order`."""
        return ordering.order(str(row["method"]) for row in self.records.rows if row["method"])

    @property
    def panels(self) -> list[Panel]:
        """Pairs of architecture and data that have a record."""
        rows = [row for verb in (*VERBS, "trial") for row in self.of[verb]]
        return sorted({panel_of(row) for row in rows}, key=natural)


def facts(records: Records) -> Facts:
    """Compute everything that the pages show from the records of a folder.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Tables and verdicts; every bias has its interval over draws.

    Example:
        >>> from pathlib import Path
        >>> facts(Records(Path("records"), (), {}, ())).methods
        []
    """
    records = replace(records, rows=tuple(map(by_draws, records.rows)))
    of = {verb: records.of(verb) for verb in (*VERBS, "trial")}
    measures = records.measures()
    body: dict[str, dict[str, dict[str, Any]]] = {}
    for row in measures[measures["place"] == "all"].to_dict("records"):
        body.setdefault(str(row["key"]), {})[str(row["quantity"])] = row
    curves, judged = records.curves(), verdicts(of["measure"])
    return Facts(records, of, measures, curves, judged, body, _unscaled(measures))


def _unscaled(measures: pd.DataFrame) -> dict[str, float]:
    """Return the scales that are surely not 1, of the relative variances over the whole body."""
    chosen = measures["quantity"].eq("relative_variance") & measures["place"].eq("all")
    parts = [comparable.judged(part) for _, part in measures[chosen].groupby(["arch", "data"])]
    return {
        str(key): float(scale)
        for part in parts
        for key, scale in zip(part["key"], part["unscaled"], strict=True)
        if scale == scale
    }


def by_moment(report: Facts) -> pd.DataFrame:
    """Tabulate measurements, with further rows for each moment of a record of several moments.

    Args:
        report: of `facts`.

    Returns:
        The columns of `fgbench.reporting.frames.load.Records.along`. Rows over all moments of a record
        have the ``moment`` "all".

    Example:
        >>> from pathlib import Path
        >>> list(by_moment(facts(Records(Path("records"), (), {}, ()))).columns) == list(ALONG)
        True
    """
    measures, along = report.measures, report.records.along()
    several = measures["moments"].str.contains(" ")
    measures = measures.assign(moment=measures["moments"].mask(several, "all"))
    parts = along[along["key"].isin(measures.loc[several, "key"])]
    parts = parts.assign(moment=parts["moment"].map(text))
    return pd.concat([measures, parts], ignore_index=True)[list(ALONG)]
