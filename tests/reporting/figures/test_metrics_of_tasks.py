"""Figures and the site on records whose main metric is no error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.data import goal
from fgbench.reporting.figures import (
    cost,
    groups,
    learning_curves,
    local_losses,
    profiles,
    progress,
    time_to_target,
    trials,
    variance_and_learning,
)
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.results import results
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
        {"epoch": at, "seconds": 1.0 * at, "test_loss": 1.0, "train_loss": 1.0, name: value}
        for at, value in enumerate(values, 1)
    ]
    where = {"arch": "net", "data": data, "locality": "end"}
    where["estimator"] = method.lower().replace("-", "_")
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


@pytest.mark.slow
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


def test_suites_never_mix_metrics_and_a_chance_level_that_is_unknown_is_the_worst_result():
    aim = goal.Goal((1,), GOALS["diabetes"].loss)  # the loss alone, whose chance level nobody knows
    rows = [
        *(run(m, "topics", [4.0, v]) for m, v in (("BP", 2.5), ("FG-A", 3.0))),
        *(run(m, "digits", [0.5, v]) for m, v in (("BP", 0.1), ("FG-A", 0.3))),
        *(run(m, "diabetes", [9.0, v], aim) for m, v in (("BP", 2.0), ("FG-A", 5.5))),
    ]
    found = records(*rows)
    table = profiles.scores(found)
    assert table.groupby("suite")["metric"].nunique().eq(1).all()
    assert table["suite"].nunique() == 3
    scores = table[table["method"].eq("FG-A")].set_index("data")["score"]
    assert scores["digits"] == pytest.approx((0.9 - 0.3) / (0.9 - 0.1))
    assert scores["topics"] == pytest.approx((6 - 3.0) / (6 - 2.5))  # log2(64) bits
    assert scores["diabetes"] == pytest.approx((9 - 5.5) / (9 - 2))
    drawn = profiles.plotted(table)
    assert {"metric", "unit", "best"} <= set(drawn)
    page = profiles.figure(table, drawn)
    assert "test bits per character (lower is better)" in page.caption
    assert "the worst result that a run of the workload has after an epoch" in page.caption
    assert found.chances() == {("net", "digits"): 0.9}


def test_a_target_is_reached_in_the_direction_of_the_metric():
    rows = [
        run("BP", "diabetes", [0.1, 0.5], UPWARDS),
        run("FG-A", "diabetes", [0.2, 0.48], UPWARDS),
        run("FG-W", "diabetes", [0.1, 0.2], UPWARDS),
    ]
    table = time_to_target.plotted(records(*rows))
    assert table.set_index("method")["reached"].to_dict() == {
        "BP": True,
        "FG-A": True,
        "FG-W": False,
    }
    assert table["target"].tolist() == [pytest.approx(0.475)] * 3
    assert "reference" in table
    assert "reference_error" not in table
    page = time_to_target.figure(records(), table)
    assert "(0.475 r2)" in page.caption
    assert "Test r2: higher is better" in page.caption


@pytest.mark.parametrize(
    ("aim", "values", "gaps", "axis", "front"),
    [
        (UPWARDS, (0.5, 0.2), 0.3, "test r2 below BP's, higher is better", "BP"),
        (
            GOALS["topics"],
            (2.5, 3.0),
            0.5,
            "test bits per character above BP's, lower is better",
            "BP",
        ),
        (GOALS["digits"], (0.1, 0.3), 20.0, "test error above BP's (points)", "BP"),
    ],
    ids=["r2", "bits", "error"],
)
def test_gap_and_front_are_in_the_units_of_the_metric(aim, values, gaps, axis, front):
    rows = [run(m, "data", [1.0, v], aim) for m, v in zip(("BP", "FG-A"), values, strict=True)]
    beside = {"verb": "measure", "relative_variance": 2.0, "draws": 8, "inits": 1, "batches": 1}
    measure = {**rows[1], **beside, "key": "m", "case_key": "m", "truth": "scheme", "moments": [0]}
    timed = [
        {
            **row,
            "verb": "speed",
            "key": f"s{at}",
            "case_key": f"s{at}",
            "batch": 8,
            "step_ms": at + 1.0,
        }
        for at, row in enumerate(rows)
    ]
    found = records(*rows, measure, *timed)
    table = variance_and_learning.plotted(found)
    gap = "gap_points" if aim.main == "error" else "gap"
    assert table[gap].tolist() == [pytest.approx(gaps)]
    (ax,) = variance_and_learning.figure(found, table).axes
    assert ax.get_ylabel() == axis
    costs = cost.plotted(found)
    assert costs.loc[costs["front"], "method"].tolist() == [front]
    page = cost.figure(found, costs)
    (ax,) = page.axes
    assert ax.get_ylabel().endswith(", upwards is better")
    assert (ax.get_ylim()[0] > ax.get_ylim()[1]) == (aim.main != "r2")
    assert aim.main.replace("_", " ") in page.caption


def test_trials_choose_in_the_direction_of_the_metric():
    rows = [
        {
            **run("FG-A", "diabetes", [value], UPWARDS),
            "key": f"{lr}",
            "case_key": f"{lr}",
            "settings": {"epochs": 1, "validation": 100, "lr": lr},
        }
        for lr, value in ((0.1, 0.2), (0.3, 0.6), (1.0, -0.4))
    ]
    lost = {**rows[0], "key": "x", "case_key": "x", "status": "diverged", "test_r2": None}
    lost["settings"] = {**lost["settings"], "lr": 3.0}
    table = trials.plotted(records(*rows, lost))
    best = table[table["what"].eq("trials")]["result"]
    assert best.iloc[-1] == pytest.approx(0.6)
    assert best.iloc[0] == pytest.approx((0.2 + 0.6 - 0.4 + 0.0) / 4)  # r2 of chance is 0
    first, *_ = trials.figure(records(), table).axes
    assert first.get_ylabel() == "validation r2, higher is better"


def test_figures_of_the_paper_take_the_metric_that_a_run_has():
    aims = [("end", "bp"), ("end", "fg_a"), ("local", "fg_a"), ("local-pg", "fg_a")]
    rows = [
        {
            **run("FG-A", "topics", [4.0, 2.0 + at]),
            **{"estimator": estimator, "locality": place, "key": f"{at}", "case_key": f"{at}"},
            "method": f"{estimator}/{place}",
        }
        for at, (place, estimator) in enumerate(aims)
    ]
    table = local_losses.plotted(results(records(*rows)))
    assert sorted(table["test"]) == [2.0, 3.0, 4.0, 5.0]
    (ax,) = local_losses.figure(results(records(*rows)), table).axes
    assert ax.get_ylabel() == "test bits per character, lower is better"

    rows = [
        {
            **run("BP", "topics", [4.0, 2.0 + at]),
            **{"arch": f"localmixer-m/8/{count}", "key": f"{at}", "case_key": f"{at}"},
            "train_bits_per_character": 1.0,
        }
        for at, count in enumerate((4, 16))
    ]
    runs = results(records(*rows))
    table = groups.plotted(runs)
    assert table[table["split"].eq("test")]["result"].tolist() == [2.0, 3.0]
    labels = [ax.get_ylabel() for ax in groups.figure(runs, table).axes]
    assert labels == [f"{s} bits per character, lower is better" for s in ("test", "train")]
