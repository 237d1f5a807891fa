"""The first screen: short answers, one chart of each kind, and no chart without anything in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fgbench.reporting.site import (
    build,
    glance,
    method_docs,
    overview,
    pages,
    pictures,
    plotly_figures,
)
from fgbench.reporting.site.facts import Facts, facts
from fgbench.reporting.site.figure_kinds import KINDS
from fgbench.reporting.site.leaderboard import entries
from fgbench.reporting.site.paths import page_paths
from tests.makers.pages import Page, faults
from tests.makers.records import a_curve, a_measure, a_speed, a_train, measured, record, stored
from tests.makers.sites import ABOUT, claimed, realistic

SMALL = {"arch": "mlp-2x8", "data": "digits"}


def answered(folder: Path, *records: dict[str, Any]) -> dict[str, list[str]]:
    """Return the answers for the main panel of some records, line by line."""
    found = facts(stored(folder, *records))
    rows = entries(found)
    mine = [row for row in rows if row.panel == glance.main_panel(rows)]
    answers = glance.answers(mine, found, page_paths(found.methods, found.panels))
    return {
        answer.question: ["".join(piece.text for piece in line) for line in answer.lines]
        for answer in answers
    }


def test_five_questions_are_answered(tmp_path: Path) -> None:
    found = answered(
        tmp_path,
        *(a_train("BP", s) for s in range(2)),
        *(a_train("FG-A"), a_train("LG-FG-A"), a_train("FG-W")),
        *(a_measure("BP", **claimed("none", 1.0, 0.0)), a_measure("FG-A"), a_measure("FG-W")),
        a_measure("DFA", **claimed("some", 0.0, 0.0)),
        a_measure("LG-FG-A", **claimed("none", 1e-6)),
        *(a_speed("BP", 1.0), a_speed("FG-A", 2.0)),
        record("train", "NP", status="diverged", reason="loss not finite"),
    )
    assert found["Methods"] == ["6: BP, LG-FG-A, FG-A, FG-W, DFA, NP"]
    assert found["Test error"][0].startswith("BP ")
    assert found["Test error"][0].count(" %") == 3
    assert found["Test error"][1].startswith("highest: FG-W ")
    assert found["Noise"] == ["variance LG-FG-A 38.4 to FG-W 61,500", "none: BP, DFA (biased)"]
    assert found["Cost"] == ["forward passes 1", "time / BP's 1 (BP) to 2 (FG-A)"]
    assert found["Missing"] == [
        "no error in 2, no variance in 1, no time in 4 of 6 rows",
        "1 diverged, 1 claim rejected",
    ]


def test_an_error_of_zero_is_not_missing(tmp_path: Path) -> None:
    one = a_train("BP", test_error=0.0)
    found = answered(tmp_path, one, a_measure("BP"), a_speed("BP", 1.0))
    assert found["Test error"] == ["BP 0 %"]
    assert found["Missing"] == ["nothing"]


def test_the_main_panel_has_most_of_what_was_asked(tmp_path: Path) -> None:
    rows = entries(
        facts(
            stored(
                tmp_path,
                *(a_measure(m, **SMALL) for m in ("BP", "FG-A", "FG-W", "NP")),
                *(a_train("FG-A"), a_measure("FG-A")),
            )
        )
    )
    assert glance.main_panel(rows) == ("localmixer-m/8/16", "mnist")
    assert glance.main_panel([]) is None


def drawn_by(found: Facts, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """Return the figures of a report, by kind, without drawing them."""
    monkeypatch.setattr(pictures, "_draw", lambda *_: (10, 10))
    return dict(pictures.draw_all(found, page_paths(found.methods, found.panels), folder))


@pytest.mark.slow
def test_the_overview_has_one_chart_of_a_kind_and_links_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_draw", blank)
    stored(tmp_path, *realistic())
    root = build.write(tmp_path, tmp_path / "site", ABOUT).parent
    page = Page((root / "index.html").read_text("utf-8"))
    assert 5 < len(page.all("figure")) <= len(KINDS) <= 9
    other = "mlp-3x256-on-digits"
    assert any(
        f"{other}" in str(attrs.get("href")) and str(attrs.get("href")).endswith("#layers")
        for attrs in page.all("a")
    )
    for path in root.rglob("*.html"):
        assert faults(path, root) == [], path
        ids = Counter(
            attrs["id"] for _, attrs in Page(path.read_text("utf-8")).tags if "id" in attrs
        )
        assert max(ids.values()) == 1


def blank(at: int, part: Any, table: Any, target: Path) -> tuple[int, int]:
    target.parent.mkdir(exist_ok=True)
    for suffix in ("png", "pdf", "csv"):
        target.with_name(f"{target.name}.{suffix}").write_text("")
    return 10, 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "records"),
    [
        ("variance_and_learning", [a_train("BP"), a_train("LG-BP"), a_measure("LG-BP")]),
        ("variance_and_learning", [a_train("BP"), a_train("FG-A"), a_measure("FG-A")]),
        ("relative_variance", [a_measure("BP", predicted_variance=0.0), a_measure("FA")]),
        ("cost", [a_train("FG-A"), a_speed("FG-A", 0.8)]),
        ("progress", [a_curve("BP", 0, [0.9])]),
        ("efficiency", [a_measure("FG-A", efficiency=measured(0.0))]),
        ("bias", [a_measure("BP", per_site={"a": {"bias": measured(0.0)}})]),
        ("layers", [a_measure("BP", per_site={"a": {"relative_variance": measured(0.0)}})]),
    ],
)
def test_a_chart_without_anything_in_it_is_not_shown(
    kind: str, records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = facts(stored(tmp_path / "empty", *_fitted(records)))
    assert kind not in drawn_by(found, monkeypatch, tmp_path)
    full = [
        *(a_train(m, s) for m in ("BP", "FG-A", "LG-FG-A") for s in range(2)),
        *(a_measure(m, per_site=SITES) for m in ("FG-A", "LG-FG-A")),
        *(a_speed("BP", 1.0), a_speed("FG-A", 0.8)),
    ]
    found = facts(stored(tmp_path / "full", *_fitted(full)))
    assert kind in drawn_by(found, monkeypatch, tmp_path)


SITES = {"body.0.l0": {"relative_variance": measured(5.0), "bias": measured(0.1)}}


def _fitted(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records whose methods can be parsed, as figures that join verbs need."""
    known = {"BP": "bp", "FG-A": "fg_a", "LG-FG-A": "fg_a", "FA": "fa", "LG-BP": "bp"}
    local = {"LG-FG-A": "local-pg", "LG-BP": "local-pg"}
    return [
        {**row, "estimator": known[row["method"]], "locality": local.get(row["method"], "end")}
        for row in records
    ]


