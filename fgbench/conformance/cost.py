"""The price of an estimate against the operations that it runs.

The ledger prices calls of oracles; what an estimator or a readout computes beside them it has to price
itself. Here the products and convolutions of one estimate are counted as they run, by torch's own formulas,
and compared with its price; making directions is not counted. A pass is priced in full although its first
layer may have nothing to compute, so a price is mostly above the count; it is never below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.core.cost import CostCounter
from fgbench.core.operation_counter import OperationCounter

if TYPE_CHECKING:
    from fgbench.conformance.nets import Case
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Step

ABOVE = 1.02  # of the price: what is counted may exceed it by rounding alone
BELOW = 0.25  # of the price, through several modules: a price this far above the count is no estimate of it


def cost(case: Case) -> str:
    """Check that an estimate costs what it is priced, in products and convolutions.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where nothing can be counted, as on operations that torch has no formula of.
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> cost(Case.build(TINY, "end", make("estimators", "bp").thing)).partition(" of ")[0]
        'it runs 0.88'
    """
    body = case.task.chain.operations()
    if not body:
        raise NotJudged("the operations of this network cannot be counted")
    if _loss_multiplies(case):
        raise NotJudged("a loss here multiplies matrices, and losses have no price")
    _step(case, case.noise)  # what is traced once is traced here
    with OperationCounter() as counter:
        step = _step(case, case.noise)
    images = len(case.x) / case.task.scheme.copies
    ledger = step.ledger
    priced = ledger.forward_equivalents * ledger.network * body * images
    run = counter.number
    ratio = run / priced if priced else float("inf") if run else 1.0
    said = (
        f"it runs {ratio:.2f} of the operations it is priced at, {ledger.forward_equivalents:.3g} forward "
        "equivalents"
    )
    if ratio > ABOVE:
        raise Fault(
            f"it runs {ratio:.3g} times the operations that it is priced at "
            f"({ledger.forward_equivalents:.3g} forward equivalents); price what it computes beside "
            "the view by view.price"
        )
    if ratio < BELOW and _through_several(case):
        raise Fault(
            f"it is priced at {1 / max(ratio, 1e-9):.3g} times the operations that it runs "
            f"({ledger.forward_equivalents:.3g} forward equivalents)"
        )
    return said


def _step(case: Case, noise: Noise) -> Step:
    """Run one estimate over all objectives."""
    return case.task.estimate(case.x, case.y, case.estimator, noise, case.state)


def _loss_multiplies(case: Case) -> bool:
    """Return whether a loss, which has no price, runs products, as one that compares examples does."""
    with OperationCounter() as counter:
        for view in case.task.views(case.x, case.y, CostCounter()):
            before = counter.number
            prediction = view.predictions()
            passes = counter.number - before
            view.window.losses_of(prediction)
            if counter.number > before + passes:
                return True
            view.output()
    return False


def _through_several(case: Case) -> bool:
    """Return whether every objective that updates modules runs through three or more.

    In a short window most of a pass is its first layer, which slopes and reverse passes leave out.
    """
    lengths = [o.window[1] - o.window[0] for o in case.task.objectives if o.updates]
    sites = len(case.task.chain.index)
    return bool(lengths) and min(lengths) == len(case.task.chain) and sites > 2
