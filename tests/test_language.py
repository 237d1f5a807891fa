"""Docstrings begin as PEP 257 asks: with what the code does, in the usual word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.makers.paths import ROOT

RIDDLES = re.compile(r"(Say|Tell|Hear|Word|What|Do so|The same|Likewise)\b")
"""Words that no docstring begins with: the reader learns nothing of what is done."""

FILES = sorted([*(ROOT / "fgbench").rglob("*.py"), *(ROOT / "suites").rglob("*.py")])


def riddles(source: str) -> Iterator[str]:
    """Yield the line and the first words of every docstring that begins with a riddle."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and RIDDLES.match(text := ast.get_docstring(node) or ""):
            yield f"{getattr(node, 'lineno', 1)}: {text[:60]}"


@pytest.mark.parametrize(
    "planted",
    [
        '"""What draws say."""',
        'def f():\n    """Say whether it holds."""',
        'class A:\n    def f(self):\n        """Tell a thing."""',
        'async def f():\n    """Do so once for each shape."""',
    ],
)
def test_a_riddle_is_refused(planted: str) -> None:
    assert len(list(riddles(planted))) == 1


def test_usual_words_are_not() -> None:
    assert list(riddles('def f():\n    """Return whatever is asked. What else?"""')) == []


def test_no_docstring_begins_with_a_riddle() -> None:
    found = [f"{p.relative_to(ROOT)}:{r}" for p in FILES for r in riddles(p.read_text("utf-8"))]
    assert found == []
