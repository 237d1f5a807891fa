"""Ordinary modules that know nothing of fgbench: their sites, estimates on them, buffers that steps leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

from .cells import Cell, NotHere, cell, chosen, wanted
from .estimates import of_step
from .flat import Numbers, of_nested, of_tensors
from .networks import BATCH, SEED

NETWORKS = ("residual", "convolutions", "attention", "recurrent", "running mean")
"""Ordinary modules that know nothing of fgbench, see :func:`_module`."""

METHODS = tuple(
    f"{estimator}/{locality}"
    for locality in ("end", "local")
    for estimator in ("bp", "fg_a", "fg_w", "np")
)


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield what is found in ordinary modules, estimates on them, and the buffers that steps leave.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> found = cells({"archs": ["wrapped residual"], "estimators": ["bp"], "localities": ["end"]})
        >>> [cell["name"] for cell in found]
        ['wrapped residual: sites', 'wrapped residual: bp/end']
    """
    for name in chosen([f"wrapped {name}" for name in NETWORKS], only, "archs"):
        kind = name.partition(" ")[2]
        yield cell("estimate", f"{name}: sites", partial(_sites, kind), arch=name, about="sites")
        for method in METHODS:
            estimator, _, locality = method.partition("/")
            if chosen([estimator], only, "estimators") and chosen([locality], only, "localities"):
                make = partial(_estimate, kind, method)
                yield cell("estimate", f"{name}: {method}", make, arch=name, about=method)
        for method in ("bp/end", "fg_a/end") if kind == "running mean" else ():
            if wanted(method, only):
                make = partial(_left_buffers, kind, method)
                about = f"{method} buffers"
                yield cell("estimate", f"{name}: {about}", make, arch=name, about=about)


def _module(kind: str) -> tuple[Any, Any, Any, Any, Any]:
    """Return a small module in float64, inputs, targets, its loss per example, and where it is cut."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def waves(*shape: int) -> Any:
        return torch.cos(torch.arange(1.0, 1 + torch.Size(shape).numel()) ** 1.5).reshape(shape)

    class Residual(nn.Module):
        """A perceptron whose hidden layer is added to its input."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.hidden, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            h = F.relu(self.first(x))
            return self.last(h + torch.tanh(self.hidden(h)))

    class Convolutions(nn.Module):
        """Two convolutions, the first with a norm of groups, and the mean over pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
            self.second, self.last = nn.Conv2d(4, 3, 3, stride=2), nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            h = F.relu(self.norm(self.first(x)))
            return self.last(F.gelu(self.second(h)).mean((2, 3)))

    class Attention(nn.Module):
        """Tokens that attend under a mask which all examples share; the readout is the embedding's."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.out = nn.Embedding(7, 4), nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, tokens: Any, mask: Any) -> Any:
            h = self.embed(tokens)
            q, k, v = self.mix(h).chunk(3, -1)
            h = h + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
            return h @ self.embed.weight.T

    class Recurrent(nn.Module):
        """A gated cell that goes over three positions, and a readout of the last state."""

        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = nn.GRUCell(2, 4), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            h = x.new_zeros(len(x), 4)
            for t in range(3):
                h = self.cell(x[:, t], h)
            return self.last(h)

    class Running(nn.Module):
        """Takes a running mean off, which it writes in place, and counts its calls."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
            self.register_buffer("mean", torch.zeros(5))
            self.register_buffer("calls", torch.zeros(()))
            self.mean: torch.Tensor
            self.calls: torch.Tensor

        def forward(self, x: Any) -> Any:
            h = self.first(x)
            seen = h - self.mean
            self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
            self.calls = self.calls + 1
            return self.last(torch.tanh(seen))

    def of_classes(prediction: Any, target: Any) -> Any:
        return F.cross_entropy(prediction, target, reduction="none")

    def of_tokens(prediction: Any, target: Any) -> Any:
        each = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
        return each.view(target.shape).mean(1)

    labels, tokens = torch.arange(BATCH) % 3, torch.arange(BATCH * BATCH).reshape(BATCH, BATCH)
    mask = torch.ones(BATCH, BATCH, dtype=torch.bool).tril()  # as long as the batch, and shared
    module, x, y, loss, cut = {
        "residual": (Residual, waves(BATCH, 6), labels, of_classes, ("first",)),
        "convolutions": (Convolutions, waves(BATCH, 1, 5, 5), labels, of_classes, ("norm",)),
        "attention": (Attention, (tokens * 5 % 7, mask), tokens * 3 % 7, of_tokens, ("embed",)),
        "recurrent": (Recurrent, waves(BATCH, 3, 2), labels, of_classes, ("cell",)),
        "running mean": (Running, waves(BATCH, 6), labels, of_classes, ("first",)),
    }[kind]
    with torch.random.fork_rng(devices=[]):
        net = module()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 + 0.6 * waves(*parameter.shape))
    if isinstance(x, torch.Tensor):
        x = x.double()
    return net.double(), x, y, loss, cut


@cache
def _chain(kind: str, cut: bool) -> tuple[Any, Any, Any]:
    """Return a module as a chain of the measured tree, inputs and targets."""
    import fgbench

    net, x, y, loss, where = _module(kind)
    if not hasattr(fgbench, "wrap"):
        raise NotHere("this tree has no fgbench.wrap")
    return fgbench.wrap(net, x, loss, cut=where if cut else ()), x, y


def _sites(kind: str) -> Numbers:
    """Return the sites that are found in a module, with their shapes and shares of the operations."""
    chain, _, _ = _chain(kind, True)
    shapes = chain.shapes()
    found = {name: [k, site.axes, *shapes[name]] for name, (k, site) in chain.index.items()}
    return of_nested(
        {"sites": found, "shares": chain.shares(), "rectified": sorted(chain.rectified())}
    )


def _estimate(kind: str, method: str) -> Numbers:
    """Return one estimate on a module."""
    import torch

    from fgbench import registry
    from fgbench.core.estimator import why_not
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task

    made = registry.method(method)
    chain, x, y = _chain(kind, made.locality.text == "local")
    task = Task.build(chain, made.locality.thing, Noise(SEED))
    task.chain.to(dtype=torch.float64)
    estimator, noise = made.estimator.thing, Noise(SEED, dtype=torch.float64)
    if reason := why_not(estimator, task.scheme):
        raise NotHere(reason)
    state = task.init_state(estimator, noise)
    return of_step(task.estimate(x, y, estimator, noise.child("directions"), state))


def _left_buffers(kind: str, method: str) -> Numbers:
    """Return the buffers of a module and its loss after two steps in a loop of one's own."""
    import torch

    import fgbench

    net, x, y, loss, _ = _module(kind)
    if not hasattr(fgbench, "ForwardGradient"):
        raise NotHere("this tree has no fgbench.ForwardGradient")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    forward = fgbench.ForwardGradient(net, loss, method, optimizer, seed=SEED)
    losses = [forward.step(x, y) for _ in range(2)]
    return of_tensors(dict(net.named_buffers()), "buffers") | of_nested(losses, "losses")
