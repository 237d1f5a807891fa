"""The page of the paper's tables beside ours: cells, verdicts, text, and the figures of ablations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.records.keys import case_key, key
from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.records.store import Store
from fgbench.registry import PRESETS
from fgbench.reporting.figures import groups, local_losses, stop_gradient
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.frames.csv_files import write_csv
from fgbench.reporting.frames.load import Records, load
from fgbench.reporting.frames.method_names import STATED, Way, name_of, way_of
from fgbench.reporting.frames.results import cells, results
from fgbench.reporting.paper import ablations
from fgbench.reporting.paper import page as reproduction
from fgbench.reporting.paper.comparison import Comparison, Mean, between, compare
from fgbench.reporting.paper.markdown import grids, time
from fgbench.reporting.paper.published import Claim, published
from fgbench.reporting.plotting import style
from tests.makers.layout import faults, picture, texts
from tests.makers.paths import ROOT

NOW = "2025-01-01T00:00:00+00:00"
CIFAR = {"arch": "localmixer-m/8/16", "data": "cifar10"}
MNIST = {"arch": "localmixer-s/1/1", "data": "mnist"}
STANDIN = {"arch": "localmixer-xs/8/16", "data": "cifar10"}
SIZES = {"mnist": 60000, "cifar10": 50000}
JPEG = "decoded from JPEG, quality 75: not the original pixels"


def record(verb: str, method: str, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Return a record with the fields of all verbs; ``options`` and ``settings`` are part of its key."""
    estimator, _, locality = PRESETS.get(method, method).partition("/")
    where = {"torch": "2.13.0", "device_name": "Test CPU", "dtype": "float32", "code": "c0de"}
    where |= {"data_fingerprint": "f00d", "data_source": JPEG if more["data"] == "cifar10" else ""}
    common: dict[str, Any] = dict.fromkeys(FIELDS["all"], "")
    common |= {"schema": SCHEMA, "verb": verb, "method": method, "estimator": estimator}
    common |= {"locality": locality or "end", "options": {}, "seed": seed, "status": "ok"}
    common |= {"device": "cpu", "commit": "abc123def4567", "where": where, "settings": {}}
    found = common | {"started": NOW, "elapsed_s": 1.0, **more}
    case = {name: found[name] for name in ("verb", "method", "arch", "data", "seed", "options")}
    case |= {"settings": found["settings"], "code": more.get("started", "")}
    return found | {"key": key(case), "case_key": case_key(case)}


def trained(
    method: str, error: float | None, seed: int = 0, epochs: int = 10, **more: Any
) -> dict[str, Any]:
    """Return a train record that ends at a test error in percent, or a diverged one without an error."""
    settings = {"lr": 0.03, "batch": 128, "flip": False, "train_size": None, "validation": 0}
    settings |= {"epochs": epochs, **more.pop("settings", {})}
    ends = more.pop("train", None)
    if error is None:
        lost = {"status": "diverged", "reason": "loss not finite at step 9"}
        numbers = {**lost, "test_error": None, "train_error": None, "history": []}
    else:
        last = error / 100
        history = [
            {"epoch": at, "test_error": last + (0.9 - last) * np.exp(-at), "seconds": 3.0 * at}
            for at in range(1, epochs)
        ]
        history.append({"epoch": epochs, "test_error": last, "seconds": 3.0 * epochs})
        numbers = {"test_error": last, "train_error": (ends or 0.0) / 100, "history": history}
    size = settings["train_size"] or SIZES.get(more["data"], 1000)
    numbers |= {"epochs": epochs, "seconds": 3.0 * epochs, "test_loss": 1.0, "steps": 10}
    numbers["examples"] = {"train": size, "test": 10000}
    return record("train", method, seed, **{**numbers, "settings": settings, **more})


def tuned(
    method: str, grid: dict[float, float], chosen: float, **more: Any
) -> list[dict[str, Any]]:
    """Return a tune record and its trials from learning rates and their errors on held-out examples."""
    held = {"validation": 5000, "epochs": 5}
    trials = [
        trained(method, error, 100, 5, settings={**held, "lr": lr}, **more)
        for lr, error in grid.items()
    ]
    told = [
        {"values": {"lr": lr}, "seed": 100, "status": t["status"], "key": t["key"]}
        | {"validation_error": t["test_error"]}
        for lr, t in zip(grid, trials, strict=True)
    ]
    parts = {"chosen": {"lr": chosen}, "grid": {"lr": list(grid)}, "trials": told}
    return [*trials, record("tune", method, **{**parts, "settings": held, **more})]


def stored(folder: Path, *records: dict[str, Any]) -> Records:
    for each in records:
        Store(folder).write(each)
    return load(folder)


def row_of(records: Records, method: str, title: str, table: int = 3) -> Comparison:
    known = published()
    (column,) = (c for c in known.columns if (c.title, c.table) == (title, table))
    (row,) = (r for r in compare(column, known.methods, cells(records)) if r.method == method)
    return row


# methods and cells


