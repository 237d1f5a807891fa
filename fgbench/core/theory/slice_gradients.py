"""Gradients of slices of an objective: of its losses at one index of some kept axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fgbench.core import axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fgbench.core.oracles import Oracles


class Slices:
    """One view's window run with a graph, to be differentiated slice by slice.

    The losses are the partition of ⟨f, ∂loss/∂f⟩ over the axes of the readout's input f, so the gradient of a
    slice is the pullback of ∂loss/∂f on that slice.

    Args:
        view: the objective on the batch.

    Attributes:
        at: the value of every site of the window, by name.
        sizes: size of every axis of the readout's input.

    Example:
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view("mlp-2x4")
        >>> slices = Slices(view)
        >>> (grad,) = slices.gradients([slices.at["body.0.l0"]], ["b"], [1])  # of example 1 alone
        >>> bool((grad[[0, 2, 3, 4]] == 0).all())
        True
    """

    def __init__(self, view: Oracles) -> None:
        self._df = view.df()
        last = view.chain.module(view.objective.window[1] - 1)
        self._axes = axes.names(last.out_axes)
        self.sizes = dict(zip(self._axes, self._df.shape, strict=True))
        self.at: dict[str, Tensor] = {}

        def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
            if kind == "site":
                self.at[name] = z
            return z

        with torch.enable_grad():
            self._f = view.chain.run(view.start, *view.objective.window, tap)

    def count(self, some: Iterable[str]) -> int:
        """Return the product of the sizes of some axes."""
        return prod(self.sizes[a] for a in some)

    def gradients(
        self, of: Sequence[Tensor], some: Sequence[str] = (), index: Sequence[int] = ()
    ) -> list[Tensor]:
        """Return the gradient of one slice's losses, 0 where they do not depend on a tensor.

        Args:
            of: parameters, or values in ``at``.
            some: axes of the readout's input.
            index: which index of each; all losses where there are no axes.

        Returns:
            One tensor for each of ``of``.
        """
        df = self._df
        for a, i in zip(some, index, strict=True):
            shape = [self.sizes[a] if b == a else 1 for b in self._axes]
            one = torch.arange(self.sizes[a], device=df.device) == i
            df = df * one.reshape(shape)
        found = torch.autograd.grad(self._f, of, df, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for t, g in zip(of, found, strict=True)]
