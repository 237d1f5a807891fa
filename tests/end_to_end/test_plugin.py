"""Things from outside: one package with entry points, or one file; no edit to this repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run
from tests.makers.paths import ROOT

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "outside-estimators"
version = "1.0"

[project.entry-points."fgbench.estimators"]
theirs = "outside_estimators:Theirs"
their_sign = "outside_estimators.sign:Sign"
broken = "outside_estimators.broken:Broken"
bp = "outside_estimators:Theirs"

[project.entry-points."fgbench.localities"]
their_pairs = "outside_estimators.rest:Pairs"

[project.entry-points."fgbench.architectures"]
their_blocks = "outside_estimators.rest:blocks"

[project.entry-points."fgbench.datasets"]
their_stripes = "outside_estimators.rest:stripes"

[tool.setuptools]
packages = ["outside_estimators"]
"""
PACKAGE = '''
from dataclasses import dataclass

from fgbench.core.estimator import Claims, Defaults, Estimate


@dataclass(frozen=True)
class Theirs(Defaults):
    """Half of two directions, from outside."""

    directions: int = 2

    def claims(self, task):
        return Claims(bias="none", backward="none", slopes_only=True)

    def __call__(self, view, noise, state):
        v = noise.directions(view.shapes, self.directions, "rademacher")
        return Estimate(grads=view.credit(view.slopes(v), v))
'''
SIGN = '''
from dataclasses import dataclass

from fgbench import Claims, Defaults, Estimate, Nested, register


@register("estimators", "their_sign")
@dataclass(frozen=True)
class Sign(Defaults):
    """The sign of every entry of another estimate, from outside."""

    base: Nested = Nested("theirs")
    variants = {"bp": {"base": "bp"}}
    recipe = {"lr": 0.0007}

    def claims(self, task):
        return Claims(bias="some", backward=self.base.estimator.claims(task).backward)

    def __call__(self, view, noise, state):
        found = self.base.estimator(view, noise.child("base"), state)
        return Estimate(grads={name: grad.sign() for name, grad in found.grads.items()})
'''
REST = r'''
import numpy as np
from fgbench import Objective, register
from fgbench.architectures.mlp import mlp
from fgbench.core.objective import completed


@register("localities", "their_pairs")
class Pairs:
    """A loss per pair of modules, from outside."""

    def attach(self, chain):
        chain.attach()

    def objectives(self, chain):
        n, found = len(chain), []
        for k in range(0, n, 2):
            stop = min(k + 2, n)
            readout = chain.local_readout(stop - 1)
            found.append(Objective(f"pair{k}", (k, stop), readout, tuple(range(k, stop))))
        return completed(chain, found)


@register("architectures", "their_blocks", pattern=r"(?P<depth>\d+)")
def blocks(*, shape, classes, depth: int = 2):
    """Layers of four, from outside."""
    return mlp(shape=shape, classes=classes, width=4, depth=depth)


def stripes(*, size: int = 4, data_dir=None):
    """Stripes with noise, from outside."""
    random = np.random.default_rng(0)
    y = np.arange(96) % 2
    x = random.normal(y[:, None, None], 0.5, (96, size, size)).astype("float32")
    return {"x": x[:64, None], "y": y[:64], "x_test": x[64:, None], "y_test": y[64:]}
'''
PROGRAM = """
import contextlib, io, json, sys
from fgbench.cli.main import run
found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""
NET = ["--arch", "mlp-1x8", "--data", "synthetic[train=64,test=32]", "--device", "cpu"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build a package's wheel, install it into a folder, and return an environment that has it."""
    pytest.importorskip("setuptools", minversion="77", reason="builds a wheel without network")
    source = tmp_path_factory.mktemp("outside")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "outside_estimators").mkdir()
    (source / "outside_estimators" / "__init__.py").write_text(PACKAGE)
    (source / "outside_estimators" / "broken.py").write_text("import no_such_library\n")
    (source / "outside_estimators" / "sign.py").write_text(SIGN)
    (source / "outside_estimators" / "rest.py").write_text(REST)
    wheels, target = (tmp_path_factory.mktemp(name) for name in ("wheels", "target"))
    quiet = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip"]
    for command in (
        [*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(wheels), str(source)],
        [*pip, "install", *quiet, "--target", str(target), "-f", str(wheels), "outside-estimators"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert [w.name for w in wheels.iterdir()] == ["outside_estimators-1.0-py3-none-any.whl"]
    return environment(target)


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment of a process that finds fgbench, and packages in some folders."""
    path = os.pathsep.join(map(str, (ROOT, *folders)))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "FGBENCH_DATA": ""}


def fgbench(where: dict[str, str], folder: Path, *lines: list[str]) -> list[Any]:
    """Run several command lines in one process: (exit code, stdout, stderr) of each."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines)],
        capture_output=True, text=True, env=where, cwd=folder, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_package_brings_an_estimator(installed: dict[str, str], tmp_path: Path) -> None:
    few = ["--draws", "4", "--batches", "1", "--batch", "8"]
    listed, measured, trained, checked, broken = fgbench(
        installed,
        tmp_path,
        ["list", "estimators"],
        ["measure", "theirs[directions=3]/local", "FG-W", *NET, *few, "--json"],
        ["train", "theirs", *NET, "--epochs", "1", "--batch", "32", "--json"],
        ["check", "theirs/end"],
        ["measure", "broken", *NET, *few],
    )
    names = {line.split()[0]: line for line in listed[1].splitlines()}
    assert listed[0] == 0
    assert "Half of two directions, from outside." in names["theirs"]
    assert "cannot be imported: ModuleNotFoundError" in names["broken"]
    assert {"bp", "fg_a"} <= set(names)

    assert measured[0] == 0, measured[2]
    first, second = json.loads(measured[1])
    assert (first["estimator"], first["directions"]) == ("theirs[directions=3]", 3)
    assert (first["status"], second["status"]) == ("ok", "ok")
    about = first["about"]
    assert (about["class"], about["module"], about["file"]) == ("Theirs", "outside_estimators", "")
    assert about["documentation"] == "Half of two directions, from outside."
    assert about["claims"]["backward"] == "none"

    assert trained[0] == 0, trained[2]
    (record,) = json.loads(trained[1])
    assert (record["method"], record["status"], record["steps"]) == ("theirs", "ok", 2)

    assert checked[0] == 0, checked[1:]
    assert "unbiased" in checked[1]
    assert "FAIL" not in checked[1]

    assert broken[0] == 2
    assert len(broken[2].splitlines()) == 1
    assert "outside-estimators" in broken[2]
    assert "no_such_library" in broken[2]


KINDS = {
    "estimators": ["their_sign", "their_sign-bp", "theirs"],
    "localities": ["their_pairs"],
    "architectures": ["their_blocks"],
    "datasets": ["their_stripes"],
}
PLACE = ["--arch", "their_blocks-3", "--data", "their_stripes[size=3]", "--device", "cpu"]


@pytest.mark.slow
def test_all_commands_find_what_a_package_brings(installed: dict[str, str], tmp_path: Path) -> None:
    few = ["--draws", "4", "--batches", "1", "--batch", "8"]
    methods = ["their_sign/their_pairs", "their_sign-bp", "theirs"]
    commands = [
        *(["list", kind] for kind in KINDS),
        ["list"],
        ["doctor"],
        ["explain", "their_pairs"],
        ["show", "their_blocks-3", "--data", "their_stripes"],
        ["measure", *methods, *PLACE, *few, "-o", "records", "--json"],
        ["train", *methods, *PLACE, "--epochs", "1", "--batch", "32", "-o", "records", "--json"],
        [
            "speed",
            "theirs",
            *PLACE,
            "--rounds",
            "3",
            "--batch",
            "4",
            "--reference",
            "plain",
            "--json",
        ],
        ["check", "their_blocks-3"],
        ["check", "their_pairs"],
        ["check", "their_stripes"],
        ["check", "their_sign/end"],
    ]
    answers = fgbench(installed, tmp_path, *commands)
    for command, (code, _, err) in zip(commands, answers, strict=True):
        assert code == 0, (command, err)
    out = [answer[1] for answer in answers]
    out[:7] = [" ".join(text.split()) for text in out[:7]]  # which are wrapped
    for kind, text in zip(KINDS, out, strict=False):
        for name in KINDS[kind]:
            assert name in text
        assert "from outside." in text
    assert "registered twice: 'bp' is taken by fgbench.estimators.bp" in out[0]
    assert all(name in out[4] for names in KINDS.values() for name in names)
    assert "outside-estimators (outside_estimators.broken:Broken)" in out[5]
    assert "no_such_library" in out[5]
    assert "A loss per pair of modules, from outside." in out[6]
    assert [r["status"] for r in json.loads(out[8])] == 3 * ["ok"]
    trained = json.loads(out[9])
    assert [r["status"] for r in trained] == 3 * ["ok"]
    assert [r["settings"]["lr"] for r in trained[:2]] == 2 * [0.0007]
    assert not any("FAIL" in text for text in out)


@pytest.mark.slow
def test_a_package_that_is_removed_leaves_no_trace(
    installed: dict[str, str], tmp_path: Path
) -> None:
    """The lists are as before, its names are unknown, and its records can still be read."""
    target = Path(installed["PYTHONPATH"].rpartition(os.pathsep)[2])
    copy = tmp_path / "copy"
    shutil.copytree(target, copy)
    lists = [["list", kind] for kind in (*KINDS, "presets")]
    make = ["train", "theirs", *PLACE, "--epochs", "1", "--batch", "32", "-o", "records"]
    before = fgbench(environment(), tmp_path, *lists)
    during = fgbench(environment(copy), tmp_path, *lists, make)
    shutil.rmtree(copy)
    use = ["measure", "theirs", *NET]
    read = ["report", "records", "-o", "site", "--jobs", "1"]
    after = fgbench(environment(copy), tmp_path, *lists, use, read)
    assert [answer[1] for answer in before] == [answer[1] for answer in after[: len(lists)]]
    assert before[0] != during[0]
    code, out, err = after[-2]
    assert (code, out) == (2, "")
    assert err.startswith("fgbench: unknown method 'theirs'")
    assert after[-1][0] == 0, after[-1]


def readme_example() -> str:
    """The code block of "Add an estimator", as it stands."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## Add an estimator")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_readme_example_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(readme_example())
    assert run(["check", "./my_file.py:MyEstimator"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "unbiased" in out


@pytest.mark.slow
def test_the_readme_example_holds_along_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the three changes that the sentence below the example names."""
    monkeypatch.chdir(tmp_path)
    text = readme_example()
    for old, new in (("view.sites", "view.shapes"), ("credit=", "grads="), ("segment", "none")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path("my_file.py").write_text(text)
    assert run(["check", "./my_file.py:MyEstimator/end"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "unbiased" in out


@pytest.mark.slow
def test_the_readme_example_is_reported_where_its_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("my_file.py")
    mine.write_text(readme_example())
    few = ["--draws", "16", "--batches", "1", "--batch", "8", "-o", "records"]
    assert run(["measure", "./my_file.py:MyEstimator/local-pg", "FG-A", *NET, *few]) == 0
    table = capsys.readouterr().out
    assert "MyEstimator/local-pg" in table
    assert "my_file" not in table
    mine.unlink()
    assert run(["figure", "relative_variance", "records"]) == 0
    rows = Path("out", "relative_variance.csv").read_text().splitlines()
    assert sum("MyEstimator/local-pg" in row and "my_file" not in row for row in rows) == 1
    assert run(["report", "records", "-o", "site", "--jobs", "1"]) == 0
    assert "my_file" not in Path("site", "index.html").read_text()
    (page,) = (path.read_text() for path in Path("site", "methods").glob("MyEstimator*"))
    assert "Noise on the activities, one slope, credit = slope * noise" in page
    assert "unbiased; reverse mode through one layer at a time" in page
    assert page.count("my_file.py") == 1


@pytest.mark.slow
def test_the_readme_example_with_a_fault_of_two_percent_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = readme_example()
    faulty = example.replace("view.credit(slopes, u)", "view.credit(1.02 * slopes, u)")
    assert faulty.count("1.02 * slopes") == 1
    Path("my_file.py").write_text(faulty)
    assert run(["check", "./my_file.py:MyEstimator/end"]) == 1
    failed = [s for s in capsys.readouterr().out.splitlines() if s.startswith("FAIL")]
    assert any("1.02" in line for line in failed)
