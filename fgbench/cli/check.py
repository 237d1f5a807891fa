"""``fgbench check`` on the terminal: one line per check, and what was not judged or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.conformance.any_architecture import checked_network, is_network, workload_to_check
from fgbench.conformance.everything import Checked, check_everything, kinds_of, summary
from fgbench.conformance.report import Report, check_any, line
from fgbench.core.time_limit import time_limit
from fgbench.core.wrapping import WrappedChain
from fgbench.reporting.terminal.network_table import site_table
from fgbench.reporting.terminal.table import console
from fgbench.runs.anatomy import sites

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
    workers: int = 1,
) -> int:
    """Check one thing and print each outcome as soon as it is known, or everything of a kind.

    Args:
        name: as typed; ``estimators`` or another kind for all its names, ``all`` for all kinds.
        quick: use fewer draws where the bias can only be tested by sampling.
        arch: an architecture on which an estimator or a locality is checked beside the small networks.
        data: a data set whose examples an architecture is checked on; images of random numbers where "".
        cuts: how an ordinary module is cut.
        workers: processes that check everything of a kind.
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
        unknown estimator, locality, architecture or data set 'fg_ab'; did you mean 'fg_a'?
    """
    kinds = kinds_of(name)
    with time_limit(timeout, f"check {name}"):
        if kinds:
            every = check_everything(kinds, print_checked, quick=quick, workers=workers)
            print(summary(every))
            failed, left = (any(map(of, every)) for of in (lambda o: not o.held, lambda o: o.error))
            return 1 if failed else LESS if left else 0
        checked = check_any(name, print_outcome, quick=quick, arch=arch, data=data, cuts=cuts)
        report = Report(checked)
        _print_sites(name, data, cuts)
    for text in report.summary():
        print(text)
    if quick and not report.partial and report.held:
        print("left out: nothing; the check without --quick does the same")
    return 1 if report.failed else LESS if report.partial else 0


def _print_sites(name: str, data: str, cuts: Cuts | None) -> None:
    """Print the sites of a network that was wrapped, as a table; nothing for all else."""
    if not is_network(name):
        return
    chain = checked_network(name, workload=workload_to_check(name, data, cuts))
    if isinstance(chain, WrappedChain):
        console().print(site_table(sites(chain)))


def print_outcome(outcome: Outcome) -> None:
    """Print an outcome as one line: ok, FAIL, or -- with the reason where nothing was judged.

    Args:
        outcome: of one check.

    Example:
        >>> from fgbench.conformance import Outcome
        >>> print_outcome(Outcome("pure", True, "two calls agree"))
        ok    pure: two calls agree
    """
    print(line(outcome), flush=True)


def print_checked(one: Checked) -> None:
    """Print the outcome of one name of many as one line, and what did not hold below it.

    Args:
        one: the name and its outcomes.

    Example:
        >>> print_checked(Checked("datasets", "mnist", error="no files"))
        --    mnist: not checked: no files
    """
    print(one.line(), flush=True)
    for outcome in Report(one.outcomes).failed:
        print(f"      {line(outcome)}", flush=True)
