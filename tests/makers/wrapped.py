"""Networks that know nothing of fgbench, and how exactly every estimator works on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from fgbench import registry
from fgbench.conformance.unbiased import frame
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import wrap
from tests.makers.networks import weights_of

if TYPE_CHECKING:
    from fgbench.core.wrapping import WrappedChain


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """One loss per example, of one label each."""
    return F.cross_entropy(prediction, target, reduction="none")


def token_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """One loss per example, the mean over its tokens."""
    each = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
    return each.view(target.shape).mean(1)


def pixel_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """One loss per example, the mean over its pixels."""
    return F.cross_entropy(prediction, target, reduction="none").mean((1, 2))


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """One loss per example, the mean over its numbers."""
    return (prediction - target).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Subject:
    """A module of somebody else with a batch, and where it is cut."""

    name: str
    module: nn.Module
    x: Any
    y: Any
    loss: Callable[[Any, Any], Tensor] = cross_entropy
    cut: Any = ()
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-12
    """1e-6 where the module computes in float32 on the way."""

    def chain(self) -> WrappedChain:
        """Wrap the module in float64."""
        module = self.module.double()
        return wrap(module, self.inputs, self.loss, cut=self.cut, **self.options)

    @property
    def inputs(self) -> Any:
        """The inputs in float64 where they are real numbers."""
        return tree_map(lambda t: t.double() if t.is_floating_point() else t, self.x)

    @property
    def targets(self) -> Any:
        """The targets in float64 where they are real numbers."""
        return self.y.double() if self.y.is_floating_point() else self.y


def under(subject: Subject, locality: str) -> Task:
    """Put a subject under a locality, its heads not zero."""
    noise = Noise(0, dtype=torch.float64)
    task = Task.build(subject.chain(), registry.make("localities", locality).thing, noise)
    task.chain.double()
    return task


def relative(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Return the norm of the difference relative to the norm of the truth, over all parameters."""
    assert found.keys() == truth.keys()
    off = sum(float((found[n] - g).square().sum()) for n, g in truth.items())
    return (off / sum(float(g.square().sum()) for g in truth.values())) ** 0.5


def by_autograd(task: Task, subject: Subject) -> dict[str, Tensor]:
    """Return the gradient of the mean loss by torch alone, of the parameters of the body."""
    params = task.chain.body_parameters()
    with torch.enable_grad():
        loss = subject.loss(task.chain(subject.inputs), subject.targets).mean()
        found = torch.autograd.grad(loss, list(params.values()))
    return dict(zip(params, found, strict=True))


def places(task: Task, name: str, b: int) -> DesignedNoise:
    """Return the orthonormal design of an estimator, along weights or along the sites of a batch of b."""
    weights = name in ("fg_w", "wp")
    shapes = weights_of(task) if weights else {n: (b, *s) for n, s in task.chain.shapes().items()}
    cut = 0 if weights else 1  # one basis of the units of an example serves the whole batch
    sizes = [prod(shape[cut:]) for shape in shapes.values()]
    basis = frame(sum(sizes), Noise(0, dtype=torch.float64))
    given = {}
    for (place, shape), part in zip(shapes.items(), basis.split(sizes, 1), strict=True):
        rows = part.reshape(-1, *[1] * cut, *shape[cut:])
        given[place] = rows.expand(-1, *shape).contiguous()
    return DesignedNoise(0, dtype=torch.float64, given=given)


def mean(task: Task, subject: Subject, text: str) -> dict[str, Tensor]:
    """Return the mean of an estimate over all orthonormal directions."""
    return _along(task, subject, text, None)


def differences(task: Task, subject: Subject, text: str, count: int = 8) -> float:
    """Return the error of an estimate by differences, against slopes along the same directions.

    The mean of the estimates along a direction and along its opposite is one by central differences, so the
    error falls with the square of the step.
    """
    slopes = {"np": "fg_a", "wp": "fg_w"}[text.partition("[")[0]]
    there, back = (_along(task, subject, text, count, sign) for sign in (1.0, -1.0))
    central = {name: (g + back[name]) / 2 for name, g in there.items()}
    return relative(central, _along(task, subject, slopes, count))


