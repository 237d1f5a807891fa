"""Figures and the site on records whose main metric is no error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.data import goal
from fgbench.reporting.figures import learning_curves, progress
from fgbench.reporting.frames import workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.site import glance, paths, run_tables
from fgbench.reporting.site.facts import facts as facts_of
from fgbench.reporting.site.leaderboard import board, entries
from fgbench.reporting.site.plotly_figures import training

GOALS = {
    "topics": goal.tokens(8, 64, text=True),
    "diabetes": goal.numbers((1,), 2.0),
    "digits": goal.classes(10),
}
UPWARDS = goal.Goal((1,), GOALS["diabetes"].loss, dict(GOALS["diabetes"].metrics), "r2")


def run(
    method: str, data: str, values: list[float], aim: Any = None, seed: int = 0
) -> dict[str, Any]:
    """A training with these values of its main metric, epoch by epoch."""
    aim = aim or GOALS[data]
    name = f"test_{aim.main}"
    history = [
        {"epoch": at, "seconds": 1.0 * at, name: value, "test_loss": 1.0, "train_loss": 1.0}
        for at, value in enumerate(values, 1)
    ]
    where = {"arch": "net", "data": data, "estimator": method.lower(), "locality": "end"}
    return {
        **{"verb": "train", "method": method, "status": "ok", "seed": seed, "schema": 1},
        **{"key": f"{method} {data} {seed}", "case_key": f"{method} {data} {seed}", **where},
        **{"metrics": aim.described(), "classes": aim.outputs[-1], "history": history},
        **{
            name: values[-1],
            "settings": {"epochs": len(values)},
            "device": "cpu",
            "epochs": len(values),
        },
    }


def records(*rows: dict[str, Any]) -> Records:
    """The records of a folder."""
    return Records(Path("records"), rows, {}, ())


def test_curves_of_several_metrics_keep_their_names_and_units():
    found = records(
        run("BP", "topics", [4.0, 2.5]),
        run("BP", "digits", [0.5, 0.1]),
        run("BP", "diabetes", [0.9, 0.5]),
    )
    curves = found.curves()
    table = learning_curves.plotted(curves)
    assert not {"test_error_percent"} & set(table.columns)
    last = table[table["epoch"] == 2].set_index("data")
    assert last["test"].to_dict() == {"topics": 2.5, "digits": 10.0, "diabetes": 0.5}
    assert last["metric"].to_dict() == {
        "topics": "bits_per_character",
        "digits": "error",
        "diabetes": "mse",
    }
    page = learning_curves.figure(curves, table)
    labels = {ax.get_ylabel() for ax in page.axes}
    assert labels == {"test bits per character", "test error (%)", "test mse"}
    assert any("chance 6" in t.get_text() for ax in page.axes for t in ax.texts)
    assert {
        ax.get_ylabel() for ax in progress.figure(curves, progress.plotted(curves)).axes
    } >= labels


def test_errors_alone_keep_the_columns_they_had():
    table = learning_curves.plotted(records(run("BP", "digits", [0.5, 0.1])).curves())
    assert list(table.columns) == [
        {"mean": "test_error_percent", "low": "low_percent", "high": "high_percent"}.get(c, c)
        for c in learning_curves.epoch_curves.COLUMNS
    ]


def test_negative_numbers_have_a_plain_axis():
    rows = [
        run("BP", "diabetes", [-3.0, 0.5], UPWARDS),
        run("FG-A", "diabetes", [-5.0, 0.2], UPWARDS),
    ]
    curves = records(*rows).curves()
    page = learning_curves.figure(curves, learning_curves.plotted(curves))
    (ax,) = page.axes
    assert (ax.get_ylabel(), ax.get_yscale()) == ("test r2", "linear")
    spec = training(progress.plotted(curves))
    assert spec["layout"]["yaxis"]["title"]["text"] == "test r2"


@pytest.mark.parametrize(
    ("aim", "first"), [(UPWARDS, "FG-A"), (GOALS["diabetes"], "BP")], ids=["r2", "mse"]
)
def test_the_best_comes_first_in_the_direction_of_the_metric(aim, first):
    facts = facts_of(
        records(run("BP", "diabetes", [0.5, 0.2], aim), run("FG-A", "diabetes", [0.5, 0.6], aim))
    )
    rows = entries(facts)
    assert rows[0].method == first
    made = board("leaderboard", rows, facts, paths.page_paths(facts.methods, facts.panels))
    assert f"test {aim.main}" in made.head
    assert "metric" not in made.facets
    trained = run_tables.trainings(rows, paths.page_paths(facts.methods, facts.panels), False)
    assert f"train {aim.main}" in trained.head


def test_a_board_of_several_metrics_names_each_and_filters_by_it():
    rows = (run("BP", "topics", [4.0, 2.5]), run("BP", "digits", [0.5, 0.1]))
    facts = facts_of(records(*rows))
    made = board(
        "leaderboard", entries(facts), facts, paths.page_paths(facts.methods, facts.panels)
    )
    at = made.head.index("test error (%), or the metric named")
    cells = {row.cells[2].text: row.cells[at] for row in made.rows}
    assert cells["digits"].text == "10"
    assert cells["topics"].text == "2.5"
    assert "bits per character" in cells["topics"].note
    assert {row.facets[-1] for row in made.rows} == {"error", "bits per character"}
    text = str(glance._errors([e for e in entries(facts) if e.panel[1] == "topics"], {}))
    assert "2.5 bits per character" in text


def test_pooled_figures_are_of_errors_alone():
    found = records(run("BP", "topics", [4.0, 2.5]), run("BP", "digits", [0.5, 0.1]))
    assert set(workloads.finished(found)["data"]) == {"digits"}
    assert found.chances() == {("net", "digits"): 0.9}
