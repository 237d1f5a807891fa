"""``fgbench check`` on the terminal: one line per check, and what was not judged or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench import conformance, registry
from fgbench.core.time_limit import time_limit
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from fgbench.conformance import Outcome
    from fgbench.workload import Cuts

LESS = 3  # exit code: all that was tested held, but something was left out


def run_checks(
    name: str,
    *,
    quick: bool = False,
    timeout: float | None = None,
    arch: str = "",
    data: str = "",
    cuts: Cuts | None = None,
) -> int:
    """Check an estimator or an architecture and print each outcome as soon as it is known.

    Args:
        name: as typed.
        quick: use fewer draws where the bias can only be tested by sampling.
        arch: an architecture on which an estimator is checked beside the small networks.
        data: a data set whose examples an architecture is checked on; images of random numbers where "".
        cuts: how an ordinary module is cut.
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
        outcomes = _outcomes(name, quick, arch, data, cuts)
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


def _outcomes(name: str, quick: bool, arch: str, data: str, cuts: Cuts | None) -> list[Outcome]:
    """Run the checks of an estimator or an architecture, and print each outcome."""
    base = name.partition("[")[0].partition("/")[0]
    stated = cuts is not None and bool(cuts.stated)
    if ".py:" in name and (data or stated or _is_network(name)):
        return _of_network(name, arch, data, cuts)
    if ".py" in name or base in {*registry.entries("estimators"), *registry.PRESETS}:
        if data or stated:
            raise UsageError(
                f"--data, --cut, --sites and --out-axes are for architectures, and {name} is none"
            )
        return conformance.check_estimator(name, print_outcome, quick=quick, arch=arch)
    if registry.base_of(name.partition("[")[0], registry.entries("architectures")):
        return _of_network(name, arch, data, cuts)
    estimators = [*registry.PRESETS, *registry.entries("estimators")]
    raise registry.no_such("estimator or architecture", base, "architectures", estimators)


def _of_network(name: str, arch: str, data: str, cuts: Cuts | None) -> list[Outcome]:
    """Run the checks of an architecture, and print the sites of a network that was wrapped."""
    from fgbench.core.wrapping import WrappedChain
    from fgbench.reporting.terminal.network_table import site_table
    from fgbench.reporting.terminal.table import console
    from fgbench.runs.anatomy import sites
    from fgbench.workload import Cuts, Workload

    if arch:
        raise UsageError(f"--arch is for estimators, and {name} is an architecture")
    cuts = cuts or Cuts()
    workload = None
    if data or cuts.stated:
        workload = Workload.of(name, data or "digits", dtype="float64", cuts=cuts)
    try:
        chain = conformance.checked_network(name, workload=workload)
    except UsageError as error:
        if workload is not None:
            raise
        raise UsageError(
            f"{error}; it was tried on images, and --data names a data set for other inputs"
        ) from None
    outcomes = conformance.check_architecture(name, print_outcome, workload=workload)
    if isinstance(chain, WrappedChain):
        console().print(site_table(sites(chain)))
    return outcomes


def _is_network(name: str) -> bool:
    """Return whether a class or function in a file makes a network, and no estimator."""
    from inspect import isclass

    from torch import nn

    from fgbench.core.network import Chain
    from fgbench.core.wrapping import Network

    if "/" in name.partition(".py:")[2].partition("[")[0]:  # a METHOD with its locality
        return False
    make, _ = registry.load(name.partition("[")[0])
    if isclass(make):
        return issubclass(make, nn.Module | Network)
    try:
        offered = {"shape": (3, 16, 24), "classes": 5, "outputs": (5,), "vocabulary": None}
        made = registry.make("architectures", name, offered=offered).thing
    except UsageError:
        return False
    return isinstance(made, Chain | nn.Module | Network)


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
