"""Tables of a comparison: verdicts, marks and notes."""

from __future__ import annotations

from typing import Any

from fgbench.reporting.terminal import comparison_table
from fgbench.reporting.terminal.tables import parts
from tests.makers.compared import a_compare, against, errors_of, result, trained


def test_a_comparison_has_a_table_for_each_equal_budget() -> None:
    records = [
        a_compare("BP", 0.03, against(own=True)),
        a_compare("FG-A", 0.13, against()),
        a_compare("DFA", 0.04, against(gap=0.01, verdict="undecided", seeds_to_decide=17)),
    ]
    tables = [part for part in parts(records) if not isinstance(part, str)]
    assert [table.title.partition(",")[0] for table in tables] == [
        "Compared at equal forward equivalents", "Compared at equal epochs", "Compared at equal seconds",
    ]  # fmt: skip
    assert [row[:5] for row in tables[0].rows] == [
        ("BP", "3 [2.7, 3.3]", "-", "-", "reference"),
        ("FG-A", "13 [11.7, 14.3]", "+10 [+8, +12]", "0.004", "worse"),
        ("DFA", "4 [3.6, 4.4]", "+1 [-1, +3]", "0.004", "undecided"),
    ]
    lines = [part for part in parts(records) if isinstance(part, str)]
    said = (
        "DFA at equal forward equivalents, epochs and seconds: undecided: 10 seeds; about 17 here"
    )
    assert said in lines


def test_what_was_widened_lowered_or_lost_is_said() -> None:
    about = against(diverged=2)
    listed = [result("forwards", 0.2, about, lowered=True, lr=0.0316)]
    tuned = {
        "lr": 0.1,
        "rates": [0.01, 0.1],
        "edge": "upper",
        "widened": "upper",
        "diverged": 3,
        "runs": 12,
    }
    rule = a_compare("DFA", 0.2, against(), results=listed, tuned=tuned, kind="rule")
    lost = a_compare("FG-A", 0.2, against(), results=[], status="skipped", reason="no body")
    text = "\n".join(comparison_table.comparison_notes([rule, lost]))
    for words in (
        "DFA: the best rate was at the upper end of the range, which was widened",
        "the best rate 0.1 is the highest of those tried",
        "3 of 12 tuning runs diverged, and count against its budget",
        "the rate 0.1 chosen in tuning diverged in the long run; trained at 0.0316 (*)",
        "2 of 10 runs diverged, and count as chance",
        "a training rule that estimates no gradient",
        "FG-A skipped: no body",
    ):
        assert words in text


def test_more_is_better_where_the_metric_says_so() -> None:
    """The tests count a difference of such a metric negatively; the table shows it as it is."""
    metrics = {"r2": {"unit": "", "best": "high", "chance": 0.0}}
    records = [
        a_compare("BP", 0.5, against(own=True), metrics=metrics),
        a_compare("FG-A", 0.4, against(), metrics=metrics),
    ]
    table = next(part for part in parts(records) if not isinstance(part, str))
    assert table.rows[1][2] == "-0.1 [-0.12, -0.08]"


def test_trainings_beside_a_reference_have_a_second_table() -> None:
    def run(method: str, seed: int, about: dict[str, Any]) -> dict[str, Any]:
        return trained(method, seed, errors_of(3)[seed], against=about, arch="mlp-2x8")

    runs = [run("BP", seed, against(own=True)) for seed in range(3)]
    runs += [
        run("DFA", seed, against(verdict="undecided", n=3, smallest_p=0.25)) for seed in range(3)
    ]
    found = parts(runs)
    table = next(p for p in found if not isinstance(p, str) and p.title.startswith("Against BP"))
    assert [row[-1] for row in table.rows] == ["reference", "undecided"]
    assert any(
        isinstance(p, str) and p.startswith("DFA: undecided: with 3 seeds no sign-flip")
        for p in found
    )
