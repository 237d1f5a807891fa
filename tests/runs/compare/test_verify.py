"""Rows of the leaderboard that are run again: inside, outside, and the same to the last digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.records.store import Store
from fgbench.runs.compare.verify import judge, row_of, verify
from tests.makers.compared import a_compare, against, result


def again(*values: float) -> list[dict[str, Any]]:
    return [{"status": "ok", "test_error": value} for value in values]


def test_a_mean_inside_the_interval_is_inside_and_one_beyond_is_not() -> None:
    record = a_compare("BP", 0.1, against(own=True))
    found = judge(record, again(*[0.1] * 9, 0.109))
    assert found.inside
    assert found.same == 9
    assert "is inside [9.00 %, 11.00 %]" in found.line
    assert not judge(record, again(*[0.12] * 10)).inside
    lost = [*again(*[0.1] * 9), {"status": "failed", "reason": "ValueError"}]
    assert not judge(record, [{**run, "metrics": {}} for run in lost]).inside


def test_a_mean_over_fewer_seeds_has_a_wider_interval() -> None:
    record = a_compare("BP", 0.1, against(own=True))
    assert judge(record, again(0.114, 0.114)).inside
    assert not judge(record, again(*[0.114] * 10)).inside


def test_an_unknown_row_names_the_nearest() -> None:
    record = a_compare("BP", 0.1, against(own=True))
    assert row_of([record], record["key"][:8]) is record
    with pytest.raises(UsageError, match="unknown row"):
        row_of([record], "zz")
    with pytest.raises(UsageError, match="2 rows begin with"):
        row_of([record, record], record["key"][:8])


@pytest.mark.slow
def test_a_row_is_run_again_by_its_own_settings(tmp_path: Path) -> None:
    from fgbench.runs.run import run_all

    case: dict[str, Any] = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
    options: dict[str, Any] = {"batch": 16, "lr": 0.05, "steps": 9, "lr_batch": 0}
    values = [
        run_all("train", ["FG-A"], seed=seed, device="cpu", threads=1, **case, **options)[0][
            "test_error"
        ]
        for seed in (0, 1)
    ]
    mean = sum(values) / 2
    listed = [result("forwards", mean, against(), values=values, lr=0.05, steps=9, n=2)]
    record = a_compare("FG-A", mean, against(), results=listed, **case)
    record["settings"] |= {"batch": 16}
    Store(tmp_path).write(record)
    found = verify(tmp_path, record["key"][:8], jobs=1)
    assert found.same == 2
    assert found.inside
