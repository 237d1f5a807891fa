"""``run``: one case, one record; what is stored, what is served again, and what is not touched."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fgbench import api, registry
from fgbench.data.dataset import DataSet
from fgbench.errors import UsageError
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.cases import slow_if
from tests.makers.paths import ROOT

NET: dict[str, Any] = {"arch": "mlp-1x8", "data": "synthetic[train=64,test=32]"}
FEW: dict[str, Any] = {"draws": 4, "batches": 1, "batch": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "measure": FEW,
    "train": {"epochs": 1, "batch": 32},
    "speed": {"batch": 8, "rounds": 3, "reference": "plain"},
}
SOURCE = """
from dataclasses import dataclass
from pathlib import Path
import torch
from fgbench.core.estimator import Defaults, Estimate

@dataclass(frozen=True)
class Mine(Defaults):
    def __call__(self, view, noise, state):
        with Path(__file__).with_name("calls").open("a") as file:
            file.write("x")
        return Estimate(grads={name: FACTOR * g for name, g in view.reverse().items()})
"""
DOCUMENTED = '''    """What it is."""

    def claims(self, task):
        """Nothing of the bias."""
        from fgbench.core.estimator import Claims
        return Claims(deterministic=True, why="because")

'''


class Written:
    """An estimator in a file that counts its calls."""

    def __init__(self, folder: Path) -> None:
        self.file, self._calls = folder / "mine.py", folder / "calls"
        self.write(1.0)
        self.method = f"{self.file}:Mine"

    def write(self, factor: float) -> None:
        self.file.write_text(SOURCE.replace("FACTOR", str(factor)))

    def calls(self) -> int:
        """Calls since the last time."""
        count = len(self._calls.read_text()) if self._calls.exists() else 0
        self._calls.write_text("")
        return count


@pytest.fixture
def mine(tmp_path: Path) -> Written:
    return Written(tmp_path)


def run(verb: str, method: str = "FG-W", **more: Any) -> dict[str, Any]:
    return api.run(verb, method=method, **{**NET, **OPTIONS[verb], **more})


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what depends on the clock."""
    found = {k: v for k, v in record.items() if k not in ("started", "elapsed_s", "seconds")}
    if "history" in found:
        found["history"] = [
            {k: v for k, v in h.items() if k != "seconds"} for h in found["history"]
        ]
    return found


