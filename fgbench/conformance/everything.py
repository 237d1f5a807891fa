"""The checks of everything that is registered, and what they spend of the false-alarm budget."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter
from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.conformance import budget
from fgbench.conformance.report import CHECKED, Report, check_any
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fgbench.conformance.outcome import Outcome

ALL = "all"


@dataclass(frozen=True)
class Checked:
    """The outcomes of one registered name.

    Args:
        kind: of the name.
        name: as it is typed.
        outcomes: of its checks.
        seconds: that they took.
        error: why it could not be checked, such as data files that are missing; "" if it was.

    Example:
        >>> Checked("estimators", "bp", [], 0.1).held
        True
    """

    kind: str
    name: str
    outcomes: Sequence[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def held(self) -> bool:
        """Whether every check that judged something held."""
        return Report(self.outcomes).held

    def line(self) -> str:
        """Return one line: ok, FAIL, or -- where it could not be checked.

        Example:
            >>> Checked("datasets", "mnist", error="no files").line()
            '--    mnist: not checked: no files'
        """
        if self.error:
            return f"--    {self.name}: not checked: {self.error}"
        mark = "ok  " if self.held else "FAIL"
        return f"{mark}  {self.name}: {Report(self.outcomes).summary()[0]}, {self.seconds:.1f} s"


def kinds_of(text: str) -> tuple[str, ...]:
    """Return the kinds that a text names, none where it is no kind.

    Args:
        text: ``estimators``, ``localities``, ``architectures``, ``datasets``, or ``all`` of them.

    Example:
        >>> kinds_of("localities"), kinds_of("local")
        (('localities',), ())
    """
    if text == ALL:
        return CHECKED
    return (text,) if text in CHECKED else ()


def check_everything(
    kinds: Sequence[str],
    tell: Callable[[Checked], None] | None = None,
    *,
    quick: bool = False,
    workers: int = 1,
) -> list[Checked]:
    """Check every registered name of some kinds.

    Args:
        kinds: which.
        tell: called with each as soon as it is checked.
        quick: use fewer draws where the bias can only be tested by sampling.
        workers: processes; with several the names come as they are finished.

    Returns:
        The outcomes of each name, in order.

    Raises:
        UsageError: for a kind that there are no checks of.

    Example:
        >>> check_everything(["presets"])
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown kind of checks 'presets'; did you mean 'datasets'?
    """
    for kind in kinds:
        if kind not in CHECKED:
            raise unknown("kind of checks", kind, CHECKED)
    names = [(kind, name) for kind in kinds for name in registry.names(kind)]
    found: dict[tuple[str, str], Checked] = {}
    for one in _checked(names, quick, workers):
        found[one.kind, one.name] = one
        if tell is not None:
            tell(one)
    return [found[each] for each in names]


def _checked(names: Sequence[tuple[str, str]], quick: bool, workers: int) -> Iterator[Checked]:
    """Check names one after the other, or in several processes."""
    if workers < 2:
        yield from (check_one(kind, name, quick) for kind, name in names)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(check_one, kind, name, quick) for kind, name in names]
        yield from (one.result() for one in as_completed(running))


def check_one(kind: str, name: str, quick: bool = False) -> Checked:
    """Check one registered name, and time it.

    Args:
        kind: of the name.
        name: without options.
        quick: as of :func:`check_everything`.

    Returns:
        Its outcomes.

    Example:
        >>> check_one("localities", "end").held
        True
    """
    begun = perf_counter()
    try:
        outcomes = check_any(name, quick=quick)
    except UsageError as error:
        return Checked(kind, name, error=str(error))
    return Checked(kind, name, outcomes, perf_counter() - begun)


def summary(every: Sequence[Checked]) -> str:
    """Return how many names held, and what sampled checks spend of the false-alarm budget.

    Args:
        every: what was checked.

    Returns:
        One line.

    Example:
        >>> summary([Checked("estimators", "bp")]).partition(";")[0]
        '1 of 1 held'
    """
    judged = [one for one in every if not one.error]
    aside = f", {len(every) - len(judged)} not checked" if len(judged) < len(every) else ""
    draws = sum(len(budget.sampled(one.outcomes)) for one in judged)
    return (
        f"{sum(one.held for one in judged)} of {len(judged)} held{aside}; {draws} checks are sampled, which "
        f"together reject what is right with a probability of at most {budget.spent(draws):.2g} (budget "
        f"{budget.BUDGET:g}); {sum(one.seconds for one in every):.0f} s"
    )
