"""Everything that is registered is checked in one command, within one budget of false alarms."""

from __future__ import annotations

import pytest

from fgbench import registry
from fgbench.cli import main
from fgbench.cli.check import LESS
from fgbench.conformance import Outcome, budget, everything
from fgbench.conformance.everything import Checked, check_everything, summary


@pytest.mark.slow
def test_a_kind_is_checked_by_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "names", lambda kind: ["end", "local"])
    assert main.run(["check", "localities"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["ok    end", "ok    local"]
    assert lines[-1].startswith("2 of 2 held; 0 checks are sampled")


def test_what_does_not_hold_and_what_is_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "bad": Checked("localities", "bad", [Outcome("cuts", False, "it reaches beyond")], 0.1),
        "gone": Checked("localities", "gone", error="no files"),
    }
    monkeypatch.setattr(registry, "names", lambda kind: list(found))
    monkeypatch.setattr(everything, "check_one", lambda kind, name, quick: found[name])
    assert main.run(["check", "localities"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "FAIL  bad: 0 of 1 checks held, 0.1 s",
        "      FAIL  cuts: it reaches beyond",
        "--    gone: not checked: no files",
    ]
    assert lines[3].startswith("0 of 1 held, 1 not checked; 0 checks are sampled")
    del found["bad"]
    assert main.run(["check", "localities"]) == LESS


def test_the_summary_says_what_is_spent_of_the_budget() -> None:
    drawn = [Outcome(f"unbiased on {k}", True, "4096 draws, smallest p 0.3") for k in range(3)]
    said = summary([Checked("estimators", "mine", drawn, 2.0)])
    assert "3 checks are sampled, which together reject what is right" in said
    assert "of at most 3e-05 (budget 0.001); 2 s" in said


@pytest.mark.slow
def test_the_registry_stays_within_its_budget() -> None:
    """Every estimator, with the draws of a quick check: as many sampled checks as the whole one makes."""
    every = check_everything(["estimators"], quick=True)
    assert [one.line() for one in every if not one.held] == []
    checks = sum(len(budget.sampled(one.outcomes)) for one in every)
    assert checks <= budget.affordable()
