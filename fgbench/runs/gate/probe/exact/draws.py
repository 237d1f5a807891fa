"""Random numbers: of every law, of primitives, of masks and of initial weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from .cells import Cell, cell
from .flat import Numbers, of_tensors
from .networks import SEED


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield random numbers: of every law, of primitives, of masks and of initial weights.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> "gaussian" in [cell["about"] for cell in cells({})]
        True
    """
    from fgbench.core.noise import laws

    names = [*laws.LAWS, *(f"{name}[rank=2]" for name in getattr(laws, "MATRIX_LAWS", ()))]
    for name in names:
        yield cell("draws", f"draws {name}", partial(_directions, name), about=name)
    yield cell("draws", "draws primitives", _primitives, about="primitives")


def _directions(law: str) -> Numbers:
    """Return directions of a law, small and large."""
    import torch

    from fgbench.core.noise.keyed import Noise

    noise = Noise(SEED, ("gate",), dtype=torch.float64)
    found = noise.directions({"w": (6, 5), "v": (70, 70)}, 3, law)
    return {**of_tensors(found.rows("w", 0, 3), "w"), **of_tensors(found.rows("v", 0, 3), "v")}


def _primitives() -> Numbers:
    """Return normals, an order, a draw at another step and of another draw, and torch's seeded generator."""
    import torch

    from fgbench.core.noise.keyed import Noise

    noise = Noise(SEED, ("gate",), dtype=torch.float64)
    with noise.seeded():
        seeded = torch.randn(5, dtype=torch.float64)
    found = {
        "seeded": seeded,
        "normal": noise.normal("x", (9,)),
        "order": noise.permutation("y", 9),
    }
    found |= {"step": noise.at(3).normal("x", (9,)), "child": noise.child("z").normal("x", (9,))}
    found["redrawn"] = noise.redrawn(2).normal("x", (9,))
    return of_tensors(found, "noise")
