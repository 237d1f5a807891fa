"""What the terminal shows: numbers with intervals, verdicts, one row per method, no markup from data."""

from __future__ import annotations

import re
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console

from fgbench.reporting.terminal import measure_table, tables
from fgbench.stats import reporting as cells
from fgbench.stats.bias_verdict import adjusted_p_values


def number(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 4}


def bias_of(value: float | None, p: float | None, detectable: float | None) -> dict[str, Any]:
    ends = {"draws_low": value, "draws_high": value}
    return {**number(value, value, value), "p_value": p, "detectable": detectable, **ends}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "-"),
        (3.14159, "3.14"),
        (number(1.0, 0.5, 1.5), "1 [0.5, 1.5]"),
        (number(1.0, 1.0, 1.0), "1"),
        (number(1.0, None, None), "1"),
        (number(None, None, None), "-"),
        (number(None, 0.0, 0.25), "< 0.25"),
        (number(137.0, 118.2, 1234.5), "137 [118, 1.23e+03]"),
    ],
)
def test_a_number_is_written_with_its_interval(found: Any, text: str) -> None:
    assert cells.number(found) == text


def test_a_bias_comes_with_its_verdict() -> None:
    assert cells.bias(bias_of(0.0, 1.0, 0.0), 1.0) == "0 (exact)"
    assert cells.bias(bias_of(0.3, 0.001, 0.1), 0.002) == "0.3 (p=0.002)"
    said = cells.bias(bias_of(0.04, 0.4, 0.1), 0.8)
    assert said == "not rejected (p=0.8, detectable 0.1)"
    assert cells.bias(bias_of(None, 0.03, 1.5), 0.06) == "not rejected (p=0.06, detectable 1.5)"
    assert cells.bias(bias_of(None, None, None), None) == "-"
    assert cells.bias(bias_of(0.7, 0.0, 0.0), 0.0) == "0.7 (exact)"


def test_the_interval_beside_a_p_value_is_over_draws_as_the_test_is() -> None:
    """Over batches it may be as wide as it likes: what the test saw is no matter of it."""
    over = {**number(0.3, 0.0, 9.0), "p_value": 0.01, "detectable": 0.1}
    assert (
        cells.bias({**over, "draws_low": 0.2, "draws_high": 0.4}, 0.01) == "0.3 [0.2, 0.4] (p=0.01)"
    )
    # a rejected bias of 0 is no statement: where the two-sided interval reaches 0 its upper end is left
    assert cells.bias({**over, "draws_low": 0.0, "draws_high": 0.4}, 0.04) == (
        "0.3, at most 0.4 (p=0.04)"
    )
    assert cells.bias(over, 0.01) == "0.3 (p=0.01)"  # an older record
    few = {**over, "p_value": None, "draws_low": 0.0, "draws_high": 0.5}
    assert cells.bias(few, None) == "not tested (< 0.5)"


def test_p_values_are_adjusted_for_the_rows() -> None:
    rows = [bias_of(0.1, p, 0.1) for p in (0.01, 0.04, 0.03)]
    rows += [bias_of(0.5, 0.0, 0.0), bias_of(None, None, None)]  # exact, and not tested
    found = adjusted_p_values([{"bias": r} for r in rows] + [{}])
    assert found[:3] == [pytest.approx(p) for p in (0.03, 0.06, 0.06)]
    assert found[3:] == [0.0, None, None]
    assert adjusted_p_values([{"bias": bias_of(0.1, 0.9, 0.1)}] * 2) == [1.0, 1.0]
    assert adjusted_p_values([]) == []


def test_a_spread_is_the_mean_with_its_ends() -> None:
    assert cells.spread([]) == "-"
    assert cells.spread([2.5]) == "2.5"
    assert cells.spread([1.0, 2.0, 6.0]) == "3 [1, 6]"


def record(verb: str, method: str, **more: Any) -> dict[str, Any]:
    common = {"verb": verb, "method": method, "status": "ok", "reason": "", "seed": 0}
    return {**common, "arch": "mlp", "data": "digits[x]", "device": "cpu", **more}


