"""Initial weights of every architecture, in a small form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ..errors import line
from .cells import Cell, NotHere, cell, chosen
from .flat import Numbers, of_tensor
from .networks import DATA, NETS, SEED, workload


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the initial weights of every architecture, in a small form.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> [cell["name"] for cell in cells({"architectures": ["linear"]})]
        ['weights linear']
    """
    from fgbench import registry

    for name in chosen(list(registry.entries("architectures")), only, "architectures"):
        arch = _small(name)
        yield cell("weights", f"weights {arch}", partial(_initial, arch), arch=arch)
    for arch in chosen(NETS, only, "archs") if "architectures" not in only else ():
        yield cell("weights", f"weights {arch}", partial(_initial, arch), arch=arch)


def _small(name: str) -> str:
    """Return a small form of an architecture's name."""
    from fgbench import registry

    entry = registry.entries("architectures")[name]
    for ending in ("2x8", "2x4", "8", "2"):
        if entry.pattern and re.fullmatch(entry.pattern, ending):
            return f"{name}-{ending}"
    tiny = [ending for ending in entry.variants if re.match("xs|tiny|small|s", ending)]
    return f"{name}-{tiny[0]}" if tiny else name


def _initial(arch: str) -> Numbers:
    """Return the weights of a network before training, on the first data that it takes."""
    from fgbench.errors import UsageError

    reason = ""
    for data in (
        DATA,
        "copy[train=64,test=32]",
        "adding[train=64,test=32]",
        "poisson[train=64,test=32]",
    ):
        try:
            chain = workload(arch, data).chain(SEED)
        except (UsageError, TypeError, ValueError) as error:
            reason = reason or line(error)
            continue
        return {f"{n}.{k}": v for n, p in chain.named_parameters() for k, v in of_tensor(p).items()}
    raise NotHere(reason)
