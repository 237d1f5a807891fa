"""Checks of every declaration of an architecture against its derivatives in float64."""

from __future__ import annotations

import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from fgbench.conformance.mixing import mixing
from fgbench.conformance.outcome import (
    Fault,
    NotJudged,
    Outcome,
    collected,
    judge,
    listed,
    not_judged,
)
from fgbench.conformance.sharing import sharing
from fgbench.core.autodiff import dual
from fgbench.core.autodiff.dual import Dual
from fgbench.core.network import untouched
from fgbench.core.noise.keyed import Noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fgbench.conformance.outcome import Tell
    from fgbench.core.network import Chain

ROUNDING = 1e-9  # relative, in float64
KINDS = ("op", "site", "out")
EXAMPLES = 3


def examine_chain(chain: Chain, noise: Noise, tell: Tell | None = None) -> list[Outcome]:
    """Check everything that the modules of a chain declare, in float64.

    Args:
        chain: the network; it is given the readouts it lacks.
        noise: where batch and directions come from.
        tell: called with each outcome as it is found.

    Returns:
        One outcome per check; what is declared mixed and is not costs variance only, so it is a warning
        in the detail of a check that held.

    Cost: a few backward passes per site and axis.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> examine_chain(chain, noise)[0].check
        'a function of its input'
    """
    with noise.child("checks").seeded():  # whatever a module draws, no generator is left changed
        return collected(_examined(chain, noise), tell)


def _examined(chain: Chain, noise: Noise) -> Iterator[Outcome]:
    """Run the checks in order; those about taps only where the check of the taps holds."""
    x = noise.normal("x", (EXAMPLES, *chain.input_shape))
    y = torch.arange(EXAMPLES) % chain.classes
    checks: dict[str, Callable[[], str]] = {
        "a function of its input": lambda: function(chain, x, noise),
        "examples apart": lambda: examples_apart(chain, x),
        "no tied weights": lambda: untied(chain),
        "readouts": lambda: readouts(chain, x, y, noise),
        "slopes along activities": lambda: slopes(chain, x, noise, weights=False),
        "slopes along weights": lambda: slopes(chain, x, noise, weights=True),
    }
    for name, run in checks.items():
        yield judge(name, run)
    seen = judge("taps", lambda: taps(chain, x))
    yield seen
    if not seen.held:
        rest = "pulls, mixing and shared weights of every module"
        yield not_judged(rest, "'taps' failed, and they are about what comes from the taps")
        return
    yield judge("pulls", lambda: pulls(chain, x))
    for k in range(len(chain)):
        mixed = judge(f"mixing in module {k}", partial(mixing, chain, k, x))
        yield mixed
        name = f"shared weights in module {k}"
        if mixed.held:
            yield judge(name, partial(sharing, chain, k, x))
        else:
            yield not_judged(name, f"'mixing in module {k}' failed: its axes may not fit")


def function(chain: Chain, x: Tensor, noise: Noise) -> str:
    """Check that a forward pass has no memory, draws nothing, and gives the same under any tap.

    Args:
        chain: the network, in float64.
        x: a batch of its inputs.
        noise: where batch and directions come from.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> function(chain, x, noise)
        'predictions [3, 3], the same without and with a tap'
    """
    buffers = {name: b.clone() for name, b in chain.named_buffers()}

    def listening(kind: str, name: str, z: Tensor, /) -> Tensor:
        return z.clone()

    last = len(chain)
    with torch.no_grad(), noise.child("forward").seeded():
        seeded = torch.random.get_rng_state()
        first = chain(x)
        if not torch.equal(seeded, torch.random.get_rng_state()):
            raise Fault("a forward pass draws from the global generator; it must be repeatable")
        for tap in (untouched, listening):
            again = chain.read("final", chain.run(x, 0, last, tap), tap)
            if not torch.equal(first, again):
                off = float((first - again).abs().max())
                raise Fault(f"two passes differ by {off:.1e}, with and without a tap")
    for name, b in chain.named_buffers():
        if not torch.equal(b, buffers[name]):
            raise Fault(f"a forward pass changes buffer {name}; put the norm in eval()")
    if first.shape != (len(x), chain.classes):
        raise Fault(f"expected predictions {[len(x), chain.classes]}, got {list(first.shape)}")
    return f"predictions {list(first.shape)}, the same without and with a tap"


