"""Slopes by torch's own forward mode: one direction per pass, through tensors that are tensors.

Where a `Dual` cannot travel (item assignment, ``isinstance(x, Tensor)``, compiled code), torch's
`torch.autograd.forward_ad` can: it costs a pass per direction. Where that differs from reverse mode it is
corrected: no tangent leaves a no_grad block of the model or the padding row of an embedding.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from fgbench.core.autodiff.composites import COMPOSITES
from fgbench.core.autodiff.dual import swapped
from fgbench.errors import TangentLost, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    Tap = Callable[[str, str, Tensor], Tensor]

__all__ = ["tangents"]

_NO_FORWARD = ("forward ad", "forward mode ad", "jvp function", "jvp")
"""Parts of messages by which torch says that a call has no forward mode."""


class _LikeReverse(TorchFunctionMode):
    """Gives tangents what reverse mode gives to gradients, and enters composite calls."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            torch._C._set_fwd_grad_enabled(bool(args[0]))
            return func(*args, **kwargs)
        if func is F.embedding:
            return _embedding(*args, **kwargs)
        if func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        with _named(getattr(func, "__name__", str(func))):
            return func(*args, **kwargs)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise in one line, with a name, what torch says where there is no forward mode."""
    try:
        yield
    except TangentLost:
        raise
    except (RuntimeError, NotImplementedError) as error:
        if not any(part in str(error).lower() for part in _NO_FORWARD):
            raise
        why = str(error).partition("\n")[0]
        raise TangentLost(f"no tangent travels through {name}: {why}") from error


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kw: Any
) -> Tensor:
    """Look rows of a weight up; the padding row has no tangent, as it has no gradient."""
    padding_idx = kw.pop("padding_idx", padding_idx)
    y = F.embedding(input, weight, padding_idx, *args, **kw)
    if padding_idx is None or forward_ad.unpack_dual(weight).tangent is None:
        return y
    padded = (input == padding_idx % weight.shape[0])[..., None]
    return torch.where(padded, forward_ad.unpack_dual(y).primal, y)


def tangents(
    run: Callable[[Tap], Any],
    module: nn.Module,
    sites: Mapping[str, Tensor] | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    kinds: tuple[str, ...] = ("site",),
) -> Any:
    """Return the tangents of a pass along directions at sites, in parameters, or both.

    A tap of kind "site" adds its direction's row to the activity, and the pass goes on with a tensor that
    carries it. All parameters are replaced by ones without a graph, so none is built. The cost is one pass
    per direction, about twice a plain one.

    Args:
        run: a forward pass; it calls ``tap(kind, name, z)`` at sites, goes on with the result, and returns
            a tensor or tensors in tuples, lists or dictionaries.
        module: the module whose parameters ``run`` reads.
        sites: name of a site to directions ``[n, *z.shape]``.
        parameters: qualified name of a parameter to directions ``[n, *p.shape]``.
        kinds: kinds of taps at which directions enter.

    Returns:
        The tangents ``[n, ...]`` of what ``run`` returns.

    Raises:
        UsageError: if there is no direction, or their numbers differ.
        TangentLost: for a call that has no forward mode, a custom `torch.autograd.Function` without ``jvp``
            among them.

    Example:
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[3.0]])
        >>> tangents(lambda tap: layer(x), layer, parameters={"weight": torch.ones(1, 1, 1)})
        tensor([[[3.]]])
    """
    sites, parameters = sites or {}, parameters or {}
    counts = {len(u) for u in (*sites.values(), *parameters.values())}
    if len(counts) != 1:
        raise UsageError(f"directions of one pass need one number n >= 1, got {sorted(counts)}")
    found = [
        _one(
            run,
            module,
            {name: u[row] for name, u in sites.items()},
            {name: v[row] for name, v in parameters.items()},
            kinds,
        )
        for row in range(counts.pop())
    ]
    return tree_map(lambda *rows: torch.stack(rows), *found)


def _one(
    run: Callable[[Tap], Any],
    module: nn.Module,
    sites: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    kinds: tuple[str, ...],
) -> Any:
    """Return the tangents of a pass along one direction."""

    def tap(kind: str, name: str, z: Tensor) -> Tensor:
        if kind not in kinds or name not in sites:
            return z
        primal, t = forward_ad.unpack_dual(z)
        u = sites[name].reshape(primal.shape).contiguous()
        moved: Tensor = forward_ad.make_dual(primal, u if t is None else t + u)
        return moved

    named = dict(module.named_parameters())
    with forward_ad.dual_level(), torch.enable_grad():
        moved = {name: p.detach() for name, p in named.items()}
        for name, v in parameters.items():
            moved[name] = forward_ad.make_dual(moved[name], v.contiguous())
        with swapped(module, moved), _named("an autograd.Function"), _LikeReverse():
            try:
                y = run(tap)
            finally:
                torch._C._set_fwd_grad_enabled(True)
        return tree_map(_tangent, y)


def _tangent(y: Any) -> Any:
    """Return the tangent of an output, zeros where it has none."""
    if not isinstance(y, Tensor) or not y.is_floating_point():
        return y
    t = forward_ad.unpack_dual(y).tangent
    return torch.zeros_like(y) if t is None else t.detach()
