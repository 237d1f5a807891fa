"""Every number of ``measure``: a few methods by both engines, on the three networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .cells import Cell, cell, wanted
from .networks import DATA, MIXER, NETS, SEED
from .records import record, records

MEASURED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (NETS[0], "auto", ("bp/end", "np/end", "wp/end")),
    (NETS[0], "dual", ("fg_a/end", "fg_w/end")),
    (NETS[0], "cotangent", ("fg_a/end", "fg_w/end")),
    (NETS[1], "dual", ("fg_a/end",)),
    (MIXER, "dual", ("fg_a/local-pg", "fg_w/local-pg", "fg_a/module-pg")),
    (MIXER, "cotangent", ("fg_a/local-pg", "fg_w/local-pg")),
)
"""Methods that are measured with draws, by network and engine; every other one gives single estimates."""

DESIGN: dict[str, Any] = {
    "draws": 8,
    "batches": 1,
    "batch": 8,
    "seed": SEED,
    "dtype": "float64",
    "threads": 1,
}


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield every number of ``measure``: a few methods by both engines, on the three networks.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> list(cells({"estimators": []}))
        []
    """
    for arch, engine, methods in MEASURED:
        if arch in only.get("archs", [arch]):
            yield from _measured(arch, engine, [m for m in methods if wanted(m, only)])


def _measured(arch: str, engine: str, methods: Sequence[str]) -> Iterator[Cell]:
    """Yield the cells of methods that are measured at the same points."""
    from fgbench.errors import UsageError

    about = f"measure engine {engine}"
    options: dict[str, Any] = {"engine": engine, "moments": (1.0,), **DESIGN}
    try:
        found = records("measure", methods, arch, **options) if methods else []
    except (UsageError, ImportError, TypeError):  # of one of them: each on its own
        found = [partial(record, "measure", method, arch, **options) for method in methods]
    for method, make in zip(methods, found, strict=True):
        name = f"measure {method} on {arch} engine {engine}"
        yield cell("estimate", name, make, method=method, arch=arch, data=DATA, about=about)