@pytest.mark.parametrize("name", [name for name in published().methods if name in PRESETS])
def test_presets_are_the_papers_methods_in_both_tasks(name: str) -> None:
    estimator, locality = PRESETS[name].split("/")
    assert name_of(way_of(estimator, locality)) == name
    other = f"contrastive-{locality}"
    assert name_of(way_of(estimator, other)) == name
    assert way_of(estimator, other).task == "contrastive"
    assert name_of(way_of(estimator, f"{locality}[window=2]")) != name
    assert name_of(way_of(f"{estimator}[scale=2]", locality)) != name


def test_kept_axes_are_read_from_endings_and_options_alike() -> None:
    assert way_of("fg_a", "local-pg") == way_of("fg_a", "local[keep=b p g]")
    assert way_of("fg_a", "contrastive") == Way("fg_a", "contrastive", "end", "b", "")
    assert way_of("fg_a", "contrastive-local-p[temperature=0.2]") == Way(
        "fg_a", "contrastive", "local", "b p", "temperature=0.2"
    )
    assert name_of(way_of("fg_a", "local")) == "fg_a/local"
    assert name_of(way_of("fg_a", "last-p")) == "fg_a/last-p"
    # the parts add up to the unsplit loss, and what has no noise cannot gain by them
    assert name_of(way_of("bp", "contrastive-local-pg")) == "LG-BP"
    assert name_of(way_of("fa", "local-p")) == "LG-FA"
    assert way_of("x", "not [a locality").base == "not [a locality"


def test_a_stated_default_makes_no_other_method() -> None:
    from fgbench.registry import entries

    options = entries("localities")["contrastive"].options
    assert {name: str(options[name]).lower() for name in STATED} == STATED
    plain = way_of("fg_a", "contrastive-local-pg[crop=0.3]")
    assert way_of("fg_a", "contrastive-local-pg[crop=0.3,stop_keys=True]") == plain
    assert way_of("fg_a", "contrastive-local-pg[crop=0.3,stop_keys=False]") != plain


def test_the_published_tables_are_complete() -> None:
    known = published()
    assert [c.table for c in known.columns] == [3, 3, 3, 3, 4, 4, 4]
    cifar = next(c for c in known.columns if c.title == "CIFAR-10 M/8/16" and c.table == 3)
    assert (cifar.test["LG-FG-A"], cifar.train["LG-FG-A"]) == (30.68, 19.39)
    assert all(0 <= e < 100 for c in known.columns for e in (*c.test.values(), *c.train.values()))
    assert all(c.train[m] <= c.test[m] + 0.1 for c in known.columns for m in known.methods)


def test_the_tuned_setting_is_reported_not_the_best(tmp_path: Path) -> None:
    lucky = [trained("BP", 20.0, s, settings={"lr": 0.3}, **CIFAR) for s in range(5)]
    chosen = [trained("BP", 30.0, s, settings={"lr": 0.1}, **CIFAR) for s in range(3)]
    found = row_of(stored(tmp_path / "a", *lucky, *chosen), "BP", "CIFAR-10 M/8/16")
    assert found.ours().value == 20.0  # without tuning: most seeds
    tuning = tuned("BP", {0.03: 40.0, 0.1: 35.0}, 0.1, **CIFAR)
    found = row_of(stored(tmp_path / "b", *lucky, *chosen, *tuning), "BP", "CIFAR-10 M/8/16")
    assert (found.ours().value, found.ours().n) == (30.0, 3)


def test_without_tuning_seeds_come_before_epochs_and_epochs_before_time(tmp_path: Path) -> None:
    short = [trained("BP", 30.0, s, 5, **CIFAR) for s in range(3)]
    long = [trained("BP", 20.0, s, 50, **CIFAR) for s in range(2)]
    late = trained("BP", 10.0, 0, 5, settings={"lr": 1.0}, started="2026", **CIFAR)
    row = row_of(stored(tmp_path / "a", *short, *long, late), "BP", "CIFAR-10 M/8/16")
    assert row.ours().n == 3
    row = row_of(stored(tmp_path / "b", *short[:2], *long, late), "BP", "CIFAR-10 M/8/16")
    assert row.ours().value == 20.0
    row = row_of(stored(tmp_path / "c", short[0], late), "BP", "CIFAR-10 M/8/16")
    assert row.ours().value == pytest.approx(10.0)


def test_trials_subsets_and_other_networks_are_no_results(tmp_path: Path) -> None:
    held = trained("BP", 1.0, settings={"validation": 5000}, **CIFAR)
    part = trained("BP", 2.0, settings={"train_size": 5000}, **CIFAR)
    other = trained("BP", 3.0, arch="localmixer-m/8/4", data="cifar10")
    form = trained("bp/contrastive", 4.0, **CIFAR)
    records = stored(tmp_path, held, part, other, form)
    assert row_of(records, "BP", "CIFAR-10 M/8/16").status == "not run: trials only"
    assert row_of(records, "BP", "CIFAR-10 M/8/16").verdict == ""
    assert row_of(records, "BP", "CIFAR-10 M/8/16", 4).ours().value == 4.0
    assert row_of(records, "L-BP", "CIFAR-10 M/8/16").status == "not run"
    assert sorted(results(records)["test_error"]) == [0.02, 0.03, 0.04]
    assert len(records.of("train")) == 3
    assert [r["test_error"] for r in records.of("trial")] == [0.01]


