"""Composite calls of torch, each as a function of calls that have rules.

A composite call hides weight operations: the weights of `torch.nn.functional.multi_head_attention_forward`
meet data inside it. `COMPOSITES` maps such a call to a function that gives the same values, to rounding, by
simpler calls. A `Dual` that meets the call enters it, and so does the tracing of a module.

Dropout inside is a call of `torch.nn.functional.dropout`, see :mod:`fgbench.core.autodiff.keyed_dropout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from fgbench.core.autodiff.dual import together
from fgbench.core.autodiff.keyed_dropout import RANDOM
from fgbench.core.autodiff.overrides import without_overrides
from fgbench.core.autodiff.recurrent import RECURRENT
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[..., Any]

__all__ = ["COMPOSITES"]

INFINITY = float("inf")


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Compute ``softmax(scale q k^T + mask) v``.

    A query that may see no key at all gets 0, as in torch, and its gradient is 0.

    Args:
        query: ``[..., t, e]``.
        key: ``[..., s, e]``.
        value: ``[..., s, v]``.
        attn_mask: booleans (True: may be seen) or numbers that are added, broadcast to ``[..., t, s]``.
        dropout_p: share of attention weights that dropout sets to 0.
        is_causal: whether position i sees the positions up to i only.
        scale: factor of the scores; ``e ** -0.5`` where it is None.
        enable_gqa: whether several heads of the query share one of key and value.

    Returns:
        ``[..., t, v]``.

    Example:
        >>> x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
        >>> want = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        >>> torch.allclose(attention(x, x, x, is_causal=True), want, atol=1e-6)
        True
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = torch.matmul(query * scale, key.transpose(-2, -1))
    added, blind = _additive(attn_mask, is_causal, scores)
    # -inf is added: a softmax of it is 0, and so is its derivative there
    weights = torch.softmax(scores if added is None else scores + added, -1)
    if blind is not None:
        weights = weights.masked_fill(blind, 0.0)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return torch.matmul(weights, value)


def _additive(mask: Any, is_causal: bool, scores: Any) -> tuple[Any, Any]:
    """Return what is added to scores, and which queries may see nothing; None for what does nothing.

    Their rows get 0 in place of -inf: the softmax of a row of -inf is 0 / 0.
    """
    if is_causal:
        low = torch.full(scores.shape[-2:], -INFINITY, dtype=scores.dtype, device=scores.device)
        return low.triu(1), None
    if mask is None:
        return None, None
    if mask.dtype != torch.bool:
        blind = (mask == -INFINITY).all(-1, keepdim=True)
        return mask.masked_fill(blind, 0.0), blind
    blind = mask.any(-1, keepdim=True).logical_not()
    zero = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
    return zero.masked_fill((mask | blind).logical_not(), -INFINITY), blind


def rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """Compute ``x / sqrt(mean(x^2) + eps) * weight`` over the last axes.

    Args:
        input: ``[..., *normalized_shape]``.
        normalized_shape: sizes of the last axes.
        weight: the gain, or None.
        eps: added to the mean square; the machine epsilon of the type where it is None.

    Returns:
        As large as the input.

    Example:
        >>> rms_norm(torch.tensor([[3.0, 4.0]]), (2,))
        tensor([[0.8485, 1.1314]])
    """
    half = input.dtype in (torch.float16, torch.bfloat16)
    wide = input.float() if half else input
    if eps is None:
        eps = torch.finfo(wide.dtype).eps
    over = tuple(range(-len(normalized_shape), 0))
    y = wide * torch.rsqrt(wide.pow(2).mean(over, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y.to(input.dtype) if half else y


def weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    """Compute ``g v / |v|``, with one norm per index of an axis.

    Args:
        v: the weight that gives the direction.
        g: its length, broadcast against v.
        dim: the axis that keeps its index; -1 for one norm of the whole weight.

    Returns:
        As large as v.

    Example:
        >>> weight_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]]))
        tensor([[6., 8.]])
    """
    over = tuple(d for d in range(v.dim()) if d != dim)
    return v * (g / v.square().sum(over, keepdim=dim != -1).sqrt())


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Compute sums, means or maxima of rows of a weight, bag by bag.

    Args:
        input: numbers of rows, ``[bags, size]``, or ``[total]`` with offsets.
        weight: ``[rows, e]``.
        offsets: where each bag begins.
        max_norm: refused: it writes into the weight.
        norm_type: of max_norm.
        scale_grad_by_freq: refused: its gradient is none of the value.
        mode: ``sum``, ``mean`` or ``max``.
        sparse: of the gradient; ignored.
        per_sample_weights: factors of the rows, for sums.
        include_last_offset: whether the last offset is the end of the last bag.
        padding_idx: a row that counts in no bag.

    Returns:
        ``[bags, e]``.

    Raises:
        TangentLost: for the two refused options.

    Example:
        >>> embedding_bag(torch.tensor([[0, 1]]), torch.eye(2), mode="sum")
        tensor([[1., 1.]])
    """
    for name, option in (("max_norm", max_norm), ("scale_grad_by_freq", scale_grad_by_freq)):
        if option:
            raise TangentLost(f"no tangent travels through embedding_bag({name}=...)")
    rows = F.embedding(input.reshape(-1), weight)
    if offsets is None:
        starts = torch.arange(0, input.numel(), input.shape[1], device=input.device)
    else:
        starts = offsets[:-1] if include_last_offset else offsets
    places = torch.arange(input.numel(), device=input.device)
    bags = torch.searchsorted(starts.contiguous(), places, right=True) - 1
    counted = torch.ones_like(places)
    if padding_idx is not None:
        counted = (input.reshape(-1) != padding_idx % weight.shape[0]).long()
        bags = torch.where(counted > 0, bags, len(starts))  # a bag that is thrown away
    shape = (len(starts) + 1, weight.shape[1])
    zero = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    if mode == "max":
        index = bags[:, None].expand(-1, shape[1])
        return torch.scatter_reduce(zero, 0, index, rows, "amax", include_self=False)[:-1]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    sums = torch.index_add(zero, 0, bags, rows)[:-1]
    if mode == "sum":
        return sums
    sizes = torch.zeros(len(starts) + 1, dtype=torch.long, device=bags.device)
    sizes = sizes.index_add(0, bags, counted)[:-1]
    return sums / sizes.clamp(min=1)[:, None]


COMPOSITES: dict[Any, Call] = {
    F.scaled_dot_product_attention: attention,
    F.multi_head_attention_forward: without_overrides(F.multi_head_attention_forward),
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    torch._weight_norm: weight_norm,
    F.embedding_bag: embedding_bag,
    **RECURRENT,
    **RANDOM,
}
"""Composite call of torch to a function that takes the same arguments and is made of calls with rules.

Example:
    >>> x = torch.tensor([[3.0, 4.0]])
    >>> torch.equal(COMPOSITES[F.rms_norm](x, (2,)), F.rms_norm(x, (2,)))
    True
"""

for _call, _body in COMPOSITES.items():
    together(_call)(_body)
