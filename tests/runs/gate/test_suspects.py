"""Suspects are files of the difference that the changed cells can depend on, an own file first."""

from __future__ import annotations

import pytest

from fgbench.runs.gate.finding import Cell
from fgbench.runs.gate.suspects import suspects

FILES = [
    *(
        "fgbench/cli/main.py",
        "fgbench/core/axes.py",
        "fgbench/estimators/fg_w.py",
        "fgbench/estimators/np.py",
    ),
    *(
        "fgbench/localities/local.py",
        "fgbench/stats/bias.py",
        "fgbench/training/recipe.py",
        "fgbench/data/images.py",
    ),
]


def cells(kind: str, *methods: str) -> list[Cell]:
    return [Cell(kind, method, method, "mlp-2x6", "synthetic[size=8]") for method in methods]


@pytest.mark.parametrize(
    ("kind", "methods", "first"),
    [
        ("estimate", ("fg_w/end", "fg_w/local-pg"), "fgbench/estimators/fg_w.py"),
        ("scale", ("np/end",), "fgbench/estimators/np.py"),
        ("estimate", ("fa/local", "dfa/local-pg"), "fgbench/localities/local.py"),
        ("estimate", ("fa/end", "dfa/module-pg"), "fgbench/core/axes.py"),
        ("training", ("bp/end",), "fgbench/training/recipe.py"),
        ("intervals", (), "fgbench/stats/bias.py"),
        ("data", (), "fgbench/data/images.py"),
    ],
)
def test_the_likeliest_file_comes_first(kind: str, methods: tuple[str, ...], first: str) -> None:
    assert suspects(kind, cells(kind, *methods), FILES)[0] == first


def test_files_of_other_methods_and_files_that_did_not_run_are_left_out() -> None:
    found = suspects(
        "estimate",
        cells("estimate", "fg_w/end"),
        FILES,
        {"core/axes.py", "estimators/fg_w.py", "estimators/np.py"},
    )
    assert found == ("fgbench/estimators/fg_w.py", "fgbench/core/axes.py")


def test_there_is_always_a_suspect() -> None:
    assert suspects("time", [], ["fgbench/cli/main.py"], {"core/axes.py"}) == (
        "fgbench/cli/main.py",
    )
    assert suspects("time", [], []) == ()


def test_a_file_whose_estimator_changed_anywhere_is_likelier_than_another() -> None:
    """A wrapper changes with its base; a new file beside it changes nothing."""
    files = ["fgbench/estimators/new_one.py", "fgbench/estimators/wp.py"]
    wrapper = cells("estimate", "svrg/end", "svrg/local")
    assert suspects("estimate", wrapper, files, moved={"svrg", "wp", "end"})[0] == files[1]
