"""Slopes from values of the loss: central, extrapolated and kernel-weighted differences, and baselines.

A difference along v is (L(w + εv) − L(w))/ε = ⟨g, v⟩ + ε vᵀHv/2 + ε² T[v, v, v]/6 + ..., with gradient g,
Hessian H and third derivatives T. Averaging the forward and the backward one removes odd powers of ε;
extrapolation removes ε² as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.core.noise.directions import ScaledDirections
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from torch import Tensor

    from fgbench.core.noise.directions import Directions

    class Slopes(Protocol):
        """A view, as far as differences ask it."""

        def slopes(self, directions: Directions, step: float | None = None) -> Tensor:
            """Return slopes, exact without a step."""


def both(view: Slopes, u: Directions, step: float) -> tuple[Tensor, Tensor]:
    """Return forward and backward differences; the exact slope as both where the step is 0.

    Args:
        view: answers ``slopes``.
        u: the directions.
        step: ε, from 0 up.

    Returns:
        (L(w + εv) − L(w))/ε and (L(w) − L(w − εv))/ε, each ``[n, kept...]``.

    Cost: two value passes per direction; with step 0 one slope.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> class Square:  # L(w) = w² at w = 1
        ...     def slopes(self, u, step=None):
        ...         v = u.rows("w", 0, u.n)
        ...         return 2 * v if step is None else ((1 + step * v) ** 2 - 1) / step
        >>> both(Square(), FixedDirections({"w": torch.ones(1)}), step=0.5)
        (tensor([2.5000]), tensor([1.5000]))
    """
    if step == 0:
        exact = view.slopes(u)
        return exact, exact
    return view.slopes(u, step=step), view.slopes(u, step=-step)


def central(view: Slopes, u: Directions, step: float) -> Tensor:
    """Return central differences (L(w + εv) − L(w − εv))/2ε, exact slopes where the step is 0.

    Args:
        view: answers ``slopes``.
        u: the directions.
        step: ε, from 0 up.

    Returns:
        ``[n, kept...]``.

    Cost: that of :func:`both`.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> class Square:  # L(w) = w² at w = 1: exact at any step
        ...     def slopes(self, u, step=None):
        ...         v = u.rows("w", 0, u.n)
        ...         return 2 * v if step is None else ((1 + step * v) ** 2 - 1) / step
        >>> central(Square(), FixedDirections({"w": torch.ones(1)}), step=0.5)
        tensor([2.])
    """
    ahead, behind = both(view, u, step)
    return ahead if step == 0 else (ahead + behind) / 2


def extrapolated(view: Slopes, u: Directions, step: float) -> Tensor:
    """Return Richardson's extrapolation of central differences D: (4 D(ε/2) − D(ε))/3.

    D(ε) = ⟨g, v⟩ + c₂ ε² + c₄ ε⁴ + ..., so that ε² cancels and −c₄ ε⁴/4 is left. The weights act on the
    slopes of one direction, so that the variance over directions stays that of the slope.

    Args:
        view: answers ``slopes``.
        u: the directions.
        step: ε, above 0.

    Returns:
        ``[n, kept...]``.

    Cost: four value passes per direction.

    References: Richardson, The approximate arithmetical solution by finite differences, 1911.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> class Cube:  # L(w) = w³ at w = 1
        ...     def slopes(self, u, step=None):
        ...         return ((1 + step * u.rows("w", 0, u.n)) ** 3 - 1) / step
        >>> u = FixedDirections({"w": torch.ones(1)})
        >>> central(Cube(), u, step=0.5), extrapolated(Cube(), u, step=0.5)
        (tensor([3.2500]), tensor([3.]))
    """
    return (4 * central(view, u, step / 2) - central(view, u, step)) / 3


KERNELS: dict[int, Callable[[Tensor], Tensor]] = {
    1: lambda r: 3 * r,
    3: lambda r: 15 / 4 * r * (5 - 7 * r**2),
    5: lambda r: 105 / 64 * r * (99 * r**4 - 126 * r**2 + 35),
}
"""Kernels K with E[r K(r)] = 1 for r uniform on [−1, 1]: K₃ has E[r³ K] = 0, K₅ also E[r⁵ K] = 0."""


def weighted(view: Slopes, u: Directions, step: float, lengths: Tensor, order: int) -> Tensor:
    """Return central differences of random length, weighted by a kernel of it.

    (L(w + εrv) − L(w − εrv))/2ε · K(r), whose mean over r is ⟨g, v⟩ + E[r³K] ε² T[v, v, v]/6 + ...

    Args:
        view: answers ``slopes``.
        u: the directions.
        step: ε, above 0.
        lengths: r in [−1, 1] of each direction, ``[n]``.
        order: of the kernel, one of :data:`KERNELS`.

    Returns:
        ``[n, kept...]``.

    Cost: two value passes per direction.

    Example:
        >>> import torch
        >>> from fgbench.core.noise.directions import FixedDirections
        >>> class Linear:  # L(w) = w
        ...     def slopes(self, u, step=None):
        ...         return u.rows("w", 0, u.n)
        >>> weighted(Linear(), FixedDirections({"w": torch.ones(1)}), 0.5, torch.tensor([0.5]), order=1)
        tensor([0.7500])
    """
    slopes = central(view, ScaledDirections(u, lengths), step)
    return slopes * KERNELS[order](lengths).reshape(-1, *[1] * (slopes.dim() - 1))


def leave_one_out(slopes: Tensor) -> Tensor:
    """Return slopes with the mean of the other directions as baseline in place of the clean loss.

    s_k − mean of s_j, j ≠ k, which is (s_k − mean s) n/(n − 1). The losses of other directions do not
    depend on v_k, so that the mean of s_k v_k stays. The clean loss cancels. What all directions have in
    common, such as ε tr(H)/2 of one-sided differences, leaves the noise.

    Args:
        slopes: one-sided differences ``[n, kept...]``.

    Returns:
        ``[n, kept...]``.

    Raises:
        UsageError: for a single direction, which has no other.

    References: Kool, van Hoof, Welling, Buy 4 REINFORCE samples, get a baseline for free!, 2019.

    Example:
        >>> import torch
        >>> leave_one_out(torch.tensor([[1.0], [2.0], [6.0]])).flatten()
        tensor([-3.0000, -1.5000,  4.5000])
    """
    n = len(slopes)
    if n < 2:
        raise UsageError("baseline=mean needs two directions at least: type directions=2")
    return (slopes - slopes.mean(0)) * (n / (n - 1))
