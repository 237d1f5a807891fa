"""``fgbench check`` for the terminal: one line per check, and what was not judged or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench import conformance, registry

if TYPE_CHECKING:
    from fgbench.conformance import Outcome

LESS = 3  # all that was tested held, and less was tested than could be


def run(name: str, *, quick: bool = False) -> int:
    """Check an estimator or an architecture and print each outcome as it is found.

    Args:
        name: as typed.
        quick: make fewer draws where only sampling can judge.

    Returns:
        0 where all held, 1 where a check failed, 3 where all held and a quick check left something out.

    Raises:
        UsageError: for an unknown name or option.
    """
    base = name.partition("[")[0].partition("/")[0]
    is_estimator = ".py" in name or base in {*registry.entries("estimators"), *registry.PRESETS}
    if is_estimator:
        outcomes = conformance.check_estimator(name, tell, quick=quick)
    elif base.partition("-")[0] in registry.entries("architectures"):
        outcomes = conformance.check_architecture(name, tell)
    else:
        known = [*registry.PRESETS, *registry.entries("estimators")]
        raise registry.no_such("estimator or architecture", base, "architectures", known)
    failed = [o for o in outcomes if not o.held]
    judged = [o for o in outcomes if o.judged]
    aside = f", {len(outcomes) - len(judged)} not judged" if len(judged) < len(outcomes) else ""
    print(f"{len(judged) - len(failed)} of {len(judged)} checks held{aside}")
    less = [o for o in outcomes if o.left_out]
    for o in less:
        print(f"left out: {o.check}: {o.left_out}")
    if quick and not less and not failed:
        print("left out: nothing, the whole check takes no more")
    return 1 if failed else LESS if less else 0


def tell(outcome: Outcome) -> None:
    """Print an outcome; what tested nothing says so and why.

    Args:
        outcome: of one check.
    """
    mark = ("ok  " if outcome.held else "FAIL") if outcome.judged else "--  "
    said = outcome.detail if outcome.judged else f"not judged: {outcome.detail}"
    print(f"{mark}  {outcome.check}: {said}", flush=True)
