"""The asv suites: cheap to import, tolerant of old commits, honest about divergence."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from types import ModuleType
from typing import Any

import pytest

from fgbench.errors import UsageError
from suites import cost, outcome, quality
from tests.makers.cases import slow_if
from tests.makers.paths import ROOT

KINDS = ("track_", "time_", "timeraw_", "mem_", "peakmem_")
CLASSES = [
    thing
    for module in (quality, cost)
    for thing in vars(module).values()
    if inspect.isclass(thing) and thing.__module__ == module.__name__
]
BENCHMARKS = [(c, name) for c in CLASSES for name in vars(c) if name.startswith(KINDS)]
IDS = [f"{c.__module__}.{c.__name__}.{name}".removeprefix("suites.") for c, name in BENCHMARKS]
NUMBERS = {"efficiency": 0.2, "scale": 0.75, "ratio_to_bp": 1.25, "peak_ratio_to_bp": 0.75}

Run = Callable[..., dict[str, Any]]


def measured(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value, "n": 4}


def plain_run(verb: str, **case: Any) -> dict[str, Any]:
    """A stand-in for fgbench.api.run whose test errors are 0.00, 0.01, ... by seed."""
    result = {key: measured(value) for key, value in NUMBERS.items()}
    return {"status": "ok", "reason": "", **result, "test_error": case["seed"] / 100}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Put a stand-in where the suites look for fgbench.api.run."""

    def put(run: Run) -> None:
        api = ModuleType("fgbench.api")
        vars(api)["run"] = run
        monkeypatch.setitem(sys.modules, "fgbench.api", api)
        monkeypatch.setattr(outcome, "find_spec", lambda name: object())

    return put


def values(cls: Any, name: str) -> Iterator[Any]:
    """Run one benchmark as asv does: the cache, then set-up and call for every parameter."""
    results = json.loads(json.dumps(cls().setup_cache()))
    for params in product(*cls.params):
        benchmark = cls()
        benchmark.setup(results, *params)
        yield getattr(benchmark, name)(results, *params)


def test_there_is_a_suite_of_each_kind() -> None:
    assert IDS == [
        "quality.Estimate.track_inefficiency",
        "quality.Estimate.track_scale_error",
        "quality.Training.track_test_error",
        "cost.Step.track_time_ratio",
        "cost.Step.track_memory_ratio",
    ]


def test_importing_the_suites_loads_neither_torch_nor_fgbench() -> None:
    code = (
        "import sys; from suites import cost, outcome, quality; "
        "sys.exit(bool({'torch', 'fgbench'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_asv_finds_the_same_benchmarks() -> None:
    runner = pytest.importorskip("asv_runner.discovery", reason="asv is not installed")
    found = list(runner.disc_benchmarks(str(ROOT / "suites")))
    assert sorted(b.name for b in found) == sorted(IDS)
    assert all(b.check(str(ROOT / "suites")) for b in found)
    assert all(b.version in ("1", "2") and b.unit != "unit" for b in found)
    # asv runs one setup_cache per place in the source, for the first class that leads to it.
    keys = {b.name.rpartition(".")[0]: b.setup_cache_key for b in found}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_says_for_itself_what_asv_would_guess(cls: type) -> None:
    own = vars(cls)
    assert {"version", "timeout", "params", "param_names", "setup", "setup_cache"} <= set(own)
    assert own["setup_cache"].timeout > 0
    assert len(own["params"]) == len(own["param_names"])
    assert all(isinstance(value, str) for values_of in own["params"] for value in values_of)


def test_every_benchmark_has_its_own_threshold() -> None:
    conf = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    thresholds = json.loads(conf)["regressions_thresholds"]
    for name in IDS:
        assert sum(bool(re.match(pattern, name)) for pattern in thresholds) == 1, name


def test_the_rank_test_can_see_a_change() -> None:
    for seeds in (quality.SEEDS, cost.REPEATS):
        assert len(seeds) >= 7  # 6 a side are never significant for asv


@pytest.mark.parametrize(
    ("name", "expected"),
    [("track_inefficiency", 4.0), ("track_scale_error", 1.25)],
)
def test_an_estimate_is_tracked_lower_is_better(
    serve: Callable[[Run], None], name: str, expected: float
) -> None:
    serve(plain_run)
    assert list(values(quality.Estimate, name)) == [pytest.approx(expected)] * 8


def test_errors_are_tracked_by_seed_and_divergence_is_chance(
    serve: Callable[[Run], None],
) -> None:
    def run(verb: str, **case: Any) -> dict[str, Any]:
        if case["method"] == "FG-A" and case["seed"] == 3:
            return {"status": "diverged", "reason": "loss not finite", "test_error": None}
        return plain_run(verb, **case)

    serve(run)
    clean = [seed / 100 for seed in range(10)]
    by_method = dict(
        zip(quality.Training.params[0], values(quality.Training, "track_test_error"), strict=True)
    )
    assert by_method["BP"] == {"samples": clean, "number": 1}
    assert by_method["FG-A"]["samples"] == [*clean[:3], 0.9, *clean[4:]]


@pytest.mark.parametrize(
    ("name", "expected"), [("track_time_ratio", 1.25), ("track_memory_ratio", 0.75)]
)
def test_costs_are_tracked_as_ratios(
    serve: Callable[[Run], None], name: str, expected: float
) -> None:
    serve(plain_run)
    assert list(values(cost.Step, name)) == [{"samples": [expected] * 10, "number": 1}] * 3


@pytest.mark.parametrize(("cls", "name"), BENCHMARKS, ids=IDS)
def test_a_commit_without_the_api_is_skipped(
    monkeypatch: pytest.MonkeyPatch, cls: type, name: str
) -> None:
    monkeypatch.setattr(outcome, "find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match=r"no fgbench\.api"):
        list(values(cls, name))


@pytest.mark.parametrize(("cls", "name"), BENCHMARKS, ids=IDS)
def test_a_commit_without_the_method_is_skipped(
    serve: Callable[[Run], None], cls: type, name: str
) -> None:
    def run(verb: str, **case: Any) -> dict[str, Any]:
        raise UsageError(f"unknown method {case['method']!r}")

    serve(run)
    with pytest.raises(NotImplementedError, match="unknown method"):
        list(values(cls, name))


@pytest.mark.parametrize(("cls", "name"), BENCHMARKS, ids=IDS)
@pytest.mark.parametrize("status", ["failed", "unresolved"])
def test_a_failure_is_not_hidden(
    serve: Callable[[Run], None], cls: type, name: str, status: str
) -> None:
    serve(lambda verb, **case: {"status": status, "reason": "out of memory"})
    with pytest.raises(RuntimeError, match="out of memory"):
        list(values(cls, name))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("fgbench.api") is None, reason="fgbench.api is absent")
@pytest.mark.parametrize("cls", slow_if(CLASSES, lambda cls: cls is quality.Estimate))
def test_every_method_of_a_suite_runs(cls: Any, serve: Callable[[Run], None]) -> None:
    """A name or option unknown to the current code would show as n/a for ever."""
    from fgbench.api import run

    small = {"draws": 64, "batches": 1, "epochs": 1}
    asked: list[dict[str, Any]] = []

    def record(verb: str, **case: Any) -> dict[str, Any]:
        asked.append({"verb": verb, **case})
        return {"status": "skipped", "reason": "only recorded"}

    serve(record)
    cls().setup_cache()
    distinct = {(case["method"], case["arch"]): case for case in asked}
    for case in distinct.values():
        result = run(**(case | {k: v for k, v in small.items() if k in case}))
        assert result["status"] == "ok", (case, result)
