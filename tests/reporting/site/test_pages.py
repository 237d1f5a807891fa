"""The site of a folder of records: contents of its pages, their paths, and files that it must not touch."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.reporting.figures import bias as bias_figure
from fgbench.reporting.frames.load import load
from fgbench.reporting.plotting import style
from fgbench.reporting.site import (
    build,
    claims,
    leaderboard,
    method_docs,
    paths,
    pictures,
    plotly_marks,
    run_tables,
)
from fgbench.reporting.site.facts import facts
from fgbench.reporting.site.figure_kinds import KINDS
from fgbench.reporting.site.publish import MANIFEST, publish
from tests.makers.pages import Page, cells, faults
from tests.makers.records import WHERE, a_measure, a_speed, a_train, measured, record, stored
from tests.makers.sites import ABOUT, EVIL, LABEL, claimed, named, realistic


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A report with empty files as pictures; the browser tests draw real ones."""
    folder, records = tmp_path_factory.mktemp("report"), realistic()
    stored(folder, *records)
    (folder / "cut.json").write_text("{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", save_nothing)
        return build.write(folder, folder / "site" / "deep", ABOUT).parent, records


def save_nothing(fig: Any, folder: Path, name: str, table: pd.DataFrame, *_how: Any) -> None:
    folder.mkdir(exist_ok=True)
    for suffix in ("png", "pdf", "csv"):
        (folder / f"{name}.{suffix}").write_text("")


@pytest.mark.slow
def test_every_link_of_every_page_leads_into_the_folder(
    site: tuple[Path, list[dict[str, Any]]],
) -> None:
    root, records = site
    pages = sorted(root.rglob("*.html"))
    methods = {str(r["method"]) for r in records}
    assert len(pages) == 1 + len(methods) + 2
    for path in pages:
        assert faults(path, root) == [], path
        page = Page(path.read_text("utf-8"))
        assert len(page.all("h1")) == 1
        assert all(attrs["alt"] and attrs["width"] for attrs in page.all("img"))
        assert page.all("html") == [{"lang": "en"}]
    assert {p.name for p in root.rglob("*")} >= {"plotly.min.js", "site.css", "site.js"}


