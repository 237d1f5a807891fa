"""Direct feedback: from the error of the predictions straight to a layer, and back to an estimate of it.

A layer's feedback matrix B is ``[k, *features]``: one row per output of the objective's readout. Of the axes
of the layer's activity along which its weights are shared (patches, pixels) it has either one entry for all
places, which stands for their mean, or one for each place. Where predictions have positions of their own,
such as one per token, the error of a position goes to that position of a layer that has it, and the sum over
positions to all places else.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.objective import Objective

Maps = Literal["averaged", "full"]


def shapes(
    chain: Chain, objective: Objective, maps: Maps = "averaged"
) -> dict[str, tuple[int, ...]]:
    """Return the shape of the feedback matrix of every site that an objective teaches.

    Args:
        chain: the network.
        objective: its readout predicts the k numbers of a row.
        maps: ``averaged``: one entry for all places that share weights; ``full``: one for each place, but
            for those at which predictions have a position.

    Returns:
        Site name to ``[k, *features]``.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "cnn-tiny", shape=(1, 4, 4), classes=3).thing
        >>> end = Objective("end", (0, 3), "final", updates=(0,))
        >>> shapes(chain, end), shapes(chain, end, "full")
        ({'body.0.l0': (3, 8, 1, 1)}, {'body.0.l0': (3, 8, 4, 4)})
    """
    predicted = chain.predicted(objective.readout, objective.window[1] - 1)
    whole, among = (
        chain.shapes(),
        {*objective.updates, *chain.sharing(objective.updates, objective.window)},
    )
    found = {}
    for name, features in chain.features().items():
        if chain.index[name][0] not in among:
            continue
        shape = features
        if maps == "full" and not positions((1, *features), (1, *whole[name]), predicted[:-1]):
            shape = whole[name]
        found[name] = (predicted[-1], *shape)
    return found


def positions(matrix: Sequence[int], shape: Sequence[int], predicted: Sequence[int]) -> list[int]:
    """Return the axes of a site along which predictions have positions of their own, such as tokens.

    Args:
        matrix: shape of the feedback matrix, ``[k, *features]``, 1 along axes that share weights.
        shape: of the site, examples first.
        predicted: sizes of the axes of the predictions between example and class.

    Returns:
        The axes that share weights, where they have the sizes of the positions; else none.

    Example:
        >>> positions((10, 1, 64), (32, 5, 64), [5]), positions((10, 1, 64), (32, 5, 64), [])
        ([1], [])
    """
    shared = [i for i in range(1, len(shape)) if matrix[i] == 1 and shape[i] > 1]
    return shared if [shape[i] for i in shared] == list(predicted) else []


def projected(error: Tensor, b: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the credit of a site: the error through its feedback matrix, over the averaged places.

    Args:
        error: ``[b, ..., k]``, of each prediction.
        b: the feedback matrix.
        shape: of the site, examples first.

    Returns:
        The credit, of the site's shape.

    Example:
        >>> projected(torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0], [1.0]]), (1, 4))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    at = positions(b.shape, shape, error.shape[1:-1])
    if error.dim() > 2 and not at:
        error = error.flatten(1, -2).sum(1)
    credit: Tensor = torch.tensordot(error, b.squeeze(at) if at else b, 1)
    return placed(credit, b.shape, shape, at)


def placed(
    credit: Tensor, matrix: Sequence[int], shape: Sequence[int], at: Sequence[int]
) -> Tensor:
    """Return credit of features at every place of a site, each the same part of it.

    Args:
        credit: ``[b, positions..., *features]``.
        matrix: shape of the feedback matrix that it came through.
        shape: of the site, examples first.
        at: axes of the site that are positions, of :func:`positions`.

    Returns:
        The credit, of the site's shape.

    Example:
        >>> placed(torch.tensor([[[2.0]]]), (3, 1, 1), (1, 1, 4), at=[])
        tensor([[[0.5000, 0.5000, 0.5000, 0.5000]]])
    """
    averaged = prod(shape[1:]) // prod(matrix[1:]) // prod(shape[i] for i in at)
    return (credit / averaged).movedim(list(range(1, 1 + len(at))), list(at)).expand(*shape)


def jacobian(tangents: Tensor, directions: Tensor, matrix: Sequence[int]) -> Tensor:
    """Estimate the feedback matrix that is the Jacobian of the predictions: the mean of d uᵀ.

    The tangent of the predictions is d = Σ J u over the layers that are perturbed. With E[u uᵀ] = 1 and
    layers drawn apart the mean of d uᵀ is J of this layer. An entry that stands for several places has the
    sum of their Jacobians, because :func:`projected` divides by their number.

    Args:
        tangents: d, ``[n, b, ..., k]``.
        directions: u at the site, ``[n, b, ...]``.
        matrix: shape of the feedback matrix.

    Returns:
        The mean over directions, examples and positions, of that shape.

    Example:
        >>> u = torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]])  # two directions, one example: u uᵀ has mean 1
        >>> jacobian(u @ torch.tensor([[2.0], [3.0]]), u, (1, 2))
        tensor([[2., 3.]])
    """
    at = positions(matrix, directions.shape[1:], tangents.shape[2:-1])
    if tangents.dim() > 3 and not at:
        tangents = tangents.flatten(2, -2).mean(2)
    u = directions.movedim([i + 1 for i in at], list(range(2, 2 + len(at))))
    rest = [size for i, size in enumerate(matrix) if i and i not in at]
    together = [i for i, size in enumerate(rest, 2 + len(at)) if size < u.shape[i]]
    u = u.sum(together, keepdim=True) if together else u
    over = list(range(2 + len(at)))
    found: Tensor = torch.tensordot(tangents, u, (over, over)) / prod(tangents.shape[:-1])
    return found.reshape(*matrix)
