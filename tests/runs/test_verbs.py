"""Work that is done once: data are loaded once per call, and the network of a run is built once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fgbench import registry
from fgbench.conformance import require_structure
from fgbench.conformance.structure import Sample
from fgbench.core.network import Chain
from fgbench.runs.run import run_all
from fgbench.workload import Workload

METHODS = ["BP", "FG-A", "LG-FG-A"]
CASE: dict[str, Any] = {"arch": "mlp-2x8", "data": "synthetic[train=64,test=32]"}
TRAINING: dict[str, Any] = {**CASE, "epochs": 1, "batch": 32}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the data sets that are loaded and the networks that are built, its structure checked."""
    workload = Workload.of(**CASE)
    require_structure(workload.arch, sample=Sample.of(workload.data), **workload.sizes())
    counted: Counter[str] = Counter()
    make, chain = registry.make, Workload.chain

    def counting_make(kind: str, text: str, **more: Any) -> registry.Made:
        counted[kind] += 1
        return make(kind, text, **more)

    def counting_chain(workload: Workload, seed: int) -> Chain:
        counted["networks"] += 1
        return chain(workload, seed)

    monkeypatch.setattr(registry, "make", counting_make)
    monkeypatch.setattr(Workload, "chain", counting_chain)
    return counted


def test_training_loads_the_data_once_and_builds_each_network_once(count: Counter[str]) -> None:
    found = run_all("train", METHODS, **TRAINING)
    assert [record["status"] for record in found] == ["ok"] * 3
    assert all(record["about"]["claims"] is not None for record in found)
    assert (count["datasets"], count["networks"], count["architectures"]) == (1, 3, 3)


def test_the_structure_of_a_network_is_checked_once(count: Counter[str]) -> None:
    require_structure.cache_clear()
    for built in (4, 3):  # the first time one more, whose structure is checked
        count.clear()
        run_all("train", METHODS, **TRAINING)
        assert count["architectures"] == built


def test_a_finished_training_is_found_with_one_network_and_trains_nothing(
    count: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_all("train", METHODS, records=tmp_path, **TRAINING)
    count.clear()
    monkeypatch.setattr("fgbench.training.loop.train", None)  # calling it raises
    assert run_all("train", METHODS, records=tmp_path, **TRAINING) == first
    assert (count["datasets"], count["networks"]) == (1, 3)


def test_every_run_trains_a_network_of_its_own() -> None:
    """The networks are built before the first run, and training one leaves the others as they were."""
    (alone,) = run_all("train", ["FG-A"], **TRAINING)
    found = run_all("train", ["BP", "FG-A", "fg_a[directions=1]/end"], **TRAINING)
    for record in found[1:]:
        assert record["correct"] == alone["correct"]
        for name in ("test_error", "train_error", "test_loss", "train_loss", "cost"):
            assert record[name] == alone[name]


@pytest.mark.parametrize("verb", ["measure", "speed"])
def test_other_verbs_load_the_data_once(verb: str, count: Counter[str]) -> None:
    options: dict[str, Any] = {
        "measure": {"draws": 2, "batches": 1, "batch": 8},
        "speed": {"batch": 8, "rounds": 3, "reference": "plain"},
    }[verb]
    found = run_all(verb, METHODS, **CASE, **options)
    assert [record["status"] for record in found] == ["ok"] * 3
    assert count["datasets"] == 1
