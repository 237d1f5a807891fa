"""What is installed, under which versions: pyproject.toml, constraints.txt, asv, the wheel."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.makers.paths import ROOT

IMPORTED_AS = {"sklearn": "scikit-learn", "PIL": "pillow"}
# Rooms that fgbench.api, and so asv, never imports.
ABOVE_API = {"__main__", "cli", "reporting"}


def name_of(requirement: str) -> str:
    """The normalised distribution name of a requirement."""
    return re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def core() -> set[str]:
    return {name_of(r) for r in project()["dependencies"]}


def extras() -> set[str]:
    return {name_of(r) for rs in project()["optional-dependencies"].values() for r in rs}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name_of(name): version for name, version in pins}


def asv_conf() -> dict[str, Any]:
    text = (ROOT / "asv.conf.json").read_text()
    conf: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return conf


_parsed = cache(ast.parse)


def third_party(source: str, at_import: bool) -> set[str]:
    """Distributions a module imports: all, or only what importing the module itself imports."""
    todo: list[ast.AST] = [_parsed(source)]
    names: set[str] = set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if not (at_import and later):
            todo += [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr)]
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"fgbench"}
    return {IMPORTED_AS.get(top, name_of(top)) for top in tops}


def modules() -> dict[str, str]:
    """Path below fgbench -> text, the figures included."""
    package = ROOT / "fgbench"
    found = {p.relative_to(package): p for p in package.rglob("*.py")}
    return {name.as_posix(): path.read_text("utf-8") for name, path in found.items()}


def test_every_direct_dependency_has_an_exact_pin() -> None:
    # asv takes the newest runner unless it is pinned, so it has a pin of its own.
    assert set(constraints()) == core() | extras() | {"asv-runner"}
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in constraints().values())


def test_asv_measures_under_the_pinned_versions() -> None:
    matrix = asv_conf()["matrix"]["req"]
    assert {name_of(k): v for k, v in matrix.items()} == {
        name_of(k): [constraints()[name_of(k)]] for k in matrix
    }


@pytest.mark.slow
def test_asv_pins_what_the_api_imports_and_the_build_needs() -> None:
    needed = {"asv-runner"} | {name_of(r) for r in _build_requires()}
    for path, source in modules().items():
        if path.split("/")[0].removesuffix(".py") not in ABOVE_API:
            needed |= third_party(source, at_import=True)
    assert needed <= {name_of(k) for k in asv_conf()["matrix"]["req"]}


def test_asv_installs_a_commit_without_its_dependencies() -> None:
    conf = asv_conf()
    assert all("--no-deps" in conf[key][0] for key in ("build_command", "install_command"))
    assert "--no-build-isolation" in conf["build_command"][0]
    assert conf["launch_method"] == "spawn"  # forking breaks CUDA


@pytest.mark.slow
def test_what_is_imported_is_declared() -> None:
    for path, source in modules().items():
        assert third_party(source, at_import=True) <= core(), path
        assert third_party(source, at_import=False) <= core() | extras(), path


def test_imports_are_told_apart() -> None:
    source = (
        "from __future__ import annotations\nimport os, numpy.linalg\nfrom PIL import Image\n"
        "from . import axes\nfrom fgbench.core.axes import parse\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "def f():\n    from sklearn.datasets import load_digits\n"
        "class A:\n    import asv_runner\n"
    )
    assert third_party(source, at_import=True) == {"numpy", "pillow", "asv-runner"}
    lazy = third_party(source, at_import=False) - third_party(source, at_import=True)
    assert lazy == {"pandas", "scikit-learn"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheels built from the tree, from its sdist, and from a zip as one downloads it.

    A zip unpacked by Python's zipfile has no symbolic links, like a checkout on Windows.
    """
    folder = tmp_path_factory.mktemp("build")
    tree, unzipped = folder / "tree", folder / "unzipped"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("fgbench", "analysis", "suites", "tests"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    recipe = tree / "fgbench" / "training" / "recipes" / "deep" / "planted.toml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("")
    archive = Path(shutil.make_archive(str(folder / "download"), "zip", tree))
    with zipfile.ZipFile(archive) as download:
        download.extractall(unzipped)
    sdist = _build("sdist", tree, folder / "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return {
        "tree": _build("wheel", tree, folder / "from_tree"),
        "sdist": _build("wheel", unpacked, folder / "from_sdist"),
        "zip": _build("wheel", unzipped, folder / "from_zip"),
    }


def _build(kind: str, tree: Path, out: Path) -> Path:
    """Call the build backend in ``tree``, as pip does without build isolation."""
    out.mkdir()
    code = f"import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
    command = [sys.executable, "-c", code, str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return next(out.iterdir())


def _build_requires() -> list[str]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requires: list[str] = table["build-system"]["requires"]
    return requires


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["tree", "sdist", "zip"])
def test_the_wheel_holds_the_package_and_nothing_else(wheels: dict[str, Path], origin: str) -> None:
    with zipfile.ZipFile(wheels[origin]) as wheel:
        names = {n for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {f"fgbench/{path}" for path in modules()}
    planted = {"fgbench/py.typed", "fgbench/training/recipes/deep/planted.toml"}
    planted |= {"fgbench/reporting/paper/published.toml"}
    templates = list((ROOT / "fgbench" / "reporting" / "site" / "templates").iterdir())
    assert len(templates) > 5
    planted |= {f"fgbench/reporting/site/templates/{path.name}" for path in templates}
    planted |= {f"fgbench/cli/templates/{kind}.txt" for kind in ("estimator", "test_data")}
    assert expected | planted <= names
    assert {n for n in names if n.endswith(".py")} == expected


@pytest.mark.slow
def test_the_wheel_is_the_same_from_the_tree_the_sdist_and_the_zip(wheels: dict[str, Path]) -> None:
    """So a report that one of them writes is a report of each."""
    contents = []
    for origin in ("tree", "sdist", "zip"):
        with zipfile.ZipFile(wheels[origin]) as wheel:
            contents.append({n: wheel.read(n) for n in wheel.namelist() if "RECORD" not in n})
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.slow
def test_the_wheel_writes_a_report(wheels: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(wheels["sdist"]) as wheel:
        wheel.extractall(tmp_path)
    one = next((ROOT / "analysis" / "records" / "relative_variance").glob("*-FG-A-*.json"))
    (tmp_path / "records").mkdir()
    shutil.copy(one, tmp_path / "records")
    # The path is put first, before the editable install of the same name.
    code = """
import sys
sys.path.insert(0, '.')
import fgbench.reporting
from fgbench.cli.main import run
print(fgbench.reporting.__file__)
sys.exit(run(['report', 'records', '-o', 'site']))
"""
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home = tmp_path / "fgbench" / "reporting" / "__init__.py"
    assert Path(done.stdout.splitlines()[0]) == home
    assert "FG-A" in (tmp_path / "site" / "index.html").read_text("utf-8")


def test_the_checkout_has_no_symbolic_links() -> None:
    places = [ROOT / name for name in ("fgbench", "analysis", "suites", "tests")]
    assert [p for place in places for p in place.rglob("*") if p.is_symlink()] == []
