"""Imports go one way: which room of fgbench may import which, read from the source text."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {"suites", "tests", "analysis"}  # top-level folders; the figures are fgbench.analysis
FOLDERS = {"estimators", "localities", "architectures", "data", "updates"}  # siblings stay apart
SHARED = {f"fgbench.data.{name}" for name in ("cache", "dataset", "idx", "pixels")}  # no data sets
# The task calls estimators, and their protocol names the task: one of the two is for types alone.
TYPES_ONLY = {("task", "estimator")}


def _table() -> dict[str, set[str]]:
    """Room -> rooms it may import. A room not listed here is reported: a new one gets its line."""
    view = {"errors", "axes", "directions", "noise", "dual", "network", "objective"}
    view |= {"gate", "ledger", "tape", "tiles", "reading"}
    statistics = {"intervals", "bias", "signal", "points", "split", "multiple"}
    forms = {"hearing", "pullback", "slices", "theory"}
    library = view | statistics | forms | {"view", "task", "estimator", "registry"}
    built = library | {"experiment", "recipe", "data"}
    runs = {"measure", "train", "speed", "fusion", "table1", "study", "conformance"}
    runs |= {"record", "checkpoint", "graph"}
    things = FOLDERS | built | runs
    top = things | {"api", "analysis", "progress", "sheet", "cells", "tables", "paired"}
    return {
        "errors": set(),
        "axes": {"errors"},
        "directions": {"errors", "axes"},
        "augment": {"errors", "noise"},
        "noise": {"errors", "directions", "axes"},
        "dual": {"errors"},
        "network": {"errors", "axes", "noise"},
        "tape": {"errors", "dual", "network", "objective"},
        "gate": {"errors"},
        "tiles": {"errors"},
        "reading": {"errors", "axes", "gate", "tiles", "network", "objective"},
        "clock": {"errors"},
        "fusion": view | {"clock"},
        "population": view | {"task", "estimator", "registry"},
        "table1": view | statistics | {"estimator", "registry", "theory", "population"},
        "study": {"errors", "record", "registry"},
        "ledger": {"errors"},
        "objective": {"errors", "network", "axes"},
        "passes": view,
        "view": view | {"passes"},
        "task": view | {"view"},
        "estimator": {"errors", "task", "view", "directions", "noise"},
        "registry": {"errors"},
        "labels": {"registry"},
        "hearing": set(),
        "pullback": {"axes", "hearing", "view"},
        "slices": {"axes", "view"},
        "theory": {"errors", "axes", "directions", "view", "pullback", "slices"},
        "intervals": {"errors"},
        "bias": {"errors", "intervals"},
        "signal": {"intervals", "bias"},
        "points": {"errors", "intervals", "bias", "signal"},
        "split": {"intervals", "bias", "signal", "points"},
        "multiple": {"errors", "intervals"},
        "comparing": {"errors", "intervals", "bias", "multiple"},
        "aggregate": {"errors", "intervals"},
        "calibration": statistics | {"comparing", "aggregate", "record"},
        "experiment": library | {"data"},
        "recipe": {"errors"},
        "checkpoint": {"errors"},
        "trajectory": built,
        "stacked": {"directions", "noise"},
        "served": library | {"stacked"},
        "cotangent": library | {"stacked", "served"},
        "tally": {"bias", "intervals", "directions", "task", "view"},
        "calls": {"hearing", "tally"},
        "activity": library | {"tally", "calls"},
        "series": {"tally", "task", "ledger", "estimator"},
        "drawing": library | {"served", "cotangent", "tally", "series", "activity"},
        "summary": statistics | {"errors", "drawing", "series"},
        "budget": {"errors", "estimator"},
        "trail": built | {"trajectory", "course", "drawing"},
        "measure": built
        | {"trajectory", "trail", "budget", "served", "drawing", "series", "summary"},
        "record": {"errors", "sound"},
        "sound": set(),
        "learner": library | {"recipe", "updates"},
        "feed": {"directions", "noise"},
        "cuda": {"errors"},
        "graph": {"errors", "cuda", "feed", "noise"},
        "course": built | {"learner", "checkpoint", "cuda", "graph", "augment"},
        "train": built | {"record", "checkpoint", "course", "graph", "learner"},
        "reference": {"errors", "task"},
        "speed": built | {"record", "clock", "cuda", "feed", "graph", "reference"},
        "conformance": built | {"measure", "train", "speed"},
        "estimators": {"errors", "axes", "directions", "noise", "network", "view", "task"}
        | {"estimator", "registry", "theory"},
        "localities": {"errors", "objective", "network", "registry", "axes", "augment", "noise"},
        "architectures": {"errors", "axes", "network", "registry"},
        "data": {"errors", "record", "registry"},
        "updates": {"errors", "registry"},
        "analysis": {
            "errors",
            "record",
            "recipe",
            "registry",
            "labels",
            "comparing",
            "aggregate",
            "cells",
            "noting",
        },
        "progress": {"errors"},
        "checking": {"errors", "conformance", "registry"},
        "listing": {"errors", "registry", "grid"},
        "doctor": {"errors", "record", "registry", "data", ""},
        "sheet": set(),
        "cells": {"multiple"},
        "paired": {"points"},
        "noting": {"registry"},
        "estimates": {"bias", "cells", "noting", "sheet"},
        "tables": {"errors", "labels", "cells", "estimates", "noting", "sheet"},
        "api": things,
        "grid": {"errors", "registry", "recipe", "measure", "graph"},
        "pool": {"api", "errors"},
        "sweep": {"errors", "record", "grid", "pool", "api", "experiment", "graph"},
        "sweeping": {"analysis", "grid", "labels", "sweep", "sheet", "cells"},
        "demo": top,
        "cli": top | {"checking", "demo", "doctor", "grid", "listing", "sweep", "sweeping"},
        "__main__": {"cli"},
        "": {"errors", "api", "estimator", "registry"},  # fgbench/__init__.py
    }


ALLOWED = _table()


def room_of(module: str) -> str:
    """The room of a dotted module name: ``fgbench.estimators.fg_a`` -> ``estimators``."""
    return [*module.split("."), ""][1]


def thing_of(module: str) -> str:
    """The thing of a folder that a module is or is part of: ``fgbench.data.mnist`` -> ``mnist``."""
    return [*module.split("."), "", ""][2]


class Import(NamedTuple):
    """One imported name: where, what, and whether only type checkers see it."""

    line: int
    target: str
    typing: bool


def imports_of(module: str, source: str, is_package: bool = False) -> list[Import]:
    """Everything a module imports, inside functions too.

    ``from a import b`` gives ``a.b``, because ``b`` may be a module; relative names are resolved.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = []
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while todo:
        node, typing = todo.pop()
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name, typing) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(parent + ([node.module] if node.module else []))
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [Import(node.lineno, name, typing) for name in names]
        typing |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        todo += [(child, typing) for child in ast.iter_child_nodes(node)]
    return found


