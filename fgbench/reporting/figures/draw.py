"""Figures by name: what each shows, what makes its records, and how one is drawn from a folder.

A module here is a figure of its own name where it has a top-level ``MISSING``: what its records lack
where nothing can be drawn, and the command that makes them. Its docstring starts "Figure: ...". Both are
read from the source, so that a list of figures loads none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fgbench.errors import UsageError, unknown
from fgbench.records.schema import FOREIGN

if TYPE_CHECKING:
    from fgbench.reporting.frames.select import Only


class About(NamedTuple):
    """What is known of a figure without drawing it.

    Args:
        shows: in a few words.
        makes: the command that makes what it is drawn from, such as ``fgbench train``.
    """

    shows: str
    makes: str


def known(folder: Path = Path(__file__).parent) -> dict[str, About]:
    """List the figures.

    Args:
        folder: of their modules.

    Returns:
        Name of a figure to what is known of it, in the order of the alphabet.
    """
    found = {}
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        missing = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MISSING"
        ]
        for value in missing:
            assert isinstance(value, ast.Tuple)
            makes = str(ast.literal_eval(value.elts[1])).removeprefix("run ")
            shows = (ast.get_docstring(tree) or "").partition("\n\n")[0].removeprefix("Figure: ")
            found[file.stem] = About(shows.rstrip("."), makes)
    return found


def draw(
    name: str,
    folder: Path,
    out: Path,
    tell: Callable[[str], None] | None = None,
    only: Only | None = None,
) -> list[Path]:
    """Draw one figure.

    Args:
        name: one of `known`.
        folder: of records; of asv's results for the figure that has a ``read`` of its own.
        out: where its files go.
        tell: called with each line on what is damaged, old or missing in the folder, which is read once.
        only: the records wanted, where the folder is of records.

    Returns:
        PNG, PDF and CSV.

    Raises:
        UsageError: there is no such figure, the folder is not one that it reads, or holds nothing of it.
    """
    if name not in (names := known()):
        raise unknown("figure", name, names)
    from fgbench.reporting.frames.load import load

    room = import_module(f"fgbench.reporting.figures.{name}")
    own = getattr(room, "read", None)
    if own is not None and only:
        raise UsageError(f"{name} is not of records: --method, --arch and --data do not narrow it")
    found = (own or load)(folder)
    if tell is not None:
        for file, why in found.damaged.items():
            if not why.startswith(FOREIGN):  # other programs' files
                tell(f"{Path(folder) / file}: {why}")
    if only:
        found = only.of(found)
    if tell is not None:
        for note in getattr(found, "notes", ()):
            tell(note)
    files: list[Path] = room.draw(found, out)
    return files
