"""Question 4 with sides that tell numbers of our own, and once with trees that are slower."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fgbench
from fgbench.runs.gate import slower
from fgbench.runs.gate.side import ProbeError, Side
from fgbench.runs.gate.slower import ALWAYS, MLP, TimedCell

Numbers = dict[str, Any]


@dataclass
class Told:
    """A side whose processes tell made-up numbers; ``change`` makes them those of other code."""

    name: str
    seed: int
    change: Callable[[dict[str, Any], Numbers, int], Numbers] = lambda cell, own, process: own
    sd: float = 0.04
    tree: Path = Path("no-such-tree")
    asked: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    processes: int = 0

    @contextmanager
    def start(self, probe: str) -> Iterator[Told]:
        assert probe == "timing"
        self.processes += 1
        self._generator = np.random.default_rng([self.seed, self.processes])
        yield self

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("rounds"):
            self.log.append(self.name)
        return {"cells": [self._cell(c) for c in request["cells"]], "resident": 4 * 10**8}

    def _cell(self, cell: dict[str, Any]) -> Numbers:
        level = float(np.exp(self._generator.normal(0.0, self.sd)))
        own = {"status": "ok", "repeats": 3, "cpu": 2 * level, "time": 2 * level, "memory": 1.5}
        return self.change(cell, own, self.processes)

    def __hash__(self) -> int:
        return id(self)


def asked(a: Told, b: Told) -> tuple[list[Any], list[str]]:
    lines: list[str] = []
    return slower.ask(a, b, tell=lines.append), lines  # type: ignore[arg-type]


def only(what: str, method: str, **factors: float) -> Callable[..., Numbers]:
    """Multiply some numbers of one cell on the mlp."""

    def change(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        hit = (cell["what"], cell["method"], cell["arch"]) == (what, method, MLP)
        return {**own, **{n: own[n] * f for n, f in factors.items()}} if hit else own

    return change


def test_equal_code_gives_no_finding() -> None:
    for seed in range(20):
        assert asked(Told("A", 2 * seed), Told("B", 2 * seed + 1))[0] == []


def test_a_step_that_computes_more() -> None:
    (found,), lines = asked(Told("A", 1), Told("B", 2, only("step", "FG-W", cpu=1.3, time=1.3)))
    assert (found.question, found.kind, found.verdict) == ("slower", "time", "worse")
    assert found.where == "step of FG-W, mlp-2x64"
    assert "times the CPU time" in found.what
    assert found.unit == "x backprop"
    assert found.low > 1
    assert found.after / found.before == pytest.approx(1.3, abs=0.1)
    assert any("1 of 16 to be judged by 7 fresh pairs" in line for line in lines)


def test_a_step_that_sleeps() -> None:
    (found,), _ = asked(Told("A", 1, sd=0.02), Told("B", 2, only("step", "FG-A", time=1.4), 0.02))
    assert (found.kind, found.verdict) == ("time", "worse")
    assert "waiting" in found.what


def test_doubled_memory_is_exact() -> None:
    (found,), _ = asked(Told("A", 1), Told("B", 2, only("step", "FG-A", memory=2.0)))
    assert (found.kind, found.verdict, found.what) == (
        "memory",
        "worse",
        "2.00 times the peak memory",
    )
    assert (found.before, found.after, found.low, found.high) == (1.5, 3.0, 2.0, 2.0)


def test_an_engine_that_works_twice_is_named() -> None:
    def twice(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        engine = cell.get("options", {}).get("engine")
        return (
            {**own, "cpu": 2 * own["cpu"], "time": 2 * own["time"]}
            if engine == "cotangent"
            else own
        )

    (found,), _ = asked(Told("A", 1), Told("B", 2, twice))
    assert found.where == "draw of FG-A (engine cotangent), mlp-2x64"


def test_a_faster_step_is_shown_as_one() -> None:
    (found,), _ = asked(Told("A", 1), Told("B", 2, only("step", "FG-A", cpu=0.5, time=0.5)))
    assert (found.verdict, found.alarms) == ("better", False)


def test_of_what_slows_all_down_a_few_cells_are_judged() -> None:
    def all_down(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        factor = 3.0 if cell["what"] == "train" else 1.5
        return {**own, "cpu": factor * own["cpu"], "time": factor * own["time"]}

    found, lines = asked(Told("A", 1), Told("B", 2, all_down))
    judged = [f for f in found if f.verdict == "worse"]
    assert len(judged) == slower.JUDGED
    assert {f.where.split()[0] for f in judged} == {"step", "draw", "training"}
    others = [f for f in found if f.verdict == "not judged"]
    assert len(judged) + len(others) == len(ALWAYS)
    assert "times at first sight" in others[0].what
    assert any("5 of 16 to be judged" in line for line in lines)


def test_what_fresh_pairs_do_not_show_is_none() -> None:
    def at_first(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        return {**own, "cpu": own["cpu"] * (1.5 if process <= 2 else 1.0)}

    found, lines = asked(Told("A", 1), Told("B", 2, at_first))
    assert found == []
    assert any("to be looked at again" in line for line in lines)


def test_what_a_tree_does_not_have_is_said_and_the_others_are_timed() -> None:
    def old(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        if cell["arch"].startswith("torch:"):
            return {"status": "n/a", "reason": "this tree has no fgbench.core.wrapping.wrap"}
        return own

    found, _ = asked(Told("A", 1, old), Told("B", 2, only("step", "FG-W", cpu=1.5, time=1.5)))
    wrapped = [cell for cell in ALWAYS if cell.arch.startswith("torch:")]
    assert [f.kind for f in found] == ["n/a"] * len(wrapped) + ["time"]
    assert found[0].verdict == "not judged"
    assert found[0].what == "before: this tree has no fgbench.core.wrapping.wrap"


def test_what_the_second_tree_cannot_run_any_more_alarms() -> None:
    def refuses(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        wrapped = cell["arch"].startswith("torch:")
        return {"status": "n/a", "reason": "refused"} if wrapped else own

    found, _ = asked(Told("A", 1), Told("B", 2, refuses))
    assert {(f.kind, f.verdict, f.what) for f in found} == {("n/a", "changed", "after: refused")}


def test_where_nothing_can_be_timed_the_question_failed() -> None:
    def none(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        return {"status": "n/a", "reason": "no GPU"}

    (found,), _ = asked(Told("A", 1, none), Told("B", 2, none))
    assert (found.verdict, found.what) == ("failed", "after: no GPU")


def test_a_step_that_waits_is_not_hidden_by_less_computing() -> None:
    found, _ = asked(Told("A", 1), Told("B", 2, only("step", "FG-A", cpu=0.5, time=2.0)))
    assert sorted(f.verdict for f in found) == ["better", "worse"]


def test_what_is_slower_is_judged_before_what_is_faster() -> None:
    def most_faster(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        slower_one = (cell["what"], cell["method"], cell["arch"]) == ("step", "FG-A", MLP)
        factor = 1.4 if slower_one else 0.4
        return {**own, "cpu": factor * own["cpu"], "time": factor * own["time"]}

    found, _ = asked(Told("A", 1), Told("B", 2, most_faster))
    (worse,) = [f for f in found if f.verdict == "worse"]
    assert "FG-A" in worse.where


def test_what_raises_on_one_side_failed() -> None:
    def broken(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        if cell["what"] == "train":
            return {"status": "failed", "reason": "ZeroDivisionError: division by zero"}
        return own

    (found,), _ = asked(Told("A", 1), Told("B", 2, broken))
    assert (found.kind, found.verdict) == ("failed", "failed")
    assert found.what == "after: ZeroDivisionError: division by zero"


def test_a_process_that_ends_is_one_finding() -> None:
    def ends(cell: dict[str, Any], own: Numbers, process: int) -> Numbers:
        raise ProbeError("B", "timing", "ended by signal 9")

    (found,), _ = asked(Told("A", 1), Told("B", 2, ends))
    assert (found.verdict, found.where, found.what) == ("failed", "B", "timing: ended by signal 9")


def test_the_two_processes_take_turns_and_nobody_is_always_the_first() -> None:
    a, b = Told("A", 1), Told("B", 2)
    b.log = a.log
    asked(a, b)
    firsts = [a.log[k] for k in range(0, len(a.log), 2)]
    assert {"A", "B"} == set(firsts)
    assert a.log.count("A") == a.log.count("B")


def test_estimators_and_localities_that_changed_are_timed(tmp_path: Path) -> None:
    for side, text in (("one", "a"), ("other", "b")):
        for kind in ("estimators", "localities"):
            folder = tmp_path / side / "fgbench" / kind
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text(text)
            (folder / "same.py").write_text("same")
            (folder / f"{kind[:3]}_new.py").write_text(text)
    (tmp_path / "other" / "fgbench" / "estimators" / "added.py").write_text("")
    cells = slower.changed(tmp_path / "one", tmp_path / "other")
    assert cells == [TimedCell("step", "est_new", MLP), TimedCell("step", "fg_a/loc_new", MLP)]


# The package itself, as two trees


def planted(tmp_path: Path, **edits: tuple[str, str]) -> Side:
    """Copy the package and replace a piece of some files."""
    tree = tmp_path / "planted"
    package = Path(fgbench.__file__).parent
    shutil.copytree(package, tree / "fgbench", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        file = tree / "fgbench" / f"{name.replace('__', '/')}.py"
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, name
        file.write_text(text.replace(old, new), encoding="utf-8")
    return Side("planted", "", tree, Path(sys.executable))


@pytest.mark.slow
def test_planted_faults_are_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that sleeps, one that computes, doubled memory, and an engine that works twice."""
    cells = [
        TimedCell("step", "BP", MLP),
        TimedCell("step", "FG-W", MLP),
        TimedCell("step", "NP", MLP),
        TimedCell("step", "FA", MLP),
        next(cell for cell in ALWAYS if dict(cell.options).get("engine") == "cotangent"),
    ]
    monkeypatch.setattr(slower, "ALWAYS", tuple(cells))
    monkeypatch.setattr(slower, "changed", lambda before, after: [])
    # few pairs and large faults: processes take seconds to start; of 3 the 99 % interval would be ten
    # standard errors wide to either side, of 5 it is less than half of that
    monkeypatch.setattr(slower, "LOOKS", (1,))
    monkeypatch.setattr(slower, "FRESH_PAIRS", 5)
    monkeypatch.setattr(slower, "MOST_ROUNDS", 10)
    call = "def __call__("
    before = Side("here", "", Path(fgbench.__file__).parents[1], Path(sys.executable))
    after = planted(
        tmp_path,
        estimators__fg_w=(call, SLEEPS + call),
        estimators__np=(call, COMPUTES + call),
        estimators__fa=(call, HOLDS + call),
        measurement__draws=(
            'return by_cotangents(point, draws), ""',
            "any(by_cotangents(point, draws) is None for _ in range(4))\n"
            '        return by_cotangents(point, draws), ""',
        ),
    )
    findings = slower.ask(before, after, tell=lambda line: None)
    assert {(f.where, f.kind, f.verdict) for f in findings} >= {
        ("step of FG-W, mlp-2x64", "time", "worse"),
        ("step of NP, mlp-2x64", "time", "worse"),
        ("step of FA, mlp-2x64", "memory", "worse"),
        ("draw of FG-A (engine cotangent), mlp-2x64", "time", "worse"),
    }
    said = {f.where: f.what for f in findings}
    assert "step of BP, mlp-2x64" not in said
    assert "waiting" in said["step of FG-W, mlp-2x64"]
    assert "CPU time" in said["step of NP, mlp-2x64"]


WRAPPER = """def _planted(call):
        import time

        import torch

        def planted(self, view, noise, state):
            {}

        return planted

    @_planted
    """
SLEEPS = WRAPPER.format("found = call(self, view, noise, state); time.sleep(0.01); return found")
COMPUTES = WRAPPER.format(
    "found = call(self, view, noise, state)\n"
    "            end = time.process_time() + 0.01\n"
    "            while time.process_time() < end: pass\n"
    "            return found"
)
HOLDS = WRAPPER.format(
    "held = torch.empty(1 << 20); found = call(self, view, noise, state); del held; return found"
)
