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
    blind = None  # queries that may see nothing
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -INFINITY)
    elif attn_mask is not None:
        hidden = (
            attn_mask.logical_not() if attn_mask.dtype == torch.bool else attn_mask == -INFINITY
        )
        blind = hidden.all(-1, keepdim=True)
        hidden = hidden & ~blind  # else the softmax of their row is 0 / 0
        if attn_mask.dtype != torch.bool:
            scores = scores + attn_mask.masked_fill(blind, 0.0)
        else:
            scores = scores.masked_fill(hidden, -INFINITY)
    weights = torch.softmax(scores, -1)
    if blind is not None:
        weights = weights.masked_fill(blind, 0.0)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return torch.matmul(weights, value)


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


COMPOSITES: dict[Any, Call] = {
    F.scaled_dot_product_attention: attention,
    F.multi_head_attention_forward: without_overrides(F.multi_head_attention_forward),
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    torch._weight_norm: weight_norm,
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