def test_a_folder_of_images_is_imagenet_by_its_size_alone(tmp_path: Path) -> None:
    there = {"arch": "localmixer-l/32/64", "data": "imagefolder[root=/data]"}
    small = trained("BP", 30.0, **there)
    right = {**trained("BP", 37.0, 1, **there), "examples": {"train": 1281167, "test": 50000}}
    row = row_of(stored(tmp_path / "a", small), "BP", "ImageNet L/32/64")
    assert row.cell is None
    row = row_of(stored(tmp_path / "b", right), "BP", "ImageNet L/32/64")
    assert row.verdict == "within 0.6 ?"


def test_one_seed_counts_once(tmp_path: Path) -> None:
    runs = [trained("BP", e, s, **CIFAR) for s, e in enumerate([30.0, 31.0, 32.0])]
    again = trained("BP", 35.0, 2, started="2026-01-01", **CIFAR)  # another thread count, say
    row = row_of(stored(tmp_path, *runs, again), "BP", "CIFAR-10 M/8/16")
    assert row.ours().n == 3
    assert row.ours().value == pytest.approx(32.0)


# verdicts


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([33.60, 33.61, 33.62], "within 0.6"),
        ([33.0, 33.6, 34.2], "within 0.6 ?"),
        ([30.0, 30.1, 30.2], "better by more than 0.6"),
        ([36.0, 36.1, 36.2], "worse by more than 0.6"),
        ([34.0, 35.0, 36.0], "worse by more than 0.6 ?"),
        ([36.0, 36.1], "worse by more than 0.6 ?"),
        ([33.62], "within 0.6 ?"),
    ],
)
def test_a_verdict_is_settled_by_its_interval(
    errors: list[float], verdict: str, tmp_path: Path
) -> None:
    runs = [trained("BP", e, s, **CIFAR) for s, e in enumerate(errors)]
    row = row_of(stored(tmp_path, *runs), "BP", "CIFAR-10 M/8/16")
    assert row.verdict == verdict
    assert row.worse == verdict.startswith("worse")
    assert row.difference.value == pytest.approx(np.mean(errors) - 33.62)


def test_a_claim_is_judged_seed_by_seed(tmp_path: Path) -> None:
    shared = [50.0, 40.0, 60.0]  # what seeds share cancels
    runs = [trained("BP", e, s, **CIFAR) for s, e in enumerate(shared)]
    runs += [
        trained("LG-FG-A", e + d, s, **CIFAR)
        for s, (e, d) in enumerate(zip(shared, [0.4, 0.5, 0.6], strict=True))
    ]
    runs += [trained("FG-A", 70.0, s, **CIFAR) for s in (7, 8)]
    groups = {c.method: c.reported for c in cells(stored(tmp_path, *runs)) if c.reported}
    found, verdict = between(Claim("", "LG-FG-A", "BP", 1.0), groups)
    assert verdict == "holds"
    assert found.value == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5 + 4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert between(Claim("", "LG-FG-A", "BP", 0.1), groups)[1] == "does not hold"
    assert between(Claim("", "LG-FG-A", "BP", 0.45), groups)[1].startswith(
        "does not hold on the mean; not"
    )
    assert between(Claim("", "LG-FG-A", "BP", 0.55), groups)[1].startswith("holds on the mean; not")
    assert between(Claim("", "FG-A", "BP", 1.0), groups)[1] == "no finished seed in common"
    assert between(Claim("", "FG-W", "BP", 1.0), groups)[1] == "FG-W not run"


def test_grids_warn_at_their_edges() -> None:
    def of(chosen: Any, *values: Any) -> str:
        return grids({"grid": {"lr": list(values)}, "chosen": {"lr": chosen}})[0]

    assert of(0.03, 0.1, 0.01, 0.03) == "lr 0.01, 0.03, 0.1: chose 0.03"
    assert of(0.1, 0.1, 0.01, 0.03).endswith("chose 0.1, **at the upper edge**")
    assert of(0.01, 0.1, 0.01).endswith("**at the lower edge**")
    assert of(0.1, 0.1).endswith("the only value")
    assert of("sgd", "sgd", "adam") == "lr sgd, adam: chose sgd"
    assert grids({"grid": None, "chosen": 3}) == []


def test_durations_have_the_unit_that_fits() -> None:
    assert [time(s) for s in (0, 90, 600, 9000)] == ["0 s", "90 s", "10 min", "2.5 h"]


