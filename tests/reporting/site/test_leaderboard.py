"""Rows of the leaderboard: what is one row, and the order of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.reporting.figures import variance_and_learning
from fgbench.reporting.site import run_tables
from fgbench.reporting.site.facts import facts
from fgbench.reporting.site.leaderboard import Entry, board, entries
from fgbench.reporting.site.paths import page_paths
from tests.makers.records import WHERE, a_measure, a_speed, a_train, measured, record, stored
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


def test_rows_name_the_settings_in_which_methods_differ(tmp_path: Path) -> None:
    """A short run never stands unmarked beside a long one, whichever methods they are of."""
    small = {"arch": "mlp-2x8", "data": "digits"}
    rows = rows_of(
        tmp_path,
        a_train("BP"),
        a_train("FG-A", epochs=2),
        a_train("FG-W", settings={"lr": 0.01, "optimizer": "sgd"}),
        a_train("LG-FG-A", settings={}, where={**WHERE, "dtype": "float64"}),  # states no rate
        a_measure("NP"),
        a_train("BP", epochs=7, **small),
    )
    assert {row.label for row in rows if row.panel[0] == "mlp-2x8"} == {"BP"}
    assert {row.label for row in rows if row.panel[0] != "mlp-2x8"} == {
        "BP, epochs=20, lr=0.03",
        "FG-A, epochs=2, lr=0.03",
        "FG-W, epochs=20, lr=0.01",
        "LG-FG-A, dtype=float64, epochs=20",
        "NP",
    }


def test_a_setting_is_named_once(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        a_train("BP"),
        a_train("FG-A"),
        a_train("FG-A", epochs=2, key="1" * 32, case_key="1" * 32),
    )
    assert {row.label for row in rows} == {"BP, epochs=20", "FG-A, epochs=20", "FG-A, epochs=2"}


def test_a_range_is_called_a_range_and_a_variance_of_another_scale_not_comparable(
    tmp_path: Path,
) -> None:
    off = a_measure("FG-W", scale=measured(0.5, 0.1))
    found = facts(stored(tmp_path, off, a_measure("FG-A"), *(a_train("FG-W", s) for s in range(2))))
    shown = board("leaderboard", entries(found), found, page_paths(found.methods, found.panels))
    assert "[95 % intervals; of two seeds, their range]" in shown.caption
    cells = {row.cells[0].text: row.cells for row in shown.rows}
    at = {name: shown.kinds.index(name) for name in ("error", "variance")}
    assert cells["FG-W"][at["error"]].note.endswith("]\nrange of 2 seeds")
    assert "\nnot comparable: scale 0.5" in cells["FG-W"][at["variance"]].note
    assert "not comparable" not in cells["FG-A"][at["variance"]].note


@pytest.mark.parametrize(
    ("low", "high", "said", "text"),
    [
        (-0.4, -0.1, "points uphill", "–"),
        (-0.4, 0.1, "sign not resolved", "0.2"),
        (0.1, 0.4, "", "0.2"),
    ],
)
def test_the_sign_of_a_scale_stands_below_every_efficiency(
    low: float, high: float, said: str, text: str, tmp_path: Path
) -> None:
    scale = {"value": (low + high) / 2, "low": low, "high": high, "n": 10}
    numbers = {"scale": scale, "efficiency": measured(0.2, n=10)}
    numbers |= {"efficiency_per_forward": measured(0.2), "cosine": measured(0.2)}
    record = a_measure("DFA", **numbers, per_site={"body.0.l0": numbers})
    found = facts(stored(tmp_path, record))
    paths = page_paths(found.methods, found.panels)
    tables = (
        board("leaderboard", entries(found), found, paths),
        run_tables.estimates(found, found.of["measure"], paths, True),
        run_tables.sites(found, found.measures, paths, True),
    )
    cells = [
        (name, cell)
        for shown in tables
        if shown is not None
        for name, cell in zip(shown.head, shown.rows[0].cells, strict=True)
    ]
    efficiencies = [cell for name, cell in cells if name.startswith("efficiency")]
    assert len(efficiencies) == 4
    assert all(said in cell.note and cell.text.startswith(text) for cell in efficiencies)
    marked = [name for name, cell in cells if "uphill" in cell.note or "sign" in cell.note]
    assert len(marked) == (4 if said else 0)
