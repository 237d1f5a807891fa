"""Draw a figure by its name from a folder of records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fgbench.errors import UsageError, unknown
from fgbench.records.schema import FOREIGN
from fgbench.reporting.figures.catalogue import FIGURES

if TYPE_CHECKING:
    from fgbench.reporting.frames.select import Only


def draw(
    name: str,
    folder: Path,
    out: Path,
    tell: Callable[[str], None] | None = None,
    only: Only | None = None,
) -> list[Path]:
    """Draw one figure and write it as PNG, PDF and CSV.

    Args:
        name: a key of `fgbench.reporting.figures.catalogue.FIGURES`.
        folder: of records, or of asv's results for a figure whose module has a ``read`` of its own. It
            is read once.
        out: where the files go.
        tell: called with one line for each file that is damaged and each field that is old or missing.
        only: the records to use, where the folder is of records.

    Returns:
        The PNG, the PDF and the CSV.

    Raises:
        UsageError: no figure has this name, the folder cannot be read, or it lacks what the figure needs.

    Example:
        >>> draw("layer", Path("records"), Path("out"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown figure 'layer'; did you mean 'layers'?
    """
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    from fgbench.reporting.frames.load import load

    figure = FIGURES[name]
    read = getattr(figure.module(), "read", None)
    if read is not None and only:
        raise UsageError(
            f"{name} is not drawn from records: --method, --arch and --data do not narrow it"
        )
    records = (read or load)(folder)
    if tell is not None:
        for file, why in records.damaged.items():
            if not why.startswith(FOREIGN):  # other programs' files
                tell(f"{Path(folder) / file}: {why}")
    if only:
        records = only.of(records)
    if tell is not None:
        for note in getattr(records, "notes", ()):
            tell(note)
    return figure.draw()(records, out)
