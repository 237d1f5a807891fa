"""Read a sweep from a TOML file, or a shipped one by name."""

from __future__ import annotations

import tomllib
from importlib.resources import files as packaged
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from fgbench import registry
from fgbench.errors import UsageError, unknown
from fgbench.records import files
from fgbench.runs.sweep.cells import bare_method, expand_grid
from fgbench.runs.sweep.schema import Grid, Narrow, Plan, Tuning, options_of
from fgbench.training.length import Length
from fgbench.training.recipe import When, default_recipe, non_negative_int

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fgbench.runs.sweep.cells import Cell
    from fgbench.runs.sweep.schema import Options


def read(source: str) -> Plan:
    """Read a sweep from a file, or a shipped one by name.

    Args:
        source: path of a TOML file, or a name such as ``paper-table3``.

    Returns:
        The plan, with its names and options checked.

    Raises:
        UsageError: for a missing file, bad TOML, or an unknown key, name or option.

    Example:
        >>> read("paper-table3").verb
        'train'
    """
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = files.read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            why = files.why(error) if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"cannot read the sweep {source!r}: {why}") from None
    else:
        texts = _shipped()
        if source not in texts:
            raise unknown("sweep", source, texts)
        text = texts[source]
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"sweep {source!r} is not TOML: {error}") from None
    return _checked(content, source)


def shipped() -> dict[str, str]:
    """Return the sweeps that come with fgbench.

    Returns:
        Name to title.

    Example:
        >>> "paper-table3" in shipped()
        True
    """
    return {name: str(tomllib.loads(text)["title"]) for name, text in _shipped().items()}


def _shipped() -> dict[str, str]:
    """Return name and text of every sweep that comes with fgbench."""
    paths = sorted((packaged("fgbench.runs.sweep") / "shipped").iterdir(), key=lambda p: p.name)
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in paths}


def _checked(content: Options, source: str) -> Plan:
    """Build and check the plan of a file; the first mistake becomes an error of one line."""
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
        options = options_of(plan.verb)
        for name in _option_names(grid):
            if name not in options:
                raise unknown(f"option of {plan.verb} in the grid {grid.name!r}", name, options)
        for cell in expand_grid(plan.verb, grid):
            _check_cell(cell)
    return plan


def _check_cell(cell: Cell) -> None:
    """Check the values of all runs of a cell, before the first run of the sweep."""
    try:
        for values in cell.candidates:
            _check_values(cell, {**cell.options, **values})
            if cell.tuning is not None:
                _check_values(cell, {**cell.options, **cell.tuning.set, **values})
    except UsageError as error:
        raise UsageError(f"grid {cell.grid!r}: {error}") from None


def _check_values(cell: Cell, values: Options) -> None:
    """Check the values of one run.

    Whether gradients are exact, and so which recipe applies, is not known yet: values must suit one of both.
    """
    from fgbench.core.compiled.passes import checked
    from fgbench.workload import Cuts

    values = dict(values)
    Cuts.taken(values)
    if cell.verb == "measure":
        from fgbench.measurement.design import Design

        Design(**registry.validated(Design, values, "measure", ("seed",)))
        return
    if "graph" in values:
        import torch

        from fgbench.training.step_capture import asked

        asked(values.pop("graph"), torch.device("cuda"))  # the device is not known yet
    checked(values.pop("compile", "off"))
    Length.taken(values)
    for name in ("train_size", "validation"):
        if name in values:
            non_negative_int(name, values.pop(name))
    errors, method = [], bare_method(cell.method)
    for exact in (False, True):
        try:
            default_recipe(cell.arch, cell.data, exact, method).but(**values)
        except UsageError as error:
            errors.append(error)
    if len(errors) == 2:
        raise errors[0]


def _option_names(grid: Grid) -> Iterable[str]:
    """Yield the name of every option that a grid sets, varies or tunes."""
    yield from (*grid.set, *grid.vary, *(grid.tuning.set if grid.tuning else ()))
    for rule in grid.rule:
        yield from (*rule.set, *rule.tune)


def _first(error: ValidationError) -> str:
    """Format the first problem: where it is, what was given, and the nearest valid key."""
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
