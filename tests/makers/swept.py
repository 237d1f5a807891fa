"""Records of a swept quantity."""

from __future__ import annotations

from typing import Any

from tests.makers.records import a_measure, measured


def swept(k: int, method: str, value: float, **changes: Any) -> dict[str, Any]:
    """A record whose variance falls as 1/k."""
    estimator, _, locality = {"FG-W": "fg_w//end", "FG-A": "fg_a//end"}[method].partition("//")
    options = f"[directions={k}]" if k > 1 else ""
    found = a_measure(method, **{"relative_variance": measured(value / k, 0.1, 5), **changes})
    found |= {"predicted_variance": value / k, "directions": k, "batch": 16, "elements": 4160}
    found |= {"estimator": estimator + options, "locality": locality, "inits": 5, "moments": [0.0]}
    found |= changes
    return found | {"method": f"{estimator}{options}/{locality}" if options else method}


def unique(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = [f"{at:04}" * 8 for at in range(len(runs))]
    return [run | {"key": key, "case_key": key} for key, run in zip(keys, runs, strict=True)]