def measured(method: str, **more: Any) -> dict[str, Any]:
    one = number(1.0, 0.5, 1.5)
    more = {"moments": [0.0], "estimator": method} | more
    body = dict.fromkeys(("relative_variance", "efficiency", "scale", "cosine"), one)
    body |= {"predicted_variance": None, "expected_cosine": 0.1, "bias": bias_of(0.0, 1.0, 0.0)}
    head = {"draws": 64, "batches": 4, "batch": 128, "inits": 1}
    return record("measure", method, **body, **head, cost={"forward_equivalents": 3.0}, **more)


def skipped(verb: str, method: str, **more: Any) -> dict[str, Any]:
    return record(verb, method, **{"status": "skipped", "reason": "not [here]", **more})


TRAINED = {"test_error": 0.05, "train_error": 0.0, "test_loss": 0.2, "epochs": 3, "seconds": 1.0}
SPEED = {
    "step_ms": number(2.0, 1.0, 3.0), "ratio_to_bp": number(4.0, 4.0, 4.0), "noise_ms": 0.1,
    "peak_mb": 1.0, "peak_ratio_to_bp": 1.5, "batch": 8, "rounds": 3, "directions": 2,
}  # fmt: skip


def test_one_row_per_record_and_a_reason_for_what_is_not_ok(
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1}
    tables.show(
        [
            skipped("measure", "first", **head),
            measured("fg_a[law=sphere]"),
            record("train", "BP", **TRAINED),
            record("train", "BP", seed=1, **{**TRAINED, "test_error": 0.07}),
            record("train", "BP", seed=2, status="diverged", reason="loss not finite at step 3"),
            record("speed", "FG-A", **SPEED),
        ]
    )
    out = capsys.readouterr().out
    assert "fg_a[law=sphere]" in out  # brackets are no markup
    assert "digits[x]" in out
    assert "0 (exact)" in out
    assert "1 init (this network only)" in out
    assert "64 draws" in out
    assert "first seed 0: skipped: not [here]" in out
    assert "6 [5, 7]" in out
    assert "2 of 3" in out
    assert "BP seed 2: diverged: loss not finite at step 3" in out
    speed = next(line for line in out.splitlines() if line.split()[:1] == ["FG-A"])
    assert speed.split() == ["FG-A", "2", "[1,", "3]", "4", "2", "0.1", "1", "1.5"]


def test_the_directions_that_match_the_noise_of_batches_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    some = [
        measured("FG-A", split={"directions_for_parity": number(1073.0, 922.8, 1248.0)}),
        measured("BP", split={"directions_for_parity": number(0.0, 0.0, 0.0)}),
        measured("NP", split={"directions_for_parity": number(None, None, None)}),
        measured("FG-W", split=None),  # its truth is zero
        measured("an older record"),
    ]
    tables.show(some)
    out = " ".join(capsys.readouterr().out.split())
    assert "equals the noise between batches: FG-A 1.07e+03 [923, 1.25e+03]." in out
    tables.show(some[1:])
    assert "noise between batches" not in " ".join(capsys.readouterr().out.split())


def test_moments_and_a_fixed_cost_are_told_below_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    along = [
        {**measured("FG-A"), "moment": moment, "steps": steps}
        | {"relative_variance": number(value, 1.0, 900.0), "cosine": number(None, None, None)}
        for moment, steps, value in ((0.0, 0, 271.0), (5.0, 140, 300.0))
    ]
    budget = {"asked": 64.0, "spent": 63.0, "note": ""}
    some = [
        measured("FG-A", per_moment=along, trajectory="backprop", directions=31, budget=budget),
        measured("BP", directions=1, budget={**budget, "note": "no directions"}),
        measured("an older record"),
    ]
    tables.show(some)
    lines = capsys.readouterr().out.splitlines()
    out = " ".join(" ".join(lines).split())
    rows = [
        [part.strip() for part in split(line)[:3]] for line in lines if line.split()[:1] == ["FG-A"]
    ]
    assert rows == [
        ["FG-A", "0 (0 steps)", "271 [1, 900]"],
        ["FG-A", "5 (140 steps)", "300 [1, 900]"],
        ["FG-A", "all", "1 [0.5, 1.5]"],
    ]
    assert "moment: epochs of backprop. all: relative variance is the geometric mean over" in out
    assert [split(line)[1] for line in lines if line.split()[:1] == ["BP"]] == ["0"]
    assert "at most 64 forward equivalents: BP 1 (no directions); FG-A 31." in out
    tables.show(some[2:])
    out = " ".join(capsys.readouterr().out.split())
    assert "moment" not in out
    assert "at most" not in out


