"""Worse and better over paired seeds: the rule on planted arrays, what is compared, and planted trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgbench.runs.gate import worse
from fgbench.runs.gate.answers import Store
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
from fgbench.runs.gate.worse import Pairs, judge
from tests.makers import trees

N = worse.SEEDS


def levels(seed: int, n: int = N) -> np.ndarray[Any, Any]:
    """Noise of some networks: it differs between them by much more than a change does."""
    return np.exp(0.3 * np.random.default_rng(seed).standard_normal(n) + 3.0)


def pairs(before: Any, after: Any) -> Pairs:
    return Pairs(tuple(map(float, before)), tuple(map(float, after)))


def changed_by(factor: float, spread: float = 0.02) -> Callable[[int], Pairs]:
    """Noise that changes by a factor, with a standard deviation between networks."""

    def at(seed: int) -> Pairs:
        before = levels(seed)
        apart = spread * np.random.default_rng([seed, 1]).standard_normal(N)
        return pairs(before, before * factor * np.exp(apart))

    return at


def never() -> Pairs:
    raise AssertionError("nothing shows in the first ten, so no fresh ones are asked for")


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.21, WORSE), (1.1, WORSE), (0.5, BETTER), (0.25, BETTER)]
)
def test_a_change_of_noise_is_worse_or_better_once_confirmed(factor: float, verdict: str) -> None:
    at = changed_by(factor)
    found = judge("noise", at(0), lambda: at(1))
    assert found.verdict == verdict
    assert found.change is not None
    assert found.change.n == 2 * N
    assert found.change.low is not None
    assert found.change.high is not None
    assert found.change.low < factor < found.change.high
    assert f"relative variance {factor:.2g}"[:22] in found.what


def test_what_ten_fresh_ones_do_not_confirm_has_changed() -> None:
    first, second = changed_by(1.1), changed_by(0.95)
    assert judge("noise", first(0), lambda: second(1)).verdict == CHANGED
    assert judge("noise", changed_by(1.0)(0), never).verdict == CHANGED


def test_a_change_too_small_to_matter_has_changed() -> None:
    at = changed_by(1.005, spread=0.0005)
    assert judge("noise", at(0), never).verdict == CHANGED
    assert judge("noise", changed_by(0.995, spread=0.0005)(0), never).verdict == CHANGED


def test_rounding_is_the_same() -> None:
    at = changed_by(1 + 1e-13, spread=0.0)
    assert judge("noise", at(0), never).verdict == SAME
    none = pairs(np.zeros(N), np.zeros(N))
    assert judge("noise", none, never).verdict == SAME
    assert judge("training", none, never).verdict == SAME


def test_equal_numbers_of_what_is_not_known_to_be_true_have_changed() -> None:
    """An estimate without noise may have another mean; test errors are counts of a few examples."""
    none = pairs(np.zeros(N), np.zeros(N))
    assert judge("noise", none, never, true=False).verdict == CHANGED
    assert judge("training", none, never, true=False).verdict == CHANGED


def test_noise_where_there_was_none_is_worse() -> None:
    silent = pairs(np.zeros(N), levels(0))
    assert judge("noise", silent, lambda: silent).verdict == WORSE
    assert (
        judge("noise", pairs(levels(0), np.zeros(N)), lambda: pairs(levels(1), np.zeros(N))).verdict
        == BETTER
    )


def test_less_noise_that_is_not_known_to_be_true_is_never_better() -> None:
    at = changed_by(0.5)
    assert judge("noise", at(0), lambda: at(1), true=False).verdict == CHANGED
    more = changed_by(1.5)
    assert judge("noise", more(0), lambda: more(1), true=False).verdict == WORSE


def errors(seed: int, shift: float, spread: float = 0.02) -> Pairs:
    random = np.random.default_rng([seed, 7])
    before = 0.3 + 0.03 * random.standard_normal(N)
    return pairs(before, before + shift + spread * random.standard_normal(N))


def test_test_errors_are_compared_by_their_difference() -> None:
    found = judge("training", errors(0, 0.05), lambda: errors(1, 0.05))
    assert found.verdict == WORSE
    assert found.what.startswith("test error +")
    assert found.change is not None
    assert found.change.low is not None
    assert 0 < found.change.low < 0.05
    assert judge("training", errors(0, -0.05), lambda: errors(1, -0.05)).verdict == BETTER
    assert judge("training", errors(0, 0.0), lambda: errors(1, 0.0)).verdict == CHANGED


def test_a_nan_in_the_second_tree_is_an_alarm_and_one_in_the_first_is_said() -> None:
    sound = tuple(map(float, levels(0)))
    lost = (None, *sound[1:])
    found = judge("noise", Pairs(sound, lost), never)
    assert (found.verdict, found.what) == (WORSE, "noise not finite for 1 of 10 seeds")
    assert judge("noise", Pairs(lost, sound), never).verdict == CHANGED
    assert judge("training", Pairs(lost, lost), never).verdict == NOT_JUDGED
    at = changed_by(1.2)(0)
    assert judge("noise", at, lambda: Pairs(sound, lost)).verdict == WORSE


@pytest.mark.slow
def test_chance_rarely_alarms() -> None:
    """Of pairs without any difference 2 × 4.4e-4 are judged; of 1,000 at most 6 with probability .9999."""
    verdicts = []
    for k in range(1000):
        random = np.random.default_rng([k, 3])
        first, fresh = (pairs(*(0.3 + 0.02 * random.standard_normal((2, N)))) for _ in range(2))
        verdicts.append(judge("training", first, lambda fresh=fresh: fresh).verdict)  # type: ignore[misc]
    assert len(verdicts) - verdicts.count(CHANGED) <= 6


def test_a_difference_of_a_standard_deviation_and_a_half_is_seen() -> None:
    """Power .99 is simulated; with 100 runs fewer than 93 have a probability below 1e-4."""
    seen = 0
    for k in range(100):
        random = np.random.default_rng([k, 4])
        made = []
        for _ in range(2):
            before = 0.3 + 0.02 * random.standard_normal(N)
            made.append(pairs(before, before + 0.01 * (1.5 + random.standard_normal(N))))
        seen += judge("training", made[0], lambda made=made: made[1]).verdict == WORSE  # type: ignore[misc]
    assert seen >= 93


# what is compared


def estimate(method: str, arch: str = "mlp-2x6", about: str = "") -> Cell:
    return Cell("estimate", f"{method} {arch} {about}", method, arch, "synthetic", about)


def training(method: str, about: str = "plain") -> Cell:
    return Cell("training", f"train {method} {about}", method, "mlp-2x6", "synthetic", about)


def untrue(*cells: Cell, verdict: str = WORSE, kind: str = "bias") -> Finding:
    return Finding("true", kind, "somewhere", "something", verdict=verdict, cells=cells)


def test_an_interrupted_comparison_continues(tmp_path: Path) -> None:
    """What both trees have answered is not computed again."""
    store = Store(tmp_path / "kept", {}, print)
    cells = [estimate("fg_w/end"), estimate("np/end")]

    def ask(last: int) -> tuple[list[Finding], int]:
        def numbers(cell: Mapping[str, Any], seed: int) -> float:
            if sum(len(side.requests) for side in sides) > last:
                raise KeyboardInterrupt
            return 20.0 + seed

        sides = [trees.Scripted(trees.seeds_of(numbers), name) for name in "ab"]
        for side in sides:
            (tmp_path / side.name / "fgbench").mkdir(parents=True, exist_ok=True)
            (tmp_path / side.name / "fgbench" / "m.py").write_text(side.name)
            side.tree, side.commit = tmp_path / side.name, 40 * side.name  # type: ignore[attr-defined]
        found = worse.ask(*sides, cells, [], tell=lambda line: None, store=store)  # type: ignore[arg-type]
        return found, sum(len(side.requests) for side in sides)

    with pytest.raises(KeyboardInterrupt):
        ask(3)
    found, computed = ask(99)
    assert computed == 1
    assert ask(99) == (found, 0)


def test_every_estimator_is_compared_once_before_any_is_twice() -> None:
    cells = [estimate(f"{name}/{where}") for name in ("fg_a", "fg_w") for where in ("end", "local")]
    cells += [estimate("fg_a/end", about="measure"), Cell("draws", "draws gaussian")]
    found = worse.plan(cells, [])
    assert [each.request["method"] for each in found] == [
        "fg_a/end",
        "fg_w/end",
        "fg_a/local",
        "fg_w/local",
    ]
    assert [len(each.cells) for each in found] == [2, 1, 1, 1]
    assert all(each.request["verb"] == "measure" and each.true for each in found)


def test_what_is_untrue_is_not_compared_and_what_is_not_judged_is_never_better() -> None:
    cells = [estimate("fg_a/end"), estimate("fg_a/local"), estimate("np/end"), training("fg_a/end")]
    found = worse.plan(cells, [untrue(cells[0])])
    assert [each.request["method"] for each in found] == ["np/end"]
    found = worse.plan(cells, [untrue(cells[0], verdict=NOT_JUDGED)])
    assert [(each.kind, each.request["method"], each.true) for each in found] == [
        ("noise", "fg_a/end", False),
        ("noise", "np/end", True),
        ("training", "fg_a/end", True),
        ("noise", "fg_a/local", True),
    ]
    laws = Finding("true", "draws", "law gaussian", "|v|²/d is 1.21", verdict=WORSE)
    assert [each.kind for each in worse.plan(cells, [laws])] == ["training"]


def compare(
    cells: list[Cell],
    before: Callable[[Mapping[str, Any], int], float | None],
    after: Callable[[Mapping[str, Any], int], float | None],
    judged: tuple[Finding, ...] = (),
) -> list[Finding]:
    a, b = trees.Scripted(trees.seeds_of(before)), trees.Scripted(trees.seeds_of(after))
    return worse.ask(a, b, cells, judged, tell=lambda line: None)  # type: ignore[arg-type]


def base(cell: Mapping[str, Any], seed: int) -> float:
    return 20.0 + seed % 7


def test_one_row_per_estimator_and_verdict_with_the_largest_change() -> None:
    cells = [estimate(f"fg_w/{where}") for where in ("end", "local", "module")] + [
        estimate("np/end")
    ]

    def louder(cell: Mapping[str, Any], seed: int) -> float:
        factor = {"fg_w/end": 1.1, "fg_w/local": 1.3, "fg_w/module": 0.5, "np/end": 1.0}
        return base(cell, seed) * factor[cell["method"]] * (1 + 0.001 * (seed % 3))

    found = compare(cells, base, louder)
    assert [(f.verdict, f.where) for f in found] == [
        (WORSE, "fg_w, end, local, mlp-2x6"),
        (CHANGED, "np, end, mlp-2x6"),
        (BETTER, "fg_w, module, mlp-2x6"),
    ]
    assert found[0].what.startswith("relative variance 1.3 times [")
    assert found[0].what.endswith("over 20 seeds (the largest of 2)")
    assert found[0].cells == (cells[0], cells[1])
    assert found[0].low is not None
    assert found[0].low < 1.3013 < (found[0].high or 0)


def test_a_training_that_follows_an_estimate_is_a_row_only_where_it_is_worse_or_better() -> None:
    cells = [
        estimate("fg_w/end"),
        training("fg_w/end", "method"),
        training("bp/end", "schedule linear"),
    ]

    def other(cell: Mapping[str, Any], seed: int) -> float:
        return base(cell, seed) * (0.5 if cell["verb"] == "measure" else 1 + 0.01 * (-1) ** seed)

    found = compare(cells, base, other)
    assert {(f.verdict, f.kind, f.where) for f in found} == {
        (BETTER, "noise", "fg_w, end, mlp-2x6"),
        (CHANGED, "training", "bp, end, mlp-2x6, schedule linear"),
    }


def test_the_same_recipe_that_trains_to_a_lower_error_has_changed() -> None:
    """A schedule that comes late may be better for a while; an estimate that is better trains better."""
    late, follows = training("bp/end", "schedule cosine"), training("fg_w/end", "method")

    def lower(cell: Mapping[str, Any], seed: int) -> float:
        return base(cell, seed) * (0.5 + 0.01 * (seed % 3))

    found = {f.cells[0]: f for f in compare([late, follows, estimate("fg_w/end")], base, lower)}
    assert (found[late].verdict, found[follows].verdict) == (CHANGED, BETTER)
    assert "the same recipe trains otherwise" in found[late].what
    assert found[late].high is not None
    assert found[late].high < 0

    def higher(cell: Mapping[str, Any], seed: int) -> float:
        return base(cell, seed) * (1.5 + 0.01 * (seed % 3))

    assert [f.verdict for f in compare([late], base, higher)] == [WORSE]


def test_an_estimator_that_raises_in_the_second_tree_has_failed() -> None:
    def answer(status: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        ok = {"status": "ok", "reason": "", "values": [1.0] * N}
        failed = {"status": "failed", "reason": "ZeroDivisionError: division by zero"}
        return lambda request: {"cells": [ok if status == "ok" else failed], "cpu": 0.1}

    def ask(one: str, two: str) -> list[Finding]:
        a, b = trees.Scripted(answer(one)), trees.Scripted(answer(two))
        return worse.ask(a, b, [estimate("np/end")], [], tell=lambda line: None)  # type: ignore[arg-type]

    (finding,) = ask("ok", "failed")
    assert (finding.verdict, finding.what) == (FAILED, "ZeroDivisionError: division by zero")
    assert [f.verdict for f in ask("failed", "failed")] == [NOT_JUDGED]


def test_what_there_was_no_time_for_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worse, "SECONDS", {"measure": -1.0, "train": -1.0})
    cells = [estimate("np/end"), estimate("fg_w/end"), training("fg_w/end")]
    noise, trained = compare(cells, base, base)
    assert (noise.verdict, noise.where) == (NOT_JUDGED, "np, fg_w, end, mlp-2x6")
    assert noise.what == "2 of 2 noise levels not compared within -1 CPU seconds"
    assert (trained.verdict, trained.cells) == (NOT_JUDGED, (cells[2],))


def test_one_comparison_does_not_speak_for_those_that_were_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worse, "SECONDS", {"measure": 0.0, "train": 0.0})  # one of each kind
    cells = [estimate("fg_w/end"), estimate("fg_w/local"), estimate("fg_w/end", "mlp-1x4")]

    def less(cell: Mapping[str, Any], seed: int) -> float:
        return base(cell, seed) * 0.5 * (1 + 0.001 * (seed % 3))

    better, left = compare(cells, base, less)
    assert (better.verdict, better.cells) == (BETTER, (cells[0],))
    assert (left.verdict, left.cells) == (NOT_JUDGED, (cells[1], cells[2]))
    assert left.what == "2 of 3 noise levels not compared within 0 CPU seconds"


# planted trees


FG_A = (
    "        u = noise.directions(sites, self.directions, self.law)\n        cells",
    "        u = noise.directions(sites, 2 * self.directions, self.law)\n        cells",
)


@pytest.mark.slow
def test_a_true_improvement_is_better(tmp_path: Path) -> None:
    improved = trees.tree(tmp_path, ("estimators/fg_a.py", *FG_A))
    cells = [estimate("fg_a/end"), estimate("fg_a/local-pg")]
    (found,) = worse.ask(trees.here(), improved, cells, [], tell=print)
    assert found.verdict == BETTER
    assert found.low is not None
    assert found.high is not None
    assert 0.4 < found.low < found.high < 0.6


def test_what_changed_in_most_places_is_compared_first() -> None:
    methods = ("decor/end", "fg_a/end", "fg_a/local")
    cells = [Cell("estimate", method, method, "mlp-2x6") for method in methods]
    order = [each.request["method"] for each in worse.plan(cells, [])]
    assert order == ["fg_a/end", "decor/end", "fg_a/local"]
