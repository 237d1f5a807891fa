"""The small networks that estimators are checked on.

Sizes of axes all differ, because equal ones hide transpositions, and no weight starts at zero, because
a zero readout hides the gradient of everything below it. The opaque net's weight operations are
``custom_op``s of which only forward mode is known: their backward raises while the gate is closed, and
their weights lie reversed along both axes, so neither autograd's nodes nor a backprop written by hand
get through.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench import registry
from fgbench.conformance.outcome import Fault
from fgbench.core import gradients
from fgbench.core.autodiff import no_reverse
from fgbench.core.autodiff.dual import part, plus, rule, value
from fgbench.core.estimator import Backward, Bias, Claims, Kind
from fgbench.core.network import Chain, LinearReadout, LocalModule, Readout, Site, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.data.dataset import fingerprint
from fgbench.data.images import Images
from fgbench.errors import BackwardRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fgbench.core.estimator import Estimator, State
    from fgbench.core.gradients import Grads
    from fgbench.core.scheme import Scheme

SEED = 20_260


@torch.library.custom_op("fgbench::reversed_linear", mutates_args=())
def reversed_linear(x: Tensor, w: Tensor) -> Tensor:
    """Multiply ``[b, i]`` with a weight ``[i, o]`` that lies reversed along both axes.

    Args:
        x: inputs, ``[b, i]``.
        w: weights, ``[i, o]``.

    Returns:
        ``[b, o]``.

    Example:
        >>> reversed_linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [5.0]])).item()  # 1 * 5 + 2 * 3
        11.0
    """
    return x @ w.flip(0, 1)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    """Keep what the backward needs."""
    ctx.save_for_backward(*inputs)


def _back(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return both gradients, or refuse while the gate is closed."""
    if no_reverse.refusing():
        raise BackwardRefused(
            f"{no_reverse.refusing()} but the backward of an opaque operation was run; use view.pull"
        )
    x, w = ctx.saved_tensors
    return grad @ w.flip(0, 1).T, (x.T @ grad).flip(0, 1)


reversed_linear.register_autograd(_back, setup_context=_save)


@rule(reversed_linear)
def _forward(y: Tensor, x: Any, w: Any) -> Tensor | None:
    """Return the tangents of the product: each factor's tangent times the other's value."""
    t, v = part(x), part(w)
    return plus(
        None if t is None else t @ value(w).flip(0, 1),
        None if v is None else value(x) @ v.flip(1, 2),
    )


class Opaque(nn.Module):
    """An opaque linear operation with an ordinary bias.

    Example:
        >>> Opaque(3, 2)(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs) / 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, outputs]``."""
        y: Tensor = reversed_linear(x, self.weight)
        return y + self.bias


class OpaqueLayer(LocalModule):
    """An opaque operation and a smooth activation.

    Example:
        >>> OpaqueLayer(3, 2)(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = Opaque(inputs, outputs)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c]``."""
        z = tap("site", "l0", tap("op", "l0", self.l0(x.flatten(1))))
        return tap("out", "l0", torch.tanh(z))


class OpaqueReadout(Readout):
    """An opaque linear head.

    Example:
        >>> OpaqueReadout(3, 2)(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.linear = Opaque(inputs, classes)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]``."""
        return tap("op", "linear", self.linear(f))


