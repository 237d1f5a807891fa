"""Checks of an estimator's reach: how far it goes back, and which oracles it uses."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from fgbench.conformance.agreement import same
from fgbench.conformance.nets import NETS, OPAQUE
from fgbench.conformance.outcome import Fault, NotJudged, first_line, listed, told
from fgbench.conformance.watch import Oracles, around
from fgbench.core.autodiff import no_reverse
from fgbench.core.time_limit import time_limit
from fgbench.errors import BackwardRefused, TimedOut, pass_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from fgbench.conformance.nets import Case
    from fgbench.core.estimator import Estimate, Estimator, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.view import View

CORE = "fgbench.core."  # whose modules may open the gate
SECONDS = 60.0  # of one estimate on a network of some hundred weights
GEOMETRY = frozenset(
    {"slopes", "credit", "probe", "cells", "count", "sites", "shapes", "kept", "share", "objective"}
)


def gated(cases: Sequence[Case]) -> str:
    """Check that the estimator runs on every case, with reverse mode refused where it claims none.

    Args:
        cases: estimator, networks and localities.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> gated([case]).partition(";")[0]
        'runs without reverse mode on 1 nets and localities'
    """
    for case in cases:
        try:
            with no_reverse.openers() as openers, ended(case):
                case.estimate(case.noise)
        except BackwardRefused as error:
            raise Fault(f"{first_line(error)} (on {case.name})") from None
        except Fault:
            raise
        except BaseException as error:
            pass_on(error)
            # what the estimator raises by itself has nothing to do with the gate
            why = told(error, case.estimator)
            raise Fault(f"{why} (on {case.name})", check="runs") from error
        others = [name for name in openers if not name.startswith(CORE)]
        if case.claims.gated and others:
            raise Fault(
                f"claims backward={case.claims.backward!r} but opens the gate itself (on {case.name}); "
                "use view.pull"
            )
    behind = [case for case in cases if case.claims.gated]
    if not behind:
        wanted = listed(dict.fromkeys(repr(case.claims.backward) for case in cases))
        raise NotJudged(f"claims backward={wanted}: reverse mode is allowed")
    opaque = any(case.name.startswith(OPAQUE.name) for case in behind)
    second = "opaque operations whose backward raises" if opaque else "no opaque net was supported"
    return (
        f"runs without reverse mode on {len(behind)} nets and localities; held under these two checks: "
        f"autograd's engine refused; {second}"
    )


@contextmanager
def ended(case: Case) -> Iterator[None]:
    """Fail an estimate that does not end, on a small network and where alarms can be set.

    Args:
        case: estimator, network and locality.

    Raises:
        Fault: where the time is over.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> with ended(case):
        ...     found = case.estimate(case.noise)
    """
    main = threading.current_thread() is threading.main_thread()
    if case.net not in NETS or not main or not hasattr(signal, "setitimer"):
        yield
        return
    what = f"an estimate on {case.name}"
    try:
        with time_limit(SECONDS, what):
            yield
    except TimedOut as over:
        if not str(over).startswith(what):  # of the whole check
            raise
        raise Fault(f"{over}, where backprop takes milliseconds: it does not end", "ends") from None


def reach(case: Case) -> str:
    """Check that an estimator goes no further back than it claims, beyond what the gate sees.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> reach(case)
        "nothing goes further back than it claims, backward='segment'"
    """
    claims = case.claims
    if claims.backward == "module":
        return _inside_modules(case)
    if not claims.gated:
        raise NotJudged("claims backward='network': it may go back all the way")
    used: list[str] = []
    first: list[list[Tensor]] = []

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        estimate = inner(Oracles(view, used, first), noise, state)  # type: ignore[arg-type]
        if claims.backward == "none" and estimate.credit is not None:
            raise Fault("claims backward='none' but returns credit, which is pulled back a segment")
        return estimate

    case.of(around(case.estimator, call)).estimate(case.noise)
    pulling = [name for name in ("pull", "probe") if name in used]
    if "reverse" in used:
        raise Fault(
            f"claims backward={claims.backward!r} but calls view.reverse; that is 'network'"
        )
    if claims.backward == "none" and pulling:
        raise Fault(
            f"claims backward='none' but calls view.{pulling[0]}; one segment back is 'segment'"
        )
    if len(first) > 1:
        _not_chained(case, first)
    return f"nothing goes further back than it claims, backward={claims.backward!r}"


def _not_chained(case: Case, first: list[list[Tensor]]) -> None:
    """Check that no pull starts from the answer of another, by disturbing the first answer."""
    second: list[list[Tensor]] = []

    def disturb(found: dict[Any, Tensor]) -> dict[Any, Tensor]:
        return {place: 2 * c + 1 for place, c in found.items()}

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        pulls: list[list[Tensor]] = []
        try:
            return inner(Oracles(view, [], pulls, disturb), noise, state)  # type: ignore[arg-type]
        finally:
            second.extend(pulls)

    case.of(around(case.estimator, call)).estimate(case.noise)
    alike = len(first) == len(second) and all(
        len(one) == len(other) and all(map(same, one, other))
        for one, other in zip(first, second, strict=True)
    )
    if not alike:
        raise Fault(
            "claims backward='segment' but chains pulls, one from the answer of another: that is 'network'"
        )


def _inside_modules(case: Case) -> str:
    """Check that no gradient passes from a module to the one before it."""

    def refuse(grad: Tensor) -> None:
        raise BackwardRefused("claims backward='module' but goes back across a module's input")

    def walled(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        if isinstance(x, torch.Tensor) and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(refuse)
        return (x, *args[1:])

    handles = [m.register_forward_pre_hook(walled) for m in list(case.task.chain.body)[1:]]
    try:
        case.estimate(case.noise)
    finally:
        for handle in handles:
            handle.remove()
    return "no gradient passes from a module to the one before it"


def slopes_only(case: Case) -> str:
    """Check that exact slopes are all an estimator asks for.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> slopes_only(case).partition(";")[0]
        'exact slopes are all it asks for'
    """
    if not case.claims.slopes_only:
        raise NotJudged("slopes_only is not claimed")
    used: list[str] = []

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        return inner(Oracles(view, used), noise, state)  # type: ignore[arg-type]

    case.of(around(case.estimator, call)).estimate(case.noise)
    others = [name for name in dict.fromkeys(used) if name not in GEOMETRY]
    if others:
        raise Fault(f"claims slopes_only but used {listed(others)}")
    return f"exact slopes are all it asks for; it used {listed(dict.fromkeys(used), 6)}"