def test_a_truth_below_float_noise_is_undefined(capsys: pytest.CaptureFixture[str]) -> None:
    empty = dict.fromkeys(
        ("relative_variance", "efficiency", "scale", "cosine"), number(None, None, None)
    )
    reason = "the truth is at rounding level"
    tables.show([measured("FG-W") | empty | {"reason": reason}, measured("FG-A")])
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.split()[:1] == ["FG-W"])
    assert row.split() == ["FG-W", *["undefined"] * 6, "3", "-"]
    assert f"FG-W seed 0: undefined, at moment 0 {reason} (as where a head starts at zero)" in out
    assert out.count("undefined") == 7


def test_captured_steps_have_columns_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = {"captured_ms": 0.5, "captured_ratio_to_bp": 0.25}
    none = dict.fromkeys(graph)
    tables.show([record("speed", "FG-A", **SPEED, **graph), record("speed", "BP", **SPEED, **none)])
    out = capsys.readouterr().out
    assert "captured / backprop" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert (rows["FG-A"][-2:], rows["BP"][-2:]) == (["0.5", "0.25"], ["-", "-"])


@pytest.mark.parametrize("verb", ["measure", "train", "speed"])
def test_a_table_of_nothing_but_skips_is_shown(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1, "epochs": 3}
    tables.show([skipped(verb, "BP", **head)])
    assert "BP seed 0: skipped: not [here]" in capsys.readouterr().out


def test_nothing_to_measure_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([measured("FG-W", moments=[2.0]) | {"reason": "the truth is zero"}])
    lines = capsys.readouterr().out.splitlines()
    assert "FG-W seed 0: undefined, at moment 2 the truth is zero" in lines


def test_a_moment_without_a_gradient_leaves_all_undefined_and_it_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = dict.fromkeys(
        ("relative_variance", "efficiency", "scale", "cosine"), number(None, None, None)
    )
    gone = empty | {"reason": "the truth is zero"}

    def along(method: str, lost: bool) -> dict[str, Any]:
        one = measured(method, moments=[0.0, 1.0, 5.0])
        parts = [{**one, "moment": m, **(gone if lost and m == 0 else {})} for m in one["moments"]]
        return one | {"per_moment": parts} | (gone if lost else {})

    tables.show([along("FG-A", True), along("NP", True), along("LG-FG-A", False)])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if " seed " in line] == [
        "FG-A, NP seed 0: all: undefined, at moment 0 the truth is zero (as where a head starts at zero); "
        "--moments 1,5 gives it"
    ]
    rows = [split(line) for line in lines if line.split()[:1] == ["NP"]]
    assert [row[1:3] for row in rows] == [
        ["0", "undefined"],
        ["1", "1 [0.5, 1.5]"],
        ["5", "1 [0.5, 1.5]"],
        ["all", "undefined (moment 0)"],
    ]


def test_equal_reasons_for_a_missing_ratio_are_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = "2 of 6 points have no positive number: the reference's"
    none = {"efficiency": number(None, None, None) | {"reason": why}, "method": "NP", "own": False}
    tables.show([measured(m, against=none) for m in ("FG-A", "FG-W", "LG-FG-A")])
    out = " ".join(capsys.readouterr().out.split())
    assert f"; none for FG-A, FG-W, LG-FG-A: {why}." in out


