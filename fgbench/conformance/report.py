"""The checks of anything, by name or as an object, and their outcomes as a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

from fgbench import registry
from fgbench.conformance.any_architecture import (
    check_architecture,
    is_network,
    workload_to_check,
)
from fgbench.conformance.estimator import check_estimator
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from fgbench.conformance.outcome import Outcome, Tell
    from fgbench.workload import Cuts


class Report(Sequence["Outcome"]):
    """The outcomes of checks; prints as ``fgbench check`` does.

    Args:
        outcomes: in order.

    Example:
        >>> from fgbench.conformance.outcome import Outcome
        >>> Report([Outcome("pure", True, "two calls agree"), Outcome("gate", False, "it uses reverse mode")])
        ok    pure: two calls agree
        FAIL  gate: it uses reverse mode
        1 of 2 checks held
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = list(outcomes)

    @overload
    def __getitem__(self, at: int) -> Outcome: ...

    @overload
    def __getitem__(self, at: slice) -> Report: ...

    def __getitem__(self, at: int | slice) -> Outcome | Report:
        """Return an outcome, or a part of the report."""
        found = self._outcomes[at]
        return Report(found) if isinstance(found, list) else found

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes)

    @property
    def held(self) -> bool:
        """Whether every check that judged something held."""
        return not self.failed

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of checks that did not hold."""
        return [outcome for outcome in self if not outcome.held]

    @property
    def partial(self) -> list[Outcome]:
        """The outcomes that a quick check or a time limit left something out of."""
        return [outcome for outcome in self if outcome.left_out]

    def summary(self) -> list[str]:
        """Return how many checks held, and what was left out, a line each."""
        judged = [outcome for outcome in self if outcome.judged]
        aside = f", {len(self) - len(judged)} not judged" if len(judged) < len(self) else ""
        counted = f"{len(judged) - len(self.failed)} of {len(judged)} checks held{aside}"
        return [counted, *(f"left out: {o.check}: {o.left_out}" for o in self.partial)]

    def __repr__(self) -> str:
        return "\n".join([*map(line, self), *self.summary()])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def line(outcome: Outcome) -> str:
    """Format an outcome as one line: ok, FAIL, or -- with the reason where nothing was judged.

    Args:
        outcome: of one check.

    Returns:
        The line.

    Example:
        >>> from fgbench.conformance.outcome import Outcome
        >>> line(Outcome("pure", True, "two calls agree"))
        'ok    pure: two calls agree'
    """
    mark = ("ok  " if outcome.held else "FAIL") if outcome.judged else "--  "
    detail = outcome.detail if outcome.judged else f"not judged: {outcome.detail}"
    return f"{mark}  {outcome.check}: {detail}"


def check_any(
    given: Any,
    tell: Tell | None = None,
    *,
    quick: bool = False,
    arch: str = "",
    data: str = "",
    cuts: Cuts | None = None,
) -> list[Outcome]:
    """Check an estimator's claims, or an architecture's declarations or what wrapping it found.

    Args:
        given: the name of either, or ``./file.py:Class``; an estimator; or (estimator, locality).
        tell: called with each outcome as it is found.
        quick: use fewer draws where the bias can only be tested by sampling.
        arch: an architecture on which an estimator is checked beside the small networks.
        data: a data set whose examples an architecture is checked on; images of random numbers where "".
        cuts: how an ordinary module is cut.

    Returns:
        One outcome per check.

    Raises:
        UsageError: for an unknown name or option, or what is neither.

    Example:
        >>> check_any("fg_ab")
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown estimator or architecture 'fg_ab'; did you mean 'fg_a'?
    """
    if isinstance(given, str) and is_network(given):
        if arch:
            raise UsageError(f"--arch is for estimators, and {given} is an architecture")
        return check_architecture(given, tell, workload=workload_to_check(given, data, cuts))
    if data or (cuts is not None and cuts.stated):
        raise UsageError(
            f"--data, --cut, --sites and --out-axes are for networks, and {given} is none"
        )
    if not isinstance(given, str):
        return check_estimator(given, tell, quick=quick, arch=arch)
    base = given.partition("[")[0].partition("/")[0]
    estimators = [*registry.PRESETS, *registry.entries("estimators")]
    if ".py" in given or base in estimators:
        return check_estimator(given, tell, quick=quick, arch=arch)
    raise registry.no_such("estimator or architecture", base, "architectures", estimators)
