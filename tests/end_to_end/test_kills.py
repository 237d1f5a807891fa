"""A sample of the kills and signals of ``make kills``, and that its judge sees faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgbench.cli.main import run
from tests.makers import kills
from tests.makers.cases import mostly_slow
from tests.makers.kills import Laboratory, Trial

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

TRIALS = [
    Trial("list", "INT INT", after=0.05, gap=0.01, starts=True),
    Trial("list", "HUP", after=0.0, gap=0.0, starts=True),
    Trial("train", "INT INT", after=0.15, gap=0.0, starts=False),
    Trial("train", "KILL", after=0.3, gap=0.0, starts=False),
    Trial("table1", "TERM", after=0.1, gap=0.0, starts=False),
    Trial("measure", "INT INT INT", after=0.1, gap=0.01, starts=False),
]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize(
    "trial", mostly_slow(TRIALS, 3), ids=lambda trial: f"{trial.command} {trial.kind}"
)
def test_nothing_is_lost_and_nothing_left_behind(trial: Trial, laboratory: Laboratory) -> None:
    assert laboratory.run(trial) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "last", "hidden"),
    [
        ("train", "fgbench.training.checkpoint.discard", ".checkpoints"),
        ("table1", "fgbench.runs.study.Parts.discard", ".parts"),
    ],
)
def test_a_kill_between_the_record_and_the_clean_up_leaves_nothing_in_the_end(
    command: str, last: str, hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fgbench.training.checkpoint.Keeper.due", lambda self, ended: ended)
    words = kills.COMMANDS[command].replace(" LG-FG-A", "").split()
    with monkeypatch.context() as patch:
        patch.setattr(last, lambda *_: None)
        assert run(words) == 0
    assert (tmp_path / "kept" / hidden).exists()
    assert run(words) == 0
    assert kills.strays(tmp_path, finished=True) == []


def test_what_is_left_and_what_differs_is_seen(tmp_path: Path) -> None:
    """The planted faults."""
    (tmp_path / "kept" / ".checkpoints").mkdir(parents=True)
    (tmp_path / "kept" / ".x.lock").touch()
    assert kills.strays(tmp_path) == ["kept/.checkpoints", "kept/.x.lock"]
    (tmp_path / "kept" / "x.json").write_text(json.dumps({"seconds": 1.0, "loss": 1.0}))
    whole = kills.content(tmp_path / "kept", "train")
    (tmp_path / "kept" / "x.json").write_text(json.dumps({"seconds": 2.0, "loss": 1.0}))
    assert kills.content(tmp_path / "kept", "train") == whole
    (tmp_path / "kept" / "x.json").write_text(json.dumps({"seconds": 2.0, "loss": 1.5}))
    assert kills.content(tmp_path / "kept", "train") != whole
    one = Trial("train", "INT", after=0.0, gap=0.0, starts=False)
    assert kills.judged(one, 130, "train: epoch 1\nfgbench: interrupted; again\n") == []
    assert kills.judged(one, 130, "Traceback (most recent call last):\nfgbench: interrupted\n")
    assert kills.judged(one, 130, "")
    assert kills.judged(one, 1, "fgbench: ImportError\n")
