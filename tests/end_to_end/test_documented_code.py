"""README and docs: code that can run does, and every command line is one that exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fgbench
from fgbench.cli.main import command, run
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.runs.sweep.read import read
from fgbench.training.loop import train
from fgbench.training.recipe import Recipe
from fgbench.workload import Workload
from tests.makers.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_ELSEWHERE = {
    "README.md": 4,  # test_readme, test_plugin
    "bringing-a-method.md": 3,  # test_bringing
    "comparing.md": 1,  # test_compare, whose command this is
}
"""Blocks of Python of a page that other tests run, or that take minutes."""


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, "" for commands and their output."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    return [code for name, code in found if name == language]


def commands(page: Path) -> list[list[str]]:
    """The command lines of fgbench that a page shows."""
    lines = [line.removeprefix("$ ") for code in blocks(page, "") for line in code.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fgbench ")]


LINES = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[" ".join(line)[:60] for _, line in LINES])
def test_every_command_line_is_one_that_exists(
    page: str, line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("records").mkdir()
    group, name, *rest = command(), *line
    found = group.commands[name]
    while hasattr(found, "commands") and rest and rest[0] in found.commands:
        name, *rest = rest
        found = found.commands[name]
    found.make_context(name, list(rest))  # parses; runs nothing


def test_every_block_of_python_is_run_by_a_test() -> None:
    counted = {page.name: len(blocks(page, "python")) for page in PAGES}
    here = {"python.md": 2, "estimators.md": 2, "site.md": 1, "commands.md": 1}
    assert {page: n for page, n in counted.items() if n} == here | RUN_ELSEWHERE


@pytest.mark.slow
def test_the_network_of_the_commands_page_is_shown_checked_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "commands.md"
    (net,) = blocks(page, "python")
    assert net.startswith("# net.py\n")
    Path("net.py").write_text(net)
    lines = [line for line in commands(page) if any("./net.py" in word for word in line)]
    assert [line[0] for line in lines] == ["show", "check", "measure"]
    for line in lines:
        assert run(line) == 0, line
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert "make_net[width=64]" in printed


def test_the_loop_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, loop = blocks(ROOT / "docs" / "python.md", "python")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential()
        model.blocks = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        names: dict[str, Any] = {"fgbench": fgbench, "model": model, "loss": "cross_entropy"}
        names |= {"x": torch.randn(6, 4), "y": torch.tensor([0, 1, 2, 0, 1, 2])}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    exec(loop, names)
    assert 0 < names["loss"] < 10
    assert first.startswith("results = fgbench.measure(")


@pytest.mark.slow
def test_the_measurement_and_the_figure_of_the_pages_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"fgbench": fgbench}
    exec(blocks(ROOT / "docs" / "python.md", "python")[0], names)
    names["results"].save("records")
    (code,) = blocks(ROOT / "docs" / "site.md", "python")
    exec(code, names)
    assert "n per point: 64 draws" in capsys.readouterr().out


def test_the_estimate_along_directions_of_the_estimators_page_is_mezos() -> None:
    along, _ = blocks(ROOT / "docs" / "estimators.md", "python")
    body = "".join(f"    {line}\n" for line in along.splitlines())
    names: dict[str, Any] = {"torch": torch}
    exec(f"def estimate(view, noise):\n{body}", names)
    workload = Workload.of("mlp-2x4", "synthetic[size=2,train=16,test=8]", dtype="float64")
    subject = workload.task(fgbench.registry.method("mezo[directions=2]"), seed=0)
    x, y = workload.data.prepare(*workload.data.rows(torch.arange(8)), torch.float64)
    noise = Noise(0, dtype=torch.float64)
    (one,), (two,) = (list(subject.task.views(x, y, CostCounter())) for _ in range(2))
    found, want = names["estimate"](one, noise), subject.estimator(two, noise, {})
    torch.testing.assert_close(found.along.coefficients, want.along.coefficients)
    assert isinstance(subject.task, Task)


def test_the_update_of_the_estimators_page_takes_half_a_step(tmp_path: Path) -> None:
    _, code = blocks(ROOT / "docs" / "estimators.md", "python")
    file = tmp_path / "halved.py"
    file.write_text("from dataclasses import dataclass\n\n\n" + code)
    workload = Workload.of("mlp-1x4", "synthetic[train=32,test=16]")
    recipe = Recipe(epochs=1, batch=16, lr=0.1, momentum=0.0, schedule="constant", warmup_epochs=0)
    method = fgbench.registry.method("BP")
    halved = train(workload, method, recipe.but(update=f"{file}:Halved"), seed=0)
    assert halved["status"] == "ok"
    whole = train(workload, method, recipe, seed=0)
    assert halved["test_loss"] != whole["test_loss"]


def test_the_sweep_of_the_sweeps_page_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (estimator,) = (b for b in blocks(ROOT / "README.md", "python") if "class MyEstimator" in b)
    Path("my_file.py").write_text(estimator)
    (text,) = blocks(ROOT / "docs" / "sweeps.md", "toml")
    assert [grid["name"] for grid in tomllib.loads(text)["grid"]] == ["mine"]
    Path("mine.toml").write_text(text)
    assert read("mine.toml").verb == "train"
