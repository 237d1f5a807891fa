"""Run a Python function of torch on arguments that answer torch's override protocol."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["without_overrides"]


def without_overrides(func: Any) -> Callable[..., Any]:
    """Return a Python function of torch that runs its body whatever its arguments are.

    Args:
        func: a function written in Python, such as those of `torch.nn.functional`.

    Returns:
        The same function without its own question whether an argument overrides it. The calls in its
        body ask as before.

    Example:
        >>> import torch
        >>> without_overrides(torch.nn.functional.tanhshrink)(torch.zeros(1))
        tensor([0.])
    """

    def never(*args: Any) -> bool:
        return False

    checks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**func.__globals__, **dict.fromkeys(checks, never)}
    body = types.FunctionType(
        func.__code__, scope, func.__name__, func.__defaults__, func.__closure__
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body
