"""Estimates at multiples of a finite-difference step: their errors give the step that is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from .cells import Cell, cell, chosen
from .estimates import estimate
from .networks import DATA, NETS

STEP_FACTORS = (4, 16)
"""Multiples of a finite-difference step at which its error is read."""


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield estimates at multiples of a finite-difference step: their errors give the step that is used.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> [cell["name"] for cell in cells({"estimators": ["np"]})]
        ['step np times 4', 'step np times 16']
    """
    from fgbench import registry

    entries = registry.entries("estimators")
    for name in chosen(list(entries), only, "estimators"):
        step = entries[name].options.get("step") if not entries[name].error else None
        if isinstance(step, float):
            for factor in STEP_FACTORS:
                size = factor * (step or 1e-3)
                method = f"{name}[step={size:g}]/end"
                yield cell(
                    "estimate", f"step {name} times {factor}",
                    partial(estimate, method, NETS[0]),
                    method=f"{name}/end", arch=NETS[0], data=DATA, about=f"step {size:g}",
                )  # fmt: skip
