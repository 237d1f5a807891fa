"""What the pages show, read once from the records of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import ALONG, VERBS, Records
from fgbench.reporting.frames.method_names import natural
from fgbench.reporting.frames.settings import text
from fgbench.reporting.site.claims import Verdict, by_draws, verdicts
from fgbench.reporting.site.paths import Panel, panel_of


@dataclass(frozen=True)
class Facts:
    """The records of a report, read once.

    Args:
        records: all of them.
        of: verb to the records of it that count, see `fgbench.reporting.frames.load.Records.of`.
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        curves: of `fgbench.reporting.frames.load.Records.curves`.
        verdicts: key of a measurement to what came of the claims.
        body: key of a measurement to its numbers over the whole body, by quantity.
    """

    records: Records
    of: Mapping[str, Sequence[dict[str, Any]]]
    measures: pd.DataFrame
    curves: pd.DataFrame
    verdicts: Mapping[str, Verdict]
    body: Mapping[str, Mapping[str, dict[str, Any]]]

    @property
    def methods(self) -> list[str]:
        """Every method that has a record, in the usual order."""
        return ordering.order(str(row["method"]) for row in self.records.rows if row["method"])

    @property
    def panels(self) -> list[Panel]:
        """Every architecture with the data it was run on."""
        rows = [row for verb in (*VERBS, "trial") for row in self.of[verb]]
        return sorted({panel_of(row) for row in rows}, key=natural)


def facts(records: Records) -> Facts:
    """Read what the pages show from the records of a folder, every bias with its interval over draws."""
    records = replace(records, rows=tuple(map(by_draws, records.rows)))
    of = {verb: records.of(verb) for verb in (*VERBS, "trial")}
    measures = records.measures()
    body: dict[str, dict[str, dict[str, Any]]] = {}
    for row in measures[measures["place"] == "all"].to_dict("records"):
        body.setdefault(str(row["key"]), {})[str(row["quantity"])] = row
    return Facts(records, of, measures, records.curves(), verdicts(of["measure"]), body)


def by_moment(found: Facts) -> pd.DataFrame:
    """Tabulate what was measured, and of records of several moments also each of these.

    Args:
        found: of `facts`.

    Returns:
        The columns of `fgbench.reporting.frames.load.Records.along`: those of all moments of a
        record together have
        the ``moment`` "all".
    """
    whole, along = found.measures, found.records.along()
    several = whole["moments"].str.contains(" ")
    whole = whole.assign(moment=whole["moments"].mask(several, "all"))
    parts = along[along["key"].isin(whole.loc[several, "key"])]
    parts = parts.assign(moment=parts["moment"].map(text))
    return pd.concat([whole, parts], ignore_index=True)[list(ALONG)]
