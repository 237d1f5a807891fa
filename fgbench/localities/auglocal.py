"""A loss on every module through copies of later modules with weights of their own, cut between modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from fgbench.core.network import Readout, Tap, untouched
from fgbench.core.objective import Objective, completed
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.network import Chain


def selected(module: int, modules: int, depth: int) -> list[int]:
    """Return which later modules an auxiliary network copies, evenly spaced and the last among them.

    With N modules and depth d they are ``round(l + j (N − 1 − l) / d)`` for j = 1 to d, half to even.

    Args:
        module: l, the number of the module that has the loss.
        modules: N.
        depth: d; all later modules where it is no less than their number.

    Returns:
        Their numbers.

    Example:
        >>> selected(0, 16, 2), selected(3, 16, 2), selected(12, 16, 2), selected(13, 16, 5)
        ([8, 15], [9, 15], [14, 15], [14, 15])
    """
    later = modules - 1 - module
    depth = min(depth, later)
    return [round(module + j * later / depth) for j in range(1, depth + 1)]


def depths(modules: int, depth: int, slope: float, joint: bool = True) -> list[int]:
    """Return the depths of the auxiliary networks of all modules with a loss of their own.

    Where the last d + 1 of N modules learn together from the final loss, K = N − d windows are left, else
    N. The depth of window l goes from d to ``(1 − τ) d + τ``, at least 1: ``max(1, round(d (1 − τ l/(K −
    2)) + τ l/(K − 2)))`` for l = 0 to K − 2.

    Args:
        modules: N.
        depth: d, the largest.
        slope: τ, from 0 (all alike) to 1 (down to 1).
        joint: whether the last modules learn together.

    Returns:
        The depths.

    Example:
        >>> depths(16, 5, 0.5), depths(16, 2, 0.5)
        ([5, 5, 5, 4, 4, 4, 4, 3, 3, 3], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    windows = modules - depth if joint else modules
    found = []
    for k in range(windows - 1):
        t = slope * k / (windows - 2) if windows > 2 else 0.0
        found.append(max(1, round(depth * (1 - t) + t)))
    return found


class Copies(Readout):
    """Copies of modules and of the final readout, run one after the other.

    The copies have weights of their own: the entries of every weight of the original in a random order, which
    are of the same law, whatever that is. Gains and biases that start at one value stay as they are.

    Args:
        chain: the network.
        modules: numbers of the modules that are copied.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=3, width=4)
        >>> tuple(Copies(chain, [1, 2])(torch.ones(5, 4)).shape)
        (5, 3)
    """

    def __init__(self, chain: Chain, modules: Sequence[int]) -> None:
        super().__init__()
        self.modules_copied = tuple(modules)
        self.blocks = nn.ModuleList(copy.deepcopy(chain.module(k)) for k in modules)
        self.last = copy.deepcopy(chain.readout("final"))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(p.flatten()[torch.randperm(p.numel())].view(p.shape))

    def extra_repr(self) -> str:
        """Return which modules are copied, for ``repr``."""
        return f"modules={self.modules_copied}"

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute the predictions of the final readout's copy."""
        for i, block in enumerate(self.blocks):
            f = block(f, _operations(tap, f"blocks.{i}"))
        prediction: Tensor = self.last(f, _operations(tap, "last"))
        return prediction


def _operations(tap: Tap, prefix: str) -> Tap:
    """Return a tap that sees the weight operations of a copy alone: it has no sites."""

    def seen(kind: str, name: str, z: Tensor, /) -> Tensor:
        return tap(kind, f"{prefix}.{name}", z) if kind == "op" else z

    return seen


@register("localities", "auglocal")
@dataclass(frozen=True)
class AugLocal:
    """A loss on every module through an auxiliary network made of later modules, cut between modules.

    The auxiliary network of module l is ``d_l`` of the later modules, evenly spaced with the last one among
    them, and the final readout, all with weights of their own. Their number falls from d at the first
    module. The last d + 1 modules learn together from the final loss, so that K modules are K − d windows;
    with ``joint=false`` the last one alone does. With as many copies as there are later modules and with
    the network's own weights in them, the local gradient would be that of the final loss.

    Modules are copied as they are, so the outputs of one must fit the next one that is selected: all do in
    networks whose modules have one shape, and with ``joint=false,slope=0`` where ``depth`` takes in all
    later modules. The paper builds copies anew, with strides and widths that fit.

    Also known as: augmented auxiliary networks.

    Not to be confused with: ``dgl``, whose auxiliary networks do not look like the network; a momentum
    auxiliary network, which reads moving averages of later modules.

    Args:
        depth: d, the most modules that are copied.
        slope: τ, how far the depth falls from the first to the last of these modules: 0 not, 1 to one module.
        joint: whether the last d + 1 modules learn together, as in the paper.
        keep: axes along which each loss stays separate.

    Cost: the copies are in the column ``readouts``: about d more modules for every module.

    References: Ma, Wu, Si, Tan, Scaling Supervised Local Learning with Augmented Auxiliary Networks, ICLR
        2024.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=5, width=4)
        >>> locality = AugLocal(depth=2)
        >>> locality.attach(chain)
        >>> [(o.window, o.readout) for o in locality.objectives(chain)]
        [((0, 1), 'aux0'), ((1, 2), 'aux1'), ((2, 5), 'final')]
    """

    depth: Annotated[int, Field(ge=1)] = 1
    slope: Annotated[float, Field(ge=0, le=1)] = 0.5
    joint: bool = True
    keep: str = "b"

    def supports(self, chain: Chain) -> str:
        """Need modules that can be copied alone and that fit each other."""
        if chain.whole:
            return "auglocal copies modules, and those of an ordinary network are parts of one forward pass"
        count = len(chain)
        for k, depth in enumerate(self._depths(count)):
            at = k
            for j in selected(k, count, depth):
                if chain.out_shape(at) != chain.out_shape(j - 1):
                    return (
                        f"auglocal puts a copy of module {j} after module {at}, whose output is "
                        f"{list(chain.out_shape(at))} where module {j} takes {list(chain.out_shape(j - 1))}; "
                        f"depth={count - 1},slope=0,joint=false copies all in their order"
                    )
                at = j
        return ""

    def _depths(self, count: int) -> list[int]:
        """Return the depths of the auxiliary networks of a network of so many modules."""
        return depths(count, self.depth, self.slope, self.joint)

    def attach(self, chain: Chain) -> None:
        """Attach the copies to every module that has a loss of its own."""
        count = len(chain)
        made = [
            Copies(chain, selected(k, count, depth)) for k, depth in enumerate(self._depths(count))
        ]
        for k, copies in enumerate(made):
            chain.put(f"aux{k}", k, lambda have, n, copies=copies: copies)  # type: ignore[misc]

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1) with copies, and the last modules with the final readout."""
        count = len(chain)
        alone = len(self._depths(count))
        found = [
            Objective(f"module{k}", (k, k + 1), f"aux{k}", (k,), self.keep) for k in range(alone)
        ]
        rest = tuple(range(alone, count))
        found.append(Objective(f"module{alone}", (alone, count), "final", rest, self.keep))
        return completed(chain, found)
