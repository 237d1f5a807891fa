"""Squared norms of weight gradients from cotangents at a site, without forming the gradients (ghost norms).

Reverse mode goes from the site to the outputs of the calls by which parameters enter, through the norm or
whatever else lies between. From there :mod:`fgbench.core.autodiff.param_uses` computes the squared norm of
the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.core import axes
from fgbench.core.autodiff.param_uses import Entry, ParamUseTracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.oracles import Oracles

MOST = 1 << 30  # numbers that all reverse passes of one prediction may touch


@dataclass
class Segment:
    """The part of a network between one site and the nearest parameters before it.

    Args:
        head: where credit enters, in the graph: the site, or the raw output of its weight operation.
        entries: the uses of parameters that it reaches.
        apart: dimensions of the head along which nothing before it is mixed: what enters at one index
            leaves every entry at the same index.

    Example:
        >>> x, w = torch.tensor([[3.0, 4.0]]), torch.ones(2, 2, requires_grad=True)
        >>> z = x @ w
        >>> use = Entry("w", out=z, letters="bo", weight="io", input=x, within="bi")
        >>> Segment(head=z, entries=(use,), apart=(0, 1)).rows()  # |x|² at each unit
        {'w': tensor([[25., 25.]], dtype=torch.float64)}
    """

    head: Tensor
    entries: tuple[Entry, ...]
    apart: tuple[int, ...]

    @property
    def passes(self) -> int:
        """Reverse passes that :meth:`rows` takes."""
        return prod(self.head.shape[d] for d in self._mixed)

    @property
    def _mixed(self) -> list[int]:
        """The dimensions of the head that are not in ``apart``."""
        return [d for d in range(self.head.dim()) if d not in self.apart]

    def squares(self, cotangent: Tensor, apart: Sequence[int]) -> dict[str, Tensor]:
        """Return the squared norm of the gradient of each part of a cotangent at the head.

        Args:
            cotangent: of the shape of the head.
            apart: some of the dimensions in ``self.apart``, whose indices tell the parts.

        Returns:
            Parameter name to ``[*apart]`` in float64.
        """
        found = _pulled(self.head, [e.out for e in self.entries], cotangent)
        pairs = zip(self.entries, found, strict=True)
        return {e.name: e.squares(c, apart) for e, c in pairs if c is not None}

    def rows(self) -> dict[str, Tensor]:
        """Return the squared norm of the gradient of a unit cotangent at each unit of the head.

        Returns:
            Parameter name to a tensor of the shape of the head, in float64.

        Cost: one reverse pass of the segment per index of the dimensions that are mixed.
        """
        found = {
            e.name: torch.zeros_like(self.head, dtype=torch.float64, requires_grad=False)
            for e in self.entries
        }
        mixed = self._mixed
        for index in product(*(range(self.head.shape[d]) for d in mixed)):
            at = [slice(None)] * self.head.dim()
            for d, i in zip(mixed, index, strict=True):
                at[d] = slice(i, i + 1)
            unit = torch.zeros_like(self.head)
            unit[tuple(at)] = 1.0
            for name, square in self.squares(unit, self.apart).items():
                found[name][tuple(at)] = square.reshape(found[name][tuple(at)].shape)
        return found


def segments(
    view: Oracles, through_norm: bool = True, most: float | None = None
) -> dict[str, Segment] | None:
    """Trace how the parameters of a view enter, and divide its window into segments at the sites.

    Args:
        view: the objective on the batch.
        through_norm: whether credit enters at the sites (True) or at the raw outputs of their operations.
        most: numbers that rows may touch, 2^30 unless given; infinity for who asks for none.

    Returns:
        Site name to segment; None where a parameter enters by a call that is not known, more than
        once, or before two sites, or where rows would touch more than ``most`` numbers.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> segment = segments(view)["body.0.l0"]
        >>> squares = segment.squares(torch.ones(5, 4), apart=[0])  # |x|² |cotangent|² per example
        >>> want = 4 * view.start.flatten(1).double().square().sum(1)
        >>> torch.allclose(squares["body.0.l0.weight"], want)
        True
    """
    most = MOST if most is None else most
    if _least_work(view, through_norm) > most:
        return None
    hearing = ParamUseTracer(view.params, len(view.start))
    heads: dict[str, Tensor] = {}
    into = "site" if through_norm else "op"

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == into and name in view.sites:
            heads[name] = z
        return z.detach() if kind == "site" else z

    with torch.enable_grad(), hearing:
        view.chain.run(view.start, *view.objective.window, tap)
    entries = hearing.entries
    heard = sorted(e.name for e in entries) == sorted(view.params)
    if hearing.unknown or not heard or any(e.written for e in entries):
        return None
    found: dict[str, Segment] = {}
    for name, shape in view.sites.items():
        if name not in heads or heads[name].shape != shape:
            return None
        head = heads[name]
        cotangents = _pulled(head, [e.out for e in entries], torch.ones_like(head))
        own = [e for e, c in zip(entries, cotangents, strict=True) if c is not None]
        apart = (d for d in _declared(view, name, through_norm) if d == 0 or _alone(head, own, d))
        found[name] = Segment(head, tuple(own), tuple(apart))
    reached = [e.name for segment in found.values() for e in segment.entries]
    work = sum(s.passes * s.head.numel() for s in found.values())
    return None if len(reached) > len(set(reached)) or work > most else found


def _pulled(head: Tensor, outs: Sequence[Tensor], cotangent: Tensor) -> Sequence[Tensor | None]:
    """Pull a cotangent back to the outputs of calls; None where the head does not depend on one."""
    if not outs or not head.requires_grad:
        return [None] * len(outs)
    return torch.autograd.grad(head, outs, cotangent, retain_graph=True, allow_unused=True)


def _declared(view: Oracles, name: str, through_norm: bool) -> tuple[int, ...]:
    """Return the dimensions of a site that nothing between its weight operation and it mixes."""
    _, site = view.chain.index[name]
    mixes = {*axes.names(site.op_mixes)} if through_norm else set()
    return tuple(d for d, dim in enumerate(axes.parse(site.axes)) if not mixes & {*dim})


def _alone(head: Tensor, entries: Sequence[Entry], d: int) -> bool:
    """Return whether what enters at one index of a dimension leaves every entry at that index alone.

    A parameter may enter before more is mixed than between operation and site, or on transposed dimensions.

    Args:
        head: where credit enters.
        entries: the uses of parameters that it reaches.
        d: the dimension.

    Returns:
        Whether index 0 does.
    """
    outs = [e.out for e in entries]
    if any(o.dim() != head.dim() or o.shape[d] != head.shape[d] for o in outs):
        return False
    one = torch.zeros_like(head)
    some = one.select(d, 0)  # values that no symmetry cancels
    some += torch.arange(1.0, some.numel() + 1).to(some).sqrt().reshape(some.shape)
    found = _pulled(head, outs, one)
    return not any(c is not None and bool(c.narrow(d, 1, c.shape[d] - 1).any()) for c in found)


def _least_work(view: Oracles, through_norm: bool) -> int:
    """Return how many numbers the reverse passes of all rows touch at least."""
    work = 0
    for name, shape in view.sites.items():
        mixed = {*range(len(shape))} - {*_declared(view, name, through_norm)}
        work += prod(shape) * prod(shape[d] for d in mixed)
    return work
