"""Which submodules a network is cut after."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = "auto"


def chosen_cuts(module: nn.Module, cut: str | Sequence[str]) -> list[str]:
    """Return the names of the submodules that a network is cut after.

    Args:
        module: the network.
        cut: names in forward order; a regular expression that names match in full; the name of a
            ``ModuleList`` or ``Sequential``, which is cut after each of its children; or ``auto``: after the
            children of one class that hold most parameters. ``name@2`` is the second call of a submodule.

    Returns:
        The names, in the order given, or of definition for an expression.

    Raises:
        UsageError: if it names no submodule, with the nearest that there is.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU())
        >>> chosen_cuts(net, ["1"]), chosen_cuts(net, r"[13]"), chosen_cuts(net, AUTO)
        (['1'], ['1', '3'], ['0', '2'])
    """
    names = [name for name, _ in module.named_modules() if name]
    if isinstance(cut, str):
        if not cut:
            return []
        if cut == AUTO:
            return suggested_cuts(module)
        if cut in names and isinstance(module.get_submodule(cut), nn.ModuleList | nn.Sequential):
            return [f"{cut}.{name}" for name, _ in module.get_submodule(cut).named_children()]
        try:
            found = [name for name in names if re.fullmatch(cut, name)]
        except re.error as error:
            raise UsageError(f"cut {cut!r} is no regular expression: {error}") from None
        if not found:
            raise unknown("submodule to cut after", cut, names)
        return found
    for name in cut:
        if name.partition("@")[0] not in names:
            raise unknown("submodule to cut after", name, names)
    return [name.removesuffix("@1") for name in cut]


def suggested_cuts(module: nn.Module) -> list[str]:
    """Return the children of one class and one parent that hold the most parameters.

    Example:
        >>> suggested_cuts(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)))
        ['0', '2']
    """
    best: list[str] = []
    most = 0
    for prefix, parent in module.named_modules():
        alike: dict[type, list[tuple[str, nn.Module]]] = {}
        for name, child in parent.named_children():
            alike.setdefault(type(child), []).append(
                (f"{prefix}.{name}" if prefix else name, child)
            )
        for group in alike.values():
            held = sum(p.numel() for _, child in group for p in child.parameters())
            if len(group) > 1 and held > most:
                best, most = [name for name, _ in group], held
    return best


def label(name: str, time: int) -> str:
    """Return the name of one of several calls: ``name``, ``name@2``, ...

    Example:
        >>> label("block", 1), label("block", 2)
        ('block', 'block@2')
    """
    return name if time == 1 else f"{name}@{time}"