def test_draws_of_a_precision_are_told_method_by_method(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noisy = {"bias": bias_of(0.04, 0.4, 0.1)}
    some = [measured(m) | noisy | {"draws": n} for m, n in (("a", 457), ("b", 64), ("c", 64))]
    some += [measured("exact") | {"draws": 6}]  # a few draws show all of it
    tables.show(some)
    assert "457 (a), 64 (b, c) draws x 4 batches" in " ".join(capsys.readouterr().out.split())
    tables.show([some[0] | {"draws_asked": 9000}, some[1] | {"draws_asked": 64}])
    out = " ".join(capsys.readouterr().out.split())
    assert " needs more draws than the maximum: a 9000 needed, 457 made." in out
    tables.show(some[1:])
    out = " ".join(capsys.readouterr().out.split())
    assert "64 draws x 4 batches" in out
    assert "more draws" not in out
    assert "457" not in out


@pytest.mark.parametrize(
    ("inits", "batches", "told"),
    [
        (
            1,
            2,
            "2 batches: the width of an interval over so few is mostly chance; use 4 or more, or --inits.",
        ),
        (3, 9, "3 inits: the width of an interval over so few is mostly chance; use 4 or more."),
        (1, 4, ""),
        (4, 1, ""),
        (1, 1, ""),
    ],
)
def test_an_interval_over_two_batches_is_warned_of(
    inits: int, batches: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = {"bias": bias_of(0.04, 0.4, 0.1), "inits": inits, "batches": batches}
    tables.show([measured("FG-A") | noisy])
    out = " ".join(capsys.readouterr().out.split())
    assert told in out
    assert ("over so few" in out) == bool(told)


def test_a_fixed_cost_says_what_it_replaced_and_made_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    budget = {"asked": 10.0, "spent": 9.5, "note": ""}

    def bought(method: str, estimator: str, **more: Any) -> dict[str, Any]:
        form = {"options": {"directions": 8, "law": "gaussian"}, "locality": "end"} | more
        return measured(method, estimator=estimator, directions=8, budget=budget, **form)

    some = [
        bought("FG-A", "fg_a"),
        bought("fg_a[directions=4]/end", "fg_a[directions=4]"),
        bought("LG-FG-A", "fg_a", locality="local-pg"),
        bought("NP", "np"),
    ]
    tables.show(some)
    out = " ".join(capsys.readouterr().out.split())
    assert "--cost replaces the number of directions that was typed: fg_a[directions=4]/end." in out
    assert "The same method: FG-A and fg_a[directions=4]/end." in out
    tables.show(some[2:])
    out = " ".join(capsys.readouterr().out.split())
    assert "typed" not in out
    assert "The same method" not in out


def test_no_records_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([])
    assert capsys.readouterr().out == ""


SOME = {"bias": "some", "why": ""}


def test_a_design_that_biases_is_marked_and_named_with_what_was_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = {"value": 0.6, "low": 0.0, "high": 0.9, "p_value": 1e-4, "detectable": 0.1}
    seen |= {"draws_low": 0.5, "draws_high": 0.7}
    unseen = {"value": 0.04, "low": 0.0, "high": 0.2, "p_value": 0.4, "detectable": 0.3}
    rows = [
        measured("old"),
        measured("plain", claimed={"bias": "none", "why": ""}) | {"bias": unseen},
        measured("loud", claimed=SOME | {"why": "for a reason"}) | {"bias": seen},
        measured("faint", claimed=SOME | {"why": "for another"}) | {"bias": unseen},
        measured("mine", claimed=SOME) | {"bias": seen},
    ]
    tables.show(rows)
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "may be biased" in line] == [
        "loud seed 0 †: may be biased, for a reason; measured: 0.6 [0.5, 0.7] (p=0.0004)",
        "faint seed 0 †: may be biased, for another; measured: not detected, 0.3 would have been (p=0.8)",
    ]
    table = [line for line in out.splitlines() if "1 [0.5, 1.5]" in line]
    assert [line.split()[0] for line in table if "†" in line] == ["loud", "faint", "mine"]
    assert "†: not claimed to be unbiased" in " ".join(out.split())
    tables.show(rows[:2])
    assert "†" not in capsys.readouterr().out


def test_failures_are_left_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1}
    failed = skipped("measure", "Mine", status="failed", reason="ValueError: no", **head)
    tables.show([measured("FG-W"), failed])
    out = capsys.readouterr().out
    assert "Mine" in out
    assert "ValueError" not in out


