"""Copies of the package with an edit, the trees that the gate compares, and trees that answer as planned."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgbench.runs.gate.side import Side
from fgbench.runs.suites import tracked
from tests.makers.paths import ROOT

Edit = tuple[str, str, str]


def probe(name: str) -> Any:
    """Return a probe of the gate as a module of this process."""
    return tracked.probe(name)


def tree(folder: Path, *edits: Edit, name: str = "planted") -> Side:
    """Return a copy of the package with edits: file, text that is there once, and what replaces it."""
    where = folder / name
    shutil.copytree(
        ROOT / "fgbench", where / "fgbench", ignore=shutil.ignore_patterns("__pycache__")
    )
    for file, old, new in edits:
        path = where / "fgbench" / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{file} has the text {text.count(old)} times"
        path.write_text(text.replace(old, new), "utf-8")
    return Side(name, "", where, Path(sys.executable))


def here() -> Side:
    """Return this repository as a tree."""
    return Side("here", "", ROOT, Path(sys.executable))


class Scripted:
    """A side whose probe answers what a function says; it keeps the requests."""

    def __init__(
        self, answer: Callable[[Mapping[str, Any]], dict[str, Any]], name: str = "scripted"
    ) -> None:
        self.name, self._answer = name, answer
        self.requests: list[Mapping[str, Any]] = []

    @contextmanager
    def start(self, probe: str) -> Any:
        """Yield a live probe."""
        yield self

    def ask(self, request: Mapping[str, Any], *, timeout: float = 0.0) -> dict[str, Any]:
        """Answer."""
        self.requests.append(request)
        return self._answer(request)


def seeds_of(
    noise: Callable[[Mapping[str, Any], int], float | None],
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the answers of a probe of seeds from the number of each cell and seed."""

    def answer(request: Mapping[str, Any]) -> dict[str, Any]:
        seeds: Sequence[int] = request["seeds"]
        cells = [
            {"status": "ok", "reason": "", "values": [noise(c, s) for s in seeds]}
            for c in request["cells"]
        ]
        return {"cells": cells, "cpu": 0.1}

    return answer
