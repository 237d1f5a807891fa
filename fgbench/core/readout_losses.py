"""Predictions, losses and derivatives of a readout at a module's output.

This is where losses kept apart per patch and group come from, and nothing is replicated for them. The
founding paper defines one loss per example, patch and group, ``L[b, p, g]``, equal numbers along p and g
whose derivative flows through the readout's input ``f[b, p, g]`` alone. Then ``dL[b, p, g] =
⟨df[b, p, g], ∂ℓ[b]/∂f[b, p, g]⟩``: the slopes of all copies are the partition of one inner product with one
derivative, and the gradient of their sum is the derivative itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fgbench.core import axes, gradients, microbatch
from fgbench.core.autodiff import no_reverse
from fgbench.core.gradients import Grads, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.objective import Objective


@dataclass(frozen=True)
class Reading:
    """Predictions, losses and derivatives of a readout at the clean output.

    Args:
        prediction: ``[b, k]``.
        losses: ``[b]``.
        df: derivative of weight · mean loss with respect to the readout's input, one tensor per run of
            examples; empty where it was not computed.
        grads: exact gradient of the readout's own mean loss, by qualified parameter name.

    Example:
        >>> reading = Reading(torch.zeros(2, 3), torch.ones(2), df=(), grads={})
        >>> reading.losses.mean()
        tensor(1.)
    """

    prediction: Tensor
    losses: Tensor
    df: tuple[Tensor, ...]
    grads: dict[str, Tensor]


def read(
    chain: Chain,
    objective: Objective,
    output: Tensor,
    losses_of: Callable[[Tensor], Tensor],
    runs: Sequence[slice],
    of: int | None = None,
) -> Reading:
    """Read a window's output and differentiate the losses, one layer deep.

    Predictions are made and pulled back run by run, because none depends on another example. Losses may
    couple the examples and see all predictions at once.

    Args:
        chain: the network.
        objective: names the readout and the weight.
        output: the readout's input ``[b, ...]``.
        losses_of: predictions to one loss per example.
        runs: runs of examples, see :func:`fgbench.core.microbatch.cut`.
        of: how many examples the mean loss is of, where the output is that of some of them.

    Returns:
        The reading.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "mlp-1x4", shape=(1, 2, 2), classes=3).thing
        >>> end = Objective("end", (0, 1), "final", updates=(0,))
        >>> labels = torch.arange(5) % 3
        >>> def losses_of(prediction):
        ...     return chain.readout("final").losses(prediction, labels)
        >>> reading = read(chain, end, torch.ones(5, 4), losses_of, runs=[slice(0, 3), slice(3, 5)])
        >>> [tuple(part.shape) for part in reading.df]
        [(3, 4), (2, 4)]
        >>> list(reading.grads)
        ['readouts.final.linear.weight', 'readouts.final.linear.bias']
    """
    heads = chain.readout_parameters(objective.readout)
    total: Grads = {}
    df = []
    with no_reverse.opened(), torch.enable_grad():
        inputs = [output[run].detach().requires_grad_() for run in runs]
        parts = [chain.read(objective.readout, f) for f in inputs]
        if len(runs) > 1:
            prediction = microbatch.join([part.detach() for part in parts]).requires_grad_()
        else:
            (prediction,) = parts
        losses = losses_of(prediction)
        ends: list[Tensor] = [losses.sum() / (of or len(losses))]  # of one run, in one go
        back: list[Tensor | None] = [None]
        if len(runs) > 1:
            (whole,) = torch.autograd.grad(ends[0], prediction)
            ends, back = parts, [whole[run] for run in runs]
        for f, end, one in zip(inputs, ends, back, strict=True):
            found = torch.autograd.grad(end, [f, *heads.values()], one, allow_unused=True)
            own = torch.zeros_like(f) if found[0] is None else found[0]
            df.append(own if objective.weight == 1.0 else own * objective.weight)
            gradients.add(total, dict(zip(heads, found[1:], strict=True)))
    return Reading(prediction.detach(), losses.detach(), tuple(df), complete(heads, total))


def joined(parts: Sequence[Reading]) -> Reading:
    """Return the reading of all examples from those of runs, each a part of the mean over all; without df.

    Example:
        >>> part = Reading(torch.zeros(2, 3), torch.ones(2), df=(), grads={"w": torch.ones(1)})
        >>> whole = joined([part, part])
        >>> whole.losses, whole.grads
        (tensor([1., 1., 1., 1.]), {'w': tensor([2.])})
    """
    grads: Grads = {}
    for part in parts:
        gradients.add(grads, part.grads)
    prediction = microbatch.join([part.prediction for part in parts])
    return Reading(prediction, microbatch.join([part.losses for part in parts]), (), grads)


def partition(change: Sequence[Tensor], df: Sequence[Tensor], have: str, kept: str) -> Tensor:
    """Partition ⟨change, df⟩ over the kept axes.

    Args:
        change: ``[n, *f]``, one tensor per run of examples.
        df: ``[*f]``, by the same runs.
        have: axes of f, the example axis first.
        kept: those to keep apart, the example axis among them.

    Returns:
        ``[n, kept...]``; the parts add up to the full inner product.

    Example:
        >>> partition([torch.ones(1, 2, 3)], [torch.ones(2, 3)], have="b p", kept="b")
        tensor([[3., 3.]])
    """
    drop = [i + 1 for i, a in enumerate(axes.names(have)) if a not in axes.names(kept)]
    products = (c * d for c, d in zip(change, df, strict=True))
    return microbatch.join([p.sum(drop) if drop else p for p in products], 1)
