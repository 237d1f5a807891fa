"""Imports go down only: the contracts of import-linter hold, and each refuses a planted fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from fgbench.runs.case import PACKAGES
from tests.makers.paths import ROOT

PLUGINS = {"architectures", "data", "estimators", "localities", "updates"}
NO_NUMBERS = {"errors", "records", "registry", "runs"}
"""Rooms that runs import and whose code changes no number."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package in a folder."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    command += ["pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def planted(folder: Path, faults: dict[str, str]) -> Path:
    """Copy the package and append a line to some of its modules."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fgbench", folder / "fgbench", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, line in faults.items():
        file = folder / "fgbench" / path
        file.write_text(file.read_text("utf-8") + f"\n{line}\n", "utf-8")
    return folder


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_planted_imports_are_refused(tmp_path: Path) -> None:
    """One run, since reading the package takes seconds: each fault is of another contract."""
    faults = {
        "core/axes.py": "from fgbench.measurement import loop",
        "core/network.py": "def late():\n    from fgbench import workload",
        "records/keys.py": "import torch",
        "reporting/frames/load.py": "import torch",
        "reporting/plotting/panels.py": "from fgbench.reporting.figures import draw",
        "estimators/fg_a.py": "from fgbench.estimators import fg_w",
        "data/mnist.py": "from fgbench.data import digits",
        "stats/intervals.py": "from fgbench.stats import replicates",
    }
    done = lint(planted(tmp_path, faults))
    assert done.returncode == 1
    for broken in (
        "fgbench.core is not allowed to import fgbench.measurement",
        "fgbench.core is not allowed to import fgbench.workload",
        "fgbench.records is not allowed to import torch",
        "fgbench.reporting is not allowed to import torch",
        "fgbench.reporting.plotting is not allowed to import fgbench.reporting.figures",
        "fgbench.estimators.fg_a is not allowed to import fgbench.estimators.fg_w",
        "fgbench.data.mnist is not allowed to import fgbench.data.digits",
        "No cycles are allowed in fgbench.stats",
    ):
        assert broken in done.stdout, broken


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import of the package."""
    return grimp.build_graph("fgbench", cache_dir=None)


def unkeyed(graph: grimp.ImportGraph, packages: tuple[str, ...]) -> set[str]:
    """Return modules that measuring, training and timing run on and that no part of a key covers."""
    roots = ("measurement.loop", "measurement.speed.step_costs", "training.loop")
    found = {f"fgbench.{root}" for root in roots}
    for root in list(found):
        found |= graph.find_upstream_modules(root)
    names = {name.removeprefix("fgbench.") for name in found} - {"fgbench"}
    covered = (*packages, *NO_NUMBERS)
    left = {n for n in names if not any(n == c or n.startswith(f"{c}.") for c in covered)}
    return {n for n in left if n not in PLUGINS}


def test_every_module_that_makes_numbers_enters_the_key(graph: grimp.ImportGraph) -> None:
    assert unkeyed(graph, PACKAGES) == set()
    for package in PACKAGES:
        left = unkeyed(graph, tuple(p for p in PACKAGES if p != package))
        assert left, package
        assert all(name == package or name.startswith(f"{package}.") for name in left)


def test_the_package_has_few_rooms_and_files(graph: grimp.ImportGraph) -> None:
    package = ROOT / "fgbench"
    folders = {p.name for p in package.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert len(folders - PLUGINS) <= 10
    assert folders >= PLUGINS
    assert len(list(package.glob("*.py"))) <= 5
    assert not [p for p in ROOT.rglob("*") if p.is_symlink() and "fgbench" in p.parts[:-1]]


def test_importing_fgbench_leaves_torch_alone() -> None:
    code = "import sys, fgbench; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
