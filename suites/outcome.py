"""Run cases with the fgbench of the measured commit, and read one number from a result."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

Result = dict[str, Any]

CHANCE_ERROR = 0.9
"""Error of guessing one of ten classes; a diverged run counts as this error, not as missing."""


def run_cases(verb: str, cases: dict[str, Result]) -> dict[str, Result]:
    """Run all cases of a benchmark, once, in asv's ``setup_cache``.

    Args:
        verb: ``"measure"``, ``"train"`` or ``"speed"``.
        cases: the options of each case, by a name that the suite chooses.

    Returns:
        The results by the same names. A commit without ``fgbench.api`` has no results. A case with a name
        that the commit does not know has the status ``"skipped"`` and the reason.

    Example:
        >>> case = {"method": "BP", "arch": "mlp-1x4", "data": "no-such-data"}
        >>> run_cases("train", {"one": case})["one"]["status"]
        'skipped'
    """
    if find_spec("fgbench.api") is None:
        return {}
    from fgbench.api import run
    from fgbench.errors import UsageError

    results: dict[str, Result] = {}
    for name, case in cases.items():
        try:
            results[name] = run(verb, **case)
        except UsageError as error:
            results[name] = {"status": "skipped", "reason": str(error)}
    return results


def skip_if_absent(results: dict[str, Result], *names: str) -> None:
    """Skip a benchmark that this commit cannot run; asv then shows n/a.

    Args:
        results: what :func:`run_cases` returned.
        names: the cases that the benchmark needs.

    Raises:
        NotImplementedError: if one of them is missing or was skipped.

    Example:
        >>> skip_if_absent({"one": {"status": "ok"}}, "one")
    """
    for name in names:
        if name not in results:
            raise NotImplementedError(f"{name}: this commit has no fgbench.api")
        if results[name]["status"] == "skipped":
            raise NotImplementedError(f"{name}: {results[name]['reason']}")


def number(result: Result, key: str, diverged: float | None = None) -> float:
    """Read one measured number.

    Args:
        result: what ``run`` returned.
        key: name of the number, which is a number or ``{"value", "low", "high", "n"}``.
        diverged: the value of a diverged run; None if divergence is a failure.

    Returns:
        The value, in the unit of the key.

    Raises:
        RuntimeError: if the run failed or has no value. asv shows an error, whereas it would hide a NaN.

    Example:
        >>> number({"status": "ok", "scale": {"value": 1.0, "low": 0.9, "high": 1.1, "n": 4}}, "scale")
        1.0
    """
    if result["status"] == "diverged" and diverged is not None:
        return diverged
    entry = result.get(key)
    value = entry.get("value") if isinstance(entry, dict) else entry
    if result["status"] != "ok" or value is None:
        raise RuntimeError(f"{key}: {result['status']}, {result.get('reason') or 'no value'}")
    return float(value)
