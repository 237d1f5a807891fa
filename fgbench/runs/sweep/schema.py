"""A sweep as data: grids of methods, architectures, data, options and seeds, read from TOML.

A file has a ``title`` and ``[[grid]]`` tables. A grid is the product of its ``methods``, ``arch``,
``data`` and of every list under ``vary``; each combination is a *cell*, run once per seed. Options come
from ``set``, narrowed by ``[[grid.rule]]`` tables whose ``when`` fits, later ones winning. With
``[grid.tuning]`` each cell first runs a declared grid of values (``tune`` of the rules) on tuning seeds
with part of the training images held out; the values with the least mean error there are then used on
the grid's own seeds, which the tuning never saw.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields
from importlib.resources import files
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip

from fgbench import registry
from fgbench.errors import UsageError, unknown
from fgbench.training.recipe import Recipe, When, default_recipe, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Options = dict[str, Any]
Values = dict[str, JsonValue]
Listed = dict[str, Annotated[list[JsonValue], Field(min_length=1)]]
MOST = 100_000
"""Runs of one grid, trials included: more is a slip of the pen."""


class _Part(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Narrow(_Part):
    """Options for the cells that fit.

    Args:
        when: what it is for.
        set: options of the verb.
        tune: option to the values tried.
    """

    when: When = When()
    set: Values = {}
    tune: Listed = {}


class Tuning(_Part):
    """How values are chosen.

    Args:
        seeds: of the trials; none of them may be a seed of the results.
        validation: how many of the last training images are held out.
        set: options of the trials alone, such as fewer epochs.
    """

    seeds: Annotated[list[int], Field(min_length=1)] = [1000]
    validation: Annotated[int, Field(ge=1)]
    set: Values = {}


class Grid(_Part):
    """One product of methods, architectures, data, options and seeds.

    Args:
        name: ``--only`` picks grids by it.
        methods: METHODs.
        arch: architectures.
        data: data sets.
        seeds: a number of seeds from 0 up, or a list.
        set: options of the verb.
        vary: option to the values that are run, one cell each.
        rule: narrower options.
        tuning: how the values under ``tune`` are chosen.
    """

    name: str
    methods: Annotated[list[str], Field(min_length=1)]
    arch: Annotated[list[str], Field(min_length=1)]
    data: Annotated[list[str], Field(min_length=1)]
    seeds: list[int] = [0]
    set: Values = {}
    vary: Listed = {}
    rule: list[Narrow] = []
    tuning: Tuning | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        """Read a number of seeds as the list from 0 up."""
        if isinstance(value, int) and not isinstance(value, bool):
            if value > MOST:
                raise ValueError(f"at most {MOST} seeds, got {value}")
            return list(range(value))
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse what does not go together."""
        if not self.seeds:
            raise ValueError("a grid needs at least one seed")
        if (runs := self._most()) > MOST:
            raise ValueError(f"a grid has at most {MOST} runs, this one up to {runs}")
        if any(rule.tune for rule in self.rule) and self.tuning is None:
            raise ValueError("values to tune need a table [grid.tuning]")
        if self.tuning is not None and (both := set(self.tuning.seeds) & set(self.seeds)):
            raise ValueError(f"seed {min(both)} is of the tuning and of the results")
        if any(rule.when.exact is not None for rule in self.rule):
            raise ValueError("'exact' is for recipes; rules of a grid name methods")
        return self

    def _most(self) -> int:
        """Bound the number of runs from above without listing them."""
        lists: tuple[Sequence[Any], ...] = (self.methods, self.arch, self.data, *self.vary.values())
        tried: dict[str, int] = {}
        for rule in self.rule:
            for name, values in rule.tune.items():
                tried[name] = max(len(values), tried.get(name, 1))
        trials = prod(tried.values()) * len(self.tuning.seeds) if self.tuning and tried else 0
        return prod(len(one) for one in lists) * (len(self.seeds) + trials)


