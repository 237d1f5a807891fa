"""Figures of what training reaches: numbers against cases worked by hand, each with a planted fault."""

from __future__ import annotations

import itertools
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout import faults, texts
from test_analysis import a_train, stored
from test_analysis_scaling import unique

from fgbench.analysis import figures, tuning
from fgbench.errors import UsageError

FOUR = [0.3, 0.1, 0.4, 0.2]


def words(fig: Any) -> str:
    return " ".join(texts(fig)).replace("\n", " ")


# the list of figures


def test_every_figure_is_listed_with_what_makes_it() -> None:
    about = figures.known()
    for name, each in about.items():
        assert name == import_module(f"fgbench.analysis.{name}").NAME
        assert each.shows
        assert "\n" not in each.shows
        assert each.makes.startswith(("fgbench ", "asv "))
    titled = {
        file.stem
        for file in (Path(figures.__file__).parent).glob("*.py")
        if file.read_text(encoding="utf-8").startswith('"""Figure: ')
    }
    assert set(about) == titled


def test_a_module_is_a_figure_by_what_it_misses(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        '"""Figure: a curve.\n\nMore."""\nMISSING = f"curve", "run fgbench train"\n'
    )
    (tmp_path / "two.py").write_text('"""Figure: of nothing."""\nNAME = "two"\n')
    assert figures.known(tmp_path) == {"one": figures.About("a curve", "fgbench train")}
    with pytest.raises(UsageError, match="did you mean 'groups'"):
        figures.draw("group", tmp_path, tmp_path)


# tuning


def a_trial(lr: float, error: float, seed: int = 1000, **changes: Any) -> dict[str, Any]:
    settings = {"lr": lr, "validation": 100, "epochs": 3} | changes.pop("settings", {})
    return a_train("FG-A", seed, settings=settings, epochs=3, **{"test_error": error, **changes})


def test_the_best_so_far_is_the_mean_over_all_orders() -> None:
    orders = np.minimum.accumulate(list(itertools.permutations(FOUR)), axis=1)
    mean, low, high = tuning.best(FOUR)
    np.testing.assert_allclose(mean, orders.mean(0), rtol=1e-12)
    assert mean[0] == pytest.approx(0.25)
    assert mean[-1] == low[-1] == high[-1] == 0.1
    for share in (0.9, 0.4):
        _, low, high = tuning.best(FOUR, share)
        tails = [(1 - share) / 2, (1 + share) / 2]
        found = np.quantile(orders, tails, axis=0, method="inverted_cdf")
        np.testing.assert_array_equal([low, high], found)
    in_order = np.minimum.accumulate(FOUR)  # one order alone is another curve
    assert not np.allclose(mean, in_order)
    again = tuning.best([0.2, 0.2, 0.5])  # ties
    np.testing.assert_allclose(again[0], [0.3, 0.2, 0.2])


def test_trials_are_counted_by_setting_and_averaged_over_seeds(tmp_path: Path) -> None:
    runs = [a_trial(lr, error) for lr, error in zip((0.01, 0.03, 0.1, 0.3), FOUR, strict=True)]
    runs += [a_trial(0.3, 0.6, seed=1001), a_trial(0.3, 0.05, settings={"momentum": 0.5})]
    runs.append(a_trial(1.0, 0.0, status="diverged", reason="loss"))
    runs.append(a_trial(0.01, 0.01, settings={"epochs": 9}))  # another search, of one trial
    runs.append(a_train("FG-A", 0))  # a result, no trial
    table = tuning.plotted(stored(tmp_path, *unique(runs)))
    assert set(table["epochs"]) == {3}
    tried = table[table["what"] == "trials"]
    assert tried["x"].tolist() == [1, 2, 3, 4, 5, 6]
    settings = [30.0, 10.0, 40.0, 40.0, 5.0, 90.0]  # a seed apart is the same one; lost is chance
    np.testing.assert_allclose(tried["error_percent"], tuning.best(settings)[0])
    rated = table[table["what"] == "rate"].set_index("x")["error_percent"]
    np.testing.assert_allclose(rated, [30, 10, 40, 5, 90])
    assert rated.index.tolist() == [0.01, 0.03, 0.1, 0.3, 1.0]


def test_tuning_is_drawn(tmp_path: Path) -> None:
    runs = [
        a_trial(lr, error, seed, settings={"lr": lr})
        for lr, error in zip((0.01, 0.03, 0.1, 0.3), FOUR, strict=True)
        for seed in range(3)
    ]
    records = stored(tmp_path, *unique(runs))
    fig = tuning.figure(records)
    assert faults(fig) == []
    assert "n = 4 trials; band: 90 % of these orders" in words(fig)
    assert "mean over 3 seeds; bar: 95 % t interval" in words(fig)
    assert len(tuning.draw(records, tmp_path / "out")) == 3
    with pytest.raises(UsageError, match=r"^no two trials .*; run fgbench tune"):
        tuning.draw(stored(tmp_path / "one", a_trial(0.1, 0.2)), tmp_path)
