"""Optimisers that do not import torch's compiler."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)

_DERIVED: dict[Any, Any] = {}


def uncompiled(kind: type[Kind]) -> type[Kind]:
    """Derive an optimiser that takes the same steps without importing torch's compiler.

    torch wraps the methods of an optimiser for its compiler, which it imports at their first call: two
    seconds of every process that trains. Here the methods are called as they are inside the wrapper, and
    ``step`` builds no graph, as before.

    Args:
        kind: an optimiser of PyTorch, or one derived from its class.

    Returns:
        A class of the same name.

    Example:
        >>> rule = uncompiled(torch.optim.SGD)([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> isinstance(rule, torch.optim.SGD)
        True
    """
    derived: Any = _DERIVED.get(kind)
    if derived is None:
        names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
        methods = {name: getattr(kind, name) for name in names}
        plain = {name: getattr(method, "__wrapped__", method) for name, method in methods.items()}
        derived = type(kind.__name__, (kind,), plain | {"step": torch.no_grad()(plain["step"])})
        _DERIVED[kind] = derived
    return cast("type[Kind]", derived)
