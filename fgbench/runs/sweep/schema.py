"""The schema of a sweep's TOML file: grids of methods, architectures, data sets, options and seeds.

A file has a ``title`` and ``[[grid]]`` tables. A grid is the product of its ``methods``, ``arch``, ``data``
and every list under ``vary``; each combination is a *cell*, run once per seed. Options come from ``set``,
changed by the ``[[grid.rule]]`` tables whose ``when`` matches, later ones winning. With ``[grid.tuning]``
each cell first tries a declared grid of values (``tune`` of the rules) on tuning seeds, with part of the
training images held out. The values with the smallest mean error on these are then used on the grid's own
seeds, which were not part of the tuning.
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
"""Most runs of one grid, tuning included; more are taken for a typing mistake."""


Values = dict[str, JsonValue]


Listed = dict[str, Annotated[list[JsonValue], Field(min_length=1)]]


class _Part(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Narrow(_Part):
    """Options for the cells that match a condition.

    Args:
        when: the condition.
        set: options of the verb.
        tune: option to the values to try.

    Example:
        >>> Narrow(when={"arch": "mlp-*"}, set={"lr": 0.1}).set
        {'lr': 0.1}
    """

    when: When = When()
    set: Values = {}
    tune: Listed = {}


class Tuning(_Part):
    """How the values under ``tune`` are chosen.

    Args:
        seeds: of the tuning runs; none of them may be a seed of the results.
        validation: how many of the last training images are held out.
        set: options of the tuning runs only, such as fewer epochs.

    Example:
        >>> Tuning(validation=100).seeds
        [1000]
    """

    seeds: Annotated[list[int], Field(min_length=1)] = [1000]
    validation: Annotated[int, Field(ge=1)]
    set: Values = {}


class Grid(_Part):
    """One product of methods, architectures, data sets, options and seeds.

    Args:
        name: by which ``--only`` selects grids.
        methods: METHODs.
        arch: architectures.
        data: data sets.
        seeds: a number of seeds from 0 up, or a list.
        set: options of the verb.
        vary: option to its values, one cell each.
        rule: options for the cells that match a condition.
        tuning: how the values under ``tune`` are chosen; None where nothing is tuned.

    Example:
        >>> Grid(name="g", methods=["BP"], arch=["mlp-2x64"], data=["digits"], seeds=3).seeds
        [0, 1, 2]
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
        """Turn a number of seeds into the list of seeds from 0 up."""
        if isinstance(value, int) and not isinstance(value, bool):
            if value > MOST:
                raise ValueError(f"at most {MOST} seeds, got {value}")
            return list(range(value))
        return value

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        """Check that the values go together."""
        if not self.seeds:
            raise ValueError("a grid needs at least one seed")
        if (runs := self._most_runs()) > MOST:
            raise ValueError(f"a grid has at most {MOST} runs, this one up to {runs}")
        if any(rule.tune for rule in self.rule) and self.tuning is None:
            raise ValueError("values to tune need a table [grid.tuning]")
        if self.tuning is not None and (both := set(self.tuning.seeds) & set(self.seeds)):
            raise ValueError(f"seed {min(both)} is used by the tuning and by the results")
        if any(rule.when.exact is not None for rule in self.rule):
            raise ValueError("'exact' is for recipes; rules of a grid name methods")
        return self

    def _most_runs(self) -> int:
        """Return an upper bound on the number of runs, without listing them."""
        lists: tuple[Sequence[Any], ...] = (self.methods, self.arch, self.data, *self.vary.values())
        tried: dict[str, int] = {}
        for rule in self.rule:
            for name, values in rule.tune.items():
                tried[name] = max(len(values), tried.get(name, 1))
        trials = prod(tried.values()) * len(self.tuning.seeds) if self.tuning and tried else 0
        return prod(len(one) for one in lists) * (len(self.seeds) + trials)


class Plan(_Part):
    """The content of a sweep's file.

    Args:
        title: one line for lists of sweeps.
        verb: ``train`` or ``measure``.
        grid: the grids.

    Example:
        >>> grid = {"name": "g", "methods": ["BP"], "arch": ["mlp-2x64"], "data": ["digits"]}
        >>> Plan(grid=[grid]).verb
        'train'
    """

    title: str = ""
    verb: Literal["train", "measure"] = "train"
    grid: Annotated[list[Grid], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        """Check that names of grids differ, and that only trainings are tuned."""
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

    Example:
        >>> options_of("train")[:3]
        ['epochs', 'batch', 'lr']
    """
    from fgbench.workload import Cuts

    if verb == "train":
        from fgbench.training.length import Length

        more = ("train_size", "validation", "graph", "compile")
        return [*Recipe.model_fields, *Length.names(), *more, *Cuts.names()]
    from fgbench.measurement.design import Design

    return [*(f.name for f in fields(Design) if f.name != "seed"), *Cuts.names()]