# the page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("paper") / "records"
    errors = {"BP": 33.5, "LG-BP": 33.9, "FA": 39.0, "FG-W": 57.5, "FG-A": 59.0, "LG-FG-A": 32.6}
    runs = [
        trained(m, e + 0.1 * s, s, train=e / 2, **CIFAR)
        for m, e in errors.items()
        for s in range(3)
    ]
    runs += [trained(m, 2.4 + 0.1 * s, s, **MNIST) for m in ("BP", "LG-FG-A") for s in range(2)]
    runs += [trained("DFA", None, **MNIST) | {"estimator": "dfa"}]
    runs += [trained("LG-FG-W", None, s, **CIFAR) for s in range(2)]
    runs += [trained("LG-FG-A", 34.0, settings={"lr": 0.01}, **CIFAR)]
    runs += [trained("fg_a[credit=released]/local-pg", 33.0, **CIFAR)]
    runs += tuned("LG-FG-A", {0.01: 44.0, 0.03: 40.0, 0.1: 50.0}, 0.03, **CIFAR)
    runs += tuned("FG-W", {0.01: 60.0, 0.03: 58.0}, 0.03, **CIFAR)
    small = {"BP": 55.0, "LG-FG-A": 55.5, "FG-A": 75.0, "FG-W": 69.0}
    part = {"train_size": 5000}
    runs += [
        trained(m, e + 0.2 * s, s, settings=part, **STANDIN)
        for m, e in small.items()
        for s in range(3)
    ]
    runs += [trained("bp/contrastive", 24.0 + s, s, **CIFAR) for s in range(3)]
    stored(found, *runs)
    (found / "cut.json").write_text("{")
    (found / "foreign.json").write_text('{"a": 1}')
    return found


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return reproduction.write(folder, folder.parent / "PAPER.md").read_text()


def line(page: str, method: str, after: str) -> list[str]:
    """Return the cells of the first row of a method below a heading."""
    part = page[page.index(after) :]
    found = re.search(rf"^\| {re.escape(method)} \|(.*)\|$", part, re.MULTILINE)
    assert found is not None
    return [cell.strip() for cell in found[1].split(" | ")]


@pytest.mark.slow
def test_the_page_sets_ours_beside_the_published(page: str) -> None:
    column = "### CIFAR-10 M/8/16 (`localmixer-m/8/16` on cifar10)"
    cells = line(page, "LG-FG-A", column)
    assert cells[:2] == ["30.68 / 19.39", "32.70 [32.45, 32.95]"]
    assert cells[3:] == ["3", "+2.02 [+1.77, +2.27]", "worse by more than 0.6"]
    assert line(page, "BP", column)[-1] == "within 0.6"
    assert line(page, "LG-FG-W", column)[1] == "diverged 2 of 2; loss not finite at step 9"
    assert line(page, "L-FA", column)[1] == "not run"
    assert line(page, "BP", "### ImageNet L/32/64")[1] == "not run"
    contrastive = page[page.index("## Table 4") :]
    assert line(contrastive, "BP", column)[:2] == ["24.11 / 21.08", "25.00 [22.64, 27.61]"]


def test_the_page_says_how_ours_were_trained(page: str) -> None:
    part = page[page.index("### CIFAR-10 M/8/16") :]
    training = part[part.index("| method | epochs") :]
    cells = line(training, "LG-FG-A", "")
    assert cells[:2] == ["10", "0.03"]
    assert cells[2] == "lr 0.01, 0.03, 0.1: chose 0.03"
    assert cells[3:] == ["90 s + 45 s tuning", "Test CPU", "2.13.0", "abc123def"]
    assert line(training, "FG-W", "")[2].endswith("**at the upper edge**")
    assert line(training, "BP", "")[2] == "not tuned"
    assert f"Data: {JPEG} (fingerprint f00d)." in training


def test_a_choice_between_yes_and_no_has_no_edge() -> None:
    grid = {"zero_heads": [False, True], "lr": [0.1, 0.2, 0.3]}
    found = grids({"grid": grid, "chosen": {"zero_heads": True, "lr": 0.3}})
    assert found[0].endswith("chose 0.3, **at the upper edge**")
    assert found[1] == "zero_heads False, True: chose True"


def test_the_page_counts_lists_and_warns(page: str) -> None:
    assert "Of 77 published cells 9 have a result" in page
    assert "Run without a result: 2; not run: 66." in page
    assert f"Pixels of cifar10: {JPEG}." in page
    assert "for 2 of" in page  # cells tuned
    assert "5000 held out, 5 epochs" in page
    assert "the released default is 200" in page
    assert "FA is textbook feedback alignment" in page
    assert "not mirrored" in page
    assert "does not divide by the batch size" in page
    assert "before a norm over all channels" in page
    lost = page[page.index("## Cells worse than") :]
    assert (
        "### LG-FG-A, CIFAR-10 M/8/16 (table 3): published 30.68, ours 32.70 [32.45, 32.95]" in lost
    )
    assert "| trial, held-out error | lr=0.01 | 1 | 44.00 |  |" in lost
    assert "| run, reported | epochs=10, lr=0.03 | 3 | 32.70" in lost
    assert "| run | epochs=10, lr=0.01 | 1 | 34.00 |  |" in lost
    assert "`LG-FG-A[credit=released]`" in lost
    assert "### LG-FG-W, CIFAR-10 M/8/16 (table 3): published 52.70, ours without a result" in lost
    assert "### BP, CIFAR-10 M/8/16 (table 3)" not in lost  # it is near
    notes = page[page.index("## Notes") :]
    assert "cut.json: not readable as JSON" in notes
    assert "foreign.json: foreign JSON" in notes
    assert "LG-FG-A, CIFAR-10 M/8/16 (table 3): one of 2 settings is reported" in notes