class Convolution(LocalModule):
    """A 2×2 convolution, group norm with gain and bias, and ReLU.

    Example:
        >>> Convolution(1, 2)(torch.ones(4, 1, 3, 3)).shape
        torch.Size([4, 2, 2, 2])
    """

    sites = (Site("l0", "b c h w", op_mixes="c h w", shared="h w"),)
    mixes = "c h w"
    out_axes = "b c h w"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = nn.Conv2d(inputs, outputs, 2)
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c, h, w]``."""
        z = tap("site", "l0", self.norm(tap("op", "l0", self.l0(x))))
        return tap("out", "l0", F.relu(z))


def opaque(shape: tuple[int, ...], classes: int) -> Chain:
    """Build three opaque layers with opaque readouts throughout.

    Args:
        shape: shape of one example.
        classes: number of classes.

    Returns:
        The chain.

    Example:
        >>> len(opaque((1, 2, 3), classes=4))
        3
    """
    widths = [int(torch.Size(shape).numel()), 4, 5, 3]
    body: list[LocalModule] = [OpaqueLayer(*widths[k : k + 2]) for k in range(3)]
    names = ("local0", "local1", "final")
    heads: dict[str, Readout] = {
        name: OpaqueReadout(width, classes) for name, width in zip(names, widths[1:], strict=True)
    }
    return Chain(body, heads, shape, classes)


def convolutions(shape: tuple[int, ...], classes: int) -> Chain:
    """Build two convolutions and a linear readout of the mean over pixels.

    Args:
        shape: shape of one example.
        classes: number of classes.

    Returns:
        The chain.

    Example:
        >>> len(convolutions((1, 3, 4), classes=4))
        2
    """
    body: list[LocalModule] = [Convolution(shape[0], 2), Convolution(2, 3)]
    return Chain(body, {"final": LinearReadout("b c h w", 3, classes)}, shape, classes)


def one_convolution(shape: tuple[int, ...], classes: int) -> Chain:
    """Build one convolution and a linear readout of the mean over pixels.

    Args:
        shape: shape of one example.
        classes: number of classes.

    Returns:
        The chain.

    Example:
        >>> len(one_convolution((1, 2, 3), classes=4))
        1
    """
    head = LinearReadout("b c h w", 2, classes)
    return Chain([Convolution(shape[0], 2)], {"final": head}, shape, classes)


@dataclass(frozen=True)
class Net:
    """A network to check on.

    Args:
        name: what outcomes call it; a registered architecture unless ``make`` is given.
        shape: shape of one example.
        classes: number of classes.
        examples: batch size.
        make: builds the chain.

    Example:
        >>> len(TINY.build(Noise(0, dtype=torch.float64)))
        2
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    examples: int
    make: Callable[[tuple[int, ...], int], Chain] | None = None

    def build(self, noise: Noise) -> Chain:
        """Build the chain in float64, drawn from keyed noise, with nothing left at zero."""
        with noise.child("arch").seeded():
            if self.make is not None:
                chain = self.make(self.shape, self.classes)
            else:
                sizes: dict[str, Any] = {"shape": self.shape, "classes": self.classes}
                chain = registry.make("architectures", self.name, **sizes).thing
        if not isinstance(chain, Chain):
            raise UsageError(
                f"{self.name} is an ordinary module, expected a chain of local modules"
            )
        return filled(chain.to(torch.float64), noise)


def filled(chain: Chain, noise: Noise) -> Chain:
    """Give every parameter that starts at zero small values.

    Args:
        chain: changed in place.
        noise: where the values come from.

    Returns:
        The chain.

    Example:
        >>> chain = filled(convolutions((1, 3, 4), 4), Noise(0))
        >>> all(bool(p.any()) for p in chain.parameters())
        True
    """
    with torch.no_grad():
        for name, p in chain.named_parameters():
            if p.numel() and float(p.abs().max()) == 0.0:
                p.copy_(0.1 * noise.child("fill").normal(name, tuple(p.shape)))
    return chain


TINY = Net("mlp-2x4", (1, 2, 2), 3, 2)
SMOOTH = Net("mlp-2x4[activation=tanh]", (1, 2, 2), 3, 2)
MIXER = Net("localmixer[blocks=2,side=2,channels=6,groups=2]", (2, 4, 6), 7, 5)
CONVOLUTIONS = Net("two convolutions", (1, 3, 4), 4, 2, convolutions)
OPAQUE = Net("opaque operations", (1, 2, 3), 4, 2, opaque)
LEAST = Net("mlp-1x2[activation=tanh]", (1, 1, 2), 2, 2)
DEEP = Net("mlp-2x1[activation=tanh]", (1, 1, 1), 2, 2)
FEW = Net("mlp-2x2", (1, 1, 2), 2, 2)
CONVOLUTION = Net("one convolution", (1, 2, 3), 3, 2, one_convolution)
NETS = (TINY, MIXER, CONVOLUTIONS, OPAQUE)

Target = Literal["gradient", "direction", "documented"]
"""What a mean is compared with: the gradient, the gradient times any c > 0, or the documented mean."""


def _batch(scheme: Scheme, net: Net, noise: Noise) -> tuple[Tensor, Any]:
    """Return a batch of noise, made by the locality where losses or windows need more than labels."""
    labels = (torch.arange(net.examples) * 3 + 1) % net.classes
    needs = any(scheme.chain.readout(o.readout).needs for o in scheme.objectives)
    if not (needs or scheme.moves):
        x = noise.normal("x", (scheme.copies * net.examples, *net.shape))
        return x, labels.repeat(scheme.copies)
    uniform = noise.draw("uniform", "pixels", 0, (net.examples, *net.shape))
    pixels, level = (255 * uniform).to(torch.uint8), (0.5,) * net.shape[0]
    images = Images(
        "noise", pixels, labels, pixels, labels, classes=net.classes, peak=255.0, mean=level, std=level,
        fingerprint=fingerprint("noise", pixels, labels),
    )  # fmt: skip
    return scheme.batch(pixels, labels, images, noise.child("batch"))