@pytest.mark.parametrize("verb", OPTIONS)
def test_a_case_becomes_a_plain_record(verb: str) -> None:
    found = run(verb)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["verb"], found["method"], found["status"]) == (verb, "FG-W", "ok")
    assert found["where"]["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("verb", ["measure", "train"])
def test_equal_cases_have_equal_numbers(verb: str) -> None:
    assert without_times(run(verb)) == without_times(run(verb))
    assert without_times(run(verb)) != without_times(run(verb, seed=1))


@pytest.mark.parametrize("verb", ["measure", "train"])
def test_a_finished_case_is_served_from_the_folder(
    verb: str, mine: Written, tmp_path: Path
) -> None:
    first = run(verb, mine.method, records=tmp_path / "kept")
    assert mine.calls() > 0
    assert run(verb, mine.method, records=tmp_path / "kept") == first
    assert mine.calls() == 0
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1
    assert run(verb, mine.method, records=tmp_path / "kept", seed=1)["key"] != first["key"]
    assert mine.calls() > 0


@pytest.mark.parametrize("verb", OPTIONS)
def test_a_record_says_what_its_estimator_is_and_claims(
    verb: str, mine: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nobody")
    text = mine.file.read_text().replace("    def __call__", f"{DOCUMENTED}    def __call__")
    mine.file.write_text(text)
    assert run(verb, mine.method)["about"] == {
        **{"class": "Mine", "module": "", "file": str(mine.file), "documentation": "What it is."},
        "promises": "Nothing of the bias.",
        "claims": {
            **{"bias": "some", "backward": "network", "deterministic": True, "slopes_only": False},
            **{"why": "because", "kind": "gradient", "exact": False},
        },
    }
    monkeypatch.setenv("HOME", str(mine.file.parent.parent))
    within = f"~/{mine.file.parent.name}/{mine.file.name}"
    assert run(verb, mine.method)["about"]["file"] == within
    about = run(verb, "FG-A")["about"]
    assert about["module"] == "fgbench.estimators.fg_a"
    assert about["file"] == ""
    assert about["claims"]["bias"] == "none"
    mine.write(1.0)
    about = run(verb, mine.method)["about"]
    assert about["documentation"] == ""  # not the signature, nor what it inherits
    assert about["promises"] == "Return no promise: some bias, any use of reverse mode."


def test_what_an_estimator_says_of_itself_is_no_part_of_the_key(
    mine: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("measure", mine.method, records=tmp_path)
    monkeypatch.setattr(
        "fgbench.runs.case._about", lambda made: {"documentation": "Another.", "claims": None}
    )
    mine.calls()
    assert run("measure", mine.method, records=tmp_path)["key"] == first["key"]
    assert mine.calls() == 0


def test_speed_is_measured_anew(mine: Written, tmp_path: Path) -> None:
    run("speed", mine.method, records=tmp_path / "kept")
    mine.calls()
    run("speed", mine.method, records=tmp_path / "kept")
    assert mine.calls() > 0
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1


def test_edited_code_is_never_served_old_numbers(mine: Written, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run("measure", mine.method, records=kept)["scale"]["value"] == pytest.approx(1.0)
    mine.write(1.25)
    mine.calls()
    reused = run("measure", mine.method, records=kept, reuse=True)
    assert (reused["scale"]["value"], reused["reused"]) == (pytest.approx(1.0), True)
    assert mine.calls() == 0
    anew = run("measure", mine.method, records=kept)
    assert anew["scale"]["value"] == pytest.approx(1.25, rel=1e-6)
    assert "reused" not in anew
    assert len(list(kept.glob("*.json"))) == 2


def test_an_option_typed_or_by_default_is_one_case(tmp_path: Path) -> None:
    first = run("measure", "fg_w", records=tmp_path)
    again = run("measure", "fg_w[law=gaussian,directions=1]/end", records=tmp_path)
    assert again == {**first, "method": "fg_w[law=gaussian,directions=1]/end"}
    assert run("measure", "FG-W", records=tmp_path) == {**first, "method": "FG-W"}
    assert len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.parametrize("records", [True, False])
def test_a_method_named_twice_runs_once(mine: Written, tmp_path: Path, records: bool) -> None:
    kept = tmp_path / "kept" if records else None
    case = {**NET, **FEW, "records": kept}
    first, second, other = api.run_all("measure", [mine.method, mine.method, "BP"], **case)
    assert first == second
    assert other["method"] == "BP"
    assert mine.calls() == 4  # an exact or an unclaimed one: draws of one point


def test_half_written_and_foreign_files_are_ignored(mine: Written, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = run("measure", mine.method, records=kept)
    (path,) = kept.glob("*.json")
    path.write_text(path.read_text()[:100])
    (kept / f".{path.name}.1-x.tmp").write_text("{")
    (kept / "notes.json").write_text("[1]")
    mine.calls()
    again = run("measure", mine.method, records=kept)
    assert mine.calls() > 0
    assert without_times(again) == without_times(first)
    assert json.loads(path.read_text()) == again


@pytest.mark.slow
def test_two_processes_at_one_folder_run_each_case_once(tmp_path: Path, mine: Written) -> None:
    script = (
        "import sys, json; from fgbench import api\n"
        f"found = api.run_all('measure', sys.argv[1:], records={str(tmp_path / 'kept')!r},"
        f" **{ {**NET, **FEW, 'draws': 64}!r})\n"
        "print(json.dumps([r['key'] for r in found]))\n"
    )
    root = str(ROOT)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    orders = [[mine.method, "FG-W", "BP"], ["BP", "FG-W", mine.method]]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *order],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for order in orders
    ]  # fmt: skip
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    keys = [json.loads(out) for out, _ in said]
    assert keys[0] == keys[1][::-1]
    assert mine.calls() == 64
    records = [json.loads(p.read_text()) for p in (tmp_path / "kept").glob("*.json")]
    assert sorted(r["key"] for r in records) == sorted(keys[0])
    assert not list((tmp_path / "kept").glob(".*.tmp"))


def test_methods_together_are_the_methods_alone() -> None:
    methods = ["FG-W", "fg_a/local", "FA", "NP"]
    together = api.run_all("measure", methods, **NET, **{**FEW, "batches": 2})
    for method, found in zip(methods, together, strict=True):
        alone = run("measure", method, batches=2)
        assert without_times(found) == without_times(alone)


def test_methods_of_one_call_meet_the_same_points_and_noise() -> None:
    one, released = api.run_all("measure", ["fg_w", "fg_w[credit=released]"], **NET, **FEW)
    assert one["key"] != released["key"]
    for name in ("efficiency", "relative_variance", "scale", "bias", "cosine", "per_site"):
        assert one[name] == released[name]  # an MLP mixes nothing: the same estimate


def test_mistakes_are_usage_errors() -> None:
    for verb, method, more, told in (
        ("mesure", "BP", {}, "did you mean 'measure'"),
        ("measure", "BP", {"drows": 3}, "unknown option of measure 'drows'; did you mean 'draws'"),
        ("measure", "BP", {"moments": ()}, "epochs"),
        ("measure", "BP", {"moments": (float("nan"),)}, "epochs"),
        ("measure", "BP", {"threads": 0}, "threads"),
        ("train", "BP", {"epoch": 3}, "did you mean 'epochs'"),
        ("speed", "BP", {"workload": 1}, "unknown option of speed"),
        ("measure", "BQ", {}, "did you mean 'BP'"),
    ):
        with pytest.raises(UsageError, match=told):
            api.run(verb, method=method, **{**NET, **more})


def test_the_seed_is_the_seed_of_the_settings() -> None:
    assert run("measure", seed=7)["settings"]["seed"] == 7


def settings() -> tuple[Any, ...]:
    """Global random state and torch settings, everything that a library could move."""
    flags = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.mkldnn.enabled,
        torch.get_deterministic_debug_mode(),
    )
    state = np.random.get_state(legacy=True)  # noqa: NPY002
    generators = (
        torch.random.get_rng_state().numpy().tobytes(),
        random.getstate(),
        *(part.tobytes() if isinstance(part, np.ndarray) else part for part in state),
    )
    return flags + generators


def test_the_comparison_sees_every_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        for move in (lambda: torch.rand(1), random.random, np.random.random):
            before = settings()
            move()
            assert settings() != before


ESTIMATORS = [
    name
    for name, entry in registry.entries("estimators").items()
    if entry.owner.startswith("fgbench.")
]


@pytest.mark.parametrize("estimator", slow_if(ESTIMATORS, "cge".__eq__))
@pytest.mark.parametrize("verb", OPTIONS)
def test_nothing_global_is_touched(verb: str, estimator: str) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = settings()
    assert run(verb, f"{estimator}/local")["status"] == "ok"
    assert settings() == before


@pytest.mark.parametrize("verb", OPTIONS)
def test_threads_are_set_while_it_runs_and_restored(verb: str) -> None:
    before = torch.get_num_threads()
    assert run(verb, "BP", threads=before + 1)["where"]["threads"] == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError):
        run(verb, "BP", threads=before + 1, batch=99999)
    assert torch.get_num_threads() == before


def test_an_estimator_that_cannot_run_here_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "skip.py").write_text(
        SOURCE.replace("FACTOR", "1.0")
        + "    def supports(self, task):\n        return 'not here'\n"
    )
    for verb in OPTIONS:
        kept = tmp_path / "kept"
        found = run(verb, f"{tmp_path / 'skip.py'}:Mine", records=kept)
        assert (found["status"], found["reason"]) == ("skipped", "not here")
    assert not (tmp_path / "calls").exists()


