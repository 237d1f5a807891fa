"""Rows of the leaderboard: what is one row, and the order of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fgbench.reporting.figures import variance_and_learning
from fgbench.reporting.site.facts import facts
from fgbench.reporting.site.leaderboard import Entry, board, entries
from fgbench.reporting.site.paths import page_paths
from tests.makers.records import a_measure, a_speed, a_train, measured, record, stored
from tests.makers.sites import named

PAID = {"directions": 4, "budget": {"asked": 6.0, "spent": 6.0, "note": ""}}
DIRECTED = "fg_a[directions=4]/end"


def rows_of(folder: Path, *records: dict[str, Any]) -> list[Entry]:
    return entries(facts(stored(folder, *records)))


def bought(**changes: Any) -> dict[str, Any]:
    """Return a measurement of FG-A whose number of directions a fixed cost set."""
    return a_measure("FG-A", **{"options": {"directions": 4}, **PAID, **changes})


def directed(row: dict[str, Any], method: str = DIRECTED) -> dict[str, Any]:
    """Return a record of the method whose number of directions an option sets."""
    estimator = method.partition("/")[0]
    return {**named(row, method), "estimator": estimator, "options": {"directions": 4}}


def test_a_row_is_one_whether_an_option_or_a_cost_set_its_directions(tmp_path: Path) -> None:
    train, speed = directed(a_train("FG-A")), directed(a_speed("FG-A", 1.2))
    (row,) = rows_of(tmp_path, bought(), train, speed)
    assert row.label == "FG-A[directions=4]"
    assert row.measure is not None
    assert row.speed is not None
    assert len(row.runs) == 1
    assert row.method == "FG-A[directions=4]"  # whose page has the training


def test_other_directions_and_other_options_are_other_rows(tmp_path: Path) -> None:
    dear = bought(directions=8, options={"directions": 8})
    law = bought(options={"directions": 4, "law": "sphere"}, key="1" * 32, case_key="1" * 32)
    rows = rows_of(tmp_path, dear, law, directed(a_train("FG-A")))
    assert len(rows) == 3
    assert sum(bool(row.runs) for row in rows) == 1


def test_two_measurements_of_one_label_and_seed_are_both_shown(tmp_path: Path) -> None:
    other = directed(a_measure("FG-A", directions=4))
    rows = rows_of(tmp_path, bought(), other, directed(a_train("FG-A")))
    keys = {row.measure["key"] for row in rows if row.measure}
    assert keys == {bought()["key"], other["key"]}


def test_figures_join_what_the_leaderboard_joins(tmp_path: Path) -> None:
    """A variance measured at a fixed cost stands against the error of as many directions."""
    train = directed(a_train("FG-A"))
    records = stored(tmp_path, a_train("BP", estimator="bp"), train, bought(estimator="fg_a"))
    (row,) = variance_and_learning.plotted(records).to_dict("records")
    assert row["value"] == bought()["relative_variance"]["value"]


def test_the_lowest_error_comes_first_and_unfinished_methods_last(tmp_path: Path) -> None:
    def lost(method: str, seed: int) -> dict[str, Any]:
        settings = a_train("BP")["settings"]
        more = {"status": "diverged", "reason": "not finite", "settings": settings, "epochs": 20}
        return record("train", method, seed, **more)

    best = [a_train("LG-FG-A", s, test_error=0.001) for s in range(2)]
    rows = rows_of(
        tmp_path,
        *(a_train("FG-W"), a_train("FG-A"), a_train("BP")),
        *(*best, lost("LG-FG-A", 2)),  # the mean of those left says little
        *(a_measure("NP"), a_measure("LG-FG-W"), lost("FA", 0)),
        a_measure("DFA", efficiency=measured(None)),
    )
    assert [row.method for row in rows[:6]] == ["BP", "FG-A", "FG-W", "LG-FG-A", "NP", "LG-FG-W"]
    assert {row.method for row in rows[6:]} == {"FA", "DFA"}


def test_networks_are_not_mixed(tmp_path: Path) -> None:
    small = {"arch": "mlp-2x8", "data": "digits"}
    rows = rows_of(
        tmp_path,
        *(a_train("FG-W"), a_train("BP"), a_train("FG-A", **small), a_train("BP", **small)),
    )
    assert [(row.panel[0], row.method) for row in rows] == [
        ("localmixer-m/8/16", "BP"),
        ("localmixer-m/8/16", "FG-W"),
        ("mlp-2x8", "BP"),
        ("mlp-2x8", "FG-A"),
    ]


def test_the_caption_names_the_order(tmp_path: Path) -> None:
    def caption(name: str, *records: dict[str, Any]) -> str:
        found = facts(stored(tmp_path / name, *records))
        laid = page_paths(found.methods, found.panels)
        return board("leaderboard", entries(found), found, laid).caption

    assert caption("a", a_train("BP"), a_measure("FG-A")).startswith("Lowest error first")
    assert caption("b", a_measure("FG-A")).startswith("Most efficient first")
