"""Check the structure of a network, cheaply, before any number is made on it.

It costs two forward passes of two examples and some passes through its modules, of a large network on
tensors without values. ``fgbench check`` tests every declaration of an architecture.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils._pytree import tree_map

from fgbench import registry
from fgbench.conformance.architecture import examples_apart, function, pulls, taps, untied
from fgbench.conformance.nets import SEED, filled
from fgbench.conformance.outcome import Fault, NotJudged, told
from fgbench.core.network import Chain, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.wrapping import WrappedChain
from fgbench.errors import UsageError, pass_on

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.losses import Loss
    from fgbench.data.dataset import Batch, DataSet

EXAMPLES = 2
MUCH = 10**10
"""Weights times numbers of an example above which a tensor without values is faster.

torch imports its compiler for the first of these: two seconds of a process."""


@dataclass(frozen=True)
class Sample:
    """The first examples of a data set; two are equal where the data sets are.

    Args:
        fingerprint: of the data set.
        x: inputs ``[3, ...]``, as the network sees them.
        y: targets ``[3, ...]``.
        loss: the loss per example.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> Sample.of(synthetic(size=2)) == Sample.of(synthetic(size=2))
        True
    """

    fingerprint: str
    x: Batch = field(compare=False, repr=False)
    y: Batch = field(compare=False, repr=False)
    loss: Loss = field(compare=False, repr=False)

    @classmethod
    def of(cls, data: DataSet) -> Self:
        """Return the first examples of a data set, on the CPU and in float32."""
        return cls(data.fingerprint, *data.sample(EXAMPLES + 1, device="cpu"), data.loss)

    def pair(self, noise: Noise, last: int = 1) -> Batch:
        """Return two inputs: noise where they are real numbers, else the first and another example.

        Args:
            noise: of the real numbers.
            last: number of the other example.
        """

        def two(t: Tensor) -> Tensor:
            if t.is_floating_point():
                return noise.normal("x", (EXAMPLES, *t.shape[1:]))
            return t[[0, min(last, len(t) - 1)]]

        return tree_map(two, self.x)


@cache
def require_structure(
    arch: str,
    shape: tuple[int, ...],
    classes: int,
    sample: Sample | None = None,
    outputs: tuple[int, ...] | None = None,
    vocabulary: int | None = None,
) -> None:
    """Refuse an architecture on which every number would be wrong; once per process for each network.

    What is refused: a forward pass that is not repeatable or changes with what a tap returns, examples
    that depend on each other, a parameter with two names, taps that are not the declared ones, and a
    parameter that no site reaches, whose gradient would be estimated as zero. Everything is drawn from noise
    of its own: no number of a run changes. A module that is no chain is compared with reverse mode where it
    is wrapped.

    Args:
        arch: architecture with options.
        shape: shape of one example.
        classes: number of classes.
        sample: examples of the data set; inputs are real numbers where None.
        outputs: shape of one prediction; ``(classes,)`` where None.
        vocabulary: number of different tokens, None where inputs are no tokens.

    Raises:
        UsageError: with the first fault, the call that makes it where there is one.

    Cost: two forward passes of two examples on the CPU.

    Example:
        >>> require_structure("mlp-2x4", (1, 2, 2), 3)
    """
    sizes = {"shape": shape, "classes": classes, "outputs": outputs or (classes,)}
    with Noise(SEED).child("structure").seeded():
        offered = {**sizes, "vocabulary": vocabulary}
        chain = registry.make("architectures", arch, offered=offered).thing
        if isinstance(chain, Chain):
            _require(chain, shape, sample, arch, f"; see fgbench check {arch}")


def require_network(chain: Chain, label: str, sample: Sample | None = None) -> None:
    """Refuse a network that was built already, as :func:`require_structure` does by its name.

    Args:
        chain: a network of its own: its parameters are replaced.
        label: its name, for the message.
        sample: examples of the data set; inputs are real numbers where None.

    Raises:
        UsageError: with the first fault.

    Example:
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> require_network(chain, "mine")
    """
    if isinstance(chain, WrappedChain):
        return
    with Noise(SEED).child("structure").seeded():
        chain = chain.to(device="cpu", dtype=torch.float32)
        _require(chain, chain.input_shape, sample, label)


def _require(
    chain: Chain, shape: tuple[int, ...], sample: Sample | None, label: str, see: str = ""
) -> None:
    """Check a network's structure, and raise its first fault as a user's mistake."""
    noise = Noise(SEED)
    x = noise.normal("x", (EXAMPLES, *shape)) if sample is None else sample.pair(noise)
    other = None if sample is None or x.is_floating_point() else sample.pair(noise, 2)
    try:
        check_structure(filled(chain, noise), x, other)
    except BaseException as error:
        pass_on(error)
        if other is not None and isinstance(error, RuntimeError) and "dtype" in str(error):
            raise UsageError(
                f"{label} takes real numbers, and the inputs are integers (tokens): choose an "
                "architecture that embeds them, or data of real numbers"
            ) from None
        why = told(error, chain.module(0) if len(chain) else chain)
        raise UsageError(f"{label} cannot be used: {why}{see}") from None
    if sample is not None:
        _check_loss(label, chain, x, sample)


def _check_loss(label: str, chain: Chain, x: Tensor, sample: Sample) -> None:
    """Refuse predictions that the loss of the data does not take, and a loss that is not per example."""
    some = next(chain.parameters())
    y = tree_map(lambda t: t[[0, min(1, len(t) - 1)]], sample.y)
    y = tree_map(lambda t: t.to(some.dtype) if t.is_floating_point() else t, y)
    with torch.no_grad():
        prediction = chain(x.to(some.dtype) if x.is_floating_point() else x)
        made = list(prediction.shape[1:])
        try:
            losses = sample.loss(prediction, y)
        except Exception as error:
            pass_on(error)
            shapes = tree_map(lambda t: list(t.shape[1:]), y)
            first = str(error).partition("\n")[0]
            raise UsageError(
                f"{label} predicts {made} per example, which the loss of targets {shapes} does not "
                f"take: {first}"
            ) from None
    if tuple(losses.shape) != (EXAMPLES,):
        raise UsageError(
            f"the loss returned {list(losses.shape)} for {EXAMPLES} examples, expected one number per "
            "example: leave the mean over examples out (reduction='none')"
        )


def check_structure(chain: Chain, x: Tensor, other: Tensor | None = None) -> None:
    """Check what every number rests on; see :func:`require_structure`.

    Args:
        chain: the network, in float32; left in float64 where two passes differ.
        x: a batch of two of its inputs.
        other: the first of them beside another one; made up where None.

    Raises:
        Fault: the first that is found.

    Example:
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> check_structure(chain, torch.ones(2, 1, 2, 2))
    """
    untied(chain)
    if other is None:
        other = torch.stack([x[0], 1.0 - x[1]])
    if not _repeats(chain, x, other):  # rounding is no fault: float64 decides, and names it
        chain, x = chain.double(), x.double() if x.is_floating_point() else x
        function(chain, x, Noise(SEED, dtype=torch.float64))
        examples_apart(chain, x)
    if sum(p.numel() for p in chain.parameters()) * x[0].numel() > MUCH:
        try:
            _reached(copy.deepcopy(chain).to("meta"), x.to("meta"))
            return
        except BaseException as error:
            pass_on(error)
            # Some calls need values; what is found without them is found again.
    _reached(chain, x)


def _reached(chain: Chain, x: Tensor) -> None:
    """Check that the declared taps fire and are used, and that sites reach every parameter."""
    with suppress(NotJudged):
        taps(chain, x)
    for k in range(len(chain)):
        _used(chain, k, x)
    with suppress(NotJudged):
        pulls(chain, x)


def _used(chain: Chain, k: int, x: Tensor) -> None:
    """Check that a module goes on with what the tap returns, or noise there would move nothing."""
    returned: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        returned[f"{kind} {name}"] = z.view_as(z)
        return returned[f"{kind} {name}"]

    with torch.no_grad():
        start = chain.run(x, 0, k)
    f = chain.run(start.detach().requires_grad_(), k, k + 1, tap)
    places = list(returned.values())
    if places:
        grads = torch.autograd.grad(f, places, torch.ones_like(f), allow_unused=True)
        for place, grad in zip(returned, grads, strict=True):
            if grad is None:
                raise Fault(f"what the tap returns at {place} is not used")


def _repeats(chain: Chain, x: Tensor, other: Tensor) -> bool:
    """Return whether a second pass gives the first example the same, bit for bit, and leaves no trace.

    The first pass goes through a tap that returns copies, the second has another second example.
    """
    last, before = len(chain), _marks(chain)

    def copied(kind: str, name: str, z: Tensor, /) -> Tensor:
        return z.clone()

    found = []
    with torch.no_grad():
        for batch, tap in ((x, copied), (other, untouched)):
            f = chain.run(batch, 0, last, tap)
            found.append((f[0], chain.read("final", f, tap)[0]))
    same = all(bool(((a == b) | (a != a) & (b != b)).all()) for a, b in zip(*found, strict=True))
    return same and _marks(chain) == before


def _marks(chain: Chain) -> list[Any]:
    """Return what changes when a buffer is written, or the global generator drawn from."""
    buffers = [(name, id(b), b._version) for name, b in chain.named_buffers()]
    return [*buffers, torch.random.get_rng_state().numpy().tobytes()]
