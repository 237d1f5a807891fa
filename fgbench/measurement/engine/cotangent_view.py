"""The oracles of an objective with slopes as inner products with cotangents that are computed once.

The score of one kept cell along u is ``Σ ⟨λ, u⟩`` over the places, λ the derivative of that cell's losses
there. Along a kept axis that a site has and nothing after it mixes, index i of the site reaches the losses
of index i alone, so one reverse pass gives λ for every index. Along every other kept axis each index takes
a pass of its own. Directions along weights are pushed forward to the nearest sites and cut there; the inner
products of these tangents with λ add up over the sites to the slope, because every path from a weight to
the losses passes exactly one nearest site.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023 (the scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from fgbench.core import axes, microbatch, readout_losses
from fgbench.core.autodiff.dual import Dual, part, swapped, value
from fgbench.core.cost import CostCounter
from fgbench.core.oracles import Oracles
from fgbench.core.theory.slice_gradients import Slices
from fgbench.core.view import View
from fgbench.core.window import Window
from fgbench.measurement.engine.stacked_draws import StackedDirections, Unstacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from fgbench.core.axes import Cells
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.laws import PerExample
    from fgbench.core.oracles import Listener
    from fgbench.core.projection import Combine
    from fgbench.core.window import Place

OTHER = "it uses other oracles than exact slopes at the clean point"


class Refused(Exception):
    """Raised where this engine is not exact or not faster; the message is the reason.

    Example:
        >>> raise Refused("a site repeats its examples")
        Traceback (most recent call last):
            ...
        fgbench.measurement.engine.cotangent_view.Refused: a site repeats its examples
    """


class Probed(Mapping[str, "Tensor"]):
    """Gradients by parameter name, pulled back from credit only when one is read.

    Args:
        credit: (kind, name) to credit.
        pull: pulls it back.

    Example:
        >>> lazy = Probed({("site", "l0"): torch.ones(1)}, lambda credit: {"w": 2 * credit["site", "l0"]})
        >>> lazy["w"]
        tensor([2.])
    """

    def __init__(self, credit: dict[Place, Tensor], pull: Callable[[dict[Place, Tensor]], Grads]):
        self.credit = credit
        self._pull = pull

    @cached_property
    def _grads(self) -> Grads:
        """Pull the credit back, once."""
        return self._pull(self.credit)

    def __getitem__(self, name: str) -> Tensor:
        """Return one gradient."""
        return self._grads[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._grads)

    def __len__(self) -> int:
        """Return the number of gradients."""
        return len(self._grads)


class CotangentView(Oracles):
    """The oracles of one objective at the clean point, with slopes by inner products.

    What :class:`fgbench.core.view.View` has beyond :class:`fgbench.core.oracles.Oracles` is refused.

    Args:
        view: the objective on the batch at the clean point.
        on_sites: whether all directions run along sites.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> from fgbench.core.noise.keyed import Noise
        >>> view = example_view("mlp-2x4")
        >>> u = Noise(0).directions(view.sites, n=2)
        >>> engine_view = CotangentView(view, on_sites=True)
        >>> engine_view.prepare()
        >>> torch.allclose(engine_view.slopes(u), view.slopes(u), atol=1e-6)
        True
    """

    def __init__(self, view: View, on_sites: bool) -> None:
        self.window = Window(
            view.chain, view.objective, view.start, view.window.targets, CostCounter(),
            clock=view.clock,
        )  # fmt: skip
        self._listen: Listener | None = None
        first, stop = self.objective.window
        inside = (name for name, (k, _) in self.chain.index.items() if first <= k < stop)
        self._places = [*self.sites] if on_sites else [*inside]
        self._have = self.chain.module(stop - 1).out_axes
        self._sizes = {"b": len(self.start), **self.chain.out_sizes(stop - 1)}
        self._cotangents: dict[str, Tensor] = {}
        self._cells: dict[tuple[str, bool], Cells] = {}

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse an oracle that a view has and this has not."""
        if hasattr(View, name) and not name.startswith("_"):
            raise Refused(OTHER)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @cached_property
    def sites(self) -> PerExample:
        """Sites of the updated modules, computed once: an estimator asks in every draw."""
        return super().sites

    @cached_property
    def kept(self) -> str:
        """Axes along which scores stay separate, computed once."""
        return super().kept

    def cells(self, name: str, *, summed: bool = True) -> Cells:
        """Return which scores credit a place, computed once."""
        if (name, summed) not in self._cells:
            self._cells[name, summed] = super().cells(name, summed=summed)
        return self._cells[name, summed]

    def _rest(self, name: str) -> tuple[str, ...]:
        """Return the kept axes along which every index takes a reverse pass of its own."""
        shared = self.cells(name).shared
        return tuple(a for a in axes.names(self.kept) if a not in shared)

    def _count(self, some: Sequence[str]) -> int:
        """Return the number of indices of some axes together."""
        return prod(self._sizes[a] for a in some)

    @property
    def passes(self) -> int:
        """Reverse passes through the window that :meth:`prepare` takes."""
        return sum(map(self._count, {self._rest(name) for name in self._places}))

    @property
    def held(self) -> int:
        """Bytes of the cotangents."""
        shapes = self.chain.shapes()
        numbers = sum(
            self._count(self._rest(name)) * len(self.start) * prod(shapes[name])
            for name in self._places
        )
        return numbers * int(self.start.element_size())

    def prepare(self) -> None:
        """Compute the cotangents of every place: ``[rest..., *place]``."""
        slices, groups = Slices(self), dict[tuple[str, ...], list[str]]()
        for name in self._places:
            groups.setdefault(self._rest(name), []).append(name)
        for rest, names in groups.items():
            at = [slices.at[name] for name in names]
            sizes = [self._sizes[a] for a in rest]
            rows = [t.new_empty(self._count(rest), *t.shape) for t in at]
            for row, index in enumerate(product(*map(range, sizes))):
                for held, found in zip(rows, slices.gradients(at, rest, index), strict=True):
                    held[row] = found
            for name, held in zip(names, rows, strict=True):
                self._cotangents[name] = held.detach().reshape(*sizes, *held.shape[1:])

    def slopes(self, directions: Directions, step: float | None = None) -> Tensor:
        """Return inner products of the directions with the cotangents: ``[n, kept...]``.

        Raises:
            Refused: with a step: differences of values are no slopes at the clean point.
        """
        if step is not None:
            raise Refused("it takes differences of values, not exact slopes")
        on_sites = self._along(directions)
        chunks = directions.chunks(self.window.chunk(on_sites))
        slopes = microbatch.join([self._exact(u, on_sites) for _, u in chunks])
        if self._listen is not None:
            self._listen(self, directions, slopes)
        return slopes

    def _along(self, directions: Directions) -> bool:
        """Return whether directions run along sites, which then are places that this has cotangents of."""
        on_sites = self.window.along(directions)
        if on_sites and not {*directions.names} <= self._cotangents.keys():
            raise Refused("its directions run along sites that are not updated")
        return on_sites

    def _exact(self, u: Mapping[str, Tensor], on_sites: bool) -> Tensor:
        """Return the slopes along directions that travel at once."""
        met = [self._met(n, t) for n, t in u.items()] if on_sites else self._pushed(u)
        return sum(met[1:], met[0])

    def credit(
        self,
        slopes: Tensor,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        combine: Combine = "mean",
    ) -> Grads:
        """Return the credit of slopes, see :meth:`Oracles.credit`; of several draws ``[draws, *place]``."""
        if not isinstance(directions, StackedDirections):
            return super().credit(slopes, directions, cells, combine)
        if combine == "project":
            raise Unstacked("projections of several draws at once")
        draws, found = len(directions.draws), {}
        for name in directions.names:
            at, u = (cells or self.cells)(name), directions.rows(name, 0, directions.n)
            c = axes.spread(axes.gather(slopes, at), u, at)
            if len(c) > draws:
                c = c.reshape(draws, -1, *c.shape[1:]).mean(1)
            found[name] = c.mul_(self._factors[name]) if name in self._factors else c
        return found

    def probe(
        self,
        directions: Directions,
        cells: Callable[[str], Cells] | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None,
        into: str = "site",
        combine: Combine = "mean",
    ) -> Probed:
        """Return the gradients that directions give, pulled back only when one is read."""
        slopes = self.slopes(directions)
        credit = self.credit(slopes if weigh is None else weigh(slopes), directions, cells, combine)
        together = isinstance(directions, StackedDirections)
        return Probed(
            {(into, n): c for n, c in credit.items()}, _apart if together else self.pulled
        )

    def pulled(self, credit: Mapping[Any, Tensor]) -> Grads:
        """Return the gradients that credit stands for: for measuring, and no oracle."""
        places = {(k if isinstance(k, tuple) else ("site", k)): c for k, c in credit.items()}
        return self.window.pull(places)

    @cached_property
    def _factors(self) -> Grads:
        """Return 1 where a unit of a site is on and 0 where it is off."""
        return {name: on.to(self.start.dtype) for name, on in self.window.masks().items()}

    def _met(self, name: str, tangents: Tensor) -> Tensor:
        """Return the inner products of tangents at a site with its cotangents: ``[n, kept...]``."""
        return axes.inners(tangents, self._cotangents[name], self.cells(name), self._sizes)

    def _pushed(self, u: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the slopes along weights, one summand per nearest site."""
        own = self.params
        met: list[Tensor] = []

        def tap(kind: str, name: str, z: Any, /) -> Any:
            t = part(z) if kind == "site" else None
            if t is None:
                return z
            met.append(self._met(name, t))
            return value(z)

        with (
            torch.no_grad(),
            swapped(self.chain, {n: Dual(own[n].detach(), t) for n, t in u.items()}),
        ):
            f = self.chain.run(self.start, *self.objective.window, tap)
        left = part(f)
        if left is not None:
            met.append(readout_losses.partition([left], [self.df()], self._have, self.kept))
        return met

    def listened(self, listener: Listener) -> None:
        """Call a listener with the directions and slopes of every call from now on."""
        self._listen = listener


def _apart(credit: Mapping[Any, Tensor]) -> NoReturn:
    """Refuse to pull the credit of several draws back."""
    raise Unstacked("gradients of several draws at once")