# widths

LONG = "./some/folder/my_file.py:MyEstimator[directions=4]/local-pg"
WIDE = measured("LG-FG-A") | {
    "relative_variance": number(1234567.0, 1123456.0, 1334567.0),
    "predicted_variance": 1.2e6,
    "efficiency": number(0.003123, 0.00262123, 0.00366345),
    "scale": number(0.976, -0.884, 1.07),
    "cosine": number(0.0551, -0.0505, 0.0596),
}
TIMED = {"step_ms": number(0.4862, 0.4553, 0.5631), "ratio_to_bp": number(3.651, 3.293, 3.919)}
ALL = {
    "measure": [measured("FG-A"), WIDE, measured(LONG)],
    "train": [record("train", m, seed=s, **TRAINED) for m in ("BP", LONG) for s in (0, 1)],
    "speed": [record("speed", m, **{**SPEED, **TIMED}) for m in ("FG-A", LONG)],
}
HEADERS = {
    "measure": "method,relative variance,predicted,efficiency,scale,bias,cosine,fwd,n",
    "train": "method,test error %,train error %,test loss,lr,epochs,seconds,seeds",
    "speed": "method,step ms,step / backprop,/ backprop per direction,noise ms,peak MiB,peak / backprop",
}


def printed(rows: list[dict[str, Any]], width: int) -> list[str]:
    """The lines on a console of that width."""
    out = StringIO()
    tables.show(rows, Console(file=out, width=width, markup=False, emoji=False))
    return out.getvalue().splitlines()


def split(line: str) -> list[str]:
    """The cells of a line: they lie two spaces or more apart."""
    return re.split(r" {2,}", line.strip())


def numbers(lines: list[str]) -> list[str]:
    """Every cell below a rule, whatever table it is in, dashes left out."""
    found, inside = [], False
    for line in lines:
        inside = bool(line.strip()) and (inside or "──" in line)
        if inside and "──" not in line:
            found += [cell for cell in split(line)[1:] if cell != "-"]
    return found


@pytest.mark.parametrize("verb", ALL)
def test_a_narrow_terminal_stacks_columns_and_cuts_no_number(verb: str) -> None:
    """Every number of the wide table stands whole on one line of 80 characters."""
    wide, narrow = printed(ALL[verb], 240), printed(ALL[verb], 80)
    assert max(map(len, narrow)) <= 80
    assert sorted(numbers(narrow)) == sorted(numbers(wide))
    assert len(numbers(wide)) > 10
    heads = [split(a) for a, b in pairwise(narrow) if "──" in b]
    assert all(head[0] == "method" for head in heads)
    assert [name for head in heads for name in head[1:]] == HEADERS[verb].split(",")[1:]
    joined = "".join(line[: line.index("  ")] for line in narrow if "  " in line).replace(" ", "")
    assert LONG.rpartition(":")[2] in joined  # folded, nothing of it lost
    assert " ".join(narrow).split()[-5:] == " ".join(wide).split()[-5:]  # the caption is whole


@pytest.mark.parametrize("verb", ALL)
def test_the_narrowest_terminal_folds_names_before_numbers(verb: str) -> None:
    lines = printed(ALL[verb], 40)
    assert max(map(len, lines)) <= 40
    assert sorted(numbers(lines)) == sorted(numbers(printed(ALL[verb], 240)))


@pytest.mark.parametrize("verb", ALL)
def test_a_wide_terminal_has_one_table(verb: str) -> None:
    for width in (200, 240):
        lines = printed(ALL[verb], width)
        assert sum("──" in line for line in lines) == 1
        (head,) = (a for a, b in pairwise(lines) if "──" in b)
        assert split(head) == HEADERS[verb].split(",")


