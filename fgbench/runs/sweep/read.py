"""Read a sweep from a TOML file, or a shipped one by name."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import (
    BaseModel,
    ValidationError,
)

from fgbench import registry
from fgbench.errors import UsageError, unknown
from fgbench.training.recipe import When, default_recipe, whole

if TYPE_CHECKING:
    from collections.abc import Iterable
from fgbench.runs.sweep.cells import Cell, bare, expand_grid
from fgbench.runs.sweep.schema import Grid, Narrow, Options, Plan, Tuning, options_of


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
        for cell in expand_grid(plan.verb, grid):
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
            default_recipe(*about, exact, bare(cell.method)).but(**values)
        except UsageError as error:
            wrong.append(error)
    if len(wrong) == 2:
        raise wrong[0]


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