# one method that raises

RAISING = """
from dataclasses import dataclass
from fgbench.core.estimator import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Raises(Defaults):
    after: int = 0  # estimates that go well
    what: str = "ValueError"
    where: str = "call"
    def claims(self, task):
        self._raise("claims")
        return Claims()
    def supports(self, task):
        self._raise("supports")
        return ""
    def init_state(self, task, noise):
        self._raise("init_state")
        return {}
    def __call__(self, view, noise, state):
        made = noise.redraw[0] if noise.redraw else noise.step
        if made >= self.after:
            self._raise("call")
        return Estimate(grads=view.reverse())
    def _raise(self, here):
        if here == self.where:
            raise __builtins__[self.what]("on purpose")
"""


@pytest.fixture
def raising(tmp_path: Path) -> str:
    (tmp_path / "raising.py").write_text(RAISING)
    return f"{tmp_path / 'raising.py'}:Raises"


@pytest.mark.parametrize("where", ["call", "claims", "supports", "init_state"])
@pytest.mark.parametrize("verb", OPTIONS)
def test_one_that_raises_fails_alone(verb: str, where: str, raising: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    methods = ["FG-W", f"{raising}[where={where}]", "BP"]
    case: dict[str, Any] = {**NET, **OPTIONS[verb], "records": kept}
    found = api.run_all(verb, methods, **case)
    assert [r["method"] for r in found] == methods
    assert [r["status"] for r in found] == ["ok", "failed", "ok"]
    assert re.fullmatch(r"ValueError: on purpose \(raising\.py:26\)", found[1]["reason"])
    written = [json.loads(path.read_text()) for path in kept.glob("*.json")]
    assert sorted(r["status"] for r in written) == ["failed", "ok", "ok"]
    for record in found[::2]:
        if verb != "speed":
            alone = run(verb, record["method"])
            assert without_times(record) == without_times(alone)
    assert verb == "speed" or api.run_all(verb, methods, **case)[0] == found[0]  # served again


@pytest.mark.parametrize("verb", OPTIONS)
def test_one_that_raises_later_fails_as_well(verb: str, raising: str) -> None:
    """At the third draw, the second training step, the second timed step."""
    after = {"measure": 2, "train": 1, "speed": 4}[verb]
    methods = [f"{raising}[after={after}]", "FG-W"]
    found = api.run_all(verb, methods, **NET, **OPTIONS[verb])
    assert [r["status"] for r in found] == ["failed", "ok"]
    assert "relative_variance" not in found[0]
    assert "step_ms" not in found[0]
    if verb == "train":
        assert (found[0]["steps"], found[0]["test_error"]) == (1, None)


@pytest.mark.parametrize("what", ["MemoryError", "SystemExit"])
@pytest.mark.parametrize("verb", OPTIONS)
def test_no_memory_or_an_exit_in_a_method_is_its_failure(
    verb: str, what: str, raising: str
) -> None:
    methods = [f"{raising}[what={what}]", "FG-W"]
    found = api.run_all(verb, methods, **NET, **OPTIONS[verb])
    assert [r["status"] for r in found] == ["failed", "ok"]
    assert found[0]["reason"] == f"{what}: on purpose (raising.py:26)"


def test_training_works_on_the_data_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a second copy of the images would lie beside the first."""
    plain, made = Workload.of, []

    def of(cls: Any, *args: Any, **more: Any) -> Workload:
        made.append(plain(*args, **more))
        return made[-1]

    monkeypatch.setattr(Workload, "of", classmethod(of))
    begin, used = TrainingRun.__init__, []

    def watched(self: Any, *args: Any) -> None:
        used.extend(arg for arg in args if isinstance(arg, DataSet))
        begin(self, *args)

    monkeypatch.setattr(TrainingRun, "__init__", watched)
    api.run_all("train", ["BP", "FG-A"], **NET, **OPTIONS["train"])
    assert {data.train_x.data_ptr() for data in used} == {made[0].data.train_x.data_ptr()}
    assert len(used) == 2


@pytest.mark.parametrize("verb", OPTIONS)
def test_an_interrupt_ends_the_call(verb: str, raising: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        api.run_all(verb, ["FG-W", f"{raising}[what=KeyboardInterrupt]"], **NET, **OPTIONS[verb])


@pytest.mark.parametrize("verb", OPTIONS)
def test_what_is_no_methods_work_is_raised(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("fgbench.workload.Workload.chain", none_left)
    with pytest.raises(MemoryError):
        run(verb)


@pytest.mark.parametrize("verb", OPTIONS)
def test_a_mistake_is_raised_before_anything_runs(verb: str, mine: Written) -> None:
    wrong = {"arch": "mlp-1x8[width=0]", "data": NET["data"]}
    for case, methods in (
        (NET, [mine.method, "fg_a/local[keep=b z]"]),
        (wrong, [mine.method]),
    ):
        with pytest.raises(UsageError):
            api.run_all(verb, methods, **case, **OPTIONS[verb])
        assert mine.calls() == 0


def test_a_failure_is_tried_again_and_goes_on_from_its_checkpoint(
    raising: str, tmp_path: Path
) -> None:
    """The seventh step fails once: the second call repeats no epoch, and its record replaces the first."""
    sign = tmp_path / "sign"
    sign.write_text("")
    source = RAISING.replace(
        "made >= self.after", f"noise.step == 6 and Path({str(sign)!r}).exists()"
    )
    (tmp_path / "raising.py").write_text("from pathlib import Path\n" + source)
    case = {**NET, "epochs": 5, "batch": 32, "records": tmp_path / "kept"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fgbench.training.checkpoint.Keeper.due", lambda self, ended: ended)
        first = api.run("train", method=raising, **case)
    assert (first["status"], first["steps"]) == ("failed", 6)
    sign.unlink()
    lines: list[str] = []
    second = api.run("train", method=raising, progress=lines.append, **case)
    assert second["status"] == "ok"
    assert any("goes on from its checkpoint" in line for line in lines)
    assert second["key"] == first["key"]
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1
    assert not list((tmp_path / "kept").glob(".checkpoints/*"))
    plain = api.run("train", method=raising, **{**case, "records": None})
    assert plain["test_error"] == second["test_error"]
