"""Numbers over commits: first parents only, machines and versions apart, change points where they are."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.reporting.figures import history
from fgbench.reporting.frames import commits, tracked
from fgbench.reporting.frames.tracked import Results
from tests.makers import asv_results
from tests.makers.asv_results import EXACT, TIMED


def test_side_branches_are_not_strung_into_the_line(tmp_path: Path) -> None:
    measured, side = asv_results.repository(tmp_path / "repo")
    folder = tmp_path / "repo" / ".asv" / "results"
    asv_results.history(folder, measured)
    # measured between the fourth and the fifth, and far off
    asv_results.write(folder, asv_results.result(side, 1_700_000_000_000 + 300_000_000, 99.0, 9.0))
    results = tracked.read(folder)
    assert results.line.branch == "main"
    table = tracked.tracked(results)
    mine = table[table["benchmark"].eq(EXACT) & table["label"].eq("FG-A")]
    drawn = mine[mine["position"].notna()]
    assert drawn["commit"].tolist() == measured
    assert drawn["position"].tolist() == list(range(12))
    assert mine[mine["position"].isna()]["commit"].tolist() == [side]
    assert drawn.loc[drawn["changed"], "commit"].tolist() == [measured[6]]
    timed = table[table["benchmark"].eq(TIMED) & table["changed"]]
    assert timed["commit"].unique().tolist() == [measured[6]]
    assert f"Not on this line and not drawn: {side[:7]}." in history.caption(results, table)


def test_the_commits_in_between_are_first_parents(tmp_path: Path) -> None:
    measured, side = asv_results.repository(tmp_path)
    line = commits.line(tmp_path, measured, measured)
    between = line.between(measured[3], measured[4])
    subjects = [line.commits[commit] for commit in between]
    assert subjects == ["Go on", "Merge branch 'side'", "Prepare 4", "Change 4"]
    assert side not in line.commits


def test_a_detached_head_and_a_branch_of_any_name_have_their_line(tmp_path: Path) -> None:
    measured, _ = asv_results.repository(tmp_path)
    asv_results.git(tmp_path, "checkout", "--quiet", "--detach", measured[5])
    assert commits.line(tmp_path, measured[:6], measured[:6]).branch == "HEAD"
    assert commits.line(tmp_path, measured, measured).branch == "main"  # has more of them
    asv_results.git(tmp_path, "checkout", "--quiet", "-b", "topic/one")
    more = asv_results.commit(tmp_path, "On a topic")
    line = commits.line(tmp_path, [*measured[:6], more], [*measured[:6], more])
    assert line.branch == "topic/one"


def test_without_a_repository_commits_are_by_date(tmp_path: Path) -> None:
    names = asv_results.hashes(9)[::-1]
    results = tracked.read(asv_results.history(tmp_path, names))
    assert results.line.branch == ""
    table = tracked.tracked(results)
    assert table["commit"].drop_duplicates().tolist() == names
    assert "by date, as no repository with them was found" in history.caption(results, table)


def test_machines_are_never_in_one_line(tmp_path: Path) -> None:
    names = asv_results.hashes(10)
    asv_results.history(tmp_path, names, machine="one")
    asv_results.history(tmp_path, names, machine="two", seed=1)
    table = tracked.tracked(tracked.read(tmp_path))
    for _, part in table.groupby(["benchmark", "label", "machine"]):
        assert part["position"].is_unique
        assert len(part) == 10
    assert set(table["machine"]) == {"one", "two"}


def test_two_processors_of_one_name_are_two_machines(tmp_path: Path) -> None:
    names = asv_results.hashes(8)
    for at, name in enumerate(names):
        cpu = "AVX2 box" if at % 2 else "AVX-512 box"
        asv_results.write(tmp_path, asv_results.result(name, at, 36.7, 1.3, cpu=cpu))
    table = tracked.tracked(tracked.read(tmp_path))
    assert set(table["machine"]) == {"box (AVX2 box, x86_64)", "box (AVX-512 box, x86_64)"}
    assert table["level"].isna().all()  # four commits each


def test_a_number_of_another_version_is_another_number(tmp_path: Path) -> None:
    names = asv_results.hashes(12)
    asv_results.history(tmp_path, names, step=99)
    for at in range(4):
        old = asv_results.result(names[at], at, 5.0, 1.3, version="0")
        asv_results.write(tmp_path, old | {"date": 1_700_000_000_000 + 86_400_000 * at})
    results = tracked.read(tmp_path)
    table = tracked.tracked(results)
    assert table["commit"].nunique() == 8
    assert not table["changed"].any()
    told = history.caption(results, table)
    assert f"Numbers of other versions, not drawn: {TIMED}, {EXACT}." in told


def test_one_commit_is_no_history(tmp_path: Path) -> None:
    asv_results.history(tmp_path, asv_results.hashes(1))
    with pytest.raises(
        UsageError, match=r"^expected numbers of several commits in .*0000000 alone"
    ):
        history.plotted(tracked.read(tmp_path))


def test_an_empty_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no result of asv in .*; run asv run"):
        tracked.read(tmp_path)


@pytest.mark.parametrize("text", ['{"version": 2', "[]", "7", '{"version": 2, "results": 3}'])
def test_a_damaged_file_is_named_and_the_others_are_read(text: str, tmp_path: Path) -> None:
    asv_results.history(tmp_path, asv_results.hashes(9))
    (tmp_path / "box" / "broken.json").write_text(text)
    results = tracked.read(tmp_path)
    assert set(results.damaged) == {"box/broken.json"}
    assert "Not readable: box/broken.json" in history.caption(results, tracked.tracked(results))


def test_what_is_not_a_number_has_no_point(tmp_path: Path) -> None:
    names = asv_results.hashes(9)
    asv_results.history(tmp_path, names)
    path = next((tmp_path / "box").glob("0*.json"))
    one = json.loads(path.read_text())
    one["results"][EXACT][0] = [float("nan"), float("inf")]
    path.write_text(json.dumps(one))
    table = tracked.tracked(tracked.read(tmp_path))
    assert (table["benchmark"].eq(EXACT) & table["commit"].eq(names[0])).sum() == 0


def test_titles_say_what_is_tracked_of_which_methods(tmp_path: Path) -> None:
    results = tracked.read(asv_results.history(tmp_path, asv_results.hashes(2)))
    assert results.title(TIMED) == "Step: time ratio of FG-A and LG-FG-A"
    table = history.plotted(results)
    titles = [ax.get_title(loc="left") for ax in history.figure(results, table).axes]
    assert set(titles) >= {results.title(EXACT), results.title(TIMED)}
    assert set(table["benchmark"]) == {EXACT, TIMED}  # of the CSV


def rows(benchmark: str, **of: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "benchmark": benchmark,
            "label": ", ".join(values),
            "of": dict(zip(of, values, strict=True)),
        }
        for values in product(*of.values())
    ]


@pytest.mark.parametrize(
    ("made", "title"),
    [
        (rows("a.Draws.track_fingerprint", law=["x", "y", "z"], reading=["f", "m"]),
         "Draws: fingerprint of 3 laws, f and m"),
        (rows("a.B.track_bias", locality=list("wxyz")), "B: bias of 4 localities"),
        ([{"benchmark": "a.track_total", "label": tracked.UNNAMED}], "Total"),
        ([{"benchmark": "a.B.time_step", "label": x} for x in "pqr"], "B: time of step of 3 series"),
        ([{"benchmark": "a.B.track_x", "label": "p", "named": "Bias at the end"}], "Bias at the end of p"),
    ],
)  # fmt: skip
def test_parameters_are_named_where_they_are_few(made: list[dict[str, Any]], title: str) -> None:
    assert Results(Path("none"), tuple(made), {}).title(made[0]["benchmark"]) == title


def test_two_benchmarks_of_one_name_have_that_of_their_file_beside_it() -> None:
    made = (*rows("a.Step.track_time", method=["x"]), *rows("b.Step.track_time", method=["x"]))
    found = Results(Path("none"), made, {})
    assert [found.title(f"{k}.Step.track_time") for k in "ab"] == [
        "Step: time (a) of x",
        "Step: time (b) of x",
    ]
