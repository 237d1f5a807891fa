"""A window's graph recorded with cuts at taps, and with other weights on the way back.

Cutting the graph at taps is what confines reverse mode to one segment: a leaf takes the place of the
value, so a pull stops there. Other weights: the forward values stay those of the clean pass while the
graph runs through an operation with replaced weights at the same clean input,
``z = clean(z) + (z_B − detach(z_B))``, so the error crosses B and each weight's gradient is the outer
product of its clean input with the error that arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge

from fgbench.core.autodiff.dual import swapped
from fgbench.core.gradients import complete
from fgbench.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.network import Chain, Tap
    from fgbench.core.objective import Objective

CUTS = {
    "": frozenset[str](),
    "params": frozenset({"out"}),
    "taps": frozenset({"op", "site", "out"}),
    "sites": frozenset({"site"}),
}


class _Replaced(torch.autograd.Function):
    """Identity that returns the clean value and sends the gradient to the replaced one."""

    @staticmethod
    def forward(ctx: Any, replaced: Tensor, clean: Tensor) -> Tensor:
        """Return the clean value."""
        return clean.view_as(clean)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Pass the gradient to the replaced value."""
        return grads[0], None


class Tape:
    """The graph of one window and its readout.

    Args:
        cut: ``""`` nowhere, ``params`` at every ``out``, ``taps`` at every tap, ``sites`` at every site.
        weights: parameter name to the weights used on the way back; every name must be a weight of an
            operation that a tap of kind ``op`` follows.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "mlp-1x4", shape=(1, 2, 2), classes=3).thing
        >>> x, labels = torch.ones(5, 1, 2, 2), torch.arange(5) % 3
        >>> tape = Tape(cut="", weights=None)
        >>> tape.record(
        ...     chain,
        ...     Objective("end", (0, 1), "final", updates=(0,)),
        ...     walk=lambda tap: chain.run(x, 0, 1, tap),
        ...     losses_of=lambda prediction: chain.readout("final").losses(prediction, labels),
        ... )
        >>> grads = tape.pull({("loss", ""): torch.tensor(1.0)}, chain.body_parameters())
        >>> {name: tuple(g.shape) for name, g in grads.items()}
        {'body.0.l0.weight': (4, 4), 'body.0.l0.bias': (4,)}
    """

    def __init__(self, cut: str, weights: Mapping[str, Tensor] | None) -> None:
        self._cut = CUTS[cut]
        self._weights = weights
        self._ops: dict[str, Tensor] = {}
        self._edges: dict[tuple[str, str], Any] = {}
        self._leaves: dict[tuple[str, str], Tensor] = {}
        self._swapped: dict[str, Tensor] = {}
        self.output: Tensor
        self.loss: Tensor

    def _note(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Record the clean raw output of every weight operation; the tap of a plain pass."""
        if kind == "op":
            self._ops[name] = z.detach()
        return z

    def _tap(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Restore clean values, record edges, and cut the graph."""
        if kind == "op" and name in self._ops:
            z = _Replaced.apply(z, self._ops[name])  # type: ignore[no-untyped-call]
        if z.requires_grad:
            self._edges[kind, name] = get_gradient_edge(z)
        if kind in self._cut:
            z = z.detach().requires_grad_()
            self._leaves[kind, name] = z
        return z

    def record(
        self,
        chain: Chain,
        objective: Objective,
        walk: Callable[[Tap], Tensor],
        losses_of: Callable[[Tensor], Tensor],
    ) -> None:
        """Run the window and its readout once under this tape.

        Args:
            chain: the network.
            objective: the window and the readout.
            walk: runs the window under a tap and returns its output.
            losses_of: from predictions ``[b, k]`` to losses ``[b]``.
        """
        weights = self._weights or {}
        own = {**chain.body_parameters(), **chain.readout_parameters(objective.readout)}
        self._swapped = {
            name: w.detach().requires_grad_() for name, w in weights.items() if name in own
        }
        with swapped(chain, self._swapped):
            if self._swapped:
                with torch.no_grad(), swapped(chain, {name: own[name] for name in self._swapped}):
                    chain.read(objective.readout, walk(self._note), self._note)
            f = walk(self._tap)
            self.output = f.detach()
            prediction = chain.read(objective.readout, f, self._tap)
            losses = losses_of(prediction)
        loss = losses.mean() * objective.weight
        self.loss = loss.detach()
        # Neither has a graph where all that the readout reads is given and it has no parameters.
        self._edges["readout", objective.readout] = _edge(prediction)
        self._edges["loss", ""] = _edge(loss)

    def pull(
        self, places: Mapping[tuple[str, str], Tensor], params: Mapping[str, Tensor] | None
    ) -> dict[Any, Tensor]:
        """Pull cotangents to parameters, or to the taps where the graph was cut.

        Args:
            places: (kind, name) to cotangent.
            params: parameters by name; None for the cuts.

        Returns:
            Parameter name to gradient (zero where not reached), or (kind, name) to cotangent for every
            tap reached.

        Raises:
            UsageError: for a place that is not there, with the nearest.
        """
        for place in places:
            if place not in self._edges:
                raise unknown("place", "/".join(place), ["/".join(known) for known in self._edges])
        targets: dict[Any, Tensor] = (
            {name: self._swapped.get(name, p) for name, p in params.items()}
            if params is not None
            else dict(self._leaves)
        )
        reached = [place for place in places if self._edges[place] is not None]
        found: Sequence[Tensor | None] = [None] * len(targets)
        if reached:
            found = torch.autograd.grad(
                [self._edges[place] for place in reached],
                list(targets.values()),
                [places[place] for place in reached],
                allow_unused=True,
                retain_graph=True,
            )
        if params is None:
            return {k: g for k, g in zip(targets, found, strict=True) if g is not None}
        return complete(targets, dict(zip(targets, found, strict=True)))


def _edge(z: Tensor) -> Any:
    """Return where a value is in its graph, None for one without a graph."""
    return get_gradient_edge(z) if z.requires_grad else None
