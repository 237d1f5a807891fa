"""Differential equations with known solutions, to be solved by a network (physics-informed networks)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fgbench.core.autodiff.jet import Jet
from fgbench.core.noise.keyed import Noise
from fgbench.core.wrapping import Network
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import fingerprint
from fgbench.data.goal import Goal, Metric
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


ONLY_END = (
    "the loss of an equation is a residual of derivatives by the points, and a readout between the layers "
    "sees values alone; take a locality with one loss at the end"
)
"""Why networks under an equation have no local losses."""


class Residual(nn.Module):
    """A network under an equation: its outputs are the equation's residual at a point, and the solution.

    Args:
        net: from points ``[b, d]`` to ``[b, 1]``.
        solution: from the points and the network's output, as jets, to a function that meets the boundary
            conditions whatever the network is.
        residual: from the points and that function to what the equation says is 0.
        orders: how often the function is differentiated along every coordinate.

    Example:
        >>> line = nn.Linear(1, 1)
        >>> module = Residual(line, lambda x, n: n * x, lambda x, u: u.second[0], orders=(2,))
        >>> residual = module(torch.ones(3, 1))[:, 0]  # (w x² + b x)'' is 2 w
        >>> bool(torch.allclose(residual, 2 * line.weight[0]))
        True
    """

    def __init__(
        self,
        net: nn.Module,
        solution: Callable[[Jet, Jet], Jet],
        residual: Callable[[Tensor, Jet], Tensor],
        orders: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.net = net
        self._solution, self._residual, self._orders = solution, residual, orders

    def forward(self, x: Tensor) -> Tensor:
        """Compute residual and solution, ``[b, 2]``."""
        points = Jet.seed(x, self._orders)
        u = self._solution(points, self.net(points))
        return torch.cat([self._residual(x, u), u.value], 1)


@dataclass(frozen=True, eq=False)
class Equation(Arrays):
    """Points of a domain, the exact solution there, and the equation that a network is trained on.

    An architecture is built for one number per point, and :meth:`applied` puts it under the equation. The
    loss is the squared residual; the metric is the error of the solution relative to the exact one.

    Args:
        solution: see :class:`Residual`.
        residual: see :class:`Residual`.
        orders: see :class:`Residual`.

    Example:
        >>> data = poisson()
        >>> data.shape, data.classes, data.main
        ((1,), 1, 'relative_error')
    """

    solution: Callable[[Jet, Jet], Jet] = field(kw_only=True, repr=False)
    residual: Callable[[Tensor, Jet], Tensor] = field(kw_only=True, repr=False)
    orders: tuple[int, ...] = field(kw_only=True)

    @property
    def classes(self) -> int:
        """Numbers that the network predicts at a point."""
        return 1

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the network's output at a point."""
        return (1,)

    def applied(self, network: Any) -> Network:
        """Return a network under the equation, without cuts: derivatives cross all of it.

        Args:
            network: a module, or one with what its author knows of its structure.
        """
        given = network if isinstance(network, Network) else Network(network)
        under = Residual(given.module, self.solution, self.residual, self.orders)
        return Network(under, sites=given.sites, only_end=ONLY_END)


@register("datasets", "poisson")
def poisson(*, train: int = 1024, test: int = 256, data_dir: str | None = None) -> Equation:
    """Poisson's equation −u″ = π² sin πx on [0, 1] with u = 0 at both ends, which u = sin πx solves.

    The network n gives u = x (1 − x) n(x). Training points are random, test points a grid.

    Args:
        train: training points.
        test: test points.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set, for networks of smooth functions such as ``mlp-pinn-3x32``.

    Example:
        >>> data = poisson(train=4, test=3)
        >>> [round(float(u), 4) for u in data.test_y]
        [0.7071, 1.0, 0.7071]
    """
    _check("poisson", train, test)
    x = Noise(0, dtype=torch.float64).child("poisson").normal("points", (train, 1))
    x = torch.special.ndtr(x)  # uniform on (0, 1)
    grid = torch.arange(1, test + 1, dtype=torch.float64)[:, None] / (test + 1)

    def exact(points: Tensor) -> Tensor:
        return torch.sin(math.pi * points[:, 0])

    def residual(points: Tensor, u: Jet) -> Tensor:
        found: Tensor = u.second[0] + math.pi**2 * torch.sin(math.pi * points)
        return found

    parts = (x, exact(x), grid, exact(grid))
    return Equation(
        "poisson",
        *parts,
        goal=_goal(),
        fingerprint=fingerprint("poisson", *parts),
        solution=lambda points, n: n * (points * (1 - points)),
        residual=residual,
        orders=(2,),
    )


