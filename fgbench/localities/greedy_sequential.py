"""One module trained after the other, each through an auxiliary network, earlier ones frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch.nn.modules.batchnorm import _BatchNorm

from fgbench.core import auxiliary
from fgbench.core.objective import Objective, per_module
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.clock import Clock
    from fgbench.core.network import Chain


@register("localities", "greedy_sequential")
@dataclass(frozen=True)
class GreedySequential:
    """A loss per module, cut between modules, one module at a time: K stages of equal length.

    In stage j the modules before j are frozen and only run, module j and its auxiliary network learn, and
    later modules rest; the auxiliary network is then of no use. The last stage teaches the last module and
    the final readout, so that until then predictions are those of an untrained readout. The stage is read
    from the clock of the training: with S steps and K modules, ``j = floor(K step / S)``. Where its length
    is unknown, as in a loop of one's own, all modules learn at once, as under ``dgl``. The rate follows the
    schedule of the recipe over all stages; the paper begins anew in each, which ``schedule=constant`` is
    nearer to.

    Also known as: greedy layer-wise training, layer-wise sequential training.

    Not to be confused with: ``dgl`` and ``local``, where all modules learn in every step.

    Args:
        depth: hidden layers of the auxiliary networks; 0 is a linear head, the paper's k = 1.
        hidden: units of a hidden layer; 0: as many as there are features.
        keep: axes along which each loss stays separate.

    Cost: the passes of the module that learns, and a forward pass of those before it; measuring at a moment
    measures the stage of that moment.

    References: Belilovsky, Eickenberg, Oyallon, Greedy Layerwise Learning Can Scale to ImageNet, ICML 2019.

    Example:
        >>> from fgbench.architectures.mlp import mlp
        >>> from fgbench.core.clock import Clock
        >>> chain = mlp(shape=(1, 2, 2), classes=3, depth=2, width=4)
        >>> locality = GreedySequential()
        >>> locality.attach(chain)
        >>> every = locality.objectives(chain)
        >>> [[o.window for o in locality.active(every, Clock(step, 10))] for step in (0, 4, 5, 9)]
        [[(0, 1)], [(0, 1)], [(1, 2)], [(1, 2)]]
    """

    depth: Annotated[int, Field(ge=0)] = 0
    hidden: Annotated[int, Field(ge=0)] = 0
    keep: str = "b"

    on_the_way: ClassVar[bool] = True

    def supports(self, chain: Chain) -> str:
        """Refuse batch norms in training mode, whose statistics a frozen module would go on changing."""
        for name, m in chain.named_modules():
            if isinstance(m, _BatchNorm) and m.training:
                return f"frozen modules would go on changing the statistics of {name}; call eval() on it"
        return ""

    def attach(self, chain: Chain) -> None:
        """Attach an auxiliary network to every module but the last."""
        for k, name in enumerate(auxiliary.names(chain)[:-1]):
            pooling = chain.pooling(k)
            widths = [self.hidden or pooling.size] * self.depth
            chain.put(
                name,
                k,
                lambda have, n, pooling=pooling, widths=widths: auxiliary.Perceptron(  # type: ignore[misc]
                    pooling, widths, chain.classes
                ),
            )

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return windows (k, k + 1), those of all stages."""
        return per_module(chain, cut=True, keep=self.keep, readouts=auxiliary.names(chain))

    def active(self, objectives: tuple[Objective, ...], clock: Clock) -> tuple[Objective, ...]:
        """Return the objective of the present stage; all of them where the training has no known length."""
        if not clock.steps:
            return objectives
        stage = min(clock.step * len(objectives) // clock.steps, len(objectives) - 1)
        return (objectives[stage],)