def examples_apart(chain: Chain, x: Tensor) -> str:
    """Check that no prediction depends on another example.

    Args:
        chain: the network, in float64.
        x: a batch of its inputs.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> examples_apart(chain, x)
        'the derivative between examples is exactly 0 (3 examples)'
    """
    _apart(chain, x, "prediction")
    return f"the derivative between examples is exactly 0 ({len(x)} examples)"


def _apart(made: Callable[[Tensor], Tensor], x: Tensor, what: str) -> None:
    """Check that the result of one example depends on no other."""
    x = x.detach().requires_grad_()
    prediction = made(x)
    for b in range(len(x)):
        (grad,) = torch.autograd.grad(prediction[b].sum(), x, retain_graph=True)
        grad[b] = 0.0
        if bool(grad.any()):
            other = int(grad.flatten(1).abs().amax(1).argmax())
            raise Fault(f"the {what} of example {b} depends on example {other}; a batch norm?")


def untied(chain: Chain) -> str:
    """Check that no parameter has two names: a pull would count its gradient twice.

    Args:
        chain: the network.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> untied(chain)
        '6 parameters'
    """
    names: dict[int, list[str]] = {}
    for name, p in chain.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    for twice in names.values():
        if len(twice) > 1:
            raise Fault(f"{listed(twice)} are one parameter; each would be given its gradient")
    return f"{len(names)} parameters"


def taps(chain: Chain, x: Tensor) -> str:
    """Check that the taps that fire are the declared ones, in order, of the declared shapes.

    Args:
        chain: the network, in float64.
        x: a batch of its inputs.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.
        NotJudged: if no site is declared and no tap fires.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> taps(chain, x)
        'op, site and out fire once at each of 2 sites'
    """
    fired: list[tuple[str, str, tuple[int, ...]]] = []

    def note(kind: str, name: str, z: Tensor, /) -> Tensor:
        fired.append((kind, name, tuple(z.shape)))
        return z

    with torch.no_grad():
        chain.run(x, 0, len(chain), note)
    for name in chain.index:
        kinds = tuple(kind for kind, n, _ in fired if n == name)
        if kinds != KINDS:
            came = listed(kinds) or "none"
            raise Fault(f"site {name}: expected the taps {listed(KINDS)} in order, fired {came}")
    undeclared = dict.fromkeys(f"{kind} {n}" for kind, n, _ in fired if n not in chain.index)
    if undeclared:
        raise Fault(f"taps fired that are no declared site: {listed(undeclared)}")
    for kind, name, shape in fired:
        if kind == "site" and shape != (len(x), *chain.shapes()[name]):
            alone = ["b", *chain.shapes()[name]]
            raise Fault(f"site {name} is {list(shape)} in a batch, {alone} on one example")
    if not chain.index:
        raise NotJudged("no site is declared")
    return f"op, site and out fire once at each of {len(chain.index)} sites"