@register("datasets", "burgers")
def burgers(
    *, viscosity: float = 0.05, train: int = 4096, test: int = 1024, data_dir: str | None = None
) -> Equation:
    """Burgers' equation u_t + u u_x = ν u_xx for x in [−1, 1], t in [0, 1], with u = −sin πx at t = 0.

    At both ends u is 0. The exact solution is that of Cole and Hopf, by Gauss–Hermite quadrature. The
    network n gives u = −sin πx + t (1 − x²) n(x, t).

    Args:
        viscosity: ν, 0.02 or more.
        train: training points.
        test: test points.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set, for networks of smooth functions such as ``mlp-pinn-3x32``.

    Raises:
        UsageError: a number is out of its range.

    Example:
        >>> data = burgers(train=4, test=3)
        >>> data.shape, data.classes
        ((2,), 1)
    """
    _check("burgers", train, test)
    if not 0.02 <= viscosity < float("inf"):
        raise UsageError(f"burgers: viscosity must be 0.02 or more, got {viscosity}")
    parts: list[Tensor] = []
    for name, count in (("train", train), ("test", test)):
        noise = Noise(0, dtype=torch.float64).child("burgers")
        points = torch.special.ndtr(noise.normal(name, (count, 2)))
        points[:, 0] = 2 * points[:, 0] - 1
        parts += [points, _burgers(points, viscosity)]

    def solution(points: Jet, n: Jet) -> Jet:
        x, t = points[:, :1], points[:, 1:]
        return n * (t * (1 - x * x)) - (x * math.pi).sin()

    def residual(points: Tensor, u: Jet) -> Tensor:
        found: Tensor = u.first[1] + u.value * u.first[0] - viscosity * u.second[0]
        return found

    return Equation(
        "burgers",
        *parts,
        goal=_goal(),
        fingerprint=fingerprint("burgers", *parts),
        solution=solution,
        residual=residual,
        orders=(2, 1),
    )


def _burgers(points: Tensor, viscosity: float) -> Tensor:
    """Return the exact solution at points (x, t), see Basdevant et al. 1986."""
    z, weight = np.polynomial.hermite.hermgauss(100)
    x, t = points[:, :1].numpy(), points[:, 1:].numpy()
    at = x - 2 * np.sqrt(viscosity * t) * z
    # exp(−cos(π at) / 2πν), divided by its largest value
    f = weight * np.exp((-np.cos(np.pi * at) - 1) / (2 * np.pi * viscosity))
    return torch.from_numpy(-(np.sin(np.pi * at) * f).sum(1) / f.sum(1))


def _goal() -> Goal:
    """Return the goal of an equation: no residual, and little error of the solution."""
    error = Metric(_squared_off, _relative, unit="fraction", chance=1.0)
    return Goal((2,), squared_residual, {"relative_error": error}, "relative_error")


def squared_residual(prediction: Tensor, targets: Tensor) -> Tensor:
    """Return the squared residual of each point; the solution there is not looked at.

    Args:
        prediction: residual and solution, ``[b, 2]``.
        targets: the exact solution.

    Returns:
        ``[b]``.

    Example:
        >>> squared_residual(torch.tensor([[2.0, 7.0]]), torch.zeros(1))
        tensor([4.])
    """
    return prediction[:, 0] * prediction[:, 0]


def _squared_off(prediction: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of the solution at each point."""
    off = prediction[:, 1] - targets
    return off * off


def _relative(mean: float, targets: Tensor) -> float:
    """Return the norm of the error over that of the exact solution."""
    return math.sqrt(mean / float(targets.double().square().mean()))


def _check(name: str, train: int, test: int) -> None:
    """Refuse numbers of points below 1."""
    if train < 1 or test < 1:
        raise UsageError(f"{name}: train and test must be 1 or more, got {train} and {test}")
