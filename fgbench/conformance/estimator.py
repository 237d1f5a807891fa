"""Checks of every claim of an estimator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.conformance import cost, learned, pure, reach, sampled, unbiased, variance
from fgbench.conformance.nets import CONVOLUTION, DEEP, FEW, LEAST, NETS, SMOOTH, TINY, Case, Net
from fgbench.conformance.outcome import (
    Fault,
    NotJudged,
    Outcome,
    collected,
    everywhere,
    judge,
    listed,
    not_judged,
    running,
    told,
)
from fgbench.conformance.structure import require_structure
from fgbench.conformance.unbiased import NoDesign, TooLarge
from fgbench.core.task import COUPLED
from fgbench.errors import pass_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fgbench.conformance.outcome import Tell
    from fgbench.core.estimator import Estimator

    Locality = str | registry.Made

LOCALITIES = (
    *("end", "module", "local", "contrastive-local-pg[features=3]"),
    *("contrastive[features=3,stop_keys=false]", "module-pg", "local-pg"),
)
SHAPE, CLASSES = (3, 16, 24), 5  # of an architecture asked for: height and width differ
PROTOCOL = ("claims", "supports", "init_state", "predicted_variance", "__call__")
CHECKS: dict[str, Callable[[Case], str]] = {
    "pure": pure.pure,
    "deterministic": pure.deterministic,
    "noise keys": pure.noise_keys,
    "chunks": pure.chunks,
    "backward": reach.reach,
    "slopes only": reach.slopes_only,
    "exact": pure.exact,
    "cost": cost.cost,
    "training": learned.training,
    "state": learned.state,
}
BIAS, DOCUMENTED = "bias", "documented mean"
MEANS = {
    "gradient": "unbiased",
    "direction": "mean along the gradient",
    "documented": "mean as documented",
}
LIMITS = {"gradient": "bias vanishes", "documented": "mean tends to what is documented"}
FINEST = 1e-5  # step at which a vanishing bias is sampled against none
SAMPLED = ("end", "local")  # where a bias is sampled under localities of which none was asked for


def check_estimator(
    given: Any, tell: Tell | None = None, *, quick: bool = False, arch: str = ""
) -> list[Outcome]:
    """Check everything an estimator claims.

    Args:
        given: a name with options or ``./file.py:Class``; with ``/locality`` it is checked under that one
            only, otherwise under ``end``, ``module``, ``local``, ``module-pg``, ``local-pg`` and two
            contrastive ones, in one of which losses couple the examples. Or an estimator, or a pair
            (estimator, locality).
        tell: called with each outcome as it is found.
        quick: where only sampling can judge the bias, make fewer draws; the outcome says what is left
            out, and how large a fault must be to be found.
        arch: an architecture with options, on which it is checked beside the small networks.

    Returns:
        One outcome per check, exact checks before sampled ones.

    Raises:
        UsageError: for an unknown name or option, or an architecture that cannot be used.

    Cost: seconds; minutes where only sampling can judge the bias, an eighth of that if quick.

    Example:
        >>> check_estimator("fg_b/end")
        Traceback (most recent call last):
            ...
        fgbench.errors.UsageError: unknown method 'fg_b'; did you mean 'fg_w'?
    """
    method = registry.method_of(given)
    stated = given.endswith("/end") if isinstance(given, str) else isinstance(given, tuple)
    alone = method.locality.text != "end" or stated
    where = [method.locality] if alone else LOCALITIES
    nets: Sequence[Net] = NETS
    if arch:
        require_structure(arch, SHAPE, CLASSES)
        nets = (*NETS, Net(arch, SHAPE, CLASSES, examples=2))
    return examine(method.estimator.thing, where, tell, quick=quick, nets=nets)


def examine(
    estimator: Estimator,
    localities: Sequence[Locality] = LOCALITIES,
    tell: Tell | None = None,
    *,
    quick: bool = False,
    nets: Sequence[Net] = NETS,
) -> list[Outcome]:
    """Check everything an estimator object claims; see :func:`check_estimator`.

    Args:
        estimator: the object.
        localities: under which it is checked.
        tell: called with each outcome as it is found.
        quick: as of :func:`check_estimator`.
        nets: on which it is checked.

    Returns:
        One outcome per check.

    Example:
        >>> examine(object(), ["end"])[0].held  # it has no method of the protocol
        False
    """
    with torch.random.fork_rng(devices=[]):  # what a faulty one draws globally leaves no trace
        return collected(_examine(estimator, localities, quick, nets), tell)


def _examine(
    estimator: Estimator, localities: Sequence[Locality], quick: bool, networks: Sequence[Net]
) -> Iterator[Outcome]:
    """Run the checks in order; the rest only where the first ones hold."""
    cases: list[Case] = []
    first: dict[str, Callable[[], str]] = {
        "protocol": lambda: protocol(estimator),
        "supports": lambda: supported(estimator, localities, cases, networks),
        "gate": lambda: reach.gated(cases),
    }
    for k, (name, run) in enumerate(first.items()):
        outcome = judge(name, run, estimator)
        yield outcome
        if not outcome.held:
            rest = [*list(first)[k + 1 :], *CHECKS, "bias"]
            why = f"'{outcome.check}' failed, and they need estimates that run as claimed"
            yield not_judged(listed(rest, len(rest)), why)
            return
    nets: dict[str, list[Case]] = {}
    for case in cases:
        nets.setdefault(case.net.name, []).append(case)
    few = [own[k] for own in nets.values() for k in dict.fromkeys((0, len(own) - 1))]
    named = [(case.name, case) for case in few]
    held, failed = {}, ""
    for name, check in CHECKS.items():
        outcome = judge(name, partial(everywhere, check, named, estimator))
        held[name] = outcome.held
        if name == "pure":
            failed = repr(outcome.check)
        yield outcome
    if held["pure"]:
        yield from variances(cases)
        yield from bias(estimator, cases, quick=quick)
        yield from documented(cases, quick=quick)
        if held["state"]:
            yield from bias_learned(estimator, few)
    else:
        why = f"{failed} failed, and what it found would be in every mean"
        yield not_judged("bias", why)


def protocol(estimator: Estimator) -> str:
    """Check that the estimator has every method of the protocol.

    Args:
        estimator: the object.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> protocol(registry.make("estimators", "bp").thing)
        'has claims, supports, init_state, predicted_variance, __call__'
    """
    missing = [name for name in PROTOCOL if not callable(getattr(estimator, name, None))]
    if missing:
        raise Fault(
            f"lacks {listed(missing)}; inherit fgbench.core.estimator.Defaults for the rest"
        )
    return f"has {listed(PROTOCOL, 5)}"


def supported(
    estimator: Estimator,
    localities: Sequence[Locality],
    cases: list[Case],
    nets: Sequence[Net] = NETS,
) -> str:
    """Build the cases, leaving out those the estimator does not support, for the reason it gives.

    Args:
        estimator: the object.
        localities: under which it is checked.
        cases: receives those that it supports.
        nets: on which it is checked.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> cases: list[Case] = []
        >>> supported(registry.make("estimators", "bp").thing, ["end"], cases)
        'runs on all 4 nets and localities'
    """
    refused: dict[str, list[str]] = {}  # by reason
    for net in nets:
        for locality in localities:
            case = Case.build(net, locality, estimator)
            if case.refused:
                refused.setdefault(case.refused, []).append(case.name)
            else:
                cases.append(case)
    skipped = [
        f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {reason}"
        for reason, names in refused.items()
    ]
    if not cases:
        raise Fault(f"runs on no net, so nothing is checked: {skipped[0]}; try another locality")
    return (
        f"skipped on {'; '.join(skipped)}"
        if refused
        else f"runs on all {len(cases)} nets and localities"
    )


def bias(estimator: Estimator, cases: Sequence[Case], *, quick: bool = False) -> Iterator[Outcome]:
    """Check the claimed bias: exactly on every net that allows it, else by sampling on the smallest.

    Args:
        estimator: the object.
        cases: networks and localities that it supports.
        quick: make fewer draws where only sampling can judge.

    Yields:
        An outcome per case, and what was not judged.

    Example:
        >>> case = Case.build(TINY, "end", registry.make("estimators", "bp").thing)
        >>> next(bias(case.estimator, [case])).check
        'unbiased on mlp-2x4/end'
    """
    yield from _means(cases, BIAS, quick)


def documented(cases: Sequence[Case], *, quick: bool = False) -> Iterator[Outcome]:
    """Check a documented mean as :func:`bias` checks the gradient; nothing where none is documented.

    Args:
        cases: networks and localities that the estimator supports.
        quick: make fewer draws where only sampling can judge.

    Yields:
        An outcome per case, and what was not judged.

    Example:
        >>> case = Case.build(TINY, "end", registry.make("estimators", "bp").thing)
        >>> list(documented([case]))
        []
    """
    stated = judge(DOCUMENTED, lambda: _documents(cases), cases[0].estimator)
    if not stated.held:
        yield stated
    elif stated.judged:
        yield from _means(cases, DOCUMENTED, quick)


def _documents(cases: Sequence[Case]) -> str:
    """Read the documented means, which may raise."""
    found = [case.name for case in cases if case.documented is not None]
    if not found:
        raise NotJudged("no mean is documented beside the gradient")
    return f"documented on {listed(found)}"


def _means(cases: Sequence[Case], what: str, quick: bool) -> Iterator[Outcome]:
    """Compare means with what they are claimed or documented to be, exactly or else by sampling."""
    judged, why, aimed = False, "", list[Case]()
    without: dict[tuple[str, str], list[str]] = {}  # check and reason to where it was not made
    for case in cases:
        aim = _aim(case, what)
        if isinstance(aim, str):
            without.setdefault((what, aim), []).append(case.name)
            continue
        aimed.append(aim)
        try:
            yield _exact(aim)
            judged = True
            if not _vanishes(aim) and case.net == TINY:
                own = partial(unbiased.unbiased, aim, as_it_is=True)
                name = f"{MEANS[aim.target]} with its own number of directions on {case.name}"
                yield judge(name, own, case.estimator)
        except NoDesign as reason:
            without.setdefault((f"{what}, exactly", str(reason)), []).append(case.name)
            if not isinstance(reason, TooLarge):
                why = str(reason)
    for (name, said), where in without.items():
        yield not_judged(f"{name}, on {listed(where)}", said)
        if not judged and name != what:  # too large everywhere
            why = why or said
    if why:
        yield from _inexact(aimed, what, why, quick)


def _aim(case: Case, what: str) -> Case | str:
    """Return a case with what its means are compared with, or why there is nothing to compare."""
    claims = case.claims
    if what == DOCUMENTED and claims.backward == "segment" and case.task.views_share:
        return f"under this locality no mean is as documented, because {COUPLED}"
    if what == DOCUMENTED:
        none = "no mean is documented here"
        return none if case.documented is None else case.towards("documented")
    if claims.kind != "gradient":
        return f"it claims kind={claims.kind!r}: it estimates no gradient"
    if claims.bias == "some":
        if claims.why == COUPLED:  # whatever the class claims
            return f"under this locality the claim is taken as 'some', because {COUPLED}"
        return "it claims bias='some'" + f": {claims.why}" * bool(claims.why)
    return case.towards("direction") if claims.bias == "scale" else case


def _vanishes(case: Case) -> bool:
    """Return whether means reach what they are compared with in the limit of small steps only."""
    if case.target == "documented":
        return unbiased.has_step(case.estimator)
    return case.claims.bias == "vanishing"


def bias_learned(estimator: Estimator, cases: Sequence[Case]) -> Iterator[Outcome]:
    """Check the claimed bias once more, exactly, in the state that several learned steps lead to.

    Args:
        estimator: the object.
        cases: networks and localities that it supports.

    Yields:
        An outcome per case with state and an exact mean; sampled checks start from that state anyway.

    Example:
        >>> case = Case.build(TINY, "end", registry.make("estimators", "fa").thing)
        >>> list(bias_learned(case.estimator, [case]))  # it claims a bias
        []
    """
    for case in cases:
        for what in (BIAS, DOCUMENTED) if learned.keeps_state(case) else ():
            aim = _aim(case, what)
            if isinstance(aim, str):
                continue
            try:
                yield _exact(learned.learned(aim))
            except NoDesign:
                continue
            except BaseException as error:
                pass_on(error)
                yield Outcome(f"{what} on {case.name}, learned", False, told(error, estimator))


def variances(cases: Sequence[Case]) -> Iterator[Outcome]:
    """Check documented variances exactly, on two small networks under every locality of the cases.

    Args:
        cases: estimator and localities.

    Yields:
        An outcome per network and locality that is judged, and one that lists what is not.

    Example:
        >>> case = Case.build(TINY, "end", registry.make("estimators", "fg_w").thing)
        >>> [outcome.held for outcome in variances([case])]
        [True, True]
    """
    aside: dict[str, list[str]] = {}
    for place in _places(cases):
        for net in (FEW, CONVOLUTION):
            where = f"{net.name}/{place.text}"
            check = partial(_variance, net, place, cases[0].estimator)
            outcome = judge(f"variance on {where}", check, cases[0].estimator)
            if outcome.judged:
                yield outcome
            else:
                aside.setdefault(outcome.detail, []).append(where)
    for why, wheres in aside.items():
        yield not_judged(f"variance, on {listed(wheres)}", why)


def _variance(net: Net, place: registry.Made, estimator: Estimator) -> str:
    """Check the documented variance on one network under one locality."""
    case = Case.build(net, place, estimator)
    if case.refused:
        raise NotJudged(case.refused)
    return variance.variance(case)


def _places(cases: Sequence[Case]) -> list[registry.Made]:
    """Return the localities of cases, each once and in order."""
    return list({case.place.text: case.place for case in cases}.values())


def _exact(case: Case) -> Outcome:
    """Check one case exactly, with one direction in place of many where they would be too many."""
    vanishes = _vanishes(case)
    check = unbiased.vanishing if vanishes else unbiased.unbiased
    name = f"{(LIMITS if vanishes else MEANS)[case.target]} on {case.name}"
    try:
        with running(name):
            return Outcome(name, True, check(case))
    except TooLarge as reason:
        options: Any = case.estimator
        if getattr(options, "directions", 1) == 1:
            raise TooLarge(f"{reason}; left to the smaller nets") from None
        single = case.of(replace(options, directions=1))
        return judge(f"{name}, directions=1", partial(check, single), case.estimator)
    except NoDesign:
        raise
    except BaseException as error:
        pass_on(error)
        return Outcome(name, False, told(error, case.estimator))


def _inexact(cases: Sequence[Case], what: str, why: str, quick: bool) -> Iterator[Outcome]:
    """Enumerate signs, or sample, where no design applied.

    Under the locality asked for, or under two where the estimator is checked under many. Signs are
    enumerated across a layer and through two, because one layer hides what goes wrong between layers.
    """
    judged, failed, estimator = False, "", cases[0].estimator
    stages = sampled.QUICK if quick else sampled.STAGES
    drawn = partial(sampled.unbiased, stages=stages)
    fewer = f"{stages[0][0]} draws were made, {sampled.STAGES[0][0]} are the whole check"
    claimed = _places(cases)
    few = [place for place in claimed if place.text in SAMPLED] if len(claimed) > 2 else claimed
    for place in few or claimed:
        enumerable = True
        for net, check in (
            (LEAST, unbiased.enumerated),
            (DEEP, unbiased.enumerated),
            (SMOOTH, drawn),
        ):
            name = f"{MEANS[cases[0].target]} on {net.name}/{place.text}"
            try:
                case = _to_sample(net, place, estimator, what)
                if case is None:
                    continue
                enumerable &= not _vanishes(case)  # a bias that vanishes is left at any step
                if enumerable == (check is drawn):
                    continue
                name = f"{MEANS[case.target]} on {case.name}"
                if failed:
                    yield not_judged(name, f"{failed} failed, and sampling takes long")
                    break
                with running(name):
                    detail = check(case)
                left = fewer if quick and check is drawn else ""
                yield Outcome(name, True, detail, left)
                judged = True
            except NoDesign:
                enumerable = False
            except BaseException as error:
                pass_on(error)
                yield Outcome(name, False, told(error, estimator))
                failed = f"'{name}'"
                break
    if others := [place.text for place in claimed if place not in (few or claimed)]:
        under = listed((place.text for place in few), len(few))
        hint = f"sampled under {under} only; NAME/{others[0]} samples it there"
        yield not_judged(f"{what} under {listed(others)}", hint)
    if not judged and not failed:
        yield Outcome(what, False, f"cannot be judged: {why}")


def _to_sample(net: Net, place: registry.Made, estimator: Estimator, what: str) -> Case | None:
    """Return the case to sample, after learned steps and with a fine step; None where nothing is claimed."""
    case = Case.build(net, place, estimator)
    aim = "" if case.refused else _aim(case, what)
    if isinstance(aim, str):
        return None
    if _vanishes(aim):
        aim = aim.of(unbiased.with_step(estimator, FINEST))
    return learned.learned(aim) if learned.keeps_state(aim) else aim
