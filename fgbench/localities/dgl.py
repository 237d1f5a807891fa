"""A loss on every module, read through an auxiliary network and cut between modules."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fgbench.core import auxiliary
from fgbench.core.network import Pooling, Tap, untouched
from fgbench.core.objective import Objective, per_module
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain, Readout

LAYERS = 3
"""Hidden layers of an auxiliary network, and 1 x 1 convolutions before them."""


class Maps(auxiliary.Perceptron):
    """An auxiliary network on feature maps: convolutions, averages over a 2 x 2 grid, hidden layers.

    ``mlp-sr`` averages the maps over patches of 4 x 4 pixels, then has three 1 x 1 convolutions without bias.
    ``cnn`` has two 3 x 3 convolutions at the size of the maps. Every layer is followed by a ReLU.

    Args:
        shape: channels, height and width of the maps.
        outputs: numbers that are predicted.
        kind: ``mlp``, ``mlp-sr`` or ``cnn``.

    Example:
        >>> import torch
        >>> net = Maps((128, 32, 32), outputs=10, kind="mlp-sr")
        >>> net.reduced, net.pooling.size, tuple(net(torch.ones(2, 128, 32, 32)).shape)
        ((8, 8), 512, (2, 10))
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, kind: str) -> None:
        channels, height, width = shape
        self.reduced = (ceil(height / 4), ceil(width / 4)) if kind == "mlp-sr" else None
        height, width = self.reduced or (height, width)
        self.grid = (min(2, height), min(2, width))
        features = channels * self.grid[0] * self.grid[1]
        widths = () if kind == "cnn" else (features,) * LAYERS
        super().__init__(Pooling((), features), widths, outputs)
        count, kernel = {"mlp": (0, 1), "mlp-sr": (LAYERS, 1), "cnn": (2, 3)}[kind]
        self.maps = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=kind == "cnn")
            for _ in range(count)
        )
        last = self.linear
        del self.linear
        self.linear = last  # the last layer is the last in order too

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, outputs]`` from ``[b, c, h, w]``."""
        h = f if self.reduced is None else F.adaptive_avg_pool2d(f, self.reduced)
        for i, layer in enumerate(self.maps):
            h = F.relu(tap("op", f"maps.{i}", layer(h)))
        return self.layers(F.adaptive_avg_pool2d(h, self.grid).flatten(1), tap)


@register("localities", "dgl")
@dataclass(frozen=True)
class DecoupledGreedy:
    """A loss on every module but the last through an auxiliary network of its own, cut between modules.

    The loss of module k is the cross entropy (or the loss of the data) of ``a_k(f_k(sg[h_{k-1}]))``, where
    ``sg`` stops the gradient. It teaches the module and the auxiliary network ``a_k``. The last module has
    the final readout and the final loss. All modules learn in the same step, from activities of the weights
    before it. The gradient of a module is that of its own loss, not of the final one: the difference is the
    locality gap, 0 for the last module.

    Auxiliary networks: ``mlp`` has three hidden layers as wide as its features, which are averages over a
    grid of 2 x 2 cells of the maps, or over patches; ``mlp-sr``, the paper's default, puts averages over 4
    x 4 pixels and three 1 x 1 convolutions before; ``cnn`` has two 3 x 3 convolutions and a linear layer;
    ``linear`` is the head of ``local``. The paper's networks have batch norms, which these leave out: they
    make the loss of an example depend on the others. The paper's last module has two hidden layers more;
    here it is the architecture's.

    Also known as: DGL, decoupled greedy learning, gradient-isolated learning.

    Not to be confused with: ``local``, whose heads are linear; ``greedy_sequential``, which trains one module
    after the other; the asynchronous form of DGL with buffers, which is not here.

    Args:
        aux: kind of the auxiliary networks: ``mlp``, ``mlp-sr``, ``cnn`` or ``linear``.
        hidden: units of the hidden layers on features that are no maps; 0: as many as there are features.
        depth: hidden layers on features that are no maps.
        keep: axes along which each loss stays separate.

    Cost: that of ``local``; the auxiliary networks are in the column ``readouts`` of the cost.

    References: Belilovsky, Eickenberg, Oyallon, Decoupled Greedy Learning of CNNs, ICML 2020.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = DecoupledGreedy()
        >>> locality.attach(chain)
        >>> [(o.window, o.readout) for o in locality.objectives(chain)]
        [((0, 1), 'aux0'), ((1, 2), 'final')]
    """

    aux: Literal["mlp", "mlp-sr", "cnn", "linear"] = "mlp"
    hidden: Annotated[int, Field(ge=0)] = 0
    depth: Annotated[int, Field(ge=0)] = LAYERS
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def attach(self, chain: Chain) -> None:
        """Attach an auxiliary network to every module but the last."""
        for k, name in enumerate(auxiliary.names(chain)[:-1]):
            chain.put(name, k, lambda have, n, k=k: self._network(chain, k, have))  # type: ignore[misc]

    def _network(self, chain: Chain, k: int, out_axes: str) -> Readout:
        """Return the auxiliary network of one module."""
        pooling, shape = chain.pooling(k), chain.out_shape(k)
        if out_axes == "b c h w" and self.aux != "linear":
            return Maps((shape[0], shape[1], shape[2]), chain.classes, self.aux)
        if self.aux in ("mlp-sr", "cnn"):
            raise UsageError(
                f"dgl[aux={self.aux}] needs outputs with channels, height and width, and module {k} gives "
                f"axes {out_axes!r}; use aux=mlp"
            )
        depth = 0 if self.aux == "linear" else self.depth
        return auxiliary.Perceptron(pooling, [self.hidden or pooling.size] * depth, chain.classes)

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), each with its auxiliary network."""
        return per_module(chain, cut=True, keep=self.keep, readouts=auxiliary.names(chain))
