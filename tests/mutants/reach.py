"""Which tests execute which line: what coverage.py saw in one run of the fast tests.

A mutant is tried on the tests that execute its line, a few of the fastest first: most are noticed within
seconds. The map belongs to one commit and is kept beside its tree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from coverage import CoverageData

from tests.mutants.catalogue import AREAS
from tests.mutants.runner import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST = 24  # tests tried before the rest of those that execute the line
TESTS = sorted({*AREAS, *(tests for area in AREAS.values() for tests in area)})
COLLECT = """
import json, sys, pytest

class Seconds:
    def __init__(self):
        self.of = {}
    def pytest_runtest_logreport(self, report):
        self.of[report.nodeid] = self.of.get(report.nodeid, 0.0) + report.duration

seconds = Seconds()
code = pytest.main(sys.argv[2:], plugins=[seconds])
json.dump(seconds.of, open(sys.argv[1], "w"))
sys.exit(code)
"""


@dataclass(frozen=True)
class Reach:
    """The tests that execute each line, and how long each test takes.

    Args:
        tree: a clone of the commit, where the map is kept.
    """

    tree: Path

    def rounds(
        self, path: str, line: int, part: Sequence[str]
    ) -> tuple[list[str], list[str], list[str]]:
        """Return the tests to try: a few that execute a line, the rest of these, others of its part.

        Tests named after the file come first, then those of its part, the quickest of each file in turn.
        A line that a fixture executed belongs to every test of that fixture's file, because a fixture of
        a module runs in the context of the first test only. What is computed once and kept runs in the
        context of one test too: where few execute a line, the others of its part are tried last.
        """
        seconds = _seconds(self.tree)
        lines = _data(self.tree).contexts_by_lineno(str(self.tree / path))
        found: set[str] = set()
        for context in lines.get(line, []):
            test, _, phase = context.rpartition("|")
            if phase == "run":
                found.add(test)
            elif test:
                found.update(other for other in seconds if _file(other) == _file(test))
        named = f"test_{Path(path).stem}"

        def distance(test: str) -> int:
            own = _file(test) == path or Path(_file(test)).stem == named
            return 0 if own else 1 if _within(test, part) else 2

        ordered = sorted(found & set(seconds), key=lambda t: (distance(t), seconds[t], t))
        rank: defaultdict[str, int] = defaultdict(int)
        turns = {}
        for test in ordered:
            turns[test] = (distance(test), rank[_file(test)])
            rank[_file(test)] += 1
        first = sorted(ordered, key=turns.__getitem__)[:FIRST]
        rest = [test for test in ordered if test not in set(first)]
        few = len(ordered) <= FIRST
        others = (test for test in seconds if test not in found and _within(test, part))
        beside = list(others) if few else []
        return first, rest, beside

    def seconds(self, tests: list[str]) -> float:
        """Return how long tests took when the map was made."""
        return sum(_seconds(self.tree)[test] for test in tests)


def reach(tree: Path) -> Reach:
    """Return the map of a commit; make it where it is not kept yet, some minutes of two cores."""
    if not (tree / ".seconds.json").exists():
        print("which tests execute which line: some minutes", flush=True)
        cover = ["--cov=fgbench", "--cov-context=test", "--cov-report="]
        command = [sys.executable, "-c", COLLECT, ".seconds.part", "-n", "2", "--dist", "loadfile"]
        subprocess.run(
            [*command, "-q", "-m", "not slow", *cover, *TESTS],
            cwd=tree,
            env=environment(tree),
            check=True,
        )
        (tree / ".seconds.part").rename(tree / ".seconds.json")
    return Reach(tree)


def _within(test: str, part: Sequence[str]) -> bool:
    """Return whether a test lies in one of some files or folders."""
    return any(Path(_file(test)).is_relative_to(one) for one in part)


def _file(test: str) -> str:
    """Return the file of a test."""
    return test.partition("::")[0]


@cache
def _seconds(tree: Path) -> dict[str, float]:
    """Return the seconds of each test."""
    return dict(json.loads((tree / ".seconds.json").read_text("utf-8")))


@cache
def _data(tree: Path) -> CoverageData:
    """Return what coverage saw."""
    data = CoverageData(str(tree / ".coverage"))
    data.read()
    return data