def test_columns_side_by_side_would_break_numbers_at_80() -> None:
    """What stacking is for: the same columns in one table lose the place of their numbers."""
    sheet = measure_table.table(ALL["measure"])
    out = StringIO()
    Console(file=out, width=80).print(sheet._table(range(1, 8), None))
    assert "0.00312 [0.00262, 0.00366]" not in out.getvalue()
    assert "0.00312 [0.00262, 0.00366]" in "\n".join(printed(ALL["measure"], 80))


def test_columns_are_not_stacked_where_setting_them_closer_is_enough() -> None:
    short = [record("train", "BP", seed=s, **TRAINED) for s in (0, 1)]
    assert sum("──" in line for line in printed(short, 88)) == 1
    assert sum("──" in line for line in printed(short, 60)) == 2


# what a row says of itself


def row_of(out: str, method: str) -> list[str]:
    """The cells of a method's row."""
    return next(split(line) for line in out.splitlines() if line.split()[:1] == [method])


def test_n_says_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    def of(n: int, inits: int, batches: int) -> dict[str, Any]:
        counts = {"inits": inits, "batches": batches, "draws": 64}
        name = f"{n}-{inits}-{batches}"
        return measured(name) | counts | {"relative_variance": {**number(1.0, 0.5, 1.5), "n": n}}

    some = [of(4, 1, 4), of(10, 10, 1), of(10, 10, 3), of(64, 1, 1), of(3, 1, 1)]
    tables.show(some)
    out = capsys.readouterr().out
    assert [row_of(out, r["method"])[-1] for r in some] == [
        *("4 batches", "10 inits", "10 inits", "64 draws", "64 draws"),
    ]  # the last: three moments, which are no replicates


def test_a_row_without_numbers_says_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1}
    why = "an estimate costs 3 forward equivalents, more than the 2 asked"
    tables.show(
        [
            skipped("measure", "dear", **head) | {"reason": why},
            skipped("measure", "wild", **head) | {"status": "diverged"},
        ]
    )
    out = capsys.readouterr().out
    assert row_of(out, "dear")[1:] == ["skipped", *["-"] * 7]
    assert row_of(out, "wild")[1:] == ["diverged", *["-"] * 7]
    assert f"dear seed 0: skipped: {why}" in out
    assert "0 draws" not in out


def test_a_moment_before_all_was_lost_keeps_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    one, why = measured("wild", moments=[0.0, 3.0]), "an estimate is not finite"
    parts = [{**one, "moment": 0.0}, {**one, "moment": 3.0, "reason": why}]
    tables.show([one | {"status": "diverged", "reason": why, "per_moment": parts}])
    lines = [split(line) for line in capsys.readouterr().out.splitlines() if "wild " in line]
    found = {cells[1]: cells[2] for cells in lines if len(cells) > 2}
    assert found == {"0": "1 [0.5, 1.5]", "3": "diverged", "all": "diverged"}


@pytest.mark.parametrize(
    ("scale", "detectable", "named"),
    [
        (number(2.0, 1.9, 2.1), 0.1, True),
        (number(0.5, 0.3, 0.7), 0.1, True),
        (number(0.7, 0.5, 0.9), 0.1, True),  # p .017; the other row is exact
        (number(0.8, 0.6, 1.0), 0.1, False),
        (number(0.7, 0.5, 0.9) | {"p_value": 0.06}, 0.1, False),  # over draws
        (number(0.7, 0.1, 1.9) | {"p_value": 0.01}, 0.1, True),
        (number(1.0, 0.8, 1.2), 0.1, False),
        (number(1.04, 1.03, 1.05), 0.1, False),  # variances that differ by a tenth compare
        (number(-0.4, -2.4, 1.7), 0.0, True),  # no sampling error at these batches
        (number(1.0, 1.0, 1.0), 0.0, False),
        (number(None, None, None), 0.1, False),
    ],
)
def test_a_scale_that_is_not_1_says_what_not_to_compare(
    scale: Any, detectable: float, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bias_of(0.5, 0.5, detectable)
    tables.show([measured("FA") | {"scale": scale, "bias": found}, measured("FG-A")])
    out = " ".join(capsys.readouterr().out.split())
    told = (
        "Scale is not 1, so relative variance is not comparable; compare by efficiency: FA (scale "
    )
    assert (told in out) == named


def test_settings_in_which_methods_differ_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"lr": 0.1, "lr_batch": 0, "batch": 50, "final_lr": 1.0}
    one = record("train", "DFA", settings=same, **TRAINED)
    other = record("train", "drtp", settings={**same, "lr": 0.2, "final_lr": 3000.0}, **TRAINED)
    tables.show([one, other])
    told = " ".join(capsys.readouterr().out.split())
    assert "Methods differ in more than lr: final_lr 1 (DFA), 3000 (drtp)." in told
    tables.show([one, one])
    assert "differ" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["", "./mine.py"])