class Plan(_Part):
    """A whole file.

    Args:
        title: what the sweep is.
        verb: ``train`` or ``measure``.
        grid: the grids.
    """

    title: str = ""
    verb: Literal["train", "measure"] = "train"
    grid: Annotated[list[Grid], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse two grids of one name, and tuning of what has no test error."""
        names = [grid.name for grid in self.grid]
        if len(set(names)) < len(names):
            raise ValueError(f"grids need distinct names, got {', '.join(names)}")
        if self.verb != "train" and any(grid.tuning for grid in self.grid):
            raise ValueError("tuning needs the verb 'train'")
        return self


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


def read(source: str) -> Plan:
    """Read a sweep from a file, or a shipped one by name.

    Args:
        source: path of a TOML file, or a name such as ``paper-table3``.

    Returns:
        The plan, its names and options checked.

    Raises:
        UsageError: in one line, for a missing file, bad TOML, an unknown key, name or option.
    """
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UsageError(f"cannot read the sweep {source!r}: {why}") from error
    else:
        known = _shipped()
        if source not in known:
            raise unknown("sweep", source, known)
        text = known[source]
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"sweep {source!r} is not TOML: {error}") from error
    return _checked(content, source)


def shipped() -> dict[str, str]:
    """Return the name of every sweep that is shipped, with its title."""
    return {name: str(tomllib.loads(text)["title"]) for name, text in _shipped().items()}


def _shipped() -> dict[str, str]:
    """Return name and text of every sweep that is shipped."""
    found = sorted((files("fgbench.runs.sweep") / "shipped").iterdir(), key=lambda p: p.name)
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in found}


def _checked(content: Options, source: str) -> Plan:
    """Turn a file's content into a plan, and what is wrong into one line."""
    try:
        plan = Plan(**content)
    except ValidationError as error:
        raise UsageError(f"sweep {source!r}: {_first(error)}") from None
    for grid in plan.grid:
        for text in grid.methods:
            registry.method(text)
        for kind, names in (("architectures", grid.arch), ("datasets", grid.data)):
            for text in names:
                registry.source(kind, text)
        known = options_of(plan.verb)
        for name in _named(grid):
            if name not in known:
                raise unknown(f"option of {plan.verb} in the grid {grid.name!r}", name, known)
        for cell in _cells(plan.verb, grid):
            _fitting(cell)
    return plan


def _fitting(cell: Cell) -> None:
    """Refuse values that no run could take, before the first run."""
    try:
        for values in cell.candidates:
            _taken(cell, {**cell.options, **values})
            if cell.tuning is not None:
                _taken(cell, {**cell.options, **cell.tuning.set, **values})
    except UsageError as error:
        raise UsageError(f"grid {cell.grid!r}: {error}") from None


def _taken(cell: Cell, values: Options) -> None:
    """Refuse the values of one run; whether gradients are exact, and so the recipe, is not known yet."""
    if cell.verb == "measure":
        from fgbench.measurement.loop import Design

        Design(**registry.validated(Design, values, "measure", ("seed",)))
        return
    values = dict(values)
    if "graph" in values:
        import torch

        from fgbench.training.step_capture import asked

        asked(values.pop("graph"), torch.device("cuda"))  # the device of the runs is not known yet
    for name in ("train_size", "validation"):
        if name in values:
            whole(name, values.pop(name))
    about = cell.arch, cell.data
    wrong = []
    for exact in (False, True):
        try:
            default_recipe(*about, exact, _bare(cell.method)).but(**values)
        except UsageError as error:
            wrong.append(error)
    if len(wrong) == 2:
        raise wrong[0]


def options_of(verb: str) -> list[str]:
    """Return the options of a verb that a grid or ``--set`` may set.

    Args:
        verb: ``train`` or ``measure``.

    Returns:
        Their names.
    """
    if verb == "train":
        return [*Recipe.model_fields, "train_size", "validation", "graph"]
    from fgbench.measurement.loop import Design

    return [f.name for f in fields(Design) if f.name != "seed"]


def _named(grid: Grid) -> Iterable[str]:
    """Yield the name of every option that a grid sets, varies or tunes."""
    yield from (*grid.set, *grid.vary, *(grid.tuning.set if grid.tuning else ()))
    for rule in grid.rule:
        yield from (*rule.set, *rule.tune)


def _first(error: ValidationError) -> str:
    """Word the first problem: where it is, what came, and the nearest valid key."""
    problem = error.errors()[0]
    place = [str(part) for part in problem["loc"]]
    where = ".".join(place)
    if problem["type"] == "extra_forbidden":
        model: type[BaseModel] = Plan
        for part in place[:-1]:
            model = _PARTS.get(part, model)
        return str(
            unknown(f"key in {'.'.join(place[:-1]) or 'the file'}", place[-1], model.model_fields)
        )
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


_PARTS: dict[str, type[BaseModel]] = {
    **{"grid": Grid, "rule": Narrow, "tuning": Tuning, "when": When}
}


def cells(plan: Plan, only: Sequence[str] = ()) -> list[Cell]:
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
        for cell in _cells(plan.verb, grid)
    ]


def _cells(verb: str, grid: Grid) -> Iterable[Cell]:
    """Expand one grid."""
    for method, arch, data in product(grid.methods, grid.arch, grid.data):
        options = dict(grid.set)
        tune: dict[str, list[Any]] = {}
        for rule in grid.rule:
            if rule.when.fits(arch, data, _bare(method)):
                options |= rule.set
                tune |= rule.tune
        for values in product(*grid.vary.values()):
            varied = dict(zip(grid.vary, values, strict=True))
            left = {name: tried for name, tried in tune.items() if name not in varied}
            yield Cell(
                grid.name, method, arch, data, verb, tuple(grid.seeds), {**options, **varied}, varied,
                left, grid.tuning if left else None,
            )  # fmt: skip


def _bare(method: str) -> str:
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
