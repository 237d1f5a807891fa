"""Checks of a network that was wrapped: what tracing found, against its derivatives in float64."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fgbench.conformance.architecture import ROUNDING, slopes
from fgbench.conformance.outcome import Fault, NotJudged, Outcome, collected, judge, listed
from fgbench.core import axes
from fgbench.core.network import untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.wrapping.operations import LETTERS as UNNAMED
from fgbench.core.wrapping.verify import verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fgbench.conformance.outcome import Tell
    from fgbench.core.wrapping import WrappedChain

INDICES = 6  # indices of an axis that are looked at, spread over it


def examine_wrapped(
    chain: WrappedChain, x: Any, y: Any, noise: Noise, tell: Tell | None = None
) -> list[Outcome]:
    """Check a wrapped network in float64, as :func:`fgbench.conformance.check_architecture` checks others.

    Args:
        chain: the network; it is given the readouts it lacks.
        x: a batch of its inputs, of at least two examples.
        y: the targets of the batch.
        noise: where directions and heads come from.
        tell: called with each outcome as it is found.

    Returns:
        One outcome per check.

    Cost: a few reverse passes per axis of the outputs.

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> from fgbench.core.wrapping import wrap
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
        >>> x, y = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 0])
        >>> def loss(prediction, target):
        ...     return torch.nn.functional.cross_entropy(prediction, target, reduction="none")
        >>> outcomes = examine_wrapped(wrap(net, x, loss), x, y, Noise(0, dtype=torch.float64))
        >>> all(outcome.held for outcome in outcomes)
        True
    """
    with noise.child("checks").seeded():
        return collected(_examined(chain, x, y, noise), tell)


def _examined(chain: WrappedChain, x: Any, y: Any, noise: Noise) -> Iterator[Outcome]:
    """Run the checks in order."""
    checks: dict[str, Callable[[], str]] = {
        "a function of its input": lambda: repeatable(chain, x),
        "examples apart": lambda: examples_apart(chain, x),
        "parameters": lambda: parameters(chain),
        "readouts": lambda: readouts(chain, x, y, noise),
        "slopes along activities": lambda: slopes(chain, x, noise, weights=False),
        "slopes along weights": lambda: slopes(chain, x, noise, weights=True),
        "pulls": lambda: pulls(chain),
    }
    for name, run in checks.items():
        yield judge(name, run)
    for k in range(len(chain)):
        yield judge(f"reach in module {k}", partial(reach, chain, x, k, k + 1))
    if len(chain) > 1:
        yield judge("reach to the end", partial(reach, chain, x, 0, len(chain)))


def repeatable(chain: WrappedChain, x: Any) -> str:
    """Check that passes give the same, alone and with taps, and leave no trace in a buffer.

    Args:
        chain: the network.
        x: a batch of its inputs.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.
    """
    buffers = {name: b.clone() for name, b in chain.named_buffers()}

    def listening(kind: str, name: str, z: Tensor, /) -> Tensor:
        return z.clone()

    with torch.no_grad():
        first, *others = (
            chain.read("final", chain.run(chain.start(x), 0, len(chain), tap))
            for tap in (untouched, untouched, listening)
        )
    for again in others:
        off = _off(again, first)
        if not off <= ROUNDING:
            raise Fault(f"two passes differ by {off:.1e}, with and without a tap")
    for name, b in chain.named_buffers():
        if not torch.equal(b, buffers[name]):
            raise Fault(f"a forward pass changes buffer {name}; put the norm in eval()")
    drawn = ", its masks drawn by key" if chain.survey.random else ""
    return f"predictions {list(first.shape)}, the same without and with a tap{drawn}"


def examples_apart(chain: WrappedChain, x: Any) -> str:
    """Check that the predictions of examples stay as they are when another example takes a place beside them.

    Args:
        chain: the network.
        x: a batch of its inputs.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.
        NotJudged: where the network draws masks, which differ from example to example.
    """
    if chain.survey.random:
        raise NotJudged("the network draws masks; wrapping it has compared batches of two sizes")
    count = len(chain.start(x))

    def replaced(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.dim() or len(t) != count:
            return t
        return torch.cat([t[:-1], t[:1]])

    with torch.no_grad():
        one, other = (chain.read("final", chain.run(chain.start(b), 0, len(chain)))
                      for b in (x, tree_map(replaced, x)))  # fmt: skip
    for b in range(count - 1):
        off = _off(other[b], one[b])
        if not off <= ROUNDING:
            raise Fault(
                f"the prediction of example {b} changes by {off:.1e} with example {count - 1}; a batch norm?"
            )
    return f"predictions stay as they are beside another example ({count} examples)"


def parameters(chain: WrappedChain) -> str:
    """Check that every parameter that learns meets data.

    Args:
        chain: the network.

    Returns:
        The detail of the outcome: how many parameters learn, are frozen, or are used several times.

    Raises:
        Fault: for a parameter whose gradient would always be zero.
    """
    body, head = chain.body_parameters(), chain.readout_parameters("final")
    learn = {f"body.{n}": p for n, p in chain.body.named_parameters() if p.requires_grad}
    idle = [name.removeprefix("body.") for name in learn if name not in body and name not in head]
    if idle:
        raise Fault(
            f"{listed(idle)}: no call on data uses it, so its gradient is zero; freeze it with "
            "requires_grad_(False)"
        )
    uses: dict[str, int] = {}
    for o in chain.survey.ops:
        for name in o.key[0]:
            uses[name] = uses.get(name, 0) + 1
    frozen = sum(1 for p in chain.body.parameters() if not p.requires_grad)
    several = sum(1 for count in uses.values() if count > 1)
    more = [f"{frozen} frozen"] * bool(frozen) + [f"{several} used several times"] * bool(several)
    return ", ".join([f"{len(learn)} parameters", *more])


def readouts(chain: WrappedChain, x: Any, y: Any, noise: Noise) -> str:
    """Check that every module can be read, with one finite loss per example.

    Args:
        chain: the network.
        x: a batch of its inputs.
        y: its targets.
        noise: where the heads come from.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.
    """
    with noise.child("heads").seeded():
        chain.attach()
    start = chain.start(x)
    for k in range(len(chain)):
        name = chain.local_readout(k)
        with torch.no_grad():
            prediction = chain.read(name, chain.run(start, 0, k + 1))
            losses = chain.readout(name).losses(prediction, y)
        if losses.shape != (len(start),) or not bool(losses.isfinite().all()):
            raise Fault(
                f"readout {name}: expected {len(start)} finite losses, got {losses.tolist()}"
            )
    return f"{listed(chain.readouts)}: one loss per example each"


def pulls(chain: WrappedChain) -> str:
    """Check that credit at the sites, one segment back, gives the gradient of every parameter.

    Args:
        chain: the network.

    Returns:
        The detail of the outcome.
    """
    verified(chain)
    return f"true credit at {len(chain.index)} sites gives the true gradient of every parameter"


def reach(chain: WrappedChain, x: Any, first: int, stop: int) -> str:
    """Compare the reach of sites with derivatives at the network's own weights.

    A score that an index of a site moves and that its reach leaves out would bias the credit.

    Args:
        chain: the network.
        x: a batch of its inputs.
        first: the first module of the window.
        stop: the module before which it ends; sites of all its modules are compared.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: for a score that is moved and left out.
        NotJudged: where no site has scores of its own.
    """
    sites: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            sites[name] = z
        return z

    f = chain.run(chain.advance(chain.start(x), 0, first), first, stop, tap)
    compared, noise = 0, Noise(0, dtype=f.dtype, device=f.device)
    for axis, a in enumerate(axes.names(chain.module(stop - 1).out_axes)[1:], 1):
        if a in UNNAMED:
            continue
        claimed = {name: _claimed(chain, f"b {a}", name, stop, f.shape[axis]) for name in sites}
        named = {name: found for name, found in claimed.items() if found is not None}
        if not named:
            continue
        compared += len(named)
        for t in sorted({round(i * (f.shape[axis] - 1) / (INDICES - 1)) for i in range(INDICES)}):
            cotangent = torch.zeros_like(f)
            cotangent.select(axis, t).copy_(
                noise.normal(f"cotangent {a} {t}", tuple(f.shape)).select(axis, t)
            )
            grads = torch.autograd.grad(
                f, [sites[n] for n in named], cotangent, retain_graph=True, allow_unused=True
            )
            for (name, (at, matrix)), grad in zip(named.items(), grads, strict=True):
                if grad is None:
                    continue
                rows = grad.movedim(at, 0) if at else grad[None]
                moved = rows.flatten(1).ne(0).any(1) & ~matrix[:, t].to(rows.device)
                if bool(moved.any()):
                    m = int(moved.nonzero()[0])
                    raise Fault(
                        f"index {m} of {name} moves score {t} along {a}, which its reach leaves out"
                    )
    if not compared:
        raise NotJudged("no site has scores of its own along a named axis")
    return f"{compared} reaches as found"


def _claimed(
    chain: WrappedChain, kept: str, name: str, stop: int, size: int
) -> tuple[int, Tensor] | None:
    """Return the axis of a site with scores of its own, 0 for the site as a whole, and which each moves.

    Returns:
        None where every index moves all scores.
    """
    cells = chain.cells(kept, name, stop)
    place, letter = axes.names(cells.place), axes.names(kept)[1]
    if letter in place and letter in cells.shared:
        return place.index(letter), torch.eye(size, dtype=torch.bool)
    for r in cells.reach:  # without an axis of the site it holds for the site as a whole
        return place.index(r.place) if r.place else 0, r.matrix
    return None


def _off(a: Tensor, b: Tensor) -> float:
    """Return the largest difference relative to the largest entry of the second."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))