def pulls(chain: Chain, x: Tensor) -> str:
    """Check that one segment back from the sites reaches every parameter, and no other site.

    Only the graph counts, not its values: tensors without values will do.

    Args:
        chain: the network.
        x: a batch of its inputs.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold; a parameter that no site reaches is named with the call that uses it.
        NotJudged: if no module has a parameter.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> pulls(chain, x)
        'every parameter of 2 modules is one segment behind a site'
    """
    for k in range(len(chain)):
        sites: dict[str, Tensor] = {}

        def cut(kind: str, name: str, z: Tensor, /, sites: dict[str, Tensor] = sites) -> Tensor:
            if kind == "site":
                z = z.view_as(z)
                sites[name] = z
            return z.detach().requires_grad_() if kind == "out" else z

        params = dict(chain.module(k).named_parameters())
        chain.run(x, k, k + 1, cut)
        reached: set[str] = set()
        for name, z in sites.items():
            others = {n: t for n, t in sites.items() if n != name}
            targets = [*params.values(), *others.values()]
            found = torch.autograd.grad(
                z, targets, torch.ones_like(z), allow_unused=True, retain_graph=True
            )
            grads = dict(zip([*params, *others], found, strict=True))
            reached |= {n for n in params if grads[n] is not None}
            behind = [n for n in others if grads[n] is not None]
            if behind:
                raise Fault(
                    f"one segment back from {name} reaches site {behind[0]}: it bypasses its out tap, "
                    "so its parameters would be counted twice"
                )
        for n, p in params.items():
            if n not in reached:
                raise Fault(
                    f"parameter body.{k}.{n} is reached from no site: {_use(chain, k, x, p)}, so "
                    "noise on activities gives it no gradient"
                )
        with torch.no_grad():
            x = chain.run(x, k, k + 1).detach()
    if not chain.body_parameters():
        raise NotJudged("no module has a parameter")
    return f"every parameter of {len(chain)} modules is one segment behind a site"


def _use(chain: Chain, k: int, x: Tensor, p: Tensor) -> str:
    """Name the call of module ``k`` that uses a parameter, with its line."""
    calls = Calls(p)
    with torch.no_grad(), calls:
        chain.run(x, k, k + 1)
    if not calls.where:
        return "no call uses it"
    return f"{listed(dict.fromkeys(calls.where), 2)} uses it outside every site"


