"""Runs cases through the measured commit's own fgbench and reads one number from a result."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

Result = dict[str, Any]

CHANCE_ERROR = 0.9
"""Error fraction of guessing one of ten classes: a diverged run counts as that, not as missing."""


def run_cases(verb: str, cases: dict[str, Result]) -> dict[str, Result]:
    """Run each case, for ``setup_cache`` to hand to the benchmarks.

    Args:
        verb: ``"measure"``, ``"train"`` or ``"speed"``.
        cases: the options of each case, by a name of the suite's choice.

    Returns:
        The results by the same names. A commit without ``fgbench.api`` gives none; a name that the
        commit does not know gives the status ``"skipped"`` with its reason.
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
    """Make asv show n/a for what this commit cannot run.

    Raises:
        NotImplementedError: a named result is missing or skipped.
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
        key: the number's name; it holds either a number or ``{"value", "low", "high", "n"}``.
        diverged: what a diverged run counts as; None where that is a failure.

    Returns:
        The value, in the unit of the key.

    Raises:
        RuntimeError: the run failed, or could not resolve the number. asv hides NaN, but not this.
    """
    if result["status"] == "diverged" and diverged is not None:
        return diverged
    entry = result.get(key)
    value = entry.get("value") if isinstance(entry, dict) else entry
    if result["status"] != "ok" or value is None:
        raise RuntimeError(f"{key}: {result['status']}, {result.get('reason') or 'no value'}")
    return float(value)
