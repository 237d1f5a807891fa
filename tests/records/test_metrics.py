"""What records say of metrics, and how it is shown."""

from __future__ import annotations

from fgbench.data import goal
from fgbench.records.metrics import ERROR, Shown, main_of, metrics_of
from fgbench.records.schema import defect


def test_an_old_record_has_the_error_and_the_chance_of_its_classes():
    assert metrics_of({"classes": 10}) == (ERROR._replace(chance=0.9),)
    assert metrics_of({}) == (ERROR,)
    assert main_of({"metrics": None}).name == "error"


def test_goals_are_shown_as_they_are():
    bits, wrong = metrics_of({"metrics": goal.tokens(8, 4, text=True).described()})
    assert (bits.heading("test"), bits.chance, bits.text(2.0)) == (
        "test bits per character",
        2.0,
        "2",
    )
    assert (wrong.heading("test"), wrong.factor) == ("test token error %", 100.0)
    mse, r2 = metrics_of({"metrics": goal.numbers((1,), 2.0).described()})
    assert (mse.sign, r2.sign, r2.axis("test")) == (1.0, -1.0, "test r2")
    assert metrics_of({"metrics": goal.classes(4).described()})[0] == ERROR._replace(chance=0.75)
    assert Shown("delay", "ms").axis("train") == "train delay (ms)"


def test_a_finished_training_has_a_number_of_each_metric():
    record = {"verb": "train", "status": "ok", "metrics": {"mse": {}, "r2": {}}, "test_error": None}
    assert defect({**record, "test_mse": 1.0, "test_r2": -0.5}) == ""
    assert (
        defect({**record, "test_mse": 1.0, "test_r2": None}) == "test_r2 is null in a finished run"
    )
    assert "test_mse is 'low', expected a number" in defect({**record, "test_mse": "low"})
    assert defect({"verb": "train", "status": "ok", "test_error": None}) == (
        "test_error is null in a finished run"
    )
    assert "metrics.mse.unit is 3" in defect({**record, "metrics": {"mse": {"unit": 3}}})