Graph = dict[str, list[Import]]


def graph_of(sources: Mapping[str, str]) -> Graph:
    """What each module imports: fgbench modules by their own names, others by the imported name."""
    folders = {f"fgbench.{room}" for room in FOLDERS | {"analysis"}}
    packages = folders | {name.rpartition(".")[0] for name in sources}
    found: Graph = {}
    for module, source in sources.items():
        found[module] = []
        for one in imports_of(module, source, module in packages):
            parent = one.target.rpartition(".")[0]
            inside = one.target not in sources and parent in sources  # a name inside a module
            found[module].append(one._replace(target=parent) if inside else one)
    return found


def faults(sources: Mapping[str, str]) -> list[str]:
    """Everything wrong with the imports of these modules (dotted name -> text), one line each."""
    found = []
    graph = graph_of(sources)
    for module, imports in graph.items():
        room = room_of(module)
        if room not in ALLOWED:
            found.append(f"{module}: room {room!r} has no line in ALLOWED")
            continue
        problems = [(one.line, _fault(module, room, one)) for one in imports]
        found += [f"{module}:{line}: {problem}" for line, problem in problems if problem]
    try:
        TopologicalSorter({module: _inside(graph, module) for module in graph}).prepare()
    except CycleError as error:
        found.append("cycle: " + " -> ".join(error.args[1]))
    for module in graph:
        if room_of(module) == "analysis" and "torch" in _reach(graph, module):
            found.append(f"{module}: reaches torch")
    return found