def _along(
    task: Task, subject: Subject, text: str, count: int | None, sign: float = 1.0
) -> dict[str, Tensor]:
    """Return an estimate along some directions of the orthonormal design, far apart in it; all where None."""
    estimator = registry.make("estimators", text).thing
    x, y = task.chain.start(subject.inputs), subject.targets
    noise = places(task, text.partition("[")[0], len(x))
    rows = len(next(iter(noise.given.values())))
    # The first ones are smooth: slopes along them nearly vanish.
    some = slice(None, None, 1 if count is None else max(1, rows // count))
    noise = replace(noise, given={name: sign * t[some] for name, t in noise.given.items()})
    rows = len(next(iter(noise.given.values())))
    return task.estimate(x, y, replace(estimator, directions=rows), noise).body


def feedback_of_its_own(task: Task, subject: Subject) -> dict[str, Tensor]:
    """Return feedback alignment's gradient where the feedback weights are the forward weights: backprop."""
    found: dict[str, Tensor] = {}
    chain = task.chain
    for view in task.views(chain.start(subject.inputs), subject.targets, CostCounter()):
        objective = view.objective
        if not objective.updates:
            continue
        every = {
            **chain.body_parameters(range(*objective.window)),
            **chain.readout_parameters(objective.readout),
        }
        weights = {n: p.detach().clone() for n, p in every.items() if p.dim() > 1}
        for name, g in view.reverse(weights=weights).items():
            found[name] = found[name] + g if name in found else g
    return found


def errors(subject: Subject, locality: str, estimators: tuple[str, ...]) -> dict[str, float]:
    """Return the relative error of every estimator, and of backprop, by name.

    Of forward gradients that of the mean over a design, of perturbations that of the differences.
    """
    task = under(subject, locality)
    x, y = task.chain.start(subject.inputs), subject.targets
    truth = task.scheme_truth(x, y)
    backprop = registry.make("estimators", "bp").thing
    noise = Noise(0, dtype=torch.float64)
    found = {"BP": relative(task.estimate(x, y, backprop, noise).body, truth)}
    if locality == "end" and not task.chain.survey.random:
        found["autograd"] = relative(truth, by_autograd(task, subject))
    found["FA, own weights"] = relative(feedback_of_its_own(task, subject), truth)
    for text in estimators:
        exact = text in ("fg_a", "fg_w")
        found[text] = (
            relative(mean(task, subject, text), truth)
            if exact
            else differences(task, subject, text)
        )
    for text in ("fa", "dfa"):  # biased: they run, and every number is finite
        estimator = registry.make("estimators", text).thing
        state = task.init_state(estimator, noise)
        estimate = task.estimate(x, y, estimator, noise, state).body
        assert estimate.keys() == truth.keys()
        assert all(bool(g.isfinite().all()) for g in estimate.values())
    return found


# small networks


class Sequence(nn.Module):
    """Embedded tokens plus positions, a module, and logits by the embeddings, which are tied or not."""

    def __init__(self, inner: nn.Module, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.position = nn.Parameter(0.1 * torch.randn(1, 4, 6))
        self.inner = inner
        self.out = None if tied else nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(self.embed(x) + self.position)
        return F.linear(h, self.embed.weight) if self.out is None else self.out(h)


class Repeated(nn.Module):
    """One residual block applied three times, its gain used directly."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.gain = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.gain * self.block(x)
        return x


class Adapted(nn.Module):
    """A frozen linear layer beside two thin ones that learn."""

    def __init__(self, inputs: int, outputs: int, rank: int = 2) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class TwoInputs(nn.Module):
    """Two inputs by name, and a tuple of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 5)

    def forward(self, *, image: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.a(image)) * torch.sigmoid(self.b(side))
        return self.c(h), h


class UNet(nn.Module):
    """Skips from the way down to the way up, pooling, and both kinds of interpolation."""

    def __init__(self, width: int = 2, classes: int = 3) -> None:
        super().__init__()

        def block(i: int, o: int) -> nn.Module:
            norm = nn.GroupNorm(2, o)
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), norm, nn.ReLU(inplace=True))

        self.down1, self.down2 = block(1, width), block(width, 2 * width)
        self.middle = block(2 * width, 4 * width)
        self.up2, self.up1 = block(6 * width, 2 * width), block(3 * width, width)
        self.out = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        m = self.middle(F.max_pool2d(b, 2))
        u = self.up2(torch.cat([F.interpolate(m, scale_factor=2, mode="nearest"), b], 1))
        u = self.up1(torch.cat([F.interpolate(u, scale_factor=2, mode="bilinear"), a], 1))
        return self.out(u)


def tokens(b: int, t: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Tokens, and the same shifted by one."""
    drawn = torch.randint(vocabulary, (b, t + 1))
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()


def small(name: str) -> Subject:
    """Make a small subject by its name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SMALL[name](name)


def _sequence(inner: Callable[[], nn.Module], cut: Any, **more: Any) -> Callable[[str], Subject]:
    def make(name: str) -> Subject:
        module = Sequence(inner(), **more)
        x, y = tokens(2, 4, 7)
        return Subject(name, module, x, y, token_cross_entropy, cut)

    return make


def _weight_norm() -> nn.Module:
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Linear(6, 5)), nn.Tanh(), norm(nn.Linear(5, 6)))


def _two_inputs(name: str) -> Subject:
    x = {"image": torch.randn(3, 4), "side": torch.randn(3, 3)}
    return Subject(name, TwoInputs(), x, torch.tensor([0, 3, 1]), cut=("a",))


def _unet(name: str) -> Subject:
    x, y = torch.randn(2, 1, 8, 8), torch.randint(3, (2, 8, 8))
    cut = ("down1", "down2", "middle", "up2", "up1")
    return Subject(name, UNet(), x, y, pixel_cross_entropy, cut)


def _recurrent(kind: type[nn.RNNBase], **more: Any) -> Callable[[str], Subject]:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(6, 4, batch_first=True, **more)
            self.back = nn.Linear(8 if more.get("bidirectional") else 4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.back(self.cell(x)[0])

    return _sequence(Last, ("inner",), tied=False)


def _encoder(name: str) -> Subject:
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x, y, named = torch.randn(2, 4, 6), torch.randn(2, 4, 6), {"out_axes": "b t c"}
    return Subject(name, module, x, y, squared_error, "layers", named)


SMALL: dict[str, Callable[[str], Subject]] = {
    "tied weights": _sequence(lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()), ("inner",)),
    "a block applied three times": _sequence(Repeated, ("inner.block@1", "inner.block@2")),
    "weight norm": _sequence(_weight_norm, ("inner.0",), tied=False),
    "low-rank adapters, the rest frozen": _sequence(
        lambda: nn.Sequential(Adapted(6, 8), nn.GELU(), Adapted(8, 6)), ("inner.1",), tied=False
    ),
    "dropout": _sequence(
        lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Tanh()), ("inner",), tied=False
    ),
    "two inputs and two outputs": _two_inputs,
    "U-Net": _unet,
    "LSTM": _recurrent(nn.LSTM),
    "bidirectional GRU": _recurrent(nn.GRU, bidirectional=True),
    "nn.TransformerEncoder": _encoder,
}
