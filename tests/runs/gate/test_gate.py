"""The frame of the gate: questions, verdicts, exit codes, acceptances, and one real run."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fgbench
from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.records import atomic
from fgbench.runs.gate import gate as room
from fgbench.runs.gate.changes import Change
from fgbench.runs.gate.checkout import CannotRun
from fgbench.runs.gate.finding import (
    BETTER,
    CHANGED,
    FAILED,
    NOT_JUDGED,
    SAME,
    WORSE,
    Cell,
    Finding,
)
from fgbench.runs.gate.naming import Row
from fgbench.runs.gate.same import Exact, Same
from fgbench.runs.gate.side import ProbeError, Side
from tests.makers.planted import PLANTS, Laboratory, Plant, chosen
from tests.makers.repository import commit, git, repository

FG_A = Cell("estimate", "one", "fg_a/end", "mlp-2x6")
DRAWS = Cell("draws", "draws primitives", about="primitives")


def row(cell: Cell, verdict: str = CHANGED, kind: str = "") -> Row:
    where = cell.method.partition("/")[0] or cell.about
    finding = Finding(
        "same",
        kind or cell.kind,
        where,
        "other numbers",
        verdict=verdict,
        suspects=("fgbench/m.py",),
    )
    return Row(
        finding, (Change(cell, "numbers", "", ("body.a",), {"body.a": 1.0}, {"body.a": 2.0}),)
    )


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return repository(tmp_path / "r", {"m.py": "x = 1\n"}, {"m.py": "x = 2\n"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Answer the questions with what a test gives; return which were asked."""

    def answer(
        rows: Sequence[Row] = (), true: Any = (), worse: Any = (), slower: Any = ()
    ) -> list[str]:
        calls: list[str] = []

        def same(*given: Any, **named: Any) -> Same:
            calls.append("same")
            changes = tuple(change for each in rows for change in each.changes)
            return Same(tuple(rows), changes, 10, 100, {"estimator cge": "too dear"})

        monkeypatch.setattr(room.same, "ask", same)
        for name, found in (("true", true), ("worse", worse), ("slower", slower)):

            def ask(*given: Any, _name: str = name, _found: Any = found, **named: Any) -> Any:
                calls.append(_name)
                if isinstance(_found, Exception):
                    raise _found
                return list(_found)

            monkeypatch.setattr(getattr(room, name), "ask", ask)
        return calls

    return answer


def test_equal_code_asks_nothing(code: Path, asked: Callable[..., list[str]]) -> None:
    commit(code, {"m.py": "# a comment\nx = 2\n"})
    calls = asked()
    report = room.gate("HEAD~1", "HEAD", repository=code)
    assert (report.state, report.code, report.verdict, calls) == ("equal code", 0, "same", [])
    assert "1 of its files differ in docstrings" in str(report)