def test_a_method_from_a_file_has_a_rate_that_was_not_tuned(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = {"lr": 0.1, "lr_batch": 0, "batch": 50}
    one = record("train", "Mine", settings=rate, **TRAINED) | {"file": file}
    tables.show([one])
    assert ("Mine: from a file, and not tuned" in capsys.readouterr().out) == bool(file)
    tables.show([one], rates="as given")
    assert "not tuned" not in capsys.readouterr().out


@pytest.mark.parametrize("exact", [True, False])
def test_an_undetected_bias_is_warned_of_only_where_there_is_one(
    exact: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bias_of(1.3, 1.3, 0.0) if exact else bias_of(0.1, 0.6, 0.5)
    tables.show([measured("FA") | {"bias": found, "claimed": {"bias": "some"}}])
    out = " ".join(capsys.readouterr().out.split())
    assert "†: not claimed to be unbiased" in out
    assert ("a bias that was not detected may still exist" in out) is not exact


def test_trainings_say_their_learning_rate_and_where_it_came_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rate = {"lr": 0.1, "lr_batch": 0, "batch": 50}
    some = [
        record("train", "BP", settings=rate, **TRAINED),
        record("train", "FG-A", settings=rate | {"lr_batch": 200}, **TRAINED),
    ]
    tables.show(some)
    out = capsys.readouterr().out
    assert [row_of(out, r["method"])[4] for r in some] == ["0.1", "0.025"]
    assert "peak learning rate of the body, from the recipe" in " ".join(out.split())
    tables.show(some, rates="as given")
    assert "learning rate of the body, as given." in " ".join(capsys.readouterr().out.split())


REFERENCE = "./some/mine.py:Mine/end"


def test_ratios_to_a_reference_have_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    def beside(method: str, found: Any, reason: str = "") -> dict[str, Any]:
        ratio = {"efficiency": {**found, "reason": reason}}
        return measured(method, against={"method": REFERENCE, "own": method == REFERENCE, **ratio})

    none = "1 of 4 points have no positive number in both"
    tables.show(
        [
            beside(REFERENCE, number(1.0, 1.0, 1.0)),
            beside("FG-A", number(112.0, 60.6, 209.0)),
            beside("NP", number(None, None, None), none),
        ]
    )
    out = capsys.readouterr().out
    assert "efficiency / Mine/end" in out  # as its row is named
    assert [row_of(out, m)[-1] for m in ("Mine/end", "FG-A", "NP")] == ["1", "112 [60.6, 209]", "-"]
    told = " ".join(out.split())
    assert f"over networks, or over batches if there is one network; none for NP: {none}." in told


def test_a_narrow_terminal_names_the_moment_in_every_stacked_table() -> None:
    parts = [measured("FG-A") | {"moment": m, "steps": int(28 * m)} for m in (0.0, 5.0)]
    lines = printed([measured("FG-A", per_moment=parts, trajectory="backprop")], 60)
    heads = [split(a) for a, b in pairwise(lines) if "──" in b]
    assert len(heads) > 1
    assert all(head[:2] == ["method", "moment"] for head in heads)
    rows = [split(line)[:2] for line in lines if line.split()[:1] == ["FG-A"]]
    names = [["FG-A", when] for when in ("0 (0 steps)", "5 (140 steps)", "all")]
    assert rows == names * len(heads)