@pytest.mark.parametrize(
    "planted",
    [
        '<img src="https://example.org/x.png" alt="">',
        '<a href="../outside.txt">x</a>',
        "<script>alert(1)</script>",
        '<p onclick="x()">x</p>',
        '<a href="#nowhere">x</a>',
    ],
)
def test_the_check_of_links_rejects(planted: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.txt").write_text("")
    page = root / "x.html"
    page.write_text("<p></p>")
    assert faults(page, root) == []
    page.write_text(planted)
    assert len(faults(page, root)) == 1


def test_pages_name_every_record_and_every_fault(
    site: tuple[Path, list[dict[str, Any]]],
) -> None:
    root, records = site
    text = Page((root / "index.html").read_text("utf-8")).text
    for each in records:
        assert each["key"][:12] in text
        assert each["reason"] in text
        assert {EVIL: LABEL}.get(each["method"], each["method"]) in text
    n = len(records)
    assert f"{n} records (1 diverged, {n - 2} ok, 1 skipped) from" in text
    assert "cut.json: not readable as JSON" in text
    assert "1 record of measure: schema 0" in text
    assert "torch 2.13.0" in text
    assert "commit abc123" in text
    assert "Tuning trials, not shown here: 1." in text
    assert "12.3" not in text
    assert EVIL.partition(":")[0] not in text
    evil = (root / paths.page_paths([LABEL], []).methods[LABEL]).read_text("utf-8")
    assert LABEL in Page(evil).text
    assert Page(evil).text.count("mine.py") == 1  # the file once, without its folder
    assert "./mine.py" not in Page(evil).text
    assert "Its class has no docstring" in evil


def test_pages_state_values_intervals_and_n(site: tuple[Path, list[dict[str, Any]]]) -> None:
    root, _ = site
    rows = cells((root / "index.html").read_text("utf-8"), "leaderboard")
    first = next(row for row in rows if row[:3] == ["FG-A, epochs=4", "localmixer-m/8/16", "mnist"])
    assert first[5] == "2,290[2,020, 2,560]\ntheory 2,300"
    assert first[7] == (
        "0.01[0.0088, 0.0112]\nnot rejected, p 1\ndetectable 0.2\n"
        "older record: interval not over draws"
    )
    assert first[4] == "unbiased: not rejected"
    assert first[8:] == ["1", "0.8[0.704, 0.896]", "0.8[0.704, 0.896]", "end"]
    errors = [100 * a_train("FG-A", s, epochs=4)["test_error"] for s in range(3)]
    assert first[3].startswith(f"{np.mean(errors):.3g}[")
    assert first[3].endswith("]\n3 seeds")
    (wrong,) = (row for row in rows if row[4] == "unbiased: rejected")
    assert wrong[:2] == ["FG-A", "mlp-3x256"]
    (heavy,) = (row for row in rows if row[:2] == ["FG-W", "mlp-3x256"])
    assert "heavy tail: intervals are not valid" in heavy[5]
    (lost,) = (row for row in rows if row[:2] == ["FG-W", "localmixer-m/8/16"])
    assert lost[3] == "–1 diverged"
    (skipped,) = (row for row in rows if row[0].startswith("DFA"))
    assert skipped[0] == "DFAmeasure skipped"
    panel = paths.page_paths([], [("localmixer-m/8/16", "mnist")]).panels[
        "localmixer-m/8/16", "mnist"
    ]
    text = (root / panel).read_text("utf-8")
    assert "256 × 10 × 1" in text
    assert "n per point: 256 draws × 10 inits × 1 batch." in text
    assert "Filled: bias found" in text
    assert "mean over finished runs, n = 1 to 3 seeds" in text
    assert "0 (exact)" in text


def test_captions_are_whole(site: tuple[Path, list[dict[str, Any]]]) -> None:
    found = [Page(page.read_text("utf-8")).text for page in site[0].rglob("*.html")]
    assert any("Bias site by site" in text for text in found)
    assert not [left for text in found for left in re.findall(r"\{\w*\}", text)]


def test_a_method_page_says_what_it_is(site: tuple[Path, list[dict[str, Any]]]) -> None:
    root, _ = site
    text = " ".join(Page((root / "methods" / "FG-A.html").read_text("utf-8")).text.split())
    assert "Forward gradient with noise on the activities" in text
    assert "Unbiased unless an option bites here" in text
    assert "Scaling Forward Gradient With Local Losses, ICLR 2023" in text
    assert "One loss at the end, through every module" in text
    assert "unbiased: rejected" in text
    assert "body.1.l0" in text
    assert "validation=5000" in text


@pytest.mark.slow
def test_figures_have_one_colour_per_method_and_are_plotlys(
    site: tuple[Path, list[dict[str, Any]]],
) -> None:
    root, _ = site
    seen: dict[str, set[str]] = {}
    for path in root.rglob("*.html"):
        for text in re.findall(
            r'<script type="application/json">(.*?)</script>', path.read_text("utf-8"), re.DOTALL
        ):
            spec = json.loads(text, parse_constant=pytest.fail)
            go.Figure(data=spec["data"], layout=spec["layout"])  # refuses what it does not know
            for trace in spec["data"]:
                assert "<" not in trace["name"].replace("<br>", "")
                if trace.get("text") and "theory" not in trace["name"]:
                    seen.setdefault(trace["name"], set()).add(trace["marker"]["color"])
    assert seen["FG-A"] == {style.look("FG-A").colour}
    assert all(len(colours) == 1 for colours in seen.values())
    with pytest.raises(ValueError, match="colour"):
        go.Figure(data=[{"type": "scatter", "marker": {"colour": "red"}}])
    others = {"cosine", "gap_against_efficiency"}  # they need moments, and comparisons
    assert {kind.name for kind in KINDS} - others <= {
        p.stem.rpartition("-")[2] for p in root.rglob("*.png")
    }


@pytest.mark.slow
def test_pictures_are_the_same_drawn_by_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "KINDS", KINDS[:2])
    found = facts(stored(tmp_path / "kept", a_measure("FG-A")))
    laid = paths.page_paths(found.methods, found.panels)
    one = pictures.draw_all(found, laid, tmp_path / "one", 2)
    monkeypatch.setattr(pictures, "FEW", 0)
    two = pictures.draw_all(found, laid, tmp_path / "two", 2)
    files = sorted(path.name for path in (tmp_path / "one" / "figures").iterdir())
    assert len(files) == 4 * 2  # PNG, PDF, CSV and caption
    for name in files:
        drawn = (tmp_path / "two" / "figures" / name).read_bytes()
        assert drawn == (tmp_path / "one" / "figures" / name).read_bytes()
    assert {n: [p.size for p in ps] for n, ps in one.items()} == {
        n: [p.size for p in ps] for n, ps in two.items()
    }


