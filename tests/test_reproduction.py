"""The page of the paper's tables: what is set beside what, and that nothing is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.analysis.load import load
from fgbench.analysis.reproduction import METHODS, published, table
from fgbench.analysis.reproduction_page import write
from fgbench.errors import UsageError
from fgbench.record import SCHEMA, Store, key
from fgbench.registry import PRESETS


def run(method: str, error: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    estimator, _, locality = PRESETS[method].partition("/")
    settings = {"lr": 0.1, "train_size": None, "validation": 0, **more.pop("settings", {})}
    made = {
        **{"schema": SCHEMA, "verb": "train", "method": method, "estimator": estimator},
        **{"locality": locality, "options": {}, "arch": "localmixer-s/1/1", "data": "mnist"},
        **{"seed": seed, "status": "ok", "reason": "", "device": "cpu", "commit": "c" * 40},
        **{"where": {"torch": "2", "data_source": ""}, "settings": settings, "started": "2026"},
        **{"elapsed_s": 1.0, "epochs": 8, "test_error": error, "train_error": error / 2},
        **{"test_loss": 1.0, "seconds": 60.0, "steps": 10, "history": []},
        **more,
    }
    case = {k: made[k] for k in ("verb", "method", "locality", "arch", "data", "seed", "settings")}
    return {**made, "key": key(case), "case_key": key(case)}


def page(tmp_path: Path, *records: dict[str, Any]) -> str:
    store = Store(tmp_path / "records")
    for record in records:
        store.write(record)
    write(load(tmp_path / "records"), tmp_path / "PAGE.md")
    return (tmp_path / "PAGE.md").read_text()


def test_published_numbers_are_whole() -> None:
    columns = published()
    assert len(columns) == 7
    assert all(len(column[m]) == 2 for column in columns for m in METHODS)
    by_title = {(c["table"][:7], c["title"]): c for c in columns}
    assert by_title["Table 3", "CIFAR-10 M/8/16"]["LG-FG-A"] == [30.68, 19.39]
    assert by_title["Table 4", "ImageNet L/32/64"]["LG-FG-A"] == [73.24, 66.89]


def test_seeds_are_averaged_beside_the_published_number(tmp_path: Path) -> None:
    text = page(tmp_path, *(run("FG-A", e, s) for s, e in enumerate((0.030, 0.032, 0.034))))
    # mean 3.2, standard error 0.2/sqrt(3), t(0.975, 2) = 4.3027: half width 0.497, exp(.497/3.2) = 1.168
    assert "| FG-A | 3.24 / 1.53 | 3.20 [2.74, 3.74] | 1.60 | -0.04 | yes | 3 | 8 | 0.1 |" in text
    assert "| BP | 2.66 / 0.00 | not run |" in text
    assert text.count("Not run.") == 6
    assert (tmp_path / "page" / "tables.png").exists()


def test_trials_other_options_and_parts_of_the_data_do_not_count(tmp_path: Path) -> None:
    strangers = [
        run("FG-A", 0.5, 7, settings={"validation": 100}),
        run("FG-A", 0.5, 8, settings={"train_size": 500}),
        run("FG-A", 0.5, 9, estimator="fg_a[directions=4]"),
        run("FG-A", 0.5, 10, locality="contrastive"),
    ]
    text = page(tmp_path, run("FG-A", 0.03), *strangers)
    assert "| FG-A | 3.24 / 1.53 | 3.00 | 1.50 | -0.24 | yes | 1 |" in text
    cells = table(load(tmp_path / "records"))
    assert list(cells[cells["n"] > 0]["n"]) == [1]
    assert "first 500 images" in text


def test_what_is_behind_or_did_not_finish_is_said(tmp_path: Path) -> None:
    tune = run("BP", 0.0, 1000, verb="tune", chosen={"lr": 0.3}, grid={"lr": [0.03, 0.1, 0.3]})
    tune["trials"] = [
        {"values": {"lr": lr}, "seed": 1000, "status": "ok", "key": "k", "epochs": 3}
        | {"validation_error": e}
        for lr, e in ((0.03, 0.09), (0.1, 0.08), (0.3, None))
    ]
    lost = run("BP", 0.0, 1, status="diverged", reason="loss not finite at step 3")
    text = page(tmp_path, run("BP", 0.05), lost, tune)
    assert "| +2.34 | no | 1 (1 diverged) |" in text
    assert (
        "MNIST S/1/1, BP: +2.34. Tried, with the error on held-out images: lr 0.03: 9.00 %" in text
    )
    assert "lr 0.3: did not train" in text
    assert "| lr 0.03, 0.1, 0.3 | lr 0.3 | did not train | 3 | lr |" in text
    assert "BP localmixer-s/1/1 mnist seed 1: diverged: loss not finite at step 3" in text


def test_the_picture_is_judged_on_other_networks(tmp_path: Path) -> None:
    small = {"arch": "localmixer[channels=128]", "data": "cifar10"}
    errors = {"BP": 0.50, "LG-FG-A": 0.505, "FG-W": 0.70, "FG-A": 0.60}
    text = page(tmp_path, *(run(m, e, **small) for m, e in errors.items()))
    assert "within 1 point of BP or better holds (+0.50 points)" in text
    assert "FG-W and FG-A does not hold (9.50 points)" in text


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = page(tmp_path, run("BP", 0.02), run("FG-A", 0.03))
    figure = (tmp_path / "page" / "tables.png").read_bytes()
    assert page(tmp_path, run("BP", 0.02)) == first
    assert (tmp_path / "page" / "tables.png").read_bytes() == figure


def test_without_trainings_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training on all training images"):
        page(tmp_path, run("BP", 0.02, settings={"validation": 5}))
