"""Numbers that equal code gives bit for bit: data, weights, draws, estimates, trainings, intervals.

Everything is float64 on one CPU thread with fixed noise. A *cell* is one small computation with a name, a
kind and its numbers; ``digest`` is a hash of these. ``answer`` takes

``{"ask": "plan"}``: the names of the groups of cells, cheap ones first;
``{"ask": "group", "group": NAME}``: the cells of a group;
``{"ask": "cells", "cells": [{"method": ..., "arch": ..., "data": ...}, ...]}``: estimates of given methods.

Methods, networks and data come from the registry of the measured tree, new files included. A cell that cannot
be computed has ``n/a`` with the reason; one whose code raises has ``failed``. ``only`` restricts a request:
``{"estimators": [...], "localities": [...], "archs": [...]}``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import (
    data,
    draws,
    estimates,
    finite_differences,
    intervals,
    measurements,
    trainings,
    weights,
    wrapped,
)
from .cells import Cell
from .networks import NETS


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request.

    Args:
        request: see the module.

    Returns:
        ``groups``, or ``cells`` and the ``modules`` of fgbench that were imported for them.

    Example:
        >>> answer({"ask": "plan"})["groups"][0]
        'data'
    """
    if request["ask"] == "plan":
        return {"groups": list(GROUPS)}
    _one_thread()
    only = request.get("only") or {}
    if request["ask"] == "cells":
        cells = [estimates.given(each) for each in request["cells"]]
    else:
        cells = list(GROUPS[request["group"]](only))
    for cell in cells:
        cell["digest"] = digest(cell)
    return {"cells": cells, "modules": _modules()}


def digest(cell: Mapping[str, Any]) -> str:
    """Return the hash of a cell's numbers, of its reason where it has none.

    Args:
        cell: the cell.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> digest({"numbers": {"a": 0.1}}) == digest({"numbers": {"a": 0.10}})
        True
    """
    known = {name: cell.get(name) for name in ("numbers", "n/a", "failed")}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _one_thread() -> None:
    """Compute on one thread, whatever the environment says."""
    import torch

    torch.set_num_threads(1)


def _modules() -> list[str]:
    """Return the files of fgbench that are imported, below the folder of the package."""
    root = Path(sys.modules["fgbench"].__file__ or "").parent
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith("fgbench.") and file and Path(file).is_relative_to(root):
            found.append(Path(file).relative_to(root).as_posix())
    return sorted(found)


GROUPS: dict[str, Callable[[Mapping[str, Any]], Iterator[Cell]]] = {
    "data": data.cells,
    "weights": weights.cells,
    "draws": draws.cells,
    "intervals": intervals.cells,
    **{f"estimates on {arch}": estimates.cells_on(arch) for arch in NETS},
    "finite differences": finite_differences.cells,
    "wrapped networks": wrapped.cells,
    "measurements": measurements.cells,
    "trainings": trainings.cells,
}