OUTSIDE = {
    **{"class": "Mine", "module": "", "file": "/home/me/mine.py", "promises": ""},
    "documentation": "Noise from home.\n\nArgs:\n    directions: how many.",
    "claims": {"bias": "none", "backward": "segment", "deterministic": False, "slopes_only": True},
}


@pytest.mark.slow
def test_a_page_tells_what_came_from_a_file_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", save_nothing)
    mine = {"method": "./mine.py:Mine/end", "estimator": "./mine.py:Mine"}
    old = {**a_measure("FG-A", about=None), **mine, "key": "1" * 32, "case_key": "1" * 32}
    old["started"] = "2024"
    rows = [{**a_measure("FG-A", about=OUTSIDE, **claimed("none")), **mine}]
    stored(tmp_path, *rows)
    build.write(tmp_path, tmp_path / "site", ABOUT)
    page = paths.page_paths(["Mine"], []).methods["Mine"]
    text = " ".join(Page((tmp_path / "site" / page).read_text("utf-8")).text.split())
    assert "EstimatorMine Filemine.py Locality" in text
    assert "/home/me" not in text  # whose folder it is concerns no reader
    assert "What it is Noise from home. Options directionshow many. Claimsunbiased; " in text
    assert (
        "reverse mode through one layer at a time; uses only exact directional derivatives" in text
    )
    assert "unbiased: not rejected" in text
    index = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "Mine" in index
    assert "mine.py" not in index
    del old["about"]
    stored(tmp_path / "older", old)
    build.write(tmp_path / "older", tmp_path / "site", ABOUT)
    text = Page((tmp_path / "site" / page).read_text("utf-8")).text
    assert "Its records are of an older version and have no description of the estimator." in text
    assert (
        "1 older record without a description and claims of the estimator"
        in Page((tmp_path / "site" / "index.html").read_text("utf-8")).text
    )


# names


def test_file_names_are_safe_and_tell_names_apart() -> None:
    odd = [EVIL, "", "..", "../../etc/passwd", "a/b", "a-b", "A-B", "a[b=c]", "a{b=c}", "ü", "é"]
    odd += ["x" * 300, "x" * 301, "CON", "FG-A", "\ud800", "a\x00b", "a b", "%2e"]
    found = paths.files(odd)
    assert list(found) == sorted(odd)
    assert len({text.lower() for text in found.values()}) == len(odd)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text) for text in found.values())
    assert found["FG-A"] == "FG-A"
    assert paths.files(["FG-A", EVIL]).items() <= found.items()  # whatever else there is


# claims


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (claimed("none"), claims.UNREJECTED),
        (claimed("none", 1.0, 0.0), claims.HELD),
        (claimed("none", 0.03), claims.REJECTED),
        (claimed("none", 0.4, 1.3), claims.UNTESTED),  # it would see no bias at all
        (claimed("vanishing"), claims.UNREJECTED),
        (claimed("vanishing", 0.001), claims.UNTESTED),  # one step says nothing about its limit
        (claimed("some", 0.001), claims.NOTHING_CLAIMED),
        ({"bias": None, "claimed": {"bias": "none"}}, claims.UNTESTED),
        ({}, claims.UNTESTED),
    ],
)
def test_a_claim_is_held_rejected_or_not_tested(row: dict[str, Any], state: str) -> None:
    (verdict,) = claims.verdicts([{"key": "k", "status": "ok", **row}]).values()
    assert verdict.state == state