def test_the_stand_in_is_judged_whichever_way(page: str) -> None:
    part = page[page.index("## Stand-in") :]
    assert "mixer of 128 channels on a 10 % subset of CIFAR-10" in part
    assert (
        "within 1 point of BP, or better: difference 0.50 [0.50, 0.50] points, n = 3: **holds**"
        in part
    )
    assert "better than FG-A: difference -19.50" in part
    assert (
        "better than FG-W: difference -13.50 [-13.50, -13.50] points, n = 3: **does not hold**"
        in part
    )
    assert line(part, "DFA", "") == ["not run", "", "", ""]


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write only the numbers of figures; tests of `style.save` compare the pictures."""

    def save(
        _: Any, folder: Path, name: str, table: pd.DataFrame, *_more: Any, **_how: Any
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(table, folder / f"{name}.csv")
        return []

    monkeypatch.setattr(style, "save", save)


def test_every_picture_is_there(folder: Path, page: str) -> None:
    pictures = re.findall(r"\]\(([^)]*\.png)\)", page)
    assert pictures == [
        *("paper/table3_mnist.png", "paper/table3_mnist_curves.png", "paper/table3_cifar10.png"),
        *("paper/table3_cifar10_curves.png", "paper/table4_cifar10.png"),
        *("paper/table4_cifar10_curves.png", "paper/standin_localmixer-xs-8-16.png"),
    ]
    assert all((folder.parent / picture).is_file() for picture in pictures)
    numbers = pd.read_csv(folder.parent / "paper" / "table3_cifar10.csv").set_index("method")
    assert numbers.loc["LG-FG-A", "published_percent"] == 30.68
    assert numbers.loc["L-FA", "status"] == "not run"


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
def test_the_same_records_give_the_same_page_and_numbers_in_any_folder(
    folder: Path, page: str, tmp_path: Path
) -> None:
    copy = tmp_path / "other"
    copy.mkdir()
    for file in sorted(folder.iterdir(), reverse=True):
        (copy / file.name).write_bytes(file.read_bytes())
    again = reproduction.write(copy, tmp_path / "deep" / "PAPER.md")
    assert again.read_text() == page
    numbers = {f.name: f.read_bytes() for f in (folder.parent / "paper").glob("*.csv")}
    assert numbers == {f.name: f.read_bytes() for f in (tmp_path / "deep" / "paper").iterdir()}
    assert len(numbers) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
def test_the_committed_page_and_numbers_are_those_of_the_committed_records(tmp_path: Path) -> None:
    """Texts are equal; numbers of figures to 1e-12, since numpy's exp differs between processors."""
    committed = ROOT / "analysis" / "reproduction"
    page = reproduction.write(committed / "records", tmp_path / "paper.md")
    assert page.read_text("utf-8") == (committed / "paper.md").read_text("utf-8")
    names = sorted(file.name for file in (tmp_path / "paper").glob("*.csv"))
    assert names == sorted(file.name for file in (committed / "paper").glob("*.csv"))
    assert len(names) == 7
    for name in names:
        now, before = (pd.read_csv(folder / "paper" / name) for folder in (tmp_path, committed))
        pd.testing.assert_frame_equal(now, before, check_exact=False, rtol=1e-12, atol=0)


