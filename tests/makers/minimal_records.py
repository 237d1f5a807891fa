"""Records with the common fields alone."""

from __future__ import annotations

from typing import Any

from fgbench.records.keys import case_key, key
from fgbench.records.schema import FIELDS, SCHEMA

CASE = {
    "verb": "measure",
    "method": "fg_a[directions=4]/local-pg",
    "options": {"directions": 4, "law": "normal", "lr": 0.1},
    "draws": 256,
    "threads": 1,
    "moments": ["0", "end"],
    "code": "c0de",
}


def a_record(case: dict[str, Any] = CASE, **changes: Any) -> dict[str, Any]:
    common: dict[str, Any] = dict.fromkeys(FIELDS["all"], "")
    common |= {"schema": SCHEMA, "key": key(case), "case_key": case_key(case), "status": "ok"}
    common |= {"verb": "measure", "method": "LG-FG-A", "arch": "localmixer-m/8/16", "seed": 0}
    common |= {"data": "mnist", "where": {}, "settings": {}, "options": {}, "elapsed_s": 1.5}
    return common | {"started": "2025-01-01T00:00:00+00:00", **changes}
