"""Records for tests of the site: every verb, status and age, on two networks."""

from __future__ import annotations

import hashlib
from typing import Any

from fgbench import registry
from tests.makers.records import a_measure, a_speed, a_train, measured, record

EVIL = "./mine.py:Mine/end<script>alert('ü')</script>$^{$"


LABEL = EVIL.partition(":")[2]


ABOUT = {kind: registry.entries(kind) for kind in registry.FOLDERS}


def named(row: dict[str, Any], method: str) -> dict[str, Any]:
    """Return a copy of a record under the name of another method."""
    digest = hashlib.sha256((method + row["key"]).encode()).hexdigest()[:32]
    return {**row, "method": method, "estimator": "mine", "key": digest, "case_key": digest}


def sites(variance: float | None) -> dict[str, Any]:
    """Return ``per_site`` of a record with two sites; the relative variance of the second is undefined."""
    site = {"relative_variance": measured(variance), "predicted_variance": 5.1}
    site["bias"] = {**measured(0.02), "p_value": 0.5, "p_adjusted": 0.5, "detectable": 0.1}
    return {"body.0.l0": site, "body.1.l0": {**site, "relative_variance": measured(None)}}


def claimed(bias: str, p: float = 0.4, detectable: float = 0.2, **more: Any) -> dict[str, Any]:
    """Return the fields of a measurement about a claim and its test."""
    test = {**measured(0.01), "p_value": p, "detectable": detectable}
    return {"claimed": {"bias": bias, "why": ""}, "bias": test, **more}


def realistic() -> list[dict[str, Any]]:
    """Return records of every verb, status and age, on two networks."""
    mlp = {"arch": "mlp-3x256", "data": "digits"}
    rows = [a_measure(m, **claimed("none"), per_site=sites(5.0)) for m in ("FG-A", "LG-FG-A")]
    rows += [a_measure("BP", **claimed("none", 1.0, 0.0)), a_measure("FA", **claimed("some"))]
    rows += [a_measure("FG-A", **claimed("none", 1e-5), per_site=sites(9.0), **mlp)]
    rows += [a_measure("FG-W", relative_variance=measured(7e4), heavy_tail=True, **mlp)]
    rows += [a_measure("NP", schema=0, per_site={})]
    rows += [a_measure("LG-FG-W", relative_variance=None, efficiency=None, locality_gap=None)]
    rows += [a_train(m, s, epochs=4) for m in ("BP", "FG-A") for s in range(3)]
    rows += [a_speed("BP", 1.0), a_speed("FG-A", 0.8)]
    rows += [record("measure", "DFA", status="skipped", reason="needs <sites> & a $chain$")]
    rows += [record("train", "FG-W", 7, status="diverged", reason="loss not finite at step 9")]
    rows += [a_train("FG-A", 9, settings={"validation": 5000}, test_error=0.123)]
    rows += [named(a_measure("FG-A", **claimed("none"), per_site=sites(7.0)), EVIL)]
    rows += [named(a_train("FG-A", epochs=3), EVIL)]
    return [{**row, **meaning(row["method"])} for row in rows]


def meaning(method: str) -> dict[str, str]:
    """Return estimator and locality of a preset as its records have them."""
    estimator, _, locality = registry.PRESETS.get(method, "").partition("/")
    return {"estimator": estimator, "locality": locality} if locality else {}