class Calls(TorchFunctionMode):
    """Record the calls that take a tensor as an argument, each with the line of the code that makes it.

    Args:
        watched: the tensor.

    Attributes:
        where: such as ``linear (net.py:12)``, in order.

    Example:
        >>> w = torch.ones(2, 3)
        >>> with Calls(w) as calls:
        ...     _ = torch.nn.functional.linear(torch.ones(1, 3), w)
        >>> calls.where[0].partition(" ")[0]
        'linear'
    """

    def __init__(self, watched: Tensor) -> None:
        super().__init__()
        self._watched = watched
        self.where: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record the call if it takes the tensor, and make it."""
        kwargs = kwargs or {}
        if any(a is self._watched for a in (*args, *kwargs.values())):
            self.where.append(f"{getattr(func, '__name__', func)}{_line()}")
        return func(*args, **kwargs)


def _line() -> str:
    """Return the innermost line of the stack that is neither torch's nor this file's."""
    inside = (str(Path(torch.__file__).parent), __file__)
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(inside):
            return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""


def readouts(chain: Chain, x: Tensor, y: Tensor, noise: Noise) -> str:
    """Check that every module can be read, example by example, with one loss per example.

    Args:
        chain: the network, in float64.
        x: a batch of its inputs.
        y: their labels.
        noise: where batch and directions come from.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> noise = Noise(0, dtype=torch.float64)
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> readouts(chain, x, torch.tensor([0, 1, 2]), noise)
        'final, local0: one loss per example each'
    """
    with noise.child("heads").seeded():
        chain.attach()
    read = [(k, chain.local_readout(k)) for k in range(len(chain))]
    for k, name in dict.fromkeys([*read, (len(chain) - 1, "final")]):
        with torch.no_grad():
            f = chain.run(x, 0, k + 1)
            losses = chain.readout(name).losses(chain.read(name, f), y)
        _apart(partial(chain.read, name), f, f"prediction of readout {name}")
        if losses.shape != (len(y),) or not bool(losses.isfinite().all()):
            raise Fault(f"readout {name}: expected {len(y)} finite losses, got {losses.tolist()}")
    return f"{listed(chain.readouts)}: one loss per example each"


def slopes(chain: Chain, x: Tensor, noise: Noise, *, weights: bool) -> str:
    """Compare forward mode through Duals with ``torch.func.jvp`` and with reverse mode.

    Args:
        chain: the network, in float64.
        x: a batch of its inputs.
        noise: where batch and directions come from.
        weights: along weights instead of activities.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.registry import make
        >>> noise = Noise(0, dtype=torch.float64)
        >>> with noise.seeded():
        ...     chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> x = noise.normal("x", (EXAMPLES, 1, 2, 2))
        >>> slopes(chain, x, noise, weights=False).partition(" within")[0]
        'equal to torch.func.jvp and to reverse mode'
    """
    shapes: Mapping[str, tuple[int, ...]] = (
        {n: tuple(p.shape) for n, p in chain.body_parameters().items()}
        if weights
        else {n: (len(chain.start(x)), *s) for n, s in chain.shapes().items()}
    )
    u = {n: noise.child("slopes").normal(n, (2, *s)) for n, s in shapes.items()}
    before = dual.fallbacks.copy()
    fast = _forward(chain, x, u, weights)
    missing = dual.fallbacks - before
    clean = chain.read("final", chain.run(chain.start(x), 0, len(chain))).detach()
    if not isinstance(fast, Dual):
        raise Fault("the tangents were lost on the way: the prediction is no Dual")
    _close(fast.value, clean, "the value under forward mode", "the plain forward")
    origin = chain.get_parameter if weights else lambda n: torch.zeros(shapes[n]).to(clean)
    point = {n: origin(n).detach() for n in shapes}

    def along(moved: dict[str, Tensor]) -> Any:
        return _forward(chain, x, moved, weights)

    leaves = {n: p.clone().requires_grad_() for n, p in point.items()}
    cotangent = noise.normal("cotangent", tuple(clean.shape))
    back = torch.autograd.grad((along(leaves) * cotangent).sum(), list(leaves.values()))
    parts = [(g * u[n]).flatten(1).sum(1) for n, g in zip(leaves, back, strict=True)]
    along_u = (fast.tangents * cotangent).flatten(1).sum(1)
    off = _close(along_u, torch.stack(parts).sum(0), "forward mode", "reverse mode")
    # Of the kernels of attention one alone has a forward derivative in torch.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        # torch's own, from the first jvp of a process
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        rows = [{n: t[i] for n, t in u.items()} for i in range(2)]
        exact = torch.stack([jvp(along, (point,), (row,))[1] for row in rows])
    if bool(exact.any()) or not bool(fast.tangents.any()):
        off = max(off, _close(fast.tangents, exact, "forward mode", "torch.func.jvp"))
        said = f"equal to torch.func.jvp and to reverse mode within {off:.0e}"
    else:  # torch loses the tangent at a custom_op with a backward of its own
        said = f"equal to reverse mode within {off:.0e}; torch.func.jvp sees no tangent"
    calls = listed(f"{name} ×{count}" for name, count in missing.items())
    return f"{said}; warning: exact but slow without a rule: {calls}" if missing else said


def _forward(chain: Chain, x: Any, moved: Mapping[str, Tensor], weights: bool) -> Any:
    """Run the chain under directions ``[n, ...]`` as Duals, or under tensors: offsets or weights."""
    shapes = (
        {n: tuple(p.shape) for n, p in chain.body_parameters().items()}
        if weights
        else {n: (len(chain.start(x)), *s) for n, s in chain.shapes().items()}
    )
    batched = any(tuple(t.shape) != shapes[n] for n, t in moved.items())
    params: dict[str, Any] = dict(moved) if weights else {}
    if weights and batched:
        params = {n: Dual(chain.get_parameter(n).detach(), t) for n, t in moved.items()}

    def tap(kind: str, name: str, z: Any, /) -> Any:
        if kind != "site" or weights:
            return z
        if not batched:
            return z + moved[name]
        return Dual(dual.value(z), dual.plus(dual.part(z), moved[name]))  # type: ignore[arg-type]

    with torch.set_grad_enabled(not batched), dual.swapped(chain, params):
        return chain.read("final", chain.run(chain.start(x), 0, len(chain), tap))


def _close(a: Tensor, b: Tensor, one: str, other: str) -> float:
    """Return the largest difference of two tensors, relative to the second; raise if it is not rounding."""
    a, b = a.detach(), b.detach()
    off = float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))
    if not off <= ROUNDING:
        raise Fault(f"{one} differs from {other} by {off:.1e} of its largest entry")
    return off
