"""A folder of records as a user has it."""

from __future__ import annotations

import hashlib
from typing import Any

from fgbench import registry
from tests.makers.records import a_measure, a_speed, a_train, measured, record

EVIL = "./mine.py:Mine/end<script>alert('ü')</script>$^{$"


LABEL = EVIL.partition(":")[2]


ABOUT = {kind: registry.entries(kind) for kind in registry.FOLDERS}


def named(row: dict[str, Any], method: str) -> dict[str, Any]:
    """The record of another method."""
    digest = hashlib.sha256((method + row["key"]).encode()).hexdigest()[:32]
    return {**row, "method": method, "estimator": "mine", "key": digest, "case_key": digest}


def sites(variance: float | None) -> dict[str, Any]:
    """What a record says of its sites; the second is as good as undefined."""
    found = {"relative_variance": measured(variance), "predicted_variance": 5.1}
    found["bias"] = {**measured(0.02), "p_value": 0.5, "p_adjusted": 0.5, "detectable": 0.1}
    return {"body.0.l0": found, "body.1.l0": {**found, "relative_variance": measured(None)}}


def claimed(bias: str, p: float = 0.4, detectable: float = 0.2, **more: Any) -> dict[str, Any]:
    """What a measurement says of a claim."""
    test = {**measured(0.01), "p_value": p, "detectable": detectable}
    return {"claimed": {"bias": bias, "why": ""}, "bias": test, **more}


def realistic() -> list[dict[str, Any]]:
    """Records of every verb, status and age, on two networks."""
    mlp = {"arch": "mlp-3x256", "data": "digits"}
    found = [a_measure(m, **claimed("none"), per_site=sites(5.0)) for m in ("FG-A", "LG-FG-A")]
    found += [a_measure("BP", **claimed("none", 1.0, 0.0)), a_measure("FA", **claimed("some"))]
    found += [a_measure("FG-A", **claimed("none", 1e-5), per_site=sites(9.0), **mlp)]
    found += [a_measure("FG-W", relative_variance=measured(7e4), heavy_tail=True, **mlp)]
    found += [a_measure("NP", schema=0, per_site="lost")]
    found += [a_measure("LG-FG-W", relative_variance=None, efficiency=None, locality_gap=None)]
    found += [a_train(m, s, epochs=4) for m in ("BP", "FG-A") for s in range(3)]
    found += [a_speed("BP", 1.0), a_speed("FG-A", 0.8)]
    found += [record("measure", "DFA", status="skipped", reason="needs <sites> & a $chain$")]
    found += [record("train", "FG-W", 7, status="diverged", reason="loss not finite at step 9")]
    found += [a_train("FG-A", 9, settings={"validation": 5000}, test_error=0.123)]
    found += [named(a_measure("FG-A", **claimed("none"), per_site=sites(7.0)), EVIL)]
    found += [named(a_train("FG-A", epochs=3), EVIL)]
    return [{**row, **meaning(row["method"])} for row in found]


def meaning(method: str) -> dict[str, str]:
    """What records of a preset say of it."""
    estimator, _, locality = registry.PRESETS.get(method, "").partition("/")
    return {"estimator": estimator, "locality": locality} if locality else {}
