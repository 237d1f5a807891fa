"""Sweeps as data: what is read, what is refused, what a plan expands to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgbench import grid
from fgbench.errors import UsageError

PLAN = """
title = "two grids"
[[grid]]
name = "plain"
methods = ["BP", "FG-A"]
arch = ["mlp-2x64"]
data = ["digits"]
seeds = 3
set = { epochs = 2 }
vary = { lr = [0.1, 0.2] }
[[grid]]
name = "tuned"
methods = ["BP", "LG-FG-A", "FG-A"]
arch = ["mlp-2x64", "mlp-3x64"]
data = ["digits"]
seeds = [5, 6]
[[grid.rule]]
set = { epochs = 3 }
tune = { lr = [0.01, 0.02, 0.03], momentum = [0.0, 0.9] }
[[grid.rule]]
when = { method = "fg_a/*", arch = "mlp-3*" }
set = { epochs = 7 }
tune = { lr = [0.5] }
[grid.tuning]
seeds = [10, 11]
validation = 100
set = { epochs = 1 }
"""


def plan(text: str, folder: Path) -> grid.Plan:
    path = folder / "some.toml"
    path.write_text(text)
    return grid.read(str(path))


def test_cells_are_the_product_and_narrow_rules_win(tmp_path: Path) -> None:
    cells = grid.cells(plan(PLAN, tmp_path))
    assert len(cells) == 2 * 2 + 3 * 2
    first = cells[0]
    assert (first.method, first.options, first.varied) == (
        "BP",
        {"epochs": 2, "lr": 0.1},
        {"lr": 0.1},
    )
    assert [case.seed for case in first.results({})] == [0, 1, 2]
    by_name = {(c.method, c.arch): c for c in cells if c.grid == "tuned"}
    assert by_name["BP", "mlp-3x64"].options == {"epochs": 3}
    narrow = by_name["LG-FG-A", "mlp-3x64"]
    assert narrow.options == {"epochs": 7}
    assert narrow.tune == {"lr": [0.5], "momentum": [0.0, 0.9]}
    assert len(by_name["FG-A", "mlp-2x64"].candidates) == 6


def test_trials_hold_images_out_and_results_do_not(tmp_path: Path) -> None:
    cell = grid.cells(plan(PLAN, tmp_path), ["tuned"])[0]
    trials = cell.trials({"lr": 0.02, "momentum": 0.9})
    assert [t.seed for t in trials] == [10, 11]
    assert trials[0].options == {"epochs": 1, "lr": 0.02, "momentum": 0.9, "validation": 100}
    results = cell.results({"lr": 0.02, "momentum": 0.9})
    assert [r.seed for r in results] == [5, 6]
    assert results[0].options == {"epochs": 3, "lr": 0.02, "momentum": 0.9}


def test_runs_are_counted_once(tmp_path: Path) -> None:
    found = plan(PLAN, tmp_path)
    assert grid.count(grid.cells(found, ["plain"])) == 12
    tuned = 4 * (6 * 2) + 2 * (2 * 2) + 6 * 2  # trials of wide and narrow cells, results
    assert grid.count(grid.cells(found, ["tuned"])) == tuned
    twice = PLAN.replace('methods = ["BP", "FG-A"]', 'methods = ["BP", "BP"]')
    assert grid.count(grid.cells(plan(twice, tmp_path), ["plain"])) == 6


FAULTS = {
    "unknown key": ("seeds = 3\n", "sedes = 3\n", "did you mean 'seeds'"),
    "unknown key of the file": ('title = "two', 'titel = "two', "did you mean 'title'"),
    "unknown key of a rule": ("when = {", "wenn = {", "did you mean 'when'"),
    "unknown glob": ("when = { method", "when = { methode", "did you mean 'method'"),
    "unknown method": ('"BP", "FG-A"]', '"BP", "FG-AA"]', "unknown method 'FG-AA'"),
    "unknown architecture": ('arch = ["mlp-2x64"]', 'arch = ["mpl-2x64"]', "unknown architecture"),
    "unknown data": ('data = ["digits"]\nseeds = 3', 'data = ["digit"]\nseeds = 3', "'digits'"),
    "no seeds": ("seeds = 3", "seeds = 0", "at least one seed"),
    "tuning on the results' seeds": ("seeds = [10, 11]", "seeds = [5]", "of the tuning and of"),
    "two of one name": ('name = "tuned"', 'name = "plain"', "distinct names"),
    "exact in a rule": ("when = { method", "when = { exact = true, method", "is for recipes"),
    "nothing to try": ("lr = [0.5]", "lr = []", "at least 1 item"),
    "not TOML": ("title = ", "title == ", "is not TOML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_is_one_line(fault: str, tmp_path: Path) -> None:
    good, bad, said = FAULTS[fault]
    assert good in PLAN
    with pytest.raises(UsageError, match=r"some\.toml|unknown|grid") as caught:
        plan(PLAN.replace(good, bad, 1), tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_to_tune_need_a_tuning(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need a table"):
        plan(PLAN[: PLAN.index("[grid.tuning]")], tmp_path)


def test_names_of_files_and_grids(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'paper-table3'"):
        grid.read("paper-table4x")
    with pytest.raises(UsageError, match="cannot read the sweep"):
        grid.read(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        grid.cells(plan(PLAN, tmp_path), ["plane"])
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        grid.read(str(tmp_path / "bytes.toml"))


def test_the_shipped_sweep_names_the_eleven_methods() -> None:
    from fgbench.registry import PRESETS

    for cell in grid.cells(grid.read("paper-table3")):
        assert cell.method in PRESETS
    methods = {c.method for c in grid.cells(grid.read("paper-table3"), ["mnist"])}
    assert len(methods) == 11
