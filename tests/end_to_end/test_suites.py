"""The asv suites: cheap to import, complete, tolerant of old commits, honest about failures."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from itertools import product
from types import ModuleType
from typing import Any

import pytest

from fgbench import registry
from fgbench.runs.suites import folder as suites
from suites import all_cells, costs, estimates, foundations, trainings, watched
from suites.helpers import tracked
from tests.makers.paths import ROOT

MODULES = (costs, estimates, foundations, trainings)
CLASSES = [
    thing
    for module in MODULES
    for thing in vars(module).values()
    if inspect.isclass(thing) and thing.__module__ == module.__name__
]
BENCHMARKS = [(c, name) for c in CLASSES for name in vars(c) if name.startswith("track_")]
IDS = [f"{c.__module__}.{c.__name__}.{name}".removeprefix("suites.") for c, name in BENCHMARKS]


def in_tier(tier: str) -> list[str]:
    return [i for (c, _), i in zip(BENCHMARKS, IDS, strict=True) if c.tier in tracked.TIERS[tier]]


def own(cls: Any, name: str) -> Any:
    """Where asv finds an attribute of a class: itself or its module."""
    return vars(cls).get(name) or vars(sys.modules[cls.__module__])[name]


def test_importing_the_suites_loads_neither_torch_nor_fgbench() -> None:
    code = (
        "import sys; from suites import all_cells, costs, estimates, foundations, trainings; "
        "sys.exit(bool({'torch', 'fgbench'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("tier", list(tracked.TIERS))
def test_asv_finds_the_benchmarks_of_a_tier(tier: str) -> None:
    pytest.importorskip("asv_runner.discovery", reason="asv is not installed")
    code = (
        "import json, sys; from asv_runner.discovery import disc_benchmarks; root = sys.argv[1]; "
        "found = list(disc_benchmarks(root)); "
        "print(json.dumps([[b.name, b.check(root), b.version, b.unit, b.setup_cache_key] for b in found]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "suites")],
        cwd=ROOT, env={**os.environ, "FGBENCH_TIER": tier}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(ended.stdout)
    assert sorted(name for name, *_ in found) == sorted(in_tier(tier))
    assert all(
        check and version.startswith("1") and unit != "unit" for _, check, version, unit, _ in found
    )
    # asv runs one setup_cache per place in the source, for the first benchmark that leads to it: one for all
    # but the times, whose processes are their own.
    keys = {key for name, *_, key in found if not name.startswith("costs.")}
    assert len(keys) == (tier != "gpu")
    assert all(key.startswith("all_cells:") for key in keys)


def test_a_tier_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGBENCH_TIER", "fast")
    with pytest.raises(ValueError, match="FGBENCH_TIER is 'fast'; valid: smoke, full, gpu"):
        tracked.tier()


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_says_for_itself_what_asv_would_guess(cls: type) -> None:
    named = vars(cls)
    assert {"tier", "version", "timeout", "params", "param_names", "setup"} <= set(named)
    assert own(cls, "setup_cache").timeout > 0
    assert len(named["params"]) == len(named["param_names"])
    assert all(isinstance(value, str) for values_of in named["params"] for value in values_of)
    assert all(len(values) == len(set(values)) for values in named["params"])
    assert inspect.getdoc(cls)


@pytest.mark.parametrize(("cls", "name"), BENCHMARKS, ids=IDS)
def test_units_say_what_is_better(cls: type, name: str) -> None:
    unit = getattr(getattr(cls, name), "unit", None) or vars(cls)["unit"]
    assert len(unit.split()) > 1
    assert unit[0].isdigit() or unit[0].islower() or unit.startswith("CPU")


def test_the_rank_test_can_see_a_change() -> None:
    for seeds in (estimates.SEEDS, trainings.SEEDS, range(tracked.PROCESSES)):
        assert len(seeds) >= 7  # 6 a side are never significant for asv


@pytest.mark.parametrize("kind", list(registry.FOLDERS))
def test_the_sources_register_what_the_registry_has(kind: str) -> None:
    here = [
        name for name, entry in registry.entries(kind).items() if entry.owner.startswith("fgbench.")
    ]
    assert watched.registered(kind) == here


@pytest.mark.parametrize("kind", list(registry.FOLDERS))
def test_every_name_is_watched_or_has_a_reason(kind: str) -> None:
    assert set(watched.UNWATCHED) <= {
        name for each in registry.FOLDERS for name in registry.entries(each)
    }
    rows = {row for cls in CLASSES for values in cls.params for row in values}
    if kind != "updates":
        for name in watched.watched(kind):
            assert {name, f"{name}/end"} & rows, name


def test_a_new_file_is_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "fgbench" / "estimators").mkdir(parents=True)
    (tmp_path / "fgbench" / "estimators" / "mine.py").write_text(
        '@register(\n    "estimators", "mine")\n'
    )
    monkeypatch.setattr(watched, "ROOT", tmp_path)
    watched.registered.cache_clear()
    try:
        assert watched.watched("estimators") == ["mine"]
    finally:
        watched.registered.cache_clear()


def test_an_estimator_that_documents_no_mean_has_no_row_of_exact_means() -> None:
    found = tracked.exact_means({"svrg": {"method": "svrg/end", "net": "mlp"}})["svrg"]
    assert found["status"] == "n/a"
    assert found["reason"].startswith("it documents no mean")
    assert "svrg/end" not in watched.MEANS


@pytest.mark.parametrize(
    ("group", "rows"), [("draws", watched.DRAWS), ("intervals", watched.STATISTICS)]
)
def test_every_law_and_statistic_of_the_probe_has_a_row(group: str, rows: list[str]) -> None:
    assert sorted(tracked.group(group)) == sorted(rows)


def test_a_law_more_changes_the_fingerprint_of_no_other() -> None:
    of_one = {"status": "ok", "reason": "", "numbers": {"w": 0.5}}
    every = {"draws": dict.fromkeys(watched.DRAWS, of_one)}
    more = {"draws": every["draws"] | {"cauchy": of_one}}
    less = {"draws": {name: of_one for name in watched.DRAWS if name != "sphere"}}
    for law in watched.DRAWS:
        params = (law, "forward")
        before = number(foundations.Draws, "track_fingerprint", every, params)
        assert number(foundations.Draws, "track_fingerprint", more, params) == before
        if law != "sphere":
            assert number(foundations.Draws, "track_fingerprint", less, params) == before
    with pytest.raises(NotImplementedError, match="this commit does not have it"):
        number(foundations.Draws, "track_fingerprint", less, ("sphere", "forward"))


def number(cls: Any, name: str, cells: Any, params: tuple[str, ...]) -> Any:
    """Return what asv would have: set-up, then the call."""
    benchmark = cls()
    benchmark.setup(cells, *params)
    return getattr(benchmark, name)(cells, *params)


class Inner(dict[str, Any]):
    """Cells of which every name has the same."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return self["x"]


