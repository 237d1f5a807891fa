"""The table of compared methods on the front page."""

from __future__ import annotations

from pathlib import Path

from fgbench.reporting.site.contest import contest
from fgbench.reporting.site.paths import page_paths
from tests.makers.compared import a_compare, against
from tests.makers.records import a_measure, stored


def test_methods_are_listed_best_first_and_filtered_by_task(tmp_path: Path) -> None:
    other = {"arch": "cnn", "data": "mnist"}
    records = stored(
        tmp_path,
        a_compare("FG-A", 0.13, against()),
        a_compare("BP", 0.03, against(own=True)),
        a_compare("BP", 0.01, against(own=True), **other),
        a_compare(
            "DFA", 0.9, against(), results=[], status="diverged", reason="loss not finite", **other
        ),
    )
    paths = page_paths(["BP", "FG-A", "DFA"], [("mlp-2x128", "digits"), ("cnn", "mnist")])
    table = contest(records, paths)
    assert table is not None
    assert [(row.cells[0].text, row.facets[0]) for row in table.rows] == [
        ("BP", "mlp-2x128 on digits"), ("FG-A", "mlp-2x128 on digits"),
        ("BP", "cnn on mnist"), ("DFA", "cnn on mnist"),
    ]  # fmt: skip
    assert dict(table.choices)["task"] == ["cnn on mnist", "mlp-2x128 on digits"]
    cells = dict(zip(table.head, table.rows[1].cells, strict=True))
    assert cells["verdict"].tone == "bad"
    assert cells["above the reference"].text == "10 [8, 12]"
    assert cells["command"].text.startswith("fgbench train ")
    assert table.rows[3].cells[0].note == "diverged: loss not finite"


def test_without_a_comparison_there_is_no_table(tmp_path: Path) -> None:
    assert contest(stored(tmp_path, a_measure("BP")), page_paths(["BP"], [])) is None


def test_the_sign_of_a_scale_stands_below_the_efficiency(tmp_path: Path) -> None:
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0], "estimator": "dfa"}
    found = {}
    for high in (-0.1, 0.1):
        scale = {"value": -0.2, "low": -0.4, "high": high, "n": 10}
        records = stored(
            tmp_path / str(high),
            a_compare("DFA", 0.05, against()),
            a_measure("DFA", scale=scale, **where),
        )
        table = contest(records, page_paths(["DFA"], [("mlp-2x128", "digits")]))
        assert table is not None
        found[high] = dict(zip(table.head, table.rows[0].cells, strict=True))["efficiency"]
    assert (found[-0.1].text, found[-0.1].note) == ("–", "points uphill")
    assert found[0.1].text != "–"
    assert found[0.1].note == "sign not resolved"


def test_a_rate_that_was_lowered_says_why(tmp_path: Path) -> None:
    lowered = a_compare("FG-A", 0.13, against())
    lowered["results"] = [{**result, "lowered": True} for result in lowered["results"]]
    records = stored(tmp_path, a_compare("BP", 0.03, against(own=True)), lowered)
    table = contest(records, page_paths(["BP", "FG-A"], [("mlp-2x128", "digits")]))
    assert table is not None
    notes = [
        dict(zip(table.head, row.cells, strict=True))["learning rate"].note for row in table.rows
    ]
    assert notes == ["", "divided by √10: it diverged in the longer run"]
