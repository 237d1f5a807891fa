"""The price of an estimate against the operations that it runs.

The ledger prices calls of oracles; what an estimator or a readout computes beside them it has to price
itself. Here the products and convolutions of one estimate are counted as they run, by torch's own formulas,
and compared with its price. A pass is priced in full although its first layer may have nothing to compute,
so a price is mostly above the count; it is never below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.conformance.watch import Log, Watched
from fgbench.core.cost import CostCounter
from fgbench.core.operation_counter import OperationCounter

if TYPE_CHECKING:
    from fgbench.conformance.nets import Case
    from fgbench.core.task import Step

ABOVE = 1.02  # of the price: what is counted may exceed it by rounding alone
BELOW = 0.25  # of the price, through several modules: a price this far above the count is no estimate of it
REDRAWN = (
    3  # times that directions may be made: for slopes, for credit, and once in runs of examples
)


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
        'it runs 0.89'
    """
    body = case.task.chain.operations()
    if not body:
        raise NotJudged("the operations of this network cannot be counted")
    if _loss_multiplies(case):
        raise NotJudged("a loss here multiplies matrices, and losses have no price")
    log = Log()
    _step(case, Watched(**vars(case.noise), log=Log()))  # what is traced once is traced here
    with OperationCounter() as counter:
        step = _step(case, Watched(**vars(case.noise), log=log))
    images = len(case.x) / case.task.scheme.copies
    ledger = step.ledger
    priced = ledger.forward_equivalents * ledger.network * body * images
    made = _drawing(case, log)
    run = max(counter.number - made, 0)
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


def _step(case: Case, noise: Watched) -> Step:
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


def _drawing(case: Case, log: Log) -> int:
    """Return the operations of making the directions, such as the product of two thin factors.

    Random numbers have no price, whatever their law makes of them.
    """
    noise = Watched(**vars(case.noise), log=Log())
    with OperationCounter() as counter:
        for request in log.requests:
            directions = noise.again(request)
            for name in directions.names:
                directions.rows(name, 0, directions.n)
    made: int = REDRAWN * counter.number
    return made


def _through_several(case: Case) -> bool:
    """Return whether every objective that updates modules runs through three or more.

    In a short window most of a pass is its first layer, which slopes and reverse passes leave out.
    """
    lengths = [o.window[1] - o.window[0] for o in case.task.objectives if o.updates]
    sites = len(case.task.chain.index)
    return bool(lengths) and min(lengths) == len(case.task.chain) and sites > 2
