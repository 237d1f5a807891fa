"""An error of the measured tree fails a cell with its place; what a tree lacks is n/a."""

from __future__ import annotations

import importlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.makers import trees
from tests.makers.paths import ROOT

cells: Any = trees.probe("exact").estimates.cell


@pytest.mark.parametrize(
    ("source", "status", "place"),
    [
        ("\nx = (\n", "failed", "fgbench_part.py:2"),
        ("import fgbench.no_such_module\n", "failed", "fgbench_part.py:1"),
        ("import no_such_package\n", "n/a", ""),
        ("\n\n1 / 0\n", "failed", "fgbench_part.py:3"),
    ],
)
def test_a_file_that_cannot_be_imported(
    source: str, status: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fgbench_part.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(os.environ, "FGBENCH_GATE_TREE", str(tmp_path))
    made = cells("data", "data part", lambda: importlib.import_module("fgbench_part"))
    assert status in made, made
    assert made.get("places", [""])[0] == place


def test_a_module_that_the_tree_does_not_have_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe asks older trees for what they lack; its own lines are no part of the tree."""
    monkeypatch.setitem(os.environ, "FGBENCH_GATE_TREE", str(ROOT))
    called = trees.probe("exact").intervals._called
    made = cells("intervals", "one", partial(called, "no_such_room", "no_such_room.x", (), {}))
    assert made["n/a"] == "No module named 'fgbench.stats.no_such_room'"