def _fault(module: str, room: str, one: Import) -> str:
    """What is wrong with one import, or ""."""
    top = one.target.split(".")[0]
    if top in OUTSIDE:
        return f"imports {one.target}, which is no part of the package"
    if top != "fgbench":
        return ""
    other = room_of(one.target)
    if other != room:
        fine = other in ALLOWED[room] or (one.typing and (room, other) in TYPES_ONLY)
        return "" if fine else f"{room or 'fgbench'} may not import {one.target}"
    ours, theirs = thing_of(module), thing_of(one.target)  # a folder's own files are no siblings
    if room in FOLDERS and ours and theirs and ours != theirs and one.target not in SHARED:
        return f"imports its sibling {one.target}"
    return ""


def _inside(graph: Graph, module: str) -> set[str]:
    """The imported modules that are part of fgbench, without what only types need."""
    return {
        one.target
        for one in graph[module]
        if one.target in graph
        and not (one.typing and (room_of(module), room_of(one.target)) in TYPES_ONLY)
    }


def _reach(graph: Graph, module: str) -> set[str]:
    """Top-level names of everything imported from here on."""
    seen, todo, names = {module}, [module], set()
    while todo:
        at = todo.pop()
        names |= {one.target.split(".")[0] for one in graph[at]}
        new = _inside(graph, at) - seen
        seen |= new
        todo += new
    return names


def sources_on_disk() -> dict[str, str]:
    """Every module of fgbench by dotted name; the figures through the link fgbench/analysis."""
    package = ROOT / "fgbench"
    files = [p for p in package.rglob("*.py") if package / "analysis" not in p.parents]
    figures = ROOT / "analysis"
    files += [package / "analysis" / p.relative_to(figures) for p in figures.rglob("*.py")]
    found = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return found


def test_the_rooms_import_one_way() -> None:
    sources = sources_on_disk()
    assert {"fgbench", "fgbench.errors", "fgbench.analysis"} <= set(sources)
    assert faults(sources) == []


def test_the_table_has_one_direction() -> None:
    TopologicalSorter(ALLOWED).prepare()
    named = set().union(*ALLOWED.values())
    assert named <= set(ALLOWED)