def test_a_bias_stands_with_the_interval_that_its_test_is_over(tmp_path: Path) -> None:
    """An interval over networks may contain a zero bias that the test over draws rejects."""
    bias = {"value": 0.113, "low": 0.0, "high": 0.161, "n": 10, "p_value": 4e-4, "detectable": 0.07}
    ends = {"draws_low": 0.0825, "draws_high": 0.145}
    site = {"body.0.l0": {"bias": {**bias, **ends, "p_adjusted": 4e-4}}}
    says = {"claimed": {"bias": "none", "why": ""}, "per_site": site, "bias": {**bias, **ends}}
    stored(tmp_path, a_measure("FG-A", **says), a_measure("LG-FG-A", bias=bias))
    found = facts(load(tmp_path))
    rows = leaderboard.entries(found)
    places = paths.page_paths(found.methods, found.panels)
    table = leaderboard.board("leaderboard", rows, found, places)
    biases = {row.cells[0].text: row.cells[table.kinds.index("bias")] for row in table.rows}
    new, old = biases["FG-A"], biases["LG-FG-A"]
    assert (new.text, new.note.splitlines()[0]) == ("0.113", "[0.0825, 0.145]")
    assert claims.OLDER not in new.note
    assert old.note.splitlines()[::3] == ["[0, 0.161]", claims.OLDER]
    (drawn,) = bias_figure.plotted(found.measures).to_dict("records")
    assert [drawn[name] for name in ("low", "high", "n")] == [0.0825, 0.145, 256]
    measures = found.of["measure"]
    for listed in (
        run_tables.estimates(found, measures, places, True),
        run_tables.tested(found, measures, places),
        run_tables.sites(found, found.measures, places, True),
    ):
        assert listed is not None
        assert "0.113 [0.0825, 0.145]" in {cell.text for cell in listed.rows[0].cells}


def test_claims_are_judged_together() -> None:
    rows = [{"key": f"{at}", "status": "ok", **claimed("none", 0.03)} for at in range(2)]
    assert {v.state for v in claims.verdicts(rows).values()} == {claims.UNREJECTED}
    assert {v.adjusted for v in claims.verdicts(rows).values()} == {0.06}


def test_settings_are_never_pooled(tmp_path: Path) -> None:
    rates = [a_train("FG-A", settings={"lr": lr}) for lr in (0.01, 0.1)]
    records = stored(tmp_path, *rates, a_measure("FG-A"), a_measure("FG-A", seed=1))
    rows = leaderboard.entries(facts(records))
    assert [(r.label, len(r.runs), r.measure is not None) for r in rows] == [
        ("FG-A, lr=0.01", 1, False),
        ("FG-A, lr=0.1", 1, False),
        ("FG-A, seed 0", 0, True),
        ("FG-A, seed 1", 0, True),
    ]
    records = stored(tmp_path / "one", *rates, a_measure("FG-A"))
    assert [r.measure is not None for r in leaderboard.entries(facts(records))] == [True, True]
    where = [{**WHERE, "dtype": dtype} for dtype in ("float32", "float64")]
    runs = [
        named(a_train("FG-A", where=w, test_error=e), "FG-A")
        for w, e in zip(where, (0.1, 0.2), strict=True)
    ]
    runs[1] |= {"key": "1" * 32, "case_key": "1" * 32}
    records = stored(tmp_path / "exact", *runs)
    rows = leaderboard.entries(facts(records))
    assert [(r.label, len(r.runs)) for r in rows] == [("FG-A", 1), ("FG-A, dtype=float64", 1)]


def test_of_runs_of_one_setting_and_seed_the_latest_counts_and_it_is_said(tmp_path: Path) -> None:
    old = a_measure("FG-A", settings={"draws": 64})
    new = {"along": "backprop", "cost": None, "draws": 64}
    late = a_measure("FG-A", settings=new, started="2026-01-01T00:00:00+00:00")
    assert old["case_key"] != late["case_key"]
    records = stored(tmp_path, late, old)
    (row,) = leaderboard.entries(facts(records))
    assert row.label == "FG-A"
    assert row.measure is not None
    assert row.measure["key"] == late["key"]
    assert any("not used, there is a later run of the same case" in note for note in records.notes)


