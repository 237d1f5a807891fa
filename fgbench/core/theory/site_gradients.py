"""Exact gradients at the sites, and what directions at the sites do to the sites after them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.core.noise.directions import FixedDirections
from fgbench.core.theory.slice_gradients import Slices

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.gradients import Grads
    from fgbench.core.oracles import Oracles
    from fgbench.core.view import View


def site_gradients(view: Oracles) -> Grads:
    """Return the exact derivative of the objective at every updated site, ``[b, ...]`` by name.

    Args:
        view: the objective on the batch.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> {name: tuple(g.shape) for name, g in site_gradients(view).items()}
        {'body.0.l0': (5, 4), 'body.1.l0': (5, 4)}
    """
    slices = Slices(view)
    found = slices.gradients([slices.at[name] for name in view.sites])
    return {name: g.detach() for name, g in zip(view.sites, found, strict=True)}


def unit_directions(view: Oracles, name: str) -> FixedDirections:
    """Return one direction for every unit of a site, the same for all examples: ``[units, b, ...]``.

    Args:
        view: the objective on the batch.
        name: the site.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> unit_directions(view, "body.1.l0").n
        4
    """
    b, *shape = view.sites[name]
    units = prod(shape)
    some = next(iter(view.params.values()))
    eye = torch.eye(units, dtype=some.dtype, device=some.device).reshape(units, 1, *shape)
    return FixedDirections({name: eye.expand(units, b, *shape)})


def site_jacobian(view: View) -> Tensor:
    """Return how the noise at each unit moves every unit: ``[b, N, N]``, its diagonal 1.

    Row i, column j is the derivative of the value of unit i by noise at unit j, over the units of all updated
    sites in order.

    Args:
        view: the objective on the batch.

    Cost: a slope for every unit.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> jacobian = site_jacobian(view)  # 4 units of the first layer move those of the second
        >>> tuple(jacobian.shape), bool(jacobian[:, :4, 4:].any())
        ((5, 8, 8), False)
    """
    columns = []
    for name in view.sites:
        moved = view.site_tangents(unit_directions(view, name))
        n, b = prod(view.sites[name][1:]), len(view.start)
        zero = next(iter(moved.values())).new_zeros(())
        parts = [
            moved.get(("site", other), zero.expand(n, *shape)).reshape(n, b, -1)
            for other, shape in view.sites.items()
        ]
        columns.append(torch.cat(parts, 2))
    return torch.cat(columns).permute(1, 2, 0)