PLANTED = {
    "a room below imports one above": (
        {"fgbench.axes": "from fgbench.view import View", "fgbench.view": ""},
        "axes may not import fgbench.view",
    ),
    "inside a function": (
        {"fgbench.gate": "def f():\n    import fgbench.task", "fgbench.task": ""},
        "fgbench.gate:2: gate may not import fgbench.task",
    ),
    "for types only": (
        {
            "fgbench.dual": "if TYPE_CHECKING:\n    from .network import Chain",
            "fgbench.network": "",
        },
        "dual may not import fgbench.network",
    ),
    "the one import for types, at run time": (
        {"fgbench.task": "from fgbench.estimator import Estimator", "fgbench.estimator": ""},
        "task may not import fgbench.estimator",
    ),
    "from the package": (
        {"fgbench": "", "fgbench.noise": "from fgbench import view", "fgbench.view": ""},
        "noise may not import fgbench.view",
    ),
    "from the package's own names": (
        {"fgbench": "", "fgbench.noise": "from fgbench import run"},
        "noise may not import fgbench",
    ),
    "two dots from the folder itself": (
        {"fgbench.data": "from ..measure import measure", "fgbench.measure": ""},
        "data may not import fgbench.measure",
    ),
    "two dots": (
        {
            "fgbench.data": "",
            "fgbench.data.mnist": "from ..measure import measure",
            "fgbench.measure": "",
        },
        "data may not import fgbench.measure",
    ),
    "a sibling": (
        {
            "fgbench.estimators": "",
            "fgbench.estimators.fg_a": "from .fg_w import FgW",
            "fgbench.estimators.fg_w": "",
        },
        "imports its sibling fgbench.estimators.fg_w",
    ),
    "a part of a sibling": (
        {
            "fgbench.estimators": "",
            "fgbench.estimators.fg_a": "from .fg_w.parts import slope",
            "fgbench.estimators.fg_w": "from .fg_w.parts import slope",
            "fgbench.estimators.fg_w.parts": "",
        },
        "fgbench.estimators.fg_a:1: imports its sibling fgbench.estimators.fg_w.parts",
    ),
    "a sibling from within a part": (
        {
            "fgbench.estimators": "",
            "fgbench.estimators.fg_a": "",
            "fgbench.estimators.fg_w": "",
            "fgbench.estimators.fg_w.parts": "from fgbench.estimators import fg_a",
        },
        "imports its sibling fgbench.estimators.fg_a",
    ),
    "a room that nobody listed": ({"fgbench.helpers": ""}, "room 'helpers' has no line"),
    "the tests": ({"fgbench.api": "import tests.twins"}, "imports tests.twins"),
    "the suites": ({"fgbench.cli": "from suites import quality"}, "imports suites.quality"),
    "figures from the library": (
        {"fgbench.measure": "from fgbench.analysis import load", "fgbench.analysis.load": ""},
        "measure may not import fgbench.analysis.load",
    ),
    "figures by their folder": ({"fgbench.cli": "import analysis"}, "imports analysis"),
    "torch in the figures": (
        {"fgbench.analysis": "import torch.nn"},
        "fgbench.analysis: reaches torch",
    ),
    "torch behind the figures": (
        {"fgbench.analysis": "from fgbench.record import x", "fgbench.record": "import torch"},
        "fgbench.analysis: reaches torch",
    ),
    "a cycle": (
        {
            "fgbench.analysis": "",
            "fgbench.analysis.a": "from . import b",
            "fgbench.analysis.b": "from .a import name",
        },
        "cycle: fgbench.analysis.",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_reported(name: str) -> None:
    sources, report = PLANTED[name]
    assert any(report in line for line in faults(sources)), faults(sources)


def test_what_is_allowed_is_not_reported() -> None:
    sources = {
        "fgbench": "",
        "fgbench.errors": "",
        "fgbench.axes": "import torch\nfrom fgbench.errors import UsageError",
        "fgbench.registry": "from . import errors",
        "fgbench.estimators": "",
        "fgbench.estimators.fg_a": "from ..axes import credit\nfrom ..registry import register",
        "fgbench.architectures": "",
        "fgbench.architectures.mixer": "from fgbench.architectures.mixer.layers import Token",
        "fgbench.architectures.mixer.layers": "from fgbench.axes import parse",
        "fgbench.task": "if TYPE_CHECKING:\n    from fgbench.estimator import Estimator",
        "fgbench.estimator": "from fgbench.task import Task",
        "fgbench.analysis": "import numpy",
        "fgbench.analysis.load": "import pandas\nfrom . import style\nfrom fgbench import errors",
        "fgbench.analysis.style": "",
    }
    assert faults(sources) == []


NO_NUMBERS = {"errors", "registry", "record", "sheet", "sound", "study"}
"""Rooms that runs import and whose code changes no number."""


def unkeyed(graph: Graph, rooms: Collection[str]) -> set[str]:
    """Modules that measuring, training and timing run on and that are no room of a record's key."""
    todo = [f"fgbench.{verb}" for verb in ("measure", "train", "speed")]
    seen = set(todo)
    while todo:
        new = {one.target for one in graph[todo.pop()] if one.target in graph} - seen
        seen |= new
        todo += new
    names = {name.removeprefix("fgbench.") for name in seen} - NO_NUMBERS
    return {n for n in names if n not in rooms and room_of(f"fgbench.{n}") not in rooms}


def test_every_module_that_makes_numbers_enters_the_key() -> None:
    from fgbench.api import ROOMS

    graph = graph_of(sources_on_disk())
    assert unkeyed(graph, ROOMS) == set()
    assert all(f"fgbench.{room}" in {*graph, "fgbench.updates"} for room in ROOMS)
    for room in ("axes", "served", "data.dataset", "updates"):  # far down, new, in folders
        left = unkeyed(graph, [r for r in ROOMS if r != room])
        assert {name.startswith(room) for name in left} == {True}


def test_importing_fgbench_leaves_torch_alone() -> None:
    code = "import sys, fgbench; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
