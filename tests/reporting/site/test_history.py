"""The history page: change points, the commits in between, machines apart, text as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.reporting.plotting import style
from fgbench.reporting.site import build
from tests.makers import asv_results
from tests.makers.pages import Page, cells, faults
from tests.makers.records import a_measure, stored


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(figure: object, folder: Path, name: str, *_: object) -> list[Path]:
        folder.mkdir(exist_ok=True)
        for kind in ("png", "pdf", "csv"):
            (folder / f"{name}.{kind}").write_text("")
        return []

    monkeypatch.setattr(style, "save", save)


def site(folder: Path, results: Path) -> Path:
    stored(folder / "records", a_measure("FG-A"))
    return build.write(folder / "records", folder / "site", tracked=results).parent


@pytest.mark.slow
def test_change_points_stand_with_the_commits_in_between(tmp_path: Path) -> None:
    measured, side = asv_results.repository(tmp_path / "repo")
    results = asv_results.history(tmp_path / "repo" / "results", measured, step=4)
    reasons = tmp_path / "repo" / ".git" / "fgbench-gate" / "accepted"
    reasons.mkdir(parents=True)
    findings = [{"where": "fg_a", "what": "other noise", "verdict": "changed"}]
    said = {"a": {"name": "A", "commit": measured[3]}, "b": {"name": "B", "commit": measured[4]}}
    said |= {"when": "2026-11-30", "reason": "an honest reseed", "findings": findings}
    (reasons / "0123456789abcdef.json").write_text(json.dumps(said))
    (reasons / "broken.json").write_text("{")
    root = site(tmp_path, results)
    text = (root / "history.html").read_text("utf-8")
    rows = cells(text, "changes")
    assert len(rows) == 3  # both exact numbers change as one does not, and both times
    assert {row[1] for row in rows} == {"FG-A", "LG-FG-A"}
    exact = next(row for row in rows if row[0].endswith(asv_results.EXACT))
    assert exact[0].removesuffix(asv_results.EXACT).strip() == "Estimate: inefficiency"
    assert exact[2:6] == ["+50 %", "36.7", "55.05", "1/efficiency - 1"]
    assert exact[6] == f"{measured[3][:7]} and {measured[4][:7]}"
    assert exact[7] == "an honest reseed"
    subjects = ["Go on", "Merge branch 'side'", "Prepare 4", "Change 4"]
    assert [part[8:] for part in exact[8].split("; ")] == subjects
    assert side[:7] not in text
    assert cells(text, "accepted")[0][2:] == ["an honest reseed", "fg_a: other noise"]
    assert "broken.json: JSONDecodeError" in text
    listed = cells(text, "commits")
    assert [row[2] for row in listed].count("measured") == 12
    assert listed[0][:2] == [measured[-1][:7], "Change 11"]
    assert [row[3] for row in listed if row[0] == measured[4][:7]] == ["3"]
    assert "Estimate: inefficiency of FG-A and LG-FG-A (1/efficiency - 1)" in Page(text).text
    assert "4 numbers over 12 commits of the first parents of main, on 1 machine" in text
    assert faults(root / "history.html", root) == []
    index = (root / "index.html").read_text("utf-8")
    assert "3 change points." in index
    assert "history.html" in index


@pytest.mark.slow
def test_several_machines_have_figures_of_their_own(tmp_path: Path) -> None:
    names = asv_results.hashes(9)
    for seed, machine in enumerate(("one", "two")):
        asv_results.history(tmp_path / "results", names, 99, machine, seed)
    text = (site(tmp_path, tmp_path / "results") / "history.html").read_text("utf-8")
    for machine in ("one", "two"):
        assert f"Step: time ratio of FG-A and LG-FG-A on {machine} (x backprop)" in text
    assert "on 2 machines: no change points." in text
    assert "None. A number that repeats" in text
    assert {row[2] for row in cells(text, "numbers")} == {"one", "two"}


@pytest.mark.slow
def test_texts_of_results_are_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$^{$"
    for at, name in enumerate(asv_results.hashes(9)):
        asv_results.write(
            tmp_path / "results", asv_results.result(name, at, 36.7, 1.3, "box", evil)
        )
    path = tmp_path / "results" / "benchmarks.json"
    path.write_text(path.read_text().replace("x backprop", evil))
    for file in (tmp_path / "results" / "box").glob("[0-9]*.json"):
        file.write_text(file.read_text().replace("'FG-A'", repr(evil)))
    root = site(tmp_path, tmp_path / "results")
    page = Page((root / "history.html").read_text("utf-8"))
    assert evil in page.text
    assert faults(root / "history.html", root) == []


@pytest.mark.slow
def test_a_report_without_a_history_has_no_page_of_it(tmp_path: Path) -> None:
    stored(tmp_path / "records", a_measure("FG-A"))
    root = build.write(tmp_path / "records", tmp_path / "site").parent
    assert not (root / "history.html").exists()
    assert "history.html" not in (root / "index.html").read_text("utf-8")


def test_an_empty_folder_one_commit_and_damaged_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path / "records", a_measure("FG-A"))
    (tmp_path / "empty").mkdir()
    asv_results.history(tmp_path / "one", asv_results.hashes(1))
    damaged = asv_results.history(tmp_path / "damaged", asv_results.hashes(3))
    for file in damaged.glob("*/[0-9]*.json"):
        file.write_text(file.read_text()[:-9])
    said = {"empty": "no result of asv", "one": "expected numbers of several commits"}
    said |= {"damaged": "JSONDecodeError", "nowhere": "no such folder"}
    for name, words in said.items():
        folder, out = str(tmp_path / name), str(tmp_path / "site")
        for command in (
            ["report", str(tmp_path / "records"), "-o", out, "--history", folder],
            ["figure", "history", folder, "-o", out],
        ):
            assert run(command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line
            assert not Path(out).exists()


def test_a_wrong_folder_is_known_before_any_figure_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.pictures, "draw_all", lambda *_: pytest.fail("drawn"))
    with pytest.raises(UsageError, match="no result of asv"):
        site(tmp_path, tmp_path)
