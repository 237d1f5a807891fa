"""The leaderboard as Markdown, and its figure, from records made by hand and from the committed ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fgbench.errors import UsageError
from fgbench.reporting.figures.efficiency import described
from fgbench.reporting.figures.gap_against_efficiency import caption, draw, figure
from fgbench.reporting.frames import comparisons
from fgbench.reporting.frames.load import Records, load
from fgbench.reporting.paper.leaderboard import HEAD, MEANINGS, write
from fgbench.stats.scale_verdict import Sign
from tests.makers.compared import a_compare, against
from tests.makers.paths import ROOT
from tests.makers.records import a_measure, measured, stored

COMMITTED = ROOT / "analysis" / "records" / "leaderboard"


@pytest.fixture
def records(tmp_path: Path) -> Records:
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0]}
    return stored(
        tmp_path / "records",
        a_compare("BP", 0.03, against(own=True)),
        a_compare("FG-A", 0.13, against()),
        a_compare("DFA", 0.05, against(gap=0.02), kind="rule"),
        a_compare("FG-A", 0.6, against(gap=0.5), started="2024-01-01T00:00:00+00:00", elapsed_s=2.0,
                  key="1" * 32, case_key="1" * 32),
        a_measure("BP", estimator="bp", **where),
        a_measure("FG-A", estimator="fg_a", **where),
        a_measure("FG-A", estimator="fg_a", **where | {"moments": [5.0]}, efficiency=measured(0.9),
                  key="2" * 32, case_key="2" * 32),
    )  # fmt: skip


def test_every_row_has_its_interval_commit_and_command(records: Records, tmp_path: Path) -> None:
    text = write(records.folder, tmp_path / "LEADERBOARD.md").read_text("utf-8")
    shown = text.split("\n## ")[1].splitlines()
    rows = [line for line in shown if line.startswith("| ")][2:]
    names = [row.split(" | ")[1] for row in rows]
    assert names == ["BP", "DFA ∘", "FG-A"]
    for row, method in zip(rows, ("BP", "DFA", "FG-A"), strict=True):
        key = row.split(" ")[1]
        assert f"{key}  fgbench train" in text
        assert "abc123" in row, method
    assert "+10 [+8" not in text  # a gap is a number like the others
    assert "10 [8, 12]" in rows[2]
    assert "worse" in rows[2]


def test_the_latest_comparison_counts_and_efficiency_is_that_at_initialisation(
    records: Records,
) -> None:
    found = {row.record["method"]: row for row in comparisons.rows(records)}
    assert found["FG-A"].test()["value"] == pytest.approx(13)
    assert found["FG-A"].efficiency is not None
    assert found["FG-A"].efficiency["value"] == pytest.approx(1 / 2291)
    assert comparisons.rows(records, "*mnist") == []


def test_a_stranger_finds_every_column_and_mark_explained(records: Records, tmp_path: Path) -> None:
    text = write(records.folder, tmp_path / "page.md").read_text("utf-8")
    explained = {part for name in MEANINGS for part in name.split(", ")}
    assert explained == set(HEAD)
    legend, _, rest = text.partition("\n## ")
    assert all(f"| {name} | " in legend for name in MEANINGS)
    assert "test error (%), chance 90; reference BP" in rest
    assert "margin of equivalence 3 points; timed on " in rest
    for mark in ("∘", "*: divided by √10", "within the margin", "undecided", *map(str, Sign)):
        assert mark in legend


def test_the_figure_has_a_point_per_measured_method_but_the_reference(
    records: Records, tmp_path: Path
) -> None:
    table = comparisons.gaps(records)
    assert table[["method", "gap", "n"]].values.tolist() == [["FG-A", pytest.approx(10), 10]]
    assert draw(records, tmp_path / "figure", formats=["png"])[0].exists()


def test_a_folder_without_a_comparison_is_one_line(records: Records, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no comparison of a task"):
        write(records.folder, tmp_path / "page.md", task="*mnist")
    empty = stored(tmp_path / "other", a_measure("BP"))
    with pytest.raises(UsageError, match="run fgbench compare"):
        write(empty.folder, tmp_path / "page.md")


def test_the_committed_page_is_that_of_the_committed_records(tmp_path: Path) -> None:
    page = write(COMMITTED, tmp_path / "LEADERBOARD.md").read_text("utf-8")
    assert (ROOT / "LEADERBOARD.md").read_text("utf-8") == page
    for row in comparisons.rows(load(COMMITTED)):
        assert row.at("forwards")["command"].startswith("fgbench train ")


def test_comparisons_with_two_references_are_both_shown(tmp_path: Path) -> None:
    """Each has its own table; the figure has the one with the most methods."""
    fa = {"method": "FG-A", "own": False}
    settings = a_compare("BP", 0.03, against())["settings"] | {"reference": "FG-A"}
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0]}
    records = stored(
        tmp_path / "records",
        a_compare("BP", 0.03, against(own=True)),
        a_compare("FG-A", 0.13, against()),
        a_compare("DFA", 0.05, against(gap=0.02), kind="rule"),
        a_compare("FG-A", 0.13, {**fa, "own": True, "diverged": 0}, settings=settings,
                  key="1" * 32, case_key="1" * 32),
        a_compare("BP", 0.03, against(gap=-0.1, method="FG-A"), settings=settings,
                  key="2" * 32, case_key="2" * 32),
        a_measure("FG-A", estimator="fg_a", **where),
    )  # fmt: skip
    found = comparisons.rows(records)
    assert [(row.task, row.record["method"]) for row in found] == [
        ("mlp-2x128 on digits, against BP", "BP"),
        ("mlp-2x128 on digits, against BP", "DFA"),
        ("mlp-2x128 on digits, against BP", "FG-A"),
        ("mlp-2x128 on digits, against FG-A", "BP"),
        ("mlp-2x128 on digits, against FG-A", "FG-A"),
    ]
    assert comparisons.gaps(records)[["method", "gap"]].values.tolist() == [
        ["FG-A", pytest.approx(10)]
    ]
    text = write(records.folder, tmp_path / "page.md", "*digits").read_text("utf-8")
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["## mlp-2x128 on digits, against BP", "## mlp-2x128 on digits, against FG-A"]
    assert "reference FG-A" in text


def test_a_method_that_points_uphill_has_no_efficiency(tmp_path: Path) -> None:
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0]}
    records = stored(
        tmp_path / "records",
        a_compare("BP", 0.03, against(own=True)),
        a_compare("DFA", 0.05, against(gap=0.02)),
        a_measure(
            "DFA",
            estimator="dfa",
            scale={**measured(0.02), "value": -0.02, "low": -0.03, "high": -0.01},
            **where,
        ),
    )
    (row,) = (row for row in comparisons.rows(records) if row.record["method"] == "DFA")
    assert (row.efficiency, row.sign) == (None, Sign.UPHILL)
    assert len(comparisons.gaps(records)) == 0
    text = write(records.folder, tmp_path / "page.md").read_text("utf-8")
    assert "– (points uphill)" in text
    measures = records.measures()
    assert measures.loc[measures["quantity"].eq("efficiency"), "value"].isna().all()
    assert "Points uphill (scale below 0), so without a point: DFA." in described(measures)


def test_a_scale_whose_interval_holds_both_signs_keeps_its_efficiency(tmp_path: Path) -> None:
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0]}
    both = {"value": -0.02, "low": -0.1, "high": 0.06, "n": 10}
    records = stored(
        tmp_path / "records",
        a_compare("BP", 0.03, against(own=True)),
        a_compare("DFA", 0.05, against(gap=0.02)),
        a_measure("DFA", estimator="dfa", scale=both, **where),
    )
    (row,) = (row for row in comparisons.rows(records) if row.record["method"] == "DFA")
    assert row.sign is Sign.UNRESOLVED
    table = comparisons.gaps(records)
    assert table["efficiency"].tolist() == [row.efficiency["value"]]
    assert "Sign of the scale not resolved, so that the mean may point uphill: DFA." in (
        caption(table)
    )
    text = write(records.folder, tmp_path / "page.md").read_text("utf-8")
    assert "(sign not resolved)" in text
    assert "uphill" not in text.split("\n## ")[1]
    measures = records.measures()
    assert measures.loc[measures["quantity"].eq("efficiency"), "value"].notna().all()
    said = described(measures)
    assert "Sign of the scale not resolved, so that the mean may point uphill: DFA." in said
    assert "without a point" not in said


def test_signs_on_the_leaderboard_are_adjusted_for_the_methods_of_a_network(tmp_path: Path) -> None:
    where = {"arch": "mlp-2x128", "data": "digits", "moments": [0.0]}
    edge = {"value": -0.2, "low": -0.39, "high": -0.01, "n": 10}
    both = {"value": 0.02, "low": -0.1, "high": 0.14, "n": 10}
    found = {}
    for arch in ("mlp-2x128", "mlp-1x8"):  # another network's scale is not shown beside it
        records = stored(
            tmp_path / arch,
            a_compare("BP", 0.03, against(own=True)),
            a_compare("DFA", 0.05, against(gap=0.02)),
            a_measure("DFA", estimator="dfa", scale=edge, **where),
            a_measure("FA", estimator="fa", scale=both, **{**where, "arch": arch}),
        )
        (row,) = (row for row in comparisons.rows(records) if row.record["method"] == "DFA")
        frame = records.measures()
        one = frame[frame["method"].eq("DFA") & frame["quantity"].eq("efficiency")]
        assert one["sign"].tolist() == [row.sign]
        found[arch] = row.sign
    assert found == {"mlp-2x128": Sign.UNRESOLVED, "mlp-1x8": Sign.UPHILL}


def test_a_method_far_from_the_others_bends_the_axis_and_the_caption_says_so() -> None:
    row = dict.fromkeys(comparisons.COLUMNS, 0.1) | {
        "arch": "mlp-2x8",
        "data": "digits",
        "sign": "",
    }
    row |= {"metric": "test error (%)", "method": "FG-A", "n": 10}
    gaps = {"FG-A": 1.0, "DFA": 2.0, "WP": 80.0}
    table = pd.DataFrame([row | {"label": label, "gap": gap} for label, gap in gaps.items()])
    ends = {"gap_low": table["gap"] - 0.5, "gap_high": table["gap"] + 0.5}
    drawn = figure(pd.DataFrame(), table.assign(**ends)).axes[0]
    assert drawn.get_yscale() == "symlog"
    assert {"5", "10", "50"} <= {text.get_text() for text in drawn.get_yticklabels()}
    assert "Above a dotted line the vertical axis is logarithmic" in caption(table)
    assert "dotted" not in caption(table[table["gap"] < 10])
