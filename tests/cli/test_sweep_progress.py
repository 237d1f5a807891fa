"""The note below the table of a sweep says what its results are, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fgbench.cli.sweep_progress import table
from fgbench.runs.sweep.cells import Cell
from fgbench.runs.sweep.runner import Settings, Sweep

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
