"""The public names of the package: all of them exist, load nothing before they are used, and have types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fgbench
from fgbench import (
    Along,
    Claims,
    DataSet,
    Defaults,
    Estimate,
    Estimator,
    FixedDirections,
    ForwardGradient,
    Metric,
    Nested,
    Network,
    Noise,
    Objective,
    State,
    Task,
    UsageError,
    View,
    check,
    compare,
    data_set,
    estimate,
    example_view,
    figure,
    gate,
    load,
    measure,
    register,
    run,
    run_all,
    speed,
    train,
    wrap,
)
from tests.makers.paths import ROOT

IMPORTED = (
    Along, Claims, DataSet, Defaults, Estimate, Estimator, FixedDirections, ForwardGradient, Metric,
    Nested, Network, Noise, Objective, State, Task, UsageError, View, check, compare, data_set,
    estimate, example_view, figure, gate, load, measure, register, run, run_all, speed, train, wrap,
)  # fmt: skip
"""The public names, imported as a user imports them."""


@pytest.mark.parametrize("name", fgbench.__all__)
def test_every_public_name_resolves_to_what_it_names(name: str) -> None:
    value = getattr(fgbench, name)
    assert any(value is imported for imported in IMPORTED)
    assert name in dir(fgbench)


def test_type_checkers_see_exactly_the_public_names() -> None:
    tree = ast.parse(Path(fgbench.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == sorted(fgbench.__all__)
    assert len(IMPORTED) == len(fgbench.__all__)
    for name, (module, attribute) in typed.items():
        assert getattr(sys.modules[str(module)], attribute) is getattr(fgbench, name)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fgbench' has no attribute 'mesure'"):
        _ = fgbench.mesure


def test_importing_the_package_loads_nothing_else() -> None:
    """Names of errors, records and figures load no torch when they are used either."""
    code = (
        "import sys, fgbench\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "own = {name for name in sys.modules if name.startswith('fgbench.')}\n"
        "assert not heavy | own, heavy | own\n"
        "fgbench.UsageError, fgbench.register, fgbench.load, fgbench.figure, fgbench.run\n"
        "fgbench.load, fgbench.figure, fgbench.measure, fgbench.train, fgbench.speed, fgbench.check\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_former_second_name_of_load_names_the_one_that_is_left() -> None:
    with pytest.raises(AttributeError, match=r"is fgbench\.load\(folder\)\.records"):
        _ = fgbench.load_records