def test_a_training_stands_beside_what_has_as_many_directions(tmp_path: Path) -> None:
    paid = {"directions": 48, "budget": {"asked": 50.0, "spent": 50.0, "note": ""}}
    dear = a_measure("FG-A", options={"directions": 48}, **paid)
    train = a_train("FG-A", options={"directions": 1})
    rows = leaderboard.entries(facts(stored(tmp_path, train, dear)))
    assert [(r.label, len(r.runs), r.measure is not None) for r in rows] == [
        ("FG-A", 1, False),
        ("FG-A[directions=48]", 0, True),
    ]


def test_a_leaderboard_has_no_columns_of_which_nothing_is_known(tmp_path: Path) -> None:
    def heads(name: str, *rows: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = facts(stored(tmp_path / name, *rows))
        laid = paths.page_paths(found.methods, found.panels)
        table = leaderboard.board("b", leaderboard.entries(found), found, laid)
        assert {len(row.cells) for row in table.rows} == {len(table.head)} == {len(table.kinds)}
        assert {len(row.facets) for row in table.rows} == {len(table.facets)}
        return table.head[3:], table.facets

    where = ("architecture", "data", "locality")
    assert heads("train", a_train("FG-A")) == (("test error (%)", "locality"), where)
    measured = ("claims", "relative variance", "efficiency", "bias", "cost (forwards)", "locality")
    assert heads("measure", a_measure("FG-A")) == (measured, (*where, "claims"))
    lost = record("train", "FG-A", status="diverged", reason="no number")
    assert heads("lost", lost) == (("test error (%)", "locality"), where)  # its note says it


def test_a_training_that_several_rows_have_is_told_once(tmp_path: Path) -> None:
    some = [a_measure("FG-A", settings={"batches": n}) for n in (1, 2, 4)]
    gone = a_measure("BP", reason="the truth is zero", moments=[0.0])
    trained = [a_train("FG-A", s) for s in (0, 1)]
    stored(tmp_path, *some, gone, *trained, a_speed("FG-A", 0.8), a_train("BP"), a_speed("BP", 0.8))
    found = facts(load(tmp_path))
    table = leaderboard.board(
        "b", leaderboard.entries(found), found, paths.page_paths(found.methods, found.panels)
    )
    rows = {row.cells[0].text: dict(zip(table.kinds, row.cells, strict=True)) for row in table.rows}
    for kind in ("error", "time", "memory"):
        told = [cells[kind] for name, cells in rows.items() if name.startswith("FG-A")]
        assert len(told) == 3
        assert len({cell.text for cell in told}) == 1
        assert [cell.note == leaderboard.AGAIN for cell in told] == [False, True, True]
        assert rows["BP"][kind].note != leaderboard.AGAIN
    assert rows["BP"]["method"].note == (
        "undefined, at moment 0 the truth is zero (as where a head starts at zero)"
    )
    assert all(cells["method"].note == "" for name, cells in rows.items() if name != "BP")


def test_labels_in_figures_break_between_settings_and_lose_the_last_first() -> None:
    assert plotly_marks.wrapped("FG-A") == "FG-A"
    assert plotly_marks.wrapped("FG-W, batches=1, inits=4, moments=1 5, precision=0.02") == (
        "FG-W, batches=1, inits=4,<br>moments=1 5, precision=0.02"
    )
    many = plotly_marks.wrapped(", ".join(["FG-A", *(f"setting{k}=value" for k in range(9))]))
    assert many == "FG-A, setting0=value,<br>setting1=value,<br>setting2=value …"
    assert plotly_marks.wrapped("x" * 40) == f"{'x' * 29}…"
    assert plotly_marks.wrapped("a<b>") == "a&lt;b&gt;"


@pytest.mark.slow
def test_moments_are_told_apart_in_the_numbers_to_download(tmp_path: Path) -> None:
    body = {"relative_variance": measured(3.0), "bias": measured(0.1), "efficiency": measured(0.2)}
    body |= {"bias": {**body["bias"], "draws_low": 0.09, "draws_high": 0.2}, "elements": 1000}
    parts = [{**body, "moment": m, "steps": 28 * m} for m in (0.0, 1.0)]
    stored(
        tmp_path,
        a_measure("FG-A", moments=[0.0, 1.0], per_moment=parts, per_site={}),
        a_measure("LG-FG-A", moments=[0.0], per_site={}),
    )
    out = build.write(tmp_path, tmp_path / "site", ABOUT).parent
    (pages,) = (out / "architectures").iterdir()
    text = pages.read_text("utf-8")
    gallery = text[text.index('id="cosine"') :].partition("</section>")[0]
    (picture,) = re.findall(r'<img src="../(figures/[^"]*-cosine.png)"', gallery)
    assert (out / picture).is_file()
    assert "<script" not in gallery  # a picture is all there is
    assert 'id="cost"' not in text  # nothing was timed
    table = pd.read_csv(out / "data" / "measures.csv", dtype={"moment": str})
    table = table[table["quantity"].isin(["bias", "relative_variance"])]
    keys = ["method", "quantity", "moment"]
    assert sorted(map(tuple, table[keys].to_numpy())) == sorted(
        (method, quantity, moment)
        for quantity in ("bias", "relative_variance")
        for method, moment in (
            *(("FG-A", "0"), ("FG-A", "1"), ("FG-A", "all")),
            ("LG-FG-A", "0"),
        )
    )
    one = table.set_index(keys).loc[("FG-A", "bias", "1")]
    assert (one["low"], one["high"], one["step"]) == (0.09, 0.2, 28)


def test_the_leaderboard_says_what_two_seeds_show() -> None:
    assert "with two seeds, their range" in leaderboard.LEGEND


def test_a_documentation_is_parted() -> None:
    doc = "Do it.\n\nBecause of ``x``\nand y.\n\nArgs:\n    one: first,\n        and more.\n    two: second."
    found = method_docs.parse_docstring(doc + "\n\nCost: much.\n\nReferences: A, B.", "Nothing.")
    assert found.lead == "Do it."
    assert found.paragraphs == ("Because of ``x`` and y.",)
    assert found.options == {"one": "first, and more.", "two": "second."}
    assert (found.cost, found.references, found.claims) == ("much.", "A, B.", "Nothing.")
    assert method_docs.split_code(found.paragraphs[0]) == [
        (False, "Because of "),
        (True, "x"),
        (False, " and y."),
    ]
    example = "\n\nExample:\n    >>> first()\n    1\n\n    >>> second()\n    2\n\nLast."
    assert method_docs.parse_docstring("Do it." + example).paragraphs == ("Last.",)
    assert method_docs.registered_text(ABOUT, "localities", "local-pg") is not None
    assert method_docs.registered_text(ABOUT, "estimators", "./mine.py:Mine") is None


# the folder


def write_files(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def files_in(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - {MANIFEST}


def test_a_second_report_leaves_no_stale_page_and_no_other_file_behind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(
        write_files(tmp_path / "1", "index.html", "methods/A.html", "methods/B.html", "c/C.html"),
        out,
    )
    write_files(out, "mine.txt", "methods/notes.html")
    (out / "methods" / "B.html").write_text("edited")
    publish(write_files(tmp_path / "2", "index.html", "methods/D.html"), out)
    kept = {"index.html", "methods/D.html", "methods/B.html", "mine.txt", "methods/notes.html"}
    assert files_in(out) == kept
    assert not (out / "c").exists()
    listed = (out / MANIFEST).read_text().splitlines()
    assert [line[66:] for line in listed] == ["index.html", "methods/D.html"]
    assert hashlib.sha256(b"index.html").hexdigest() == listed[0][:64]


def test_a_report_never_overwrites_what_is_not_its_own(tmp_path: Path) -> None:
    out = write_files(tmp_path / "out", "methods/A.html")
    with pytest.raises(UsageError, match=r"A\.html' exists and was not written by fgbench report"):
        publish(write_files(tmp_path / "1", "index.html", "methods/A.html"), out)
    assert files_in(out) == {"methods/A.html"}
    assert not (out / MANIFEST).exists()


def test_a_report_into_the_folder_of_its_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, a_measure("FG-A"))
    before = files_in(tmp_path)
    assert run(["report", str(tmp_path), "-o", f"{tmp_path}/../{tmp_path.name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is the folder of the records; choose another folder" in line
    assert files_in(tmp_path) == before


@pytest.mark.slow
def test_a_report_names_the_files_that_it_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", save_nothing)
    stored(tmp_path / "records", a_measure("FG-A"))
    out = tmp_path / "site"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert run(["report", str(tmp_path / "records"), "-o", str(out), "--jobs", "1"]) == 0
    assert capsys.readouterr().err == f"kept in {out}, not part of the site: notes.txt\n"


def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", write_files(tmp_path, "precious.txt") / "precious.txt"
    publish(write_files(tmp_path / "1", "index.html"), out)
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    with (out / MANIFEST).open("a") as file:
        file.write(f"{digest}  ../precious.txt\n")
    publish(write_files(tmp_path / "2", "index.html"), out)
    assert outside.exists()


def test_an_interrupted_report_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    moves: list[str] = []

    def pressed(source: Path, target: Path) -> None:
        moves.append(target.name)
        if len(moves) == 2:
            raise KeyboardInterrupt
        shutil.copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("fgbench.reporting.site.publish.shutil.move", pressed)
        with pytest.raises(KeyboardInterrupt):
            publish(write_files(tmp_path / "1", "a.html", "b.html"), out)
    assert files_in(out) == {"a.html"}
    publish(write_files(tmp_path / "2", "b.html"), out)
    assert files_in(out) == {"b.html"}


# bad use


@pytest.mark.parametrize("name", ["jinja2", "plotly"])
def test_a_missing_extra_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path / "kept", a_measure("BP"))
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert run(["report", str(tmp_path / "kept"), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs {name}" in line
    assert "pip install 'fgbench[report]'" in line
    assert not (tmp_path / "out").exists()


def test_a_report_without_numbers_says_so(tmp_path: Path) -> None:
    stored(tmp_path, record("measure", "FA", status="failed", reason="out of memory"))
    page = Page(build.write(tmp_path, tmp_path / "site").read_text("utf-8"))
    assert "nothing trained" in page.text
    assert "nothing measured" in page.text
    assert "no error, no variance, no time at all" in page.text
    assert "1 failed" in page.text
    assert "out of memory" in page.text
    assert page.all("img") == []
    assert not any("plotly" in str(attrs.get("src")) for attrs in page.all("script"))


def test_trials_alone_are_no_results(tmp_path: Path) -> None:
    stored(tmp_path, a_train("FG-A", settings={"validation": 5000}, test_error=0.123))
    page = Page(build.write(tmp_path, tmp_path / "site").read_text("utf-8"))
    assert "not shown here: 1" in page.text
    assert "12.3" not in page.text


@pytest.mark.slow
def test_records_that_lack_almost_everything_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", save_nothing)
    bare = {"schema": 0, "verb": "measure", "method": "NP\ud800", "status": "ok"}
    (tmp_path / "a.json").write_text(json.dumps({**bare, "relative_variance": 5.0}))
    (tmp_path / "b.json").write_text(json.dumps({**bare, "verb": "train", "estimator": "a[b"}))
    index = build.write(tmp_path, tmp_path / "site", ABOUT)
    assert load(tmp_path).rows
    text = Page(index.read_text("utf-8")).text
    assert "2 records (2 ok)" in text
    assert paths.UNNAMED in text


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((150.0, 320.0), ["100", "150", "200", "300", "400", "500"]),
        ((0.9, 60.0), ["0.5", "1", "2", "5", "10", "20", "50", "100"]),
        ((52.0, 81.0), [*map(str, range(30, 100, 5)), "100", "150"]),
    ],
)
def test_a_short_logarithmic_axis_has_plain_numbers(
    ends: tuple[float, float], ticks: list[str]
) -> None:
    axis = plotly_marks.log("relative variance", pd.DataFrame({"value": ends}))
    assert axis["ticktext"] == ticks
    assert [float(text) for text in ticks] == axis["tickvals"]
    assert plotly_marks.log("relative variance", pd.DataFrame({"value": [1.0, 1e4]}))["dtick"] == 1
