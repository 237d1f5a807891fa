"""The note below the table of a sweep says what its results are, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fgbench.cli.sweep_progress import Watch, table
from fgbench.runs.sweep.cells import Cell
from fgbench.runs.sweep.runner import Settings, Sweep
from fgbench.runs.sweep.schema import Tuning

SHARED = {"inits": 5, "batch": 16}
CELL = Cell("small", "BP", "mlp-1x8", "digits", "measure", (0,), SHARED, {}, {}, None)


def note(*cells: Cell) -> str:
    """Return the note below the table of cells that have not run."""
    sweep = Sweep(list(cells), Settings(Path("records")), watch=lambda sweep: None)
    return str(table(sweep, "Results").caption)


def test_measurements_have_intervals_over_inits() -> None:
    said = note(CELL, replace(CELL, method="FG-A"))
    assert said.startswith("Measure: relative variance, with 95 % intervals over inits.")
    assert said.endswith("All rows: inits 5, batch 16.")
    assert "mean over seeds" not in said
    assert "*:" not in said


def test_trainings_have_means_over_seeds() -> None:
    train = replace(CELL, verb="train", seeds=(0, 1), options={"epochs": 3})
    other = replace(train, method="FG-A", options={"epochs": 4})
    assert note(train, other) == (
        "Train: test error in %, mean over seeds, with the smallest and largest in brackets."
    )


def test_what_a_row_shows_is_not_said_below() -> None:
    varied = replace(CELL, options=SHARED | {"draws": 8}, varied={"draws": 8})
    assert note(varied).endswith("All rows: inits 5, batch 16.")


def test_a_run_of_a_tuning_is_printed_with_the_rate_that_it_tries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tuning = Tuning(validation=8)
    cell = replace(
        CELL, verb="train", seeds=(), tune={"lr": [0.01, 0.1]}, tuning=tuning, options={}
    )
    with Watch(quiet=False, verb="compare") as watch:
        sweep = Sweep([cell], Settings(Path("records")), watch)
        for (values, (case, *_)), error in zip(sweep.stages[0].trials, (0.5, 0.25), strict=True):
            record = {"method": "BP", "arch": "mlp-1x8", "data": "digits", "seed": case.seed}
            record |= {"status": "ok", "verb": "train", "settings": {"validation": 8, **values}}
            sweep.found[case.id] = {**record, "test_error": error, "started": "9"}
        watch(sweep)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("compare 1 of ")
    assert "BP mlp-1x8 digits seed 1000, lr 0.01: held-out" in first
    assert ", lr 0.1: held-out" in second