class Outer(dict[str, Any]):
    """The return of a setup_cache, whatever its parts are called."""

    inside = Inner()

    def __missing__(self, name: str) -> Any:
        return self.inside


@pytest.mark.parametrize(("cls", "name"), BENCHMARKS, ids=IDS)
@pytest.mark.parametrize(
    ("status", "raised"), [("n/a", NotImplementedError), ("failed", RuntimeError)]
)
def test_a_commit_without_a_cell_is_skipped_and_a_failure_is_not_hidden(
    cls: Any, name: str, status: str, raised: type
) -> None:
    cell = {"status": status, "reason": "out of memory"}
    cells = Outer() if "setup_cache" not in vars(cls) else [Inner(x=cell)]
    Outer.inside = Inner(x=cell, cnn=cell)
    params = next(product(*cls.params))
    with pytest.raises(raised, match="out of memory"):
        number(cls, name, cells, params)


def test_the_configuration_has_a_threshold_for_every_kind_of_number() -> None:
    import re

    thresholds = suites.configuration(ROOT)["regressions_thresholds"]
    for name in IDS:
        assert sum(bool(re.match(pattern, name)) for pattern in thresholds) == 1, name


def test_a_file_that_raises_leaves_the_others_their_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises() -> Any:
        raise KeyError("no such thing")

    cell = {"status": "ok", "reason": "", "numbers": {"w": 0.5}}
    monkeypatch.setattr(estimates, "cells", raises)
    monkeypatch.setattr(foundations, "cells", lambda: {"draws": dict.fromkeys(watched.DRAWS, cell)})
    monkeypatch.setattr(trainings, "cells", dict)
    cells = pickle.loads(pickle.dumps(all_cells.setup_cache()))  # as asv keeps it
    assert number(foundations.Draws, "track_fingerprint", cells, ("sphere", "forward")) > 0
    with pytest.raises(RuntimeError, match=r"noise was not computed\. suites\.estimates: KeyError"):
        number(estimates.Noise, "track_relative_variance", cells, ("fg_w/end",))
    assert "no such thing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("module", [foundations, trainings, estimates])
def test_every_row_of_the_smoke_tier_has_a_number(module: ModuleType) -> None:
    """A name that the probes do not know would show as n/a for ever."""
    cells = importlib.import_module(module.__name__).cells()
    missing, count = [], 0
    for cls, name in BENCHMARKS:
        if cls.__module__ != module.__name__ or cls.tier != "smoke":
            continue
        for params in product(*cls.params):
            try:
                value = number(cls, name, cells, params)
            except NotImplementedError as reason:
                missing.append((cls.__name__, params, str(reason)))
                continue
            count += 1
            for each in value["samples"] if isinstance(value, dict) else [value]:
                assert each == tracked.six(each)
                assert each >= 0
    assert count > 20
    assert [m for m in missing if "this commit does not have it" in m[2]] == []
    assert [m for m in missing if m[0].startswith("ExactMean")] == []
