"""``fgbench check`` on the terminal: one line per check, and what was not judged or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench import conformance, registry
from fgbench.core.time_limit import time_limit

if TYPE_CHECKING:
    from fgbench.conformance import Outcome

LESS = 3  # exit code: all that was tested held, but something was left out


def run_checks(name: str, *, quick: bool = False, timeout: float | None = None) -> int:
    """Check an estimator or an architecture and print each outcome as soon as it is known.

    Args:
        name: as typed.
        quick: use fewer draws where the bias can only be tested by sampling.
        timeout: seconds after which the check that is running, and those after it, are not judged.

    Returns:
        The exit code: 0 if all checks held, 1 if one failed, 3 if all held and a quick check or a time
        limit left something out.

    Raises:
        UsageError: for an unknown name or option, or a time limit that is no positive number.
        TimedOut: if the time is over before the first check.

    Example:
        >>> from fgbench.errors import UsageError
        >>> try:
        ...     run_checks("fg_ab")
        ... except UsageError as error:
        ...     print(error)
        unknown estimator or architecture 'fg_ab'; did you mean 'fg_a'?
    """
    with time_limit(timeout, f"check {name}"):
        outcomes = _outcomes(name, quick)
    failed = [o for o in outcomes if not o.held]
    judged = [o for o in outcomes if o.judged]
    aside = f", {len(outcomes) - len(judged)} not judged" if len(judged) < len(outcomes) else ""
    print(f"{len(judged) - len(failed)} of {len(judged)} checks held{aside}")
    partial = [o for o in outcomes if o.left_out]
    for o in partial:
        print(f"left out: {o.check}: {o.left_out}")
    if quick and not partial and not failed:
        print("left out: nothing; the check without --quick does the same")
    return 1 if failed else LESS if partial else 0


def _outcomes(name: str, quick: bool) -> list[Outcome]:
    """Run the checks of an estimator or an architecture, and print each outcome."""
    base = name.partition("[")[0].partition("/")[0]
    is_estimator = ".py" in name or base in {*registry.entries("estimators"), *registry.PRESETS}
    if is_estimator:
        return conformance.check_estimator(name, print_outcome, quick=quick)
    if base.partition("-")[0] in registry.entries("architectures"):
        return conformance.check_architecture(name, print_outcome)
    estimators = [*registry.PRESETS, *registry.entries("estimators")]
    raise registry.no_such("estimator or architecture", base, "architectures", estimators)


def print_outcome(outcome: Outcome) -> None:
    """Print an outcome as one line: ok, FAIL, or -- with the reason where nothing was judged.

    Args:
        outcome: of one check.

    Example:
        >>> print_outcome(conformance.Outcome("pure", True, "two calls agree"))
        ok    pure: two calls agree
    """
    mark = ("ok  " if outcome.held else "FAIL") if outcome.judged else "--  "
    detail = outcome.detail if outcome.judged else f"not judged: {outcome.detail}"
    print(f"{mark}  {outcome.check}: {detail}", flush=True)