def entries_of(data: list[dict[str, Any]]) -> list[str]:
    """Return the entries of the legend of an interactive figure."""
    return [trace["name"] for trace in data if trace.get("showlegend", True)]


def test_six_diverged_seeds_have_one_entry_in_the_legend(tmp_path: Path) -> None:
    runs = [a_curve("FG-A", s, [0.9, 0.8, 0.9], status="diverged", reason="x") for s in range(6)]
    found = facts(stored(tmp_path, *runs, a_train("BP"), a_train("FG-A", 7)))
    (progress,) = (kind for kind in KINDS if kind.name == "progress")
    spec = plotly_figures.training(progress.plotted(found.curves))
    assert entries_of(spec["data"]) == ["BP", "FG-A", "FG-A, diverged"]
    lost = [trace for trace in spec["data"] if trace["name"] == "FG-A, diverged"]
    assert len(lost) == 6
    assert len({trace["legendgroup"] for trace in lost}) == 1  # switched together
    assert any("seed 3" in text for trace in lost for text in trace["text"])
    assert spec["layout"]["yaxis"]["title"]["text"] == "test error (%)"


@pytest.mark.parametrize("name", ["layers", "bias", "efficiency"])
def test_seeds_of_one_method_have_one_entry_in_the_legend(name: str, tmp_path: Path) -> None:
    records = [a_measure("FG-A", seed=s, per_site=SITES) for s in range(6)]
    found = facts(stored(tmp_path, *records, a_measure("LG-FG-A", per_site=SITES)))
    (kind,) = (kind for kind in KINDS if kind.name == name)
    assert kind.spec is not None
    data = kind.spec(kind.plotted(kind.source(found)))["data"]
    assert sorted(entries_of(data)) == ["FG-A", "LG-FG-A"]
    assert sum("seed 3" in text for trace in data for text in trace.get("text", [])) == 1