def test_a_page_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["paper", str(tmp_path / "empty"), "-o", str(tmp_path / "P.md")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    other = {**record("measure", "BP", arch="mlp-3x4", data="digits")}
    stored(tmp_path / "records", other)
    assert run(["paper", str(tmp_path / "records"), "-o", str(tmp_path / "P.md")]) == 0
    page = (tmp_path / "P.md").read_text()
    assert "Of 77 published cells 0 have a result" in page
    assert "Nothing of the paper's tables was run." in page
    assert "## Stand-in: mixer of 128 channels on a 10 % subset of CIFAR-10\n\nNot run." in page
    assert not (tmp_path / "p").exists()
    with pytest.raises(UsageError, match=r"REPRODUCTION\.md"):
        reproduction.write(tmp_path / "records", tmp_path / "folder")


@pytest.mark.usefixtures("unrendered")
def test_odd_records_are_named_and_do_not_stop_the_page(tmp_path: Path) -> None:
    records = tuned("BP", {0.1: 30.0}, 0.1, **CIFAR)
    records[-1] |= {"grid": None, "trials": "lost"}
    run_ = trained("BP", 30.0, 100, settings={"lr": 0.1}, **CIFAR)
    odd = {**trained("FG-A", 60.0, **CIFAR), "where": None, "settings": None, "history": None}
    bare = {"schema": 0, "verb": "train", "method": "BP", "status": "ok"}
    folder = tmp_path / "records"
    folder.mkdir()
    for at, each in enumerate([*records, run_, odd, bare]):
        (folder / f"{at}.json").write_text(json.dumps(each))
    page = reproduction.write(folder, tmp_path / "P.md").read_text()
    assert "BP, CIFAR-10 M/8/16 (table 3): a tune record without grid or choice (ok)." in page
    assert "schema 0" in page
    assert line(page, "FG-A", "### CIFAR-10 M/8/16")[1] == "60.00"


@pytest.mark.usefixtures("unrendered")
def test_seeds_that_were_tuned_on_are_named(tmp_path: Path) -> None:
    runs = [trained("BP", 33.0, s, settings={"lr": 0.1}, **CIFAR) for s in (99, 100)]
    stored(tmp_path / "r", *runs, *tuned("BP", {0.1: 30.0, 0.2: 31.0}, 0.1, **CIFAR))
    page = reproduction.write(tmp_path / "r", tmp_path / "P.md").read_text()
    assert "BP, CIFAR-10 M/8/16 (table 3): seeds 100 were also used for tuning." in page


def test_the_mean_writes_what_it_rests_on() -> None:
    assert str(Mean()) == "–"
    assert str(Mean.of(pd.Series([2.0]))) == "2.00"
    assert str(Mean.of(pd.Series([2.0, 3.0]))) == "2.50 [2.00, 3.00]"


# ablations


def drawn(room: Any, records: Records, out: Path) -> list[Path]:
    files: list[Path] = room.draw(records, out)
    assert [file.suffix for file in files] == [".png", ".pdf", ".csv", ".txt"]
    return files


def with_loss(method: str, seed: int, level: float, **options: Any) -> dict[str, Any]:
    where = {"arch": options.pop("arch", CIFAR["arch"]), "data": CIFAR["data"]}
    settings = {"train_size": options.pop("train_size", None)}
    run = trained(method, 40.0, seed, 20, options=options, settings=settings, **where)
    for point in run["history"]:
        point["contrastive_loss"] = (
            level + 0.05 * seed + (5.5 - level) * np.exp(-point["epoch"] / 4)
        )
        point["train_loss"] = 1.0
    return run


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Records:
    name = "fg_a/contrastive-local-pg"
    runs = [with_loss(name, s, 4.0, stop_keys=True, shared_noise=True) for s in range(3)]
    for options, level in ((("false", "true"), 5.5), (("false", "false"), 4.6)):
        keys, shared = options
        text = f"{name}[shared_noise={shared},stop_keys={keys}]"
        given = {"stop_keys": keys == "true", "shared_noise": shared == "true"}
        runs += [with_loss(text, s, level, **given) for s in range(3)]
    for keys in (True, False):
        text = f"bp/contrastive-local[stop_keys={keys}]"
        runs += [with_loss(text, 0, 3.8, stop_keys=keys, shared_noise=True)]
    runs += [trained("BP", 30.0, **CIFAR)]  # no contrastive loss
    both = {"stop_keys": True, "shared_noise": True}
    runs += [with_loss("fg_w/contrastive", 0, 5.0, **both)]  # in one way only
    runs += [with_loss(name, 0, 5.0, arch="localmixer-l/8/64", **both)]
    runs += [with_loss(f"{name}[crop=0.3]", 0, 5.0, **both)]  # other views
    runs += [with_loss(name, 0, 5.0, train_size=5000, **both)]
    return stored(tmp_path_factory.mktemp("losses"), *runs)


@pytest.mark.slow
def test_contrastive_losses_are_told_apart_by_their_options(
    losses: Records, tmp_path: Path
) -> None:
    table = stop_gradient.plotted(stop_gradient.tidy(losses))
    last = table[table["epoch"] == 20].set_index("label")
    labels = [
        "LG-FG-A, keys stopped, noise shared",
        "LG-FG-A, keys live, noise shared",
        "LG-FG-A, keys live, noise apart",
    ]
    assert sorted(last.index) == sorted(["LG-BP, keys live", "LG-BP, keys stopped", *labels])
    assert set(table["arch"]) == {CIFAR["arch"]}
    assert set(table["data"]) == {"cifar10"}
    assert last["loss"][labels].tolist() == pytest.approx([4.05, 5.55, 4.65], abs=0.02)
    assert last["test_error_percent"][labels].tolist() == pytest.approx([40.0] * 3)
    assert last["n"][labels].tolist() == [3, 3, 3]
    assert set(last["method"]) == {"LG-BP", "LG-FG-A"}
    fig = picture(stop_gradient, stop_gradient.tidy(losses))
    assert faults(fig) == []
    assert {"contrastive loss", "test error (%)", "epochs"} <= set(texts(fig))
    assert "n = 1 to 3 seeds" in " ".join(texts(fig)).replace("\n", " ")
    (legend,) = fig.legends
    lines = {line.get_label(): line for line in legend.get_lines()}
    mine = [lines[label] for label in labels]
    assert {line.get_color() for line in mine} == {style.look("LG-FG-A").colour}
    ways = {(str(line._dash_pattern), line.get_markerfacecolor()) for line in mine}
    assert len(ways) == 3
    drawn(stop_gradient, losses, tmp_path)


def test_an_error_whose_interval_is_cut_stays_beside_its_loss(tmp_path: Path) -> None:
    runs = []
    for keys, errors in ((True, (90.0, 95.0, 50.0)), (False, (50.0, 51.0, 52.0))):
        for seed, error in enumerate(errors):
            run_ = with_loss("fg_a/contrastive-local-pg", seed, 4.0, stop_keys=keys)
            run_["history"] = [{**point, "test_error": error / 100} for point in run_["history"]]
            locality = f"{run_['locality']}[stop_keys={str(keys).lower()}]"
            runs.append({**run_, "locality": locality, "key": f"{len(runs)}" * 32})
    table = stop_gradient.plotted(stop_gradient.tidy(stored(tmp_path, *runs)))
    last = table[table["epoch"] == 20]
    assert last[["loss", "test_error_percent"]].notna().all(axis=None)
    assert last.set_index("label")["band"].to_dict() == {
        "LG-FG-A, keys live": "t",
        "LG-FG-A, keys stopped": "cut",
    }
    assert last["high_percent"].max() == 100


PLACED = {  # place of losses -> error of supervised and of contrastive training
    "end": 60.0,
    "last-p": 52.0,
    "last-pg": 50.0,
    "local": 45.0,
    "local-p": 38.0,
    "local[keep=b g]": 40.0,
    "local-pg": 32.0,
}


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Records:
    runs = []
    for locality, error in PLACED.items():
        for seed in range(3):
            for prefix, more in (("", 0), ("contrastive-", 4)):
                runs.append(trained(f"fg_a/{prefix}{locality}", error + more + seed, seed, **CIFAR))
            text = f"fg_a[credit=released]/{locality}"
            runs.append(trained(text, error + 6 - seed, seed, **CIFAR))
    runs += [trained(f"bp/{where}", 33.0, **CIFAR) for where in ("end", "local")]
    runs += [trained(f"fg_w/{where}", 66.0, **CIFAR) for where in ("end", "local-pg")]
    runs += [trained("fg_a/last-pg", None, 3, **CIFAR)]
    runs += [trained("fg_a/contrastive-local[crop=0.3]", 20.0, **CIFAR)]  # other views
    small = {"settings": {"train_size": 5000}, **CIFAR}
    runs += [trained(f"fg_a/{where}", 70.0, **small) for where in ("end", "local-pg")]
    runs += [trained(m, 3.0, **MNIST) for m in ("BP", "FG-A")]  # one place each: no panel
    return stored(tmp_path_factory.mktemp("placed"), *runs)


@pytest.mark.slow
def test_places_of_local_losses_are_in_order_with_forms_beside(
    placed: Records, tmp_path: Path
) -> None:
    table = local_losses.plotted(results(placed))
    assert set(table["arch"]) == {"localmixer-m/8/16"}
    mine = table[(table["task"] == "supervised") & (table["series"] == "fg_a")]
    assert [place.replace("\n", " ") for place in mine["place"]] == [
        *("end", "last block +p", "last block +p +g", "blocks", "blocks +g", "blocks +p"),
        "blocks +p +g",
    ]
    assert mine["test_error_percent"].round(6).tolist() == [61, 53, 51, 46, 41, 39, 33]
    assert set(table["data"]) == {"cifar10"}
    assert set(table["estimator"]) == {"fg_a", "bp"}
    assert table[table["estimator"] == "bp"]["base"].tolist() == ["end"]
    released = table[table["series"] == "fg_a, as released"]
    assert released["test_error_percent"].iloc[0] == pytest.approx(65.0)
    fig = picture(local_losses, results(placed))
    assert faults(fig) == []
    assert len(fig.axes) == 2
    text = " ".join(texts(fig)).replace("\n", " ")
    assert "n = 1 to 3 seeds" in text
    assert "Not finished: supervised fg_a last block +p +g 1 of 4." in text
    (legend,) = fig.legends
    lines = {line.get_label(): line for line in legend.get_lines()}
    plain, other = lines["fg_a"], lines["fg_a, as released"]
    assert plain.get_color() == other.get_color() == "#d55e00"
    assert other.get_markerfacecolor() == "w"
    assert plain.get_marker() != other.get_marker()
    drawn(local_losses, placed, tmp_path)


@pytest.mark.parametrize(
    ("arch", "network", "number"),
    [
        ("localmixer-m/8/16", "localmixer-m/8/*", 16),
        ("localmixer-m128/8/16[groups=8]", "localmixer-m128/8/*", 8),
        ("localmixer-m/8/16[channels=256,groups=1]", "localmixer-m/8/*[channels=256]", 1),
        ("localmixer[blocks=2,groups=4]", "localmixer, * groups[blocks=2]", 4),
        ("localmixer[blocks=2]", "localmixer[blocks=2]", 0),
        ("mlp-3x256", "mlp-3x256", 0),
    ],
)
def test_the_number_of_groups_is_read_from_the_architecture(
    arch: str, network: str, number: int
) -> None:
    assert groups.network_of(arch) == (network, number)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Records:
    runs = []
    for number in (1, 4, 16, 64):
        arch = {"arch": f"localmixer-m/8/16[groups={number}]", "data": "cifar10"}
        if number == 16:
            arch["arch"] = "localmixer-m/8/16"
        for seed in range(3):
            for method, contrast, error in (
                ("LG-FG-A", "fg_a/contrastive-local-pg", 50 - 4 * np.log2(number)),
                ("LG-BP", "bp/contrastive-local", 34 - 0.3 * np.log2(number)),
            ):
                error += 0.8 * seed
                runs.append(trained(method, error, seed, train=0.7 * error, **arch))
                runs.append(trained(contrast, error - 2, seed, train=0.6 * error, **arch))
    runs.append(trained("FG-A", 60.0, train=50.0, **CIFAR))  # one number of groups: not drawn
    for number in (4, 16):  # views of another kind: a panel of their own, under the preset's name
        there = {"arch": f"localmixer-m/8/16[groups={number}]", "data": "cifar10"}
        runs.append(trained("bp/contrastive-local[crop=0.3]", 33.0, **there))
    runs.append(trained("LG-FG-A", None, 3, **CIFAR))
    runs += [trained("BP", 3.0, arch="mlp-3x256", data="mnist")]
    return stored(tmp_path_factory.mktemp("grouped"), *runs)


@pytest.mark.slow
def test_errors_are_drawn_against_the_number_of_groups(grouped: Records, tmp_path: Path) -> None:
    table = groups.plotted(results(grouped))
    assert set(table["network"]) == {"localmixer-m/8/*"}
    assert set(table["data"]) == {"cifar10", "cifar10, crop=0.3"}
    assert set(table["method"]) == {"LG-BP", "LG-FG-A"}
    mine = table[(table["task"] == "supervised") & (table["method"] == "LG-FG-A")]
    test = mine[mine["split"] == "test"]
    assert test["groups"].tolist() == [1, 4, 16, 64]
    assert test["error_percent"].round(6).tolist() == [50.8, 42.8, 34.8, 26.8]
    assert mine[mine["split"] == "train"]["error_percent"].iloc[0] == pytest.approx(0.7 * 50.8)
    fig = picture(groups, results(grouped))
    assert faults(fig) == []
    assert [ax.get_ylabel() for ax in fig.axes] == ["test error (%)", "train error (%)"] * 3
    assert {ax.get_xscale() for ax in fig.axes} == {"log"}
    text = " ".join(texts(fig)).replace("\n", " ")
    assert "Not finished: supervised LG-FG-A 16 groups 1 of 4." in text
    assert "none for one seed" in text
    drawn(groups, grouped, tmp_path)


@pytest.mark.slow
def test_ablations_are_judged_in_words_where_there_are_records(
    losses: Records, placed: Records, grouped: Records, tmp_path: Path, unrendered: None
) -> None:
    known = published().ablations
    assert {each.figure for each in known} < set(FIGURES)
    kinds = {"losses": losses, "placed": placed, "grouped": grouped}
    found = {
        name: "\n\n".join(ablations.section(known, records, tmp_path / name))
        for name, records in kinds.items()
    }
    assert all(text.startswith("## Ablations") for text in found.values())
    assert [text.count("### Figure") for text in found.values()] == [1, 1, 1]
    low = (
        "* with shared noise the last loss is lower with the stop-gradient than without: "
        "difference -1.49 ["
    )
    assert low in found["losses"]
    assert "n = 3: **holds**." in found["losses"]
    assert "| LG-FG-A, keys live, noise shared | 40.00 [40.00, 40.00] | 5.55" in found["losses"]
    block = (
        "* losses per block are better than one loss at the end: "
        "difference -15.00 [-15.00, -15.00] points, n = 3"
    )
    assert block in found["placed"]
    assert "mean of the released code (blocks +g): difference -4.00 [" in found["placed"]
    assert "not finished 1" in line(found["placed"], "fg_a, last block +p +g", "")[-1]
    assert "with the most groups than with the fewest: difference -24.00 [" in found["grouped"]
    assert "LG-FG-A, most groups, test and LG-FG-A, fewest groups, test not run" in found["grouped"]
    assert "![Figure 7: number of groups" in found["grouped"]
    nothing = stored(tmp_path / "nothing", trained("BP", 3.0, **MNIST))
    assert ablations.section(known, nothing, tmp_path / "out") == []


def test_a_claim_that_does_not_hold_says_so(tmp_path: Path, unrendered: None) -> None:
    runs = [
        trained(f"fg_a/{where}", error + seed % 2, seed, **CIFAR)
        for where, error in {"end": 30.0, "local": 40.0, "local-p": 40.5}.items()
        for seed in range(3)
    ]
    known = published().ablations
    text = "\n".join(ablations.section(known, stored(tmp_path, *runs), tmp_path / "out"))
    assert "difference 10.00 [10.00, 10.00] points, n = 3: **does not hold**" in text
    assert "better than per block: difference 0.50 [0.50, 0.50] points" in text


@pytest.mark.parametrize("room", [stop_gradient, local_losses, groups])
def test_an_ablation_without_numbers_is_the_users_mistake(room: Any, tmp_path: Path) -> None:
    records = stored(tmp_path, trained("BP", 30.0, **CIFAR), trained("FG-A", 60.0, **CIFAR))
    with pytest.raises(UsageError, match=r"no .* in .*; run fgbench"):
        room.draw(records, tmp_path / "out")


def test_every_figure_can_be_asked_for(placed: Records, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["figure", "groups", str(placed.folder), "-o", "nowhere"]) == 2
    assert "two numbers of groups" in capsys.readouterr().err
