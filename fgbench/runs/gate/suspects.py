"""Which of the files that differ may have changed a cell, the likeliest first."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fgbench.runs.gate.finding import Cell

ROOMS: dict[str, tuple[str, ...]] = {
    "data": ("data/*", "core/noise/*", "workload.py"),
    "weights": (
        "architectures/*",
        "core/network.py",
        "core/noise/*",
        "core/wrapping/*",
        "workload.py",
    ),
    "draws": ("core/noise/*",),
    "ledger": ("core/cost.py", "core/operation_counter.py", "estimators/*", "core/*"),
    "estimate": ("estimators/*", "localities/*", "core/*", "architectures/*", "measurement/*"),
    "training": ("training/*", "updates/*", "workload.py", "core/*"),
    "intervals": ("stats/*", "measurement/*"),
    "wrapped": ("core/wrapping/*", "training/*", "core/*", "estimators/*", "localities/*"),
    "memory": ("core/*", "training/*", "measurement/*", "estimators/*"),
    "time": ("core/*", "training/*", "measurement/*", "estimators/*", "architectures/*"),
}
"""Patterns of files by what they decide, the likeliest first; ``*`` matches folders too."""
UNRUN = ("cli/*", "reporting/*", "conformance/*", "records/*", "runs/*")
"""Rooms that decide no number of a cell; their files are suspected last."""
SHOWN = 3


def suspects(
    kind: str,
    cells: Sequence[Cell],
    changed: Sequence[str],
    loaded: Collection[str] = (),
    moved: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the files that may be the cause, the likeliest first.

    A file of an estimator, a locality, an architecture or a data set is suspected where every cell uses it.
    Files that were not imported for the cells are left out.

    Args:
        kind: of the finding.
        cells: that changed.
        changed: files that differ, by their path in the tree.
        loaded: files that were imported for the cells, below the folder of the package; empty where unknown.
        moved: estimators and localities of any cell that changed; a file of one is likelier than of another.

    Returns:
        At most three paths.

    Example:
        >>> from fgbench.runs.gate.finding import Cell
        >>> cell = Cell("estimate", "one", "fg_w/local-pg", "mlp-2x6")
        >>> suspects("estimate", [cell], ["fgbench/core/axes.py", "fgbench/estimators/fg_w.py"])
        ('fgbench/estimators/fg_w.py', 'fgbench/core/axes.py')
    """
    own = _own_files(cells)
    rooms = ROOMS.get(
        {"scale": "estimate", "bias": "estimate", "noise": "estimate"}.get(kind, kind), ()
    )
    if cells and all(cell.wrapped for cell in cells):
        rooms = ROOMS["wrapped"]

    stems = {name.partition("[")[0].replace("-", "_") for name in moved}

    def rank(path: str) -> tuple[int, bool, str]:
        """Return how likely a file is, 0 first."""
        inside = path.removeprefix("fgbench/")
        still = inside.rpartition("/")[2].removesuffix(".py") not in stems
        if inside in own:
            return 0, still, path
        for k, pattern in enumerate(rooms):
            if fnmatchcase(inside, pattern):
                return 1 + k, still, path
        beside = any(fnmatchcase(inside, pattern) for pattern in UNRUN)
        return (90 if beside else 50), still, path

    possible = [path for path in changed if _ran(path, loaded)] or list(changed)
    possible = [path for path in possible if not _others(path, own, cells)] or possible
    return tuple(sorted(possible, key=rank)[:SHOWN])


def blamed_by(files: Sequence[str], changed: Sequence[str]) -> tuple[str, ...]:
    """Return the files of an error that differ between the trees, the likeliest first.

    Args:
        files: that the error comes from, the likeliest first.
        changed: files that differ, by their path in the tree.

    Returns:
        At most three paths; none where the error comes from files that do not differ.

    Example:
        >>> blamed_by(["fgbench/core/axes.py", "fgbench/api.py"], ["fgbench/api.py"])
        ('fgbench/api.py',)
    """
    return tuple(dict.fromkeys(file for file in files if file in changed))[:SHOWN]


def _own_files(cells: Sequence[Cell]) -> set[str]:
    """Return the files of the estimator, locality, architecture and data that all cells share."""
    found: set[str] = set()
    for folder, names in (
        ("estimators", {cell.method.partition("/")[0].partition("[")[0] for cell in cells}),
        ("localities", {cell.method.partition("/")[2].partition("[")[0] for cell in cells}),
        ("architectures", {cell.arch.partition("[")[0] for cell in cells}),
        ("data", {cell.data.partition("[")[0] for cell in cells}),
    ):
        if len(names) == 1:
            (name,) = names
            parts = name.split("-")
            stems = ["_".join(parts[:k]) for k in range(len(parts), 0, -1)]
            found |= {f"{folder}/{stem}.py" for stem in stems if stem}
    return found


def _ran(path: str, loaded: Collection[str]) -> bool:
    """Return whether a file was imported; files that are no modules may have been read."""
    inside = path.removeprefix("fgbench/")
    return not loaded or not path.endswith(".py") or inside in loaded or path == inside


def _others(path: str, own: set[str], cells: Sequence[Cell]) -> bool:
    """Return whether a file holds an estimator or a locality that not all of the cells use."""
    inside = path.removeprefix("fgbench/")
    if inside in own or not cells or not any(cell.method for cell in cells):
        return False
    if not inside.startswith(("estimators/", "localities/")):
        return False
    stem = inside.rpartition("/")[2].removesuffix(".py").replace("-", "_")
    return not any(stem in cell.method.replace("-", "_") for cell in cells)
