"""A sweep as data: grids of methods, architectures, data, options and seeds, read from TOML.

A file has a ``title`` and ``[[grid]]`` tables. A grid is the product of its ``methods``, ``arch``,
``data`` and of every list under ``vary``; each combination is a *cell*, run once per seed. Options come
from ``set``, narrowed by ``[[grid.rule]]`` tables whose ``when`` fits, later ones winning. With
``[grid.tuning]`` each cell first runs a declared grid of values (``tune`` of the rules) on tuning seeds
with part of the training images held out; the values with the least mean error there are then used on
the grid's own seeds, which the tuning never saw.
"""

from __future__ import annotations

from dataclasses import fields
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from fgbench.training.recipe import Recipe, When

if TYPE_CHECKING:
    from collections.abc import Sequence

Options = dict[str, Any]
MOST = 100_000
"""Runs of one grid, trials included: more is a slip of the pen."""


Values = dict[str, JsonValue]


Listed = dict[str, Annotated[list[JsonValue], Field(min_length=1)]]


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


def options_of(verb: str) -> list[str]:
    """Return the options of a verb that a grid or ``--set`` may set.

    Args:
        verb: ``train`` or ``measure``.

    Returns:
        Their names.
    """
    if verb == "train":
        return [*Recipe.model_fields, "train_size", "validation", "graph"]
    from fgbench.measurement.design import Design

    return [f.name for f in fields(Design) if f.name != "seed"]
