"""Places of a model at which reverse mode stops and forward mode would not: no_grad blocks, custom Functions.

A tangent passes through ``with torch.no_grad():``, and through the forward of a custom
`torch.autograd.Function`, as through any other code; a gradient passes through neither. The slopes of such a
model are not those of its loss in reverse mode, and nothing shows it. :func:`as_in_reverse` gives tangents
what reverse mode gives to gradients, or refuses.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import Function
from torch.utils._pytree import tree_leaves

from fgbench.core.autodiff.dual import Dual, stops
from fgbench.errors import TangentLost, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_in_reverse", "named_losses"]


@contextmanager
def as_in_reverse() -> Iterator[list[str]]:
    """End tangents inside the block where reverse mode ends: in no_grad blocks, and at custom Functions.

    The block runs in grad mode, so that a no_grad block inside it can be seen: what a `Dual` meets there
    gives plain values. A pass that shall build no graph brings parameters without one. Positions, masks
    and other integers computed under no_grad are as they are without this block.

    Yields:
        The names of the calls that made a plain value of a `Dual`, as they come: empty for a model
        whose tangents are those of reverse mode without this block too.

    Raises:
        TangentLost: from a custom `torch.autograd.Function` that is called with a `Dual`.

    Example:
        >>> x = Dual(torch.ones(2), torch.ones(1, 2))
        >>> with as_in_reverse() as stopped:
        ...     with torch.no_grad():
        ...         scale = x.abs().amax()
        ...     y = x / scale  # type: ignore[operator]
        >>> stopped, y.tangents
        (['abs'], tensor([[1., 1.]]))
    """
    found: list[str] = []
    token, apply = stops.set(found), Function.__dict__["apply"]

    def refuse(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        if any(type(a) is Dual for a in tree_leaves((args, kwargs))):
            raise TangentLost(
                f"no tangent travels through the autograd.Function {cls.__name__}: forward mode cannot "
                "see the derivative that it declares; write a torch.library.custom_op with a "
                "fgbench.core.autodiff.dual.rule, or use detach()"
            )
        return apply.__func__(cls, *args, **kwargs)

    Function.apply = classmethod(refuse)  # type: ignore[assignment, method-assign]
    try:
        with torch.enable_grad():
            yield found
    finally:
        Function.apply = apply  # type: ignore[method-assign]
        stops.reset(token)


@contextmanager
def named_losses() -> Iterator[None]:
    """Turn the errors of code that takes only tensors, and met a `Dual`, into one line that says so.

    Raises:
        TangentLost: for a TypeError, ValueError, AttributeError or RuntimeError that names a `Dual`.

    Example:
        >>> x = Dual(torch.ones(2), torch.ones(1, 2))
        >>> try:
        ...     with named_losses():
        ...         torch.vmap(torch.sin)(x)
        ... except TangentLost as error:
        ...     print(str(error)[:42])
        no tangent travels through code that takes
    """
    try:
        yield
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, TangentLost) or "Dual" not in str(error):
            raise
        reason = one_line(str(error), 200)
        raise TangentLost(
            f"no tangent travels through code that takes tensors alone: {reason}"
        ) from error
