"""The cells of a sweep: every run that its grids expand to."""

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
    """One run.

    Args:
        verb: ``train`` or ``measure``.
        method: a METHOD.
        arch: architecture.
        data: data set.
        seed: of everything random.
        options: of the verb.
    """

    verb: str
    method: str
    arch: str
    data: str
    seed: int
    options: Options = field(hash=False)

    @property
    def id(self) -> str:
        """Canonical text: two cases of one id are one run."""
        parts = [self.verb, self.method, self.arch, self.data, self.seed, self.options]
        return json.dumps(parts, sort_keys=True)

    def __str__(self) -> str:
        """Say it in one line."""
        extra = ", ".join(f"{k} {v}" for k, v in self.options.items())
        return f"{self.method} {self.arch} {self.data} seed {self.seed}" + (
            f", {extra}" * bool(extra)
        )


@dataclass(frozen=True)
class Cell:
    """One combination of a grid, and the values tried for it.

    Args:
        grid: name of the grid.
        method: a METHOD.
        arch: architecture.
        data: data set.
        verb: of its runs.
        seeds: of its results.
        options: of every run.
        varied: those of ``options`` that the grid varies.
        tune: option to the values tried; empty where nothing is tuned.
        tuning: how they are tried.
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
        """Every combination of the values tried, in the order of the file."""
        return [
            dict(zip(self.tune, values, strict=True)) for values in product(*self.tune.values())
        ]

    def trials(self, values: Options) -> list[Case]:
        """Return the runs that judge one combination of values.

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
        """Return the runs that count.

        Args:
            values: what was chosen; {} where nothing is tuned.

        Returns:
            One case per seed.
        """
        return [self._case(seed, {**self.options, **values}) for seed in self.seeds]

    def _case(self, seed: int, options: Options) -> Case:
        """Build one run."""
        return Case(self.verb, self.method, self.arch, self.data, seed, options)


def expand(plan: Plan, only: Sequence[str] = ()) -> list[Cell]:
    """Expand a plan.

    Args:
        plan: the sweep.
        only: names of the grids wanted; all if empty.

    Returns:
        Every cell in the order of the file.

    Raises:
        UsageError: for a grid that does not exist, with the nearest.
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
    """Expand one grid."""
    for method, arch, data in product(grid.methods, grid.arch, grid.data):
        options = dict(grid.set)
        tune: dict[str, list[Any]] = {}
        for rule in grid.rule:
            if rule.when.fits(arch, data, bare(method)):
                options |= rule.set
                tune |= rule.tune
        for values in product(*grid.vary.values()):
            varied = dict(zip(grid.vary, values, strict=True))
            left = {name: tried for name, tried in tune.items() if name not in varied}
            yield Cell(
                grid.name, method, arch, data, verb, tuple(grid.seeds), {**options, **varied}, varied,
                left, grid.tuning if left else None,
            )  # fmt: skip


def bare(method: str) -> str:
    """Return ``estimator/locality`` of a METHOD, presets resolved."""
    parsed = registry.method(method)
    return f"{parsed.estimator.name}/{parsed.locality.name}"


def count(found: Iterable[Cell]) -> int:
    """Return how many runs cells come to, trials included, each counted once."""
    runs: set[str] = set()
    unknown_yet = 0
    for cell in found:
        if cell.tuning is None:
            runs |= {case.id for case in cell.results({})}
            continue
        for values in cell.candidates:
            runs |= {case.id for case in cell.trials(values)}
        unknown_yet += len(cell.seeds)
    return len(runs) + unknown_yet
