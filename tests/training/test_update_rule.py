"""Update rules: the default changes nothing, a rule is chosen everywhere alike, and its state is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import fgbench
from fgbench import registry
from fgbench.cli.main import run as cli
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.training.checkpoint import Damaged, Saved
from fgbench.training.loop import recipe_for
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload

CASE: dict[str, Any] = {
    "arch": "mlp-2x8",
    "data": "synthetic[train=64,test=32]",
    "epochs": 1,
    "batch": 16,
}
RULES = ["sign", "accept", "accept[both=true]", "shrink", "shrink[directions=1]", "round[bits=6]"]
RULES += ["round[bits=6,to=random]"]


def run_of(method: str, update: str, seed: int = 0, **recipe: Any) -> TrainingRun:
    workload = Workload.of(CASE["arch"], CASE["data"])
    subject = workload.task(registry.method(method), seed)
    options = {"epochs": 2, "batch": 16, "lr": 0.5, "update": update, **recipe}
    return TrainingRun(
        subject.task, subject.estimator, Recipe(**options), subject.noise, workload.data
    )


def trained(run: TrainingRun, steps: int) -> dict[str, torch.Tensor]:
    for _ in range(steps):
        run.take()
    return {name: t.clone() for name, t in run.learner.tensors().items()}


def test_there_are_rules() -> None:
    assert {"sign", "accept", "shrink", "round"} <= set(registry.names("updates"))
    for name in registry.names("updates"):
        rule = registry.make("updates", name).thing
        assert callable(rule.start)
        assert callable(rule.step)


FEW = ("accept", "shrink", "round[bits=6,to=random]")


@pytest.mark.parametrize(
    "update",
    [r if r in FEW else pytest.param(r, marks=pytest.mark.slow) for r in RULES],
)
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(update: str) -> None:
    whole = run_of("FG-W", update)
    end = trained(whole, 8)
    first = run_of("FG-W", update)
    trained(first, 3)
    first.look()
    saved = Saved(
        {name: t.detach().clone() for name, t in first.learner.tensors().items()}, first.facts()
    )
    again = run_of("FG-W", update)
    again.restore(saved)
    found = trained(again, 5)
    assert found.keys() == end.keys()
    assert all(torch.equal(t, end[name]) for name, t in found.items())
    plain = trained(run_of("FG-W", ""), 8)
    name = "chain\tbody.0.l0.weight"
    assert not torch.equal(end[name], plain[name])


def test_the_state_of_a_rule_is_checked_before_it_is_used() -> None:
    run = run_of("FG-W", "shrink")
    trained(run, 2)
    tensors = dict(run.learner.tensors())
    means = next(name for name in tensors if name == "update\t\tmeans")
    for wrong in (
        {**tensors, means: torch.zeros(2)},
        {n: t for n, t in tensors.items() if n != means},
    ):
        with pytest.raises(Damaged, match="other state than this update rule"):
            run_of("FG-W", "shrink").learner.restore(wrong)
    with pytest.raises(Damaged):
        run_of("FG-W", "").learner.restore(tensors)


def test_none_is_the_optimiser_alone_bit_for_bit() -> None:
    ends = [trained(run_of("FG-W", update), 4) for update in ("", "none")]
    assert all(torch.equal(t, ends[1][name]) for name, t in ends[0].items())


# how a rule is chosen


@dataclass(frozen=True)
class Signed(Defaults):
    """Backprop that brings an update rule."""

    update = "sign"

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="network", deterministic=True)

    def __call__(self, view: Any, noise: Noise, state: Any) -> Estimate:
        return Estimate(grads=view.reverse())


def test_an_estimator_brings_its_rule_and_a_recipe_wins() -> None:
    workload, method = Workload.of(CASE["arch"], CASE["data"]), registry.method_of(Signed())
    assert recipe_for(workload, method).update == "sign"
    found = {}
    for given in ({}, {"update": "sign"}, {"update": "none"}):
        record = fgbench.run("train", method=Signed(), **CASE, **given)  # type: ignore[arg-type]
        found[str(given)] = record["test_loss"], record["settings"]["update"]
    by_itself, by_recipe, alone = found.values()
    assert by_itself == by_recipe
    assert by_itself[1] == "sign"
    plain = fgbench.run("train", method="BP", **CASE)
    assert alone[0] == plain["test_loss"] != by_itself[0]
    assert "update" not in plain["settings"]


MINE = '''
"""A rule of one's own."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Half:
    factor: float = 0.5
    def start(self, body, readouts):
        return {}
    def step(self, move, state):
        assert set(move.grads) == set(move.body) and set(move.readout_grads) <= set(move.readouts)
        move.take({name: self.factor * g for name, g in move.grads.items()})
        return state
