"""The mutants of the numerical core: every small edit of it that cosmic-ray can make."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Span = tuple[tuple[int, int], tuple[int, int]]

AREAS = {
    "fgbench/stats": ["tests/stats"],
    "fgbench/core/noise": ["tests/core/noise", "tests/core/theory"],
    "fgbench/core/theory": ["tests/core/theory"],
    "fgbench/core/compiled": ["tests/core/compiled"],
    "fgbench/core": ["tests/core", "tests/estimators", "tests/localities"],
    "fgbench/estimators": ["tests/estimators", "tests/core/theory"],
    "fgbench/localities": ["tests/localities", "tests/estimators"],
    "fgbench/measurement/draw_statistics": [
        "tests/measurement/engine",
        "tests/measurement/test_loop.py",
    ],
    "fgbench/measurement/engine": ["tests/measurement/engine"],
    "fgbench/measurement": ["tests/measurement"],
}
"""Folder of code to the tests that should notice a change in it; the longest folder that fits counts."""

ON_WHOLE_NUMBERS = ("LShift", "RShift", "BitAnd", "BitOr", "BitXor", "MatMul")
"""Operators that no formula of the core has in place of another: such edits are errors at once."""

LEFT_OUT = ("calibration", "speed", "studies", "__init__.py")
"""Parts of the folders that compute no estimate and no interval."""


@dataclass(frozen=True)
class Mutant:
    """One edit of one file.

    Args:
        path: the file, relative to the repository.
        operator: cosmic-ray's name of the kind of edit.
        occurrence: which of the places where the operator applies.
        line: the line of the edit.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    @property
    def name(self) -> str:
        """Return a name that is the same in every run on the same code."""
        return f"{self.path}:{self.line} {self.operator.partition('/')[2]} #{self.occurrence}"

    def code(self, source: str) -> str:
        """Return the source with the edit made."""
        mutated = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if mutated is None:
            raise ValueError(f"{self.name}: the source has no such place")
        return str(mutated)


def tests_of(path: str) -> list[str]:
    """Return the tests that should notice a change of a file."""
    return AREAS[max((area for area in AREAS if path.startswith(f"{area}/")), key=len)]


def mutants(root: Path) -> Iterator[Mutant]:
    """Yield every mutant of the numerical core.

    Edits of annotations and of what only a type checker reads are left out: no test can see them.

    Args:
        root: the repository.
    """
    folders = [area for area in AREAS if not any(area.startswith(f"{other}/") for other in AREAS)]
    files = sorted(file for folder in folders for file in (root / folder).rglob("*.py"))
    for file in files:
        path = file.relative_to(root).as_posix()
        if any(part in LEFT_OUT for part in file.relative_to(root).parts):
            continue
        source = file.read_text("utf-8")
        unseen = list(_unseen(ast.parse(source)))
        nodes = list(ast_nodes(get_ast(source)))
        for name in operator_names():
            operator = get_operator(name)
            if operator.arguments() or any(f"_{word}" in name for word in ON_WHOLE_NUMBERS):
                continue
            edit = operator()
            positions = [span for node in nodes for span in edit.mutation_positions(node)]
            for occurrence, ((line, column), _end) in enumerate(positions):
                if not any(start <= (line, column) < end for start, end in unseen):
                    yield Mutant(path, name, occurrence, line)


def _unseen(tree: ast.AST) -> Iterator[Span]:
    """Yield the spans of annotations and of what only a type checker reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield _span(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield _span(node.returns)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield _span(node)


def _span(node: ast.AST) -> Span:
    """Return the first and the last place of a node."""
    return (
        (node.lineno, node.col_offset),  # type: ignore[attr-defined]
        (node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    )