def test_identical_numbers_leave_the_time_to_ask(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    calls = asked()
    report = room.gate(repository=code)
    assert (report.state, report.code, calls) == ("identical", 0, ["same", "slower"])
    assert "identical: 100 numbers of 10 cells are the same bit for bit" in str(report)
    calls.clear()
    assert room.gate(repository=code, exact=True).asked == ("same",)
    assert calls == ["same"]


def judged(question: str, verdict: str, cell: Cell = FG_A) -> Finding:
    return Finding(
        question, "noise", cell.method.partition("/")[0], "judged", verdict=verdict, cells=(cell,)
    )


@pytest.mark.parametrize(
    ("true", "worse", "verdict", "exit_code"),
    [
        ([], [], CHANGED, 1),
        ([], [judged("worse", BETTER)], BETTER, 0),
        ([], [judged("worse", SAME)], SAME, 0),
        ([], [judged("worse", WORSE)], WORSE, 1),
        ([judged("true", NOT_JUDGED)], [judged("worse", NOT_JUDGED)], CHANGED, 1),
        ([judged("true", WORSE)], [], WORSE, 1),
        ([judged("true", WORSE)], [judged("worse", BETTER)], WORSE, 1),
        ([], [judged("worse", BETTER, Cell("estimate", "two", "fg_w/end"))], CHANGED, 1),
        ([], [judged("worse", BETTER, Cell("training", "three", "fg_a/end"))], CHANGED, 1),
    ],
)
def test_later_questions_give_the_verdict(
    code: Path, asked: Callable[..., list[str]], true: Any, worse: Any, verdict: str, exit_code: int
) -> None:
    calls = asked([row(FG_A)], true, worse)
    report = room.gate(repository=code)
    untrue = any(finding.verdict == WORSE for finding in true)  # leaves nothing to compare
    assert calls == ["same", "true", *(["worse"] if not untrue else []), "slower"]
    assert (report.findings[0].verdict, report.code) == (verdict, exit_code)


def test_a_change_says_how_many_of_its_cells_were_judged(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    other = Cell("estimate", "two", "fg_a/local", "mlp-2x6")
    both = row(FG_A)
    change = Change(other, "numbers", "", ("body.a",), {"body.a": 1.0}, {"body.a": 2.0})
    asked([Row(both.finding, (*both.changes, change))], worse=[judged("worse", BETTER, FG_A)])
    finding = room.gate(repository=code).findings[0]
    assert finding.verdict == BETTER
    assert finding.what == "other numbers; judged by 1 of 2 cells"
    asked([both], worse=[judged("worse", BETTER, FG_A)])
    assert room.gate(repository=code).findings[0].what == "other numbers"


@pytest.mark.parametrize(
    ("true", "words"),
    [
        ([], "estimates .5000 times as large on the same noise"),
        ([judged("true", WORSE)], "scale .5000 of the gradient"),
    ],
)
def test_a_factor_on_fixed_noise_is_no_scale_where_the_mean_is_true(
    true: list[Finding], words: str, code: Path, asked: Callable[..., list[str]]
) -> None:
    scaled = row(FG_A)
    finding = replace(
        scaled.finding, kind="scale", what="scale .5000 of the gradient", before=1.0, after=0.5
    )
    asked([Row(finding, scaled.changes)], true, [judged("worse", BETTER)])
    assert room.gate(repository=code).findings[0].what == words


def test_a_new_estimate_is_asked_whether_it_is_true(
    code: Path, asked: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Cell("estimate", "estimate mine/end", "mine/end")
    finding = Finding("same", "n/a", "mine", "new", verdict=NOT_JUDGED)
    calls = asked(
        [Row(finding, (Change(new, "new", "", (), {}, {}),))], [judged("true", WORSE, new)]
    )
    report = room.gate(repository=code)
    assert calls == ["same", "true", "slower"]
    assert report.code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--accept", " "], "--accept expects the reason"),
        (["--markdown", "--json"], "exclude each other"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gate", "HEAD", "HEAD", *options]) == 2
    assert said in capsys.readouterr().err


def test_an_acceptance_holds_however_many_cells_of_an_estimator_were_reached(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    other = Cell("estimate", "two", "fg_a/local", "mlp-2x6")
    asked([row(FG_A)], [judged("true", WORSE)])
    assert room.gate(repository=code, accept="wanted").verdict == "accepted"
    more = replace(judged("true", WORSE), where="fg_a, 2 localities", cells=(FG_A, other))
    asked([row(FG_A)], [more])
    assert room.gate(repository=code).code == 0
    stranger = Cell("estimate", "three", "fg_w/end", "mlp-2x6")
    asked([row(FG_A)], [more, judged("true", WORSE, stranger)])
    report = room.gate(repository=code)
    assert (report.code, report.verdict) == (1, WORSE)
    assert "gate: worse; others accepted: wanted" in str(report)


def test_a_gpu_that_there_is_not_is_refused_at_once(
    code: Path, asked: Callable[..., list[str]], tmp_path: Path
) -> None:
    blind = tmp_path / "python"
    blind.write_text("#!/bin/sh\nexit 1\n")
    blind.chmod(0o755)
    calls = asked()
    with pytest.raises(CannotRun, match=r"device cuda was asked for, and torch of .* sees no GPU"):
        room.gate(repository=code, device="cuda", existing=blind)
    assert calls == []


def test_an_unknown_device_is_refused(code: Path) -> None:
    with pytest.raises(UsageError, match="'cdua'"):
        room.gate(repository=code, device="cdua")


def test_nothing_makes_a_reseed_better_but_somebody_may_want_it(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    asked([row(DRAWS)], worse=[judged("worse", SAME, FG_A)])
    report = room.gate(repository=code)
    assert (report.code, report.verdict) == (1, CHANGED)
    report = room.gate(repository=code, accept="new seeds")
    assert (report.code, report.verdict, report.accepted) == (0, "accepted", "new seeds")
    assert room.gate(repository=code).accepted == "new seeds"  # recorded for this pair of commits
    (kept,) = (code / ".git" / "fgbench-gate" / "accepted").glob("*.json")
    content = json.loads(kept.read_text())
    assert content["reason"] == "new seeds"
    assert content["b"]["commit"] == git(code, "rev-parse", "HEAD")
    asked([row(DRAWS), row(FG_A)])
    report = room.gate(repository=code)
    assert report.code == 1
    assert [f.kind for f in report.alarms] == ["estimate"]  # another change is not accepted
    commit(code, {"m.py": "x = 3\n"})
    assert room.gate(repository=code).code == 1


def test_an_acceptance_that_cannot_be_written_is_said(
    code: Path, asked: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "write_text", full)
    asked([row(DRAWS)])
    report = room.gate(repository=code, accept="new seeds")
    assert report.code == 0
    assert any("is not recorded" in note for note in report.notes)


def test_a_probe_that_fails_has_code_3_and_the_others_are_asked(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    calls = asked([], slower=ProbeError("HEAD", "timing", "KeyError: 'x'"))
    report = room.gate(repository=code)
    assert (report.code, report.verdict) == (3, FAILED)
    calls = asked([row(FG_A)], true=ProbeError("HEAD", "truth", "no"))
    report = room.gate(repository=code)
    assert report.code == 1  # an alarm is graver
    assert calls == ["same", "true", "worse", "slower"]


def test_a_tree_that_cannot_be_imported_names_the_file_that_is_at_fault(
    code: Path, asked: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that differs is suspected, not the one that imports it."""

    def same(*given: Any, **named: Any) -> Same:
        files = ["fgbench/importer.py", "fgbench/m.py"]
        raise ProbeError("HEAD", "exact", "SyntaxError: bad (fgbench/m.py:1)", files)

    monkeypatch.setattr(room.same, "ask", same)
    (finding,) = room.gate(repository=code).findings
    assert (finding.verdict, finding.suspects) == (FAILED, ("fgbench/m.py",))
    asked([], slower=ProbeError("HEAD", "timing", "no", ["fgbench/other.py", "fgbench/m.py"]))
    (finding,) = room.gate(repository=code).findings
    assert finding.suspects == ("fgbench/m.py",)


def test_the_command_has_one_line_and_the_documented_codes(
    code: Path, asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["-C", str(code)]

    def called(*words: str) -> tuple[int, str, str]:
        status = run(["gate", *words])
        out, err = capsys.readouterr()
        return status, out, err

    asked()
    assert called(*where)[0] == 0
    asked([row(FG_A)])
    status, out, _ = called(*where)
    assert status == 1
    assert "fgbench/m.py" in out
    assert out.rstrip().endswith("gate: changed")
    status, out, err = called("HEAD", "trunk", *where)
    assert status == 2
    assert not out
    assert err.count("\n") == 1
    assert "unknown revision 'trunk'" in err
    status, _, err = called(*where, "--existing", str(tmp_path / "none"))
    assert status == 2
    assert "--existing is the Python of an environment" in err
    asked([], slower=ProbeError("HEAD", "timing", "KeyError: 'x'"))
    status, _, err = called(*where)
    assert status == 3
    assert err.count("\n") == 1
    assert "KeyError: 'x'" in err
    status, _, err = called("-C", str(tmp_path))
    assert status == 4
    assert err.count("\n") == 1
    assert "is in no git repository" in err


def test_an_interrupt_is_one_line(
    code: Path,
    asked: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*given: Any, **named: Any) -> Same:
        raise KeyboardInterrupt

    monkeypatch.setattr(room.same, "ask", interrupted)
    assert run(["gate", "-C", str(code)]) == 130
    assert capsys.readouterr().err == (
        "fgbench: interrupted; run the same command again: answers are kept\n"
    )


def test_markdown_and_json(
    code: Path, asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked(
        [row(FG_A)],
        worse=[
            Finding(
                "worse", "noise", "fg_a", "a | b", 1.0, 2.0, "x", 1.5, 2.5, WORSE, cells=(FG_A,)
            )
        ],
    )
    assert run(["gate", "-C", str(code), "--markdown"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("**gate: worse**")
    assert r"a \| b" in text
    assert "[1.5, 2.5]" in text
    assert run(["gate", "-C", str(code), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verb"], found["verdict"], found["code"]) == ("gate", "worse", 1)
    assert found["findings"][1] | {"low": 1.5, "cells": 1} == found["findings"][1]
    assert found["unwatched"] == {"estimator cge": "too dear"}


def test_a_dirty_tree_is_said_and_compared_by_its_name(
    code: Path, asked: Callable[..., list[str]]
) -> None:
    asked()
    (code / "fgbench" / "m.py").write_text("x = 9\n")
    assert "is dirty: 1 file of fgbench/ differ from HEAD and are not compared" in str(
        room.gate(repository=code)
    )
    assert "is compared as it lies" in str(room.gate("HEAD", ".", repository=code))


def test_an_unknown_revision_from_python(code: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'main'"):
        fgbench.gate("mian", repository=code)


def test_every_plant_still_fits_the_code() -> None:
    for plant in PLANTS:
        for name, old, _ in plant.edits:
            assert (Path(fgbench.__file__).parents[1] / name).read_text().count(old) == 1, (
                plant.name
            )


@pytest.mark.parametrize(("loaded", "computed"), [(["core/axes.py"], 1), (["reporting/m.py"], 2)])
def test_files_that_are_not_imported_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str], computed: int
) -> None:
    code = repository(tmp_path / "r", {"reporting/m.py": "x = 1"}, {"reporting/m.py": "x = 2"})
    sides: list[str] = []

    def collect(asked: Sequence[Any], **how: Any) -> list[Exact]:
        sides.extend(side.name for side in asked)
        cell = {"kind": "data", "name": "d", "digest": "d", "numbers": {"x": 1.0}}
        return [Exact([cell], frozenset(loaded)) for _ in asked]

    monkeypatch.setattr(room.same, "collect", collect)
    monkeypatch.setattr(room.slower, "ask", lambda *given, **named: [])
    report = room.gate(repository=code)
    assert (report.state, report.code, sides[0]) == ("identical", 0, "HEAD~1")
    assert len({*sides}) == computed
    assert ("slower" in report.asked) == (computed == 2)


SMALL = {"groups": ["draws", "estimates on mlp-2x6"], "estimators": ["fg_w"], "localities": ["end"]}


@pytest.mark.slow
def test_a_planted_scale_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show 3: two commits of this code, real probes, few cells."""
    for name in ("true", "worse", "slower"):
        monkeypatch.setattr(getattr(room, name), "ask", lambda *given, **named: [])
    laboratory = Laboratory(tmp_path)
    (scaled,) = (plant for plant in PLANTS if plant.name == "fg_w scaled")
    planted = laboratory.commit(scaled)
    lines: list[str] = []
    report = room.gate(
        laboratory.base, planted, repository=laboratory.tree, only=SMALL, progress=lines.append
    )
    (found,) = report.findings
    assert (report.code, found.kind, found.where) == (1, "scale", "fg_w, end, mlp-2x6")
    assert found.what == "scale .9800 of the gradient"
    assert found.suspects == ("fgbench/estimators/fg_w.py",)
    assert lines[0].startswith("same? draws (1 of 2)")
    # Kept answers: the second call starts no probe, and says the same.
    started: list[str] = []
    start = Side.start
    monkeypatch.setattr(
        Side, "start", lambda one, probe: (started.append(probe), start(one, probe))[1]
    )
    again = room.gate(laboratory.base, planted, repository=laboratory.tree, only=SMALL)
    assert again.findings == report.findings
    assert "exact" not in started
    assert git(laboratory.tree, "status", "--porcelain") == ""


MIXER = room.same.probe_module("exact").networks.MIXER
ON_MIXER = {"groups": [f"estimates on {MIXER}"], "estimators": ["fg_a"]}
FEW: dict[str, dict[str, list[str]]] = {
    "noise 1.1": {"groups": ["measurements"], "estimators": ["fg_a"], "archs": ["mlp-2x6"]},
    "fg_w scaled": SMALL,
    "axis p not summed": ON_MIXER | {"localities": ["end", "local-pg", "module-pg"]},
    "axis g not summed": ON_MIXER | {"localities": ["end", "local-pg", "module-pg"]},
    "decay twice": {"groups": ["trainings"], "estimators": ["bp"]},
    "schedule late": {"groups": ["trainings"], "estimators": ["bp"]},
    "np's step doubled": {
        "groups": ["estimates on mlp-2x6", "finite differences"],
        "estimators": ["np"],
        "localities": ["end"],
    },
    "pixels": {"groups": ["data", "draws"]},
    "interval narrowed": {"groups": ["intervals", "draws"]},
    "reseed": {"groups": ["data", "draws", "weights"], "architectures": ["mlp", "linear"]},
    "refactoring": {"groups": ["draws", "intervals", "data"]},
}
"""Cells that show each plant; ``make plants`` computes all of them."""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("plants"))


@pytest.mark.slow
@pytest.mark.parametrize("plant", chosen(None, exact=True), ids=lambda plant: plant.name)
def test_a_plant_that_exact_numbers_show(
    plant: Plant, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.true, "ask", lambda *given, **named: [])
    commits, few = (laboratory.base, laboratory.commit(plant)), FEW[plant.name]
    report = room.gate(*commits, repository=laboratory.tree, exact=True, only=few)
    shown = [report.state, *(repr(finding) for finding in report.findings)]
    assert report.code == plant.code, shown
    for words in plant.says:
        assert words == "bias" or any(re.search(words, row) for row in shown), (words, shown)
    if plant.accept:
        where = laboratory.tree
        again = room.gate(*commits, repository=where, exact=True, only=few, accept=plant.accept)
        assert again.code == 0