'''


def test_a_rule_from_a_file_by_command_line_and_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    command = ["train", "FG-W", "--arch", CASE["arch"], "--data", CASE["data"], "--epochs", "1"]
    command += ["--batch", "16", "--set", "final_lr=0.5", "-o", "records"]
    assert cli([*command, "--update", "./mine.py:Half"]) == 0
    by_file = fgbench.run(
        "train", method="FG-W", update="./mine.py:Half", final_lr=0.5, records="records", **CASE
    )
    # body steps of half the rate, readouts of the full one: twice the final rate at half the rate
    lr = by_file["settings"]["lr"]
    same = fgbench.run("train", method="FG-W", lr=lr / 2, final_lr=1.0, **CASE)
    assert by_file["test_loss"] == pytest.approx(same["test_loss"], rel=1e-5)
    assert len(list(Path("records").glob("train-*.json"))) == 1  # one key for both
    Path("mine.py").write_text(MINE.replace("0.5", "0.25"))
    edited = fgbench.run(
        "train", method="FG-W", update="./mine.py:Half", final_lr=0.5, records="records", **CASE
    )
    assert edited["test_loss"] != by_file["test_loss"]  # the rule's file is in the key
    assert cli(["list", "updates"]) == 0
    assert "round" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ("sing", "unknown update 'sing'; did you mean 'sign'"),
        ("round[bit=8]", "unknown option of round 'bit'; did you mean 'bits'"),
        ("round[bits=1]", "option bits='1'"),
        ("./nowhere.py:Rule", "no file './nowhere.py'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(
    update: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "BP", "--arch", CASE["arch"], "--data", CASE["data"]]
    assert cli([*command, "--update", update]) == 2
    assert words in capsys.readouterr().err


class Broken:
    """Rules that do what they should not."""

    def __init__(self, **methods: Any) -> None:
        for name, method in methods.items():
            setattr(self, name, method)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Broken(step=lambda move, state: {}), "it has no start"),
        (
            Broken(start=lambda b, r: None, step=lambda move, state: {}),
            "start of Broken returned NoneType",
        ),
        (
            Broken(start=lambda b, r: {}, step=lambda move, state: None),
            "step of Broken returned NoneType",
        ),
        (
            Broken(start=lambda b, r: {"n": torch.zeros(2)}, step=lambda move, state: {}),
            "the state needs 'n' [2] torch.float32",
        ),
    ],
)
def test_a_rule_that_is_none_is_refused(
    rule: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.entries("updates")["sign"]
    monkeypatch.setitem(
        registry.entries.__globals__["_registered"]["updates"],
        "broken",
        type(entry)("broken", lambda: rule, "tests"),
    )
    with pytest.raises(UsageError) as error:
        run_of("BP", "broken").take()
    assert words in str(error.value)


def test_what_a_rule_raises_ends_its_method_only(tmp_path: Path) -> None:
    path = tmp_path / "raises.py"
    path.write_text(
        MINE.replace(
            "        move.take(", "        raise ValueError('no step')\n        move.take("
        )
    )
    found = fgbench.run_all("train", ["FG-W", "BP"], update=f"{path}:Half", **CASE)
    assert [record["status"] for record in found] == ["failed", "failed"]
    assert "no step" in found[0]["reason"]
    assert "raises.py" in found[0]["reason"]


def test_a_graph_is_not_captured_with_a_rule() -> None:
    workload = Workload.of(CASE["arch"], CASE["data"])
    task, estimator, noise = workload.task(registry.method("BP"), 0)
    recipe = Recipe(epochs=1, batch=16, lr=0.1, update="sign")
    with pytest.raises(UsageError, match="steps by an update rule are not captured"):
        TrainingRun(task, estimator, recipe, noise, workload.data, graph="on")
