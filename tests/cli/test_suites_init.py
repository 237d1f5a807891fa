"""``fgbench suites``: suites for a repository of one's own, and what they watch."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run
from fgbench.runs.suites import tracked
from fgbench.runs.suites.folder import configuration
from tests.makers.paths import ROOT

RULE = '''
from dataclasses import dataclass

from fgbench import Claims, Defaults, Estimate


@dataclass(frozen=True)
class Mine(Defaults):
    """Noise on the activities."""

    directions: int = 1

    def claims(self, scheme):
        return Claims(bias="none", backward="segment", slopes_only=True)

    def __call__(self, view, noise, state):
        u = noise.directions(view.sites, self.directions)
        return Estimate(credit=view.credit(view.slopes(u), u))
'''
SCALED = RULE.replace("view.credit(view.slopes(u), u)", "view.credit(0.98 * view.slopes(u), u)")
NOISIER = RULE.replace(
    "return Estimate(credit=view.credit(view.slopes(u), u))",
    "v = noise.child('more').directions(view.sites, 1)\n"
    "        first, more = view.credit(view.slopes(u), u), view.credit(view.slopes(v), v)\n"
    "        other = noise.child('other').directions(view.sites, 1)\n"
    "        other = view.credit(view.slopes(other), other)\n"
    "        return Estimate(credit={k: first[k] + more[k] - other[k] for k in first})",
)


def suites_of(folder: Path) -> Any:
    """Import the suites of a repository as they lie there."""
    name = f"suites_of_{abs(hash(folder))}"
    sys.modules.pop(name, None)
    spec = importlib.util.spec_from_file_location(name, folder / "suites" / "estimators.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


NUMBERS = """
import json, sys
from itertools import product
from suites import estimators as module

cells, found = module.setup_cache(), {}
for name in sys.argv[1:]:
    cls = getattr(module, name)
    for track in [n for n in vars(cls) if n.startswith("track_")]:
        for params in product(*cls.params):
            benchmark = cls()
            benchmark.setup(cells, *params)
            value = getattr(benchmark, track)(cells, *params)
            if isinstance(value, dict):
                value = sorted(value["samples"])[len(value["samples"]) // 2]
            found[f"{name}.{track} {params[1:]}"] = value
print(json.dumps(found))
"""


def numbers(folder: Path, classes: tuple[str, ...]) -> dict[str, float]:
    """The numbers that asv would have, in a process of their own as asv's are: medians of samples by name."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", NUMBERS, *classes]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "rule.py").write_text(RULE)
    monkeypatch.delenv("ASV_ENV_DIR", raising=False)
    monkeypatch.chdir(folder)
    return folder


def test_suites_are_written_for_the_estimators_of_a_repository(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["suites", "init"]) == 0
    assert "fgbench suites run HEAD~1 HEAD" in capsys.readouterr().out
    assert suites_of(repository).METHODS == ["./rule.py:Mine/end"]
    conf = configuration(repository)
    assert conf["pythons"] == [f"{sys.version_info[0]}.{sys.version_info[1]}"]
    assert conf["build_command"] == []
    assert run(["suites"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"\./rule\.py:Mine/end +smoke: ExactMean, Noise, Cost, Gradients, Learning, Memory; full: Step",
        out,
    )
    before = {path: path.read_text() for path in repository.rglob("*") if path.is_file()}
    assert run(["suites", "init"]) == 2
    assert "asv.conf.json exists already; nothing was written" in capsys.readouterr().err
    assert before == {path: path.read_text() for path in repository.rglob("*") if path.is_file()}


def test_a_new_estimator_of_a_repository_is_listed_as_unwatched(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["suites", "init", "-m", "./rule.py:Mine/end"]) == 0
    (repository / "second.py").write_text(RULE.replace("Mine", "Second"))
    capsys.readouterr()
    assert run(["suites"]) == 0
    out = capsys.readouterr().out
    assert "estimators: 1 of 2 watched" in out
    assert re.search(r"\./second\.py:Second/end +not watched: no benchmark has a row for it", out)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("./rule.py:Mien/end", "unknown class in ./rule.py 'Mien'"),
        ("./none.py:Mine/end", "no file './none.py'"),
        ("{outside}:Mine/end", "so no commit of it has that file"),
        ("rule.py:Mine/end", "begin the path with ./, such as ./rule.py"),
    ],
)
def test_a_method_that_no_commit_has_is_refused(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, message: str
) -> None:
    (tmp_path / "outside.py").write_text(RULE)
    assert run(["suites", "init", "-m", method.format(outside=tmp_path / "outside.py")]) == 2
    assert message in capsys.readouterr().err
    assert not (repository / "suites").exists()


def test_a_repository_without_estimators_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "rule.py").write_text("x = 1")
    assert run(["suites", "init"]) == 2
    assert "name one by --method ./file.py:Class/end" in capsys.readouterr().err


def test_a_package_is_built_and_installed(repository: Path) -> None:
    (repository / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools"]\n')
    assert run(["suites", "init"]) == 0
    conf = configuration(repository)
    assert "--no-deps" in conf["build_command"][0]
    assert "--no-deps" in conf["install_command"][0]
    assert conf["install_command"][-1].endswith("suites/environment.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "worse"),
    [
        (RULE + "\n# an edit that changes nothing\n", ()),
        (SCALED, ("ExactMean.track_scale", "ExactMean.track_bias", "Noise", "Gradients")),
        (NOISIER, ("Noise", "Gradients")),
    ],
    ids=["equal", "scaled", "noisier"],
)
def test_a_changed_estimator_is_found(
    repository: Path, source: str, worse: tuple[str, ...]
) -> None:
    assert run(["suites", "init"]) == 0
    classes = ("ExactMean", "Noise", "Gradients")
    before = numbers(repository, classes)
    (repository / "rule.py").write_text(source)
    after = numbers(repository, classes)
    alarms = [name for name in before if after[name] > 1.1 * before[name]]
    told = {name: (before[name], after[name]) for name in before}
    assert all(any(name.startswith(each) for name in alarms) for each in worse), told
    assert bool(alarms) == bool(worse), told
    if not worse:
        assert before == after


@pytest.mark.slow
def test_a_file_that_cannot_be_imported_fails(repository: Path) -> None:
    assert run(["suites", "init"]) == 0
    (repository / "rule.py").write_text("import no_such_module")
    module = suites_of(repository)
    with contextlib.chdir(repository):
        cells = {
            "means": tracked.exact_means({m: {"method": m, "net": "mlp"} for m in module.METHODS})
        }
    benchmark = module.ExactMean()
    benchmark.setup(cells, module.METHODS[0])
    with pytest.raises(RuntimeError, match="cannot be imported"):
        benchmark.track_bias(cells, module.METHODS[0])


@pytest.mark.slow
def test_the_environment_takes_the_packages_of_the_one_that_runs_asv(
    repository: Path, tmp_path: Path
) -> None:
    assert run(["suites", "init"]) == 0
    assert "packages_of_asv.pth" in (repository / "suites" / "environment.py").read_text()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FGBENCH_PYTHON": sys.executable}
    made = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    python = made / "bin" / "python"
    subprocess.run([python, repository / "suites" / "environment.py"], env=env, check=True)
    code = "import fgbench, numpy, importlib.metadata as m; print(fgbench.__file__, m.version('torch'))"
    env.pop("PYTHONPATH")
    ended = subprocess.run(
        [python, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith(str(ROOT))
