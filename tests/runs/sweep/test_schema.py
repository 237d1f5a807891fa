"""Sweeps as data: what is read, what is refused, what a plan expands to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.runs.sweep import cells, read, schema
from fgbench.runs.sweep.cells import count, expand

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


def plan(text: str, folder: Path) -> schema.Plan:
    path = folder / "some.toml"
    path.write_text(text)
    return read.read(str(path))


def test_cells_are_the_product_and_narrow_rules_win(tmp_path: Path) -> None:
    cells = expand(plan(PLAN, tmp_path))
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
    cell = expand(plan(PLAN, tmp_path), ["tuned"])[0]
    trials = cell.trials({"lr": 0.02, "momentum": 0.9})
    assert [t.seed for t in trials] == [10, 11]
    assert trials[0].options == {"epochs": 1, "lr": 0.02, "momentum": 0.9, "validation": 100}
    results = cell.results({"lr": 0.02, "momentum": 0.9})
    assert [r.seed for r in results] == [5, 6]
    assert results[0].options == {"epochs": 3, "lr": 0.02, "momentum": 0.9}


def test_runs_are_counted_once(tmp_path: Path) -> None:
    found = plan(PLAN, tmp_path)
    assert count(expand(found, ["plain"])) == 12
    tuned = 4 * (6 * 2) + 2 * (2 * 2) + 6 * 2  # trials of wide and narrow cells, results
    assert count(expand(found, ["tuned"])) == tuned
    twice = PLAN.replace('methods = ["BP", "FG-A"]', 'methods = ["BP", "BP"]')
    assert count(expand(plan(twice, tmp_path), ["plain"])) == 6


FAULTS = {
    "unknown key": ("seeds = 3\n", "sedes = 3\n", "did you mean 'seeds'"),
    "unknown key of the file": ('title = "two', 'titel = "two', "did you mean 'title'"),
    "unknown key of a rule": ("when = {", "wenn = {", "did you mean 'when'"),
    "unknown glob": ("when = { method", "when = { methode", "did you mean 'method'"),
    "unknown method": ('"BP", "FG-A"]', '"BP", "FG-AA"]', "unknown method 'FG-AA'"),
    "unknown architecture": ('arch = ["mlp-2x64"]', 'arch = ["mpl-2x64"]', "unknown architecture"),
    "unknown data": ('data = ["digits"]\nseeds = 3', 'data = ["digit"]\nseeds = 3', "'digits'"),
    "no seeds": ("seeds = 3", "seeds = 0", "at least one seed"),
    "tuning on the results' seeds": ("seeds = [10, 11]", "seeds = [5]", "by the tuning and by"),
    "two of one name": ('name = "tuned"', 'name = "plain"', "distinct names"),
    "exact in a rule": ("when = { method", "when = { exact = true, method", "is for recipes"),
    "nothing to try": ("lr = [0.5]", "lr = []", "at least 1 item"),
    "unknown option": ("set = { epochs = 2 }", "set = { epocs = 2 }", "did you mean 'epochs'"),
    "unknown option that varies": ("vary = { lr", "vary = { rl", "unknown option of train"),
    "unknown option of a rule": (
        "set = { epochs = 7 }",
        "set = { draws = 7 }",
        "in the grid 'tuned'",
    ),
    "unknown option that is tuned": (
        "tune = { lr = [0.5]",
        "tune = { lrr = [0.5]",
        "did you mean 'lr'",
    ),
    "unknown option of a tuning": (
        "set = { epochs = 1 }",
        "set = { seed = 1 }",
        "unknown option of",
    ),
    "a date": ("set = { epochs = 2 }", "set = { epochs = 1979-05-27 }", "set.epochs"),
    "not a number": ("vary = { lr = [", "vary = { lr = ['x', ", "lr='x'"),
    "graph": ("set = { epochs = 2 }", 'set = { graph = "of" }', "graph 'of'; did you mean 'off'"),
    "graph that varies": ("vary = { lr = [", "vary = { graph = [true], lr = [", "graph 'True'"),
    "nan": ("tune = { lr = [0.5]", "tune = { lr = [nan]", "lr=nan"),
    "a size that is none": ("set = { epochs = 2 }", "set = { train_size = -1 }", "train_size"),
    "too many seeds": ("seeds = 3", "seeds = 100001", "at most 100000 seeds"),
    "too many runs": (
        "vary = { lr",
        f"vary = {{ batch = {[*range(1, 1000)]}, epochs = {[*range(1, 100)]}, lr",
        "at most 100000 runs",
    ),
    "too deep": ("title = ", f"deep = {'[' * 5000}{']' * 5000}\ntitle = ", "is not TOML"),
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


def test_shipped_sweeps_are_listed_with_their_titles() -> None:
    listed = read.shipped()
    assert listed["paper-table3"] == read.read("paper-table3").title
    assert list(listed) == sorted(listed)
    assert set(SHIPPED) < set(listed)
    assert all(listed.values())


def test_options_are_those_of_the_verb(tmp_path: Path) -> None:
    text = PLAN[: PLAN.index('[[grid]]\nname = "tuned"')].replace("epochs = 2", "draws = 2")
    text = text.replace("vary = { lr = [0.1, 0.2] }", "")
    assert plan(f'verb = "measure"\n{text}', tmp_path).verb == "measure"
    with pytest.raises(UsageError, match="unknown option of train in the grid 'plain' 'draws'"):
        plan(text, tmp_path)
    with pytest.raises(UsageError, match="unknown option of measure in the grid 'plain' 'epochs'"):
        plan(f'verb = "measure"\n{text.replace("draws", "epochs")}', tmp_path)


SHIPPED = ["paper-table3", "paper-table4", "paper-figure4", "paper-figure6", "paper-figure7"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sweeps_have_a_grid_for_a_cpu_that_is_small(name: str) -> None:
    """Runs of digits, or of some thousand images, and no more of them than minutes can hold."""
    found = read.read(name)
    small = [g for g in found.grid if g.data == ["digits"] or "train_size" in g.set]
    assert small
    assert name == "paper-table3" or {g.name for g in small} == {"digits"}
    for one in small:
        assert count(expand(found, [one.name])) <= 120
        assert max(_epochs(cell) for cell in expand(found, [one.name])) <= 15
    assert any(g.data == ["cifar10"] and "train_size" not in g.set for g in found.grid)


def _epochs(cell: cells.Cell) -> int:
    return int(cell.options["epochs"])


def test_the_shipped_table_4_is_contrastive_with_eleven_methods() -> None:
    from fgbench.registry import PRESETS

    found = read.read("paper-table4")
    presets = {registry.method(text).text: registry.method(text) for text in list(PRESETS)[:11]}
    want = {
        (p.estimator.text, p.locality.text if p.estimator.name[:2] == "fg" else p.locality.name)
        for p in presets.values()
    }
    for name in ("digits", "cifar10", "cifar10-l"):
        methods = [registry.method(c.method) for c in expand(found, [name])]
        bare = {
            (m.estimator.text, m.locality.name.removeprefix("contrastive").strip("-") or "end")
            for m in methods
        }
        assert len(methods) == 11
        assert bare == want


def test_cells_that_sweeps_share_are_the_same_runs() -> None:
    """One method on one network and data has one recipe, so that a folder holds one result of it."""
    seen: dict[tuple[str, str, str], set[str]] = {}
    for name in SHIPPED:
        for cell in expand(read.read(name)):
            method = registry.method(cell.method)
            text = f"{method.estimator.text}/{method.locality.text}"
            if "train_size" in cell.options:
                continue
            tried = cell.candidates if cell.tuning else []
            runs = [case.options for values in tried for case in cell.trials(values)]
            told = f"{cell.options} {sorted(map(str, runs))}"
            seen.setdefault((text, cell.arch, cell.data), set()).add(told)
    assert {place: told for place, told in seen.items() if len(told) > 1} == {}
    assert ("fg_a/local-pg", "localmixer-m/8/16", "cifar10") in seen


def test_values_to_tune_need_a_tuning(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need a table"):
        plan(PLAN[: PLAN.index("[grid.tuning]")], tmp_path)


def test_names_of_files_and_grids(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'paper-table4'"):
        read.read("paper-table4x")
    with pytest.raises(UsageError, match="cannot read the sweep"):
        read.read(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        expand(plan(PLAN, tmp_path), ["plane"])
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read.read(str(tmp_path / "bytes.toml"))


def test_the_shipped_sweep_names_the_eleven_methods() -> None:
    from fgbench.registry import PRESETS

    for cell in expand(read.read("paper-table3")):
        assert cell.method in PRESETS
    methods = {c.method for c in expand(read.read("paper-table3"), ["mnist"])}
    assert len(methods) == 11
