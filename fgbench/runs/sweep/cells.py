"""Cells and cases of a sweep: every combination of its grids, and every run of a combination."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fgbench.runs.sweep.schema import Grid, Options, Plan, Tuning


@dataclass(frozen=True)
class Case:
    """One run of a sweep.

    Args:
        verb: ``train`` or ``measure``.
        method: a METHOD.
        arch: architecture.
        data: data set.
        seed: of everything random.
        options: of the verb.

    Example:
        >>> print(Case("train", "FG-A", "mlp-2x64", "digits", 0, {"epochs": 3}))
        FG-A mlp-2x64 digits seed 0, epochs 3
    """

    verb: str
    method: str
    arch: str
    data: str
    seed: int
    options: Options = field(hash=False)

    @property
    def id(self) -> str:
        """Canonical text; two cases with the same id are the same run."""
        parts = [self.verb, self.method, self.arch, self.data, self.seed, self.options]
        return json.dumps(parts, sort_keys=True)

    def __str__(self) -> str:
        """Format the case as one line."""
        extra = ", ".join(f"{k} {v}" for k, v in self.options.items())
        return f"{self.method} {self.arch} {self.data} seed {self.seed}" + (
            f", {extra}" * bool(extra)
        )


@dataclass(frozen=True)
class Cell:
    """One combination of a grid, with the values to tune over.

    Args:
        grid: name of the grid.
        method: a METHOD.
        arch: architecture.
        data: data set.
        verb: of its runs.
        seeds: seeds of its results.
        options: of every run.
        varied: those of ``options`` that the grid varies.
        tune: option to the values to try; empty where nothing is tuned.
        tuning: how the values are tried; None where nothing is tuned.

    Example:
        >>> one = {"epochs": 3}
        >>> cell = Cell("g", "BP", "mlp-2x64", "digits", "train", (0, 1), one, {}, {}, None)
        >>> [case.seed for case in cell.results({})]
        [0, 1]
    """

    grid: str
    method: str
    arch: str
    data: str
    verb: str
    seeds: tuple[int, ...]
    options: Options
    varied: Options
    tune: dict[str, list[Any]]
    tuning: Tuning | None

    @property
    def candidates(self) -> list[Options]:
        """Every combination of the values to try, in the order of the file."""
        return [
            dict(zip(self.tune, values, strict=True)) for values in product(*self.tune.values())
        ]

    def trials(self, values: Options) -> list[Case]:
        """Return the tuning runs of one combination of values.

        Args:
            values: option to value.

        Returns:
            One case per tuning seed.
        """
        assert self.tuning is not None
        options = {
            **self.options,
            **self.tuning.set,
            **values,
            "validation": self.tuning.validation,
        }
        return [self._case(seed, options) for seed in self.tuning.seeds]

    def results(self, values: Options) -> list[Case]:
        """Return the runs of the result.

        Args:
            values: the chosen values; {} where nothing is tuned.

        Returns:
            One case per seed.
        """
        return [self._case(seed, {**self.options, **values}) for seed in self.seeds]

    def _case(self, seed: int, options: Options) -> Case:
        """Build the case of a seed."""
        return Case(self.verb, self.method, self.arch, self.data, seed, options)


def expand(plan: Plan, only: Sequence[str] = ()) -> list[Cell]:
    """Expand a plan into its cells.

    Args:
        plan: the sweep.
        only: names of the grids to expand; all if empty.

    Returns:
        Every cell in the order of the file.

    Raises:
        UsageError: for a grid that does not exist, with the nearest name.

    Example:
        >>> from fgbench.runs.sweep.schema import Plan
        >>> grid = {"name": "g", "methods": ["BP", "FG-A"], "arch": ["mlp-2x64"], "data": ["digits"]}
        >>> [cell.method for cell in expand(Plan(grid=[grid]))]
        ['BP', 'FG-A']
    """
    names = [grid.name for grid in plan.grid]
    for name in only:
        if name not in names:
            raise unknown("grid", name, names)
    return [
        cell
        for grid in plan.grid
        if not only or grid.name in only
        for cell in expand_grid(plan.verb, grid)
    ]


def expand_grid(verb: str, grid: Grid) -> Iterable[Cell]:
    """Expand one grid into its cells.

    Args:
        verb: ``train`` or ``measure``.
        grid: the grid.

    Yields:
        Every cell in the order of the file.

    Example:
        >>> from fgbench.runs.sweep.schema import Grid
        >>> grid = {"name": "g", "methods": ["BP"], "arch": ["mlp-2x64"], "data": ["digits"]}
        >>> cells = expand_grid("train", Grid(**grid, vary={"batch": [32, 64]}))
        >>> [cell.varied for cell in cells]
        [{'batch': 32}, {'batch': 64}]
    """
    for method, arch, data in product(grid.methods, grid.arch, grid.data):
        options = dict(grid.set)
        tune: dict[str, list[Any]] = {}
        bare = bare_method(method) if grid.rule else ""
        for rule in grid.rule:
            if rule.when.fits(arch, data, bare):
                options |= rule.set
                tune |= rule.tune
        for values in product(*grid.vary.values()):
            varied = dict(zip(grid.vary, values, strict=True))
            tuned = {name: values for name, values in tune.items() if name not in varied}
            yield Cell(
                grid.name, method, arch, data, verb, tuple(grid.seeds), {**options, **varied}, varied,
                tuned, grid.tuning if tuned else None,
            )  # fmt: skip


def bare_method(method: str) -> str:
    """Return ``estimator/locality`` of a METHOD without options, presets resolved.

    Args:
        method: a METHOD.

    Returns:
        The text that rules match.

    Example:
        >>> bare_method("LG-FG-A")
        'fg_a/local-pg'
    """
    parsed = registry.method(method)
    return f"{parsed.estimator.name}/{parsed.locality.name}"


def count(cells: Iterable[Cell]) -> int:
    """Count the runs of cells, tuning runs included; a run that two cells share counts once.

    Args:
        cells: of a plan.

    Returns:
        The number of runs. Results of tuned cells count per seed, because their values are not known yet.

    Example:
        >>> one = {"epochs": 3}
        >>> cell = Cell("g", "BP", "mlp-2x64", "digits", "train", (0, 1), one, {}, {}, None)
        >>> count([cell, cell])
        2
    """
    runs: set[str] = set()
    results_of_tuned = 0
    for cell in cells:
        if cell.tuning is None:
            runs |= {case.id for case in cell.results({})}
            continue
        for values in cell.candidates:
            runs |= {case.id for case in cell.trials(values)}
        results_of_tuned += len(cell.seeds)
    return len(runs) + results_of_tuned