def test_a_narrow_page_has_the_names_of_rows_above_them(tmp_path: Path) -> None:
    found = facts(stored(tmp_path, a_measure("FG-A"), a_measure("cv[base=dfa]/interlocking[n=2]")))
    spec = plotly_figures.variance(KINDS[0].plotted(found.measures))
    assert spec["narrow"]["yaxis"]["showticklabels"] is False
    above = [note["text"] for note in spec["narrow"]["annotations"]]
    assert above == spec["layout"]["yaxis"]["ticktext"]
    assert (
        "xref" not in spec["layout"]["legend"]
    )  # one placed by its container pushes the chart aside


def test_the_context_of_an_empty_report_has_no_answers(tmp_path: Path) -> None:
    found = facts(stored(tmp_path, record("tune", "BP")))
    site = pages.Site(found, [], page_paths(found.methods, found.panels), {}, {})
    context = overview.context(site)
    assert context["answers"] == []
    assert context["panel"] is None


def test_what_is_not_comparable_is_not_ranked(tmp_path: Path) -> None:
    off = a_measure("NP", scale=measured(0.5, 0.1))
    found = answered(tmp_path, off, a_measure("FG-A"), a_measure("FG-W"), a_train("FG-A"))
    assert found["Noise"] == ["variance FG-A 2,290 to FG-W 61,500", "not comparable: NP"]


def test_the_legend_has_an_entry_for_crosses(tmp_path: Path) -> None:
    records = stored(tmp_path, a_measure("NP", scale=measured(0.5, 0.1)), a_measure("FG-A"))
    kinds = {kind.name: kind for kind in KINDS}
    spec = plotly_figures.variance(kinds["relative_variance"].plotted(records.measures()))
    named = [t["name"].replace("<br>", " ") for t in spec["data"] if t["showlegend"]]
    assert named.count("not comparable: scale is not 1") == 1


def test_numbers_of_costs_do_not_overlap(tmp_path: Path) -> None:
    costs = {"BP": 3.0, "FG-A": 5.85, "NP": 5.9, "FG-W": 9.65}
    rows = [
        a_measure(m, cost={**a_measure(m)["cost"], "forward_equivalents": c})
        for m, c in costs.items()
    ]
    kinds = {kind.name: kind for kind in KINDS}
    table = kinds["efficiency"].plotted(stored(tmp_path, *rows).measures())
    spec = plotly_figures.against_cost(table)
    assert spec["layout"]["xaxis"]["ticktext"] == ["3", "5.85", "9.65"]


def test_captions_say_what_those_of_the_pictures_say(tmp_path: Path) -> None:
    gone = a_measure("NP", efficiency=measured(-0.1))
    found = facts(stored(tmp_path, gone, a_measure("FG-A"), a_train("FG-A")))
    kinds = {kind.name: kind for kind in KINDS}
    for name, words in (
        ("efficiency", "Not resolved, so without a point: NP."),
        ("progress", "Seconds (on "),
    ):
        kind = kinds[name]
        source = kind.source(found)
        assert words in kind.caption(source, kind.plotted(source))


def test_a_closed_form_of_one_site_is_seen(tmp_path: Path) -> None:
    found = facts(stored(tmp_path, a_measure("FG-A")))
    (kind,) = (kind for kind in KINDS if kind.name == "layers")
    assert kind.spec is not None
    data = kind.spec(kind.plotted(kind.source(found)))["data"]
    (theory,) = (trace for trace in data if trace["name"] == "theory")
    assert "markers" in theory["mode"]  # a line of one point is not drawn


def test_numbers_and_options_are_not_broken() -> None:
    text = "0.0001 [9.68e-05, 0.1] --lr 0.1 at 1.67 %, FG-A"
    kept = [piece for kept, piece in method_docs.unbroken(text) if kept]
    assert kept == ["[9.68e-05,", "--lr", "1.67 %", "FG-A"]


def test_a_name_is_not_broken_at_its_hyphen() -> None:
    assert [p for kept, p in method_docs.unbroken("none: BP, LG-FG-A (biased)") if kept] == [
        "LG-FG-A"
    ]
    assert not any(kept for kept, _ in method_docs.unbroken("a-" * 30))  # too long for one line
