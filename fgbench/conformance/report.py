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
from fgbench.conformance.data_set import check_data_set
from fgbench.conformance.estimator import check_estimator
from fgbench.conformance.locality import check_locality
from fgbench.data.dataset import DataSet
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from fgbench.conformance.outcome import Outcome, Tell
    from fgbench.workload import Cuts

CHECKED = ("estimators", "localities", "architectures", "datasets")
"""Kinds of things that there are checks of."""


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
    """Check an estimator's claims, a locality, an architecture or a data set.

    Args:
        given: the name of one of them, or ``./file.py:Class``; an estimator; (estimator, locality); a
            locality; or a data set.
        tell: called with each outcome as it is found.
        quick: use fewer draws where the bias can only be tested by sampling.
        arch: an architecture on which an estimator or a locality is checked beside the small networks.
        data: a data set whose examples an architecture is checked on; images of random numbers where "".
        cuts: how an ordinary module is cut.

    Returns:
        One outcome per check.

    Raises:
        UsageError: for an unknown name or option, or what is none of them.

    Example:
        >>> check_any("fg_ab")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown estimator, locality, architecture or data set 'fg_ab'; did you ...
    """
    kind = _kind(given)
    if kind == "architectures":
        if arch:
            raise UsageError(
                f"--arch is for estimators and localities, and {given} is an architecture"
            )
        return check_architecture(given, tell, workload=workload_to_check(given, data, cuts))
    if data or (cuts is not None and cuts.stated):
        raise UsageError(
            f"--data, --cut, --sites and --out-axes are for networks, and {given} is none"
        )
    if kind == "estimators":
        return check_estimator(given, tell, quick=quick, arch=arch)
    if kind == "localities":
        return check_locality(given, tell, arch=arch)
    if arch:
        raise UsageError(f"--arch is for estimators and localities, and {given} is a data set")
    return check_data_set(given, tell)


def _kind(given: Any) -> str:
    """Return the kind of what is checked.

    Raises:
        UsageError: for an unknown name, and for what cannot be checked.
    """
    if isinstance(given, DataSet):
        return "datasets"
    if not isinstance(given, str):
        locality = not isinstance(given, tuple) and callable(getattr(given, "objectives", None))
        return "localities" if locality else "estimators"
    kind = registry.kind_of(given)
    if not kind and ".py:" in given:
        kind = "architectures" if is_network(given) else "datasets"
    if kind in CHECKED:
        return kind
    base = given.partition("[")[0]
    if kind:
        raise UsageError(f"{base} is one of the {kind}; checked are {', '.join(CHECKED)}")
    base = base.partition("/")[0]
    others = [n for other in CHECKED if other != "architectures" for n in registry.names(other)]
    what = "estimator, locality, architecture or data set"
    raise registry.no_such(what, base, "architectures", [*registry.PRESETS, *others])