@dataclass(frozen=True)
class Case:
    """An estimator on one net under one locality, in float64 on the CPU.

    Args:
        net: the net.
        place: its locality.
        task: the task.
        estimator: the estimator.
        x: the batch.
        y: its labels, with what else the locality gives.
        noise: where the case's draws come from.
        state: the estimator's state per objective.
        refused: why the estimator does not run here, "" if it does.
        after: what came before, such as learned steps, for outcomes.
        target: what means are compared with.

    Example:
        >>> case = Case.build(TINY, "end", registry.make("estimators", "fg_a").thing)
        >>> case.name, case.claims.bias
        ('mlp-2x4/end', 'none')
    """

    net: Net
    place: registry.Made
    task: Task
    estimator: Estimator
    x: Tensor
    y: Any
    noise: Noise
    state: dict[str, State]
    refused: str
    after: str = ""
    target: Target = "gradient"

    @classmethod
    def build(cls, net: Net, locality: str | registry.Made, estimator: Estimator) -> Case:
        """Build a case, which is a function of these arguments alone."""
        noise = Noise(SEED, dtype=torch.float64)
        made = registry.make("localities", locality) if isinstance(locality, str) else locality
        task = Task.build(net.build(noise), made.thing, noise)
        x, y = _batch(task.scheme, net, noise)
        refused = task.scheme.refused or estimator.supports(task.scheme)
        if not isinstance(refused, str):
            raise Fault(f"supports() must return a reason or '', returned {refused!r}")
        state = {} if refused else task.init_state(estimator, noise)
        draws = noise.child("draws")
        return cls(net, made, task, estimator, x, y, draws, state, refused)

    @property
    def name(self) -> str:
        """Name of net and locality, for outcomes."""
        return f"{self.net.name}/{self.place.text}{self.after}"

    @property
    def claims(self) -> Claims:
        """Claims of the estimator for this task; the values of each are checked."""
        claims = self.estimator.claims(self.task.scheme)
        if not isinstance(claims, Claims):
            raise Fault(f"claims() must return fgbench.core.estimator.Claims, returned {claims!r}")
        valid_of = {"bias": get_args(Bias), "backward": get_args(Backward), "kind": get_args(Kind)}
        for name, valid in valid_of.items():
            if getattr(claims, name) not in valid:
                raise Fault(f"claims {name}={getattr(claims, name)!r}; valid: {', '.join(valid)}")
        if claims.kind != "gradient" and claims.bias != "some":
            raise Fault(
                f"claims kind={claims.kind!r} and bias={claims.bias!r}: what estimates no gradient has "
                "no bias to claim"
            )
        return self.task.claims(self.estimator)

    def of(self, estimator: Estimator) -> Case:
        """Return the same case for another estimator with the same state."""
        return replace(self, estimator=estimator)

    def towards(self, target: Target) -> Case:
        """Return the same case with means compared with something else."""
        return replace(self, target=target)

    @cached_property
    def truth(self) -> Grads:
        """The exact gradient of the scheme's objectives, by parameter name."""
        return self.task.scheme_truth(self.x, self.y)

    @cached_property
    def documented(self) -> Grads | None:
        """The mean that the estimator documents, summed over objectives; None where it documents none."""
        return self.task.expected(self.x, self.y, self.estimator, self.state)

    @property
    def reference(self) -> Grads:
        """The gradient, or the documented mean where means are compared with that."""
        if self.target != "documented":
            return self.truth
        assert self.documented is not None
        return gradients.complete(self.truth, self.documented)

    @property
    def place_of(self) -> dict[str, str]:
        """Site of each parameter, or its own name where it belongs to none."""
        sites = self.task.chain.index
        owner = {name: name.rpartition(".")[0] for name in self.truth}
        return {name: site if site in sites else name for name, site in owner.items()}

    def flat(self, grads: Mapping[str, Tensor]) -> Tensor:
        """Join gradients in the truth's order; what is missing is zero."""
        every = [grads[n] if n in grads else torch.zeros_like(g) for n, g in self.truth.items()]
        return torch.cat([g.flatten() for g in every])

    def estimate(self, noise: Noise) -> Tensor:
        """Run the estimator once over all objectives and join its estimate of the body."""
        step = self.task.estimate(self.x, self.y, self.estimator, noise, self.state)
        return self.flat(step.body)
