"""Results of several machines: times apart always, cases that ran twice apart, spread seeds together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fgbench.records.machines import machine_of
from fgbench.reporting.frames.load import Records, collect
from tests.makers.records import WHERE, a_speed, a_train

ONE = {**WHERE, "device_name": "CPU 1", "instructions": "AVX2", "draws": "aaaaaaaa"}
TWO = {**WHERE, "device_name": "CPU 1", "instructions": "AVX512", "draws": "bbbbbbbb"}


def loaded(*runs: dict[str, Any]) -> Records:
    return collect(runs, Path("records"))


def labels(records: Records, verb: str) -> list[str]:
    return [str(row["label"]) for row in records.of(verb)]


def test_times_of_two_machines_have_a_label_each() -> None:
    runs = [a_speed("FG-A", ratio) | {"where": where} for ratio, where in ((0.8, ONE), (0.9, TWO))]
    found = loaded(*runs, a_speed("BP", 1.0) | {"where": ONE})
    names = [f"machine={machine_of({'where': where})}" for where in (ONE, TWO)]
    assert labels(found, "speed") == [f"FG-A, {names[0]}", f"FG-A, {names[1]}", "BP"]
    assert len(found.speeds()) == 3 * len(found.speeds()["quantity"].unique())
    assert not any("later run" in note for note in found.notes)


def test_seeds_that_are_spread_over_machines_stay_together() -> None:
    runs = [a_train("FG-A", seed, where=where) for seed, where in enumerate((ONE, TWO, ONE))]
    assert labels(loaded(*runs), "train") == ["FG-A"] * 3


def test_a_case_that_ran_on_two_machines_is_not_averaged_over_them() -> None:
    runs = [a_train("FG-A", seed, where=where) for where in (ONE, TWO) for seed in range(2)]
    found = labels(loaded(*runs), "train")
    assert len(found) == 4
    assert len(set(found)) == 2
    assert all(label.startswith("FG-A, machine=") for label in found)


def test_records_that_are_older_than_the_machine_are_as_before() -> None:
    earlier = a_train("FG-A", 0, started="2024-01-01T00:00:00+00:00")
    later = a_train("FG-A", 0, where={**WHERE, "device_name": "CPU 9"})
    new = a_train("FG-A", 0, where=ONE, started="2026-01-01T00:00:00+00:00")
    assert labels(loaded(earlier, later), "train") == ["FG-A"]  # the later one alone
    assert labels(loaded(earlier, later, new), "train") == ["FG-A"]
