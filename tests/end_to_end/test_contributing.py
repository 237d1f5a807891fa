"""What CONTRIBUTING.md says: its example estimator runs as it stands there, and so does make bench."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fgbench
from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from tests.makers.paths import ROOT


def test_the_example_estimator_runs(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    example = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert example is not None
    file = tmp_path / "sign_a.py"
    # Under a name of its own, so that the registry stays as it is for other tests.
    decorator = '@register("estimators", "sign_a")\n'
    assert decorator in example[1]
    assert "`fgbench/estimators/sign_a.py`" in page
    file.write_text(example[1].replace(decorator, ""))

    method = registry.method(f"{file}:SignOfSlope[directions=3]/local-pg")
    noise = Noise(0)
    with noise.seeded():
        made = registry.make("architectures", "mlp-2x16", shape=(8, 8), classes=10)
    task = Task.build(made.thing, method.locality.thing, noise)
    x, labels = noise.normal("x", (4, 8, 8)), torch.arange(4)
    step = task.estimate(x, labels, method.estimator.thing, noise)
    assert step.body.keys() == task.chain.body_parameters().keys()
    assert all(grad.abs().max() > 0 for grad in step.body.values())


def test_the_example_rule_trains(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    decorator = '@register("updates", "clip")\n'
    (example,) = (text for text in examples if decorator in text)
    assert "`fgbench/updates/clip.py`" in page
    file = tmp_path / "clip.py"
    file.write_text(example.replace(decorator, ""))
    case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "epochs": 1, "batch": 16}
    losses = [
        fgbench.run("train", method="FG-W", update=f"{file}:Clip[norm={norm}]", **case)["test_loss"]
        for norm in (1e-6, 1e6)
    ]
    assert losses[1] == fgbench.run("train", method="FG-W", **case)["test_loss"]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_the_command_of_make_bench_finds_the_benchmarks() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(
        r"^\t\$\(BIN\)/python (-m pytest .*)$", recipe.partition("\nbench:")[2], re.M
    )
    files = [str(p) for p in sorted((ROOT / "tests" / "benchmarks").glob("bench_*.py"))]
    options = [w for w in line.split() if not w.endswith("bench_*.py") and w != "$(BENCH)"]
    command = [sys.executable, *options, *files, "--collect-only", "-q"]
    # make bench runs alone: a worker of xdist tells its own children that benchmarks are off.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(Path(file).name in done.stdout for file in files)
